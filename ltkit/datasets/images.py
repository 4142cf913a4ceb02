"""Image files as arrays of pixels, decoded with Pillow by one fixed, documented conversion.

The conversion: palette, grey, CMYK, RGBA and 16-bit pictures become 8-bit RGB (transparency is
dropped, 16-bit values are divided by 256); EXIF rotation is not applied, as in the loaders that
the field's checkpoints were trained with. The shorter side is scaled to `resize` pixels
(antialiased; bilinear unless the model says bicubic) and the centre `crop` x `crop` pixels are
taken: the usual evaluation transform.

A folder of images may come from others, with links in it that lead to files of the user's own. What
leaves the folder is not read, unless the user says so.
"""

import logging
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltkit.errors import InputError
from ltkit.untrusted.budget import opened, stays_in

Interpolation = Literal["bilinear", "bicubic"]

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it writes to stderr

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
"""Accepted image formats; Pillow knows others, and runs programs to read some."""

MAX_PIXELS = 100_000_000
"""Larger pictures, as stored or as scaled, are refused: small files can unpack to gigabytes."""


@dataclass(frozen=True)
class ImageFiles:
    """(N, crop, crop, 3) uint8 images, read from files on demand.

    paths: N files; resize, crop: pixels, see the module.
    workers: decoding threads.
    interpolation: bilinear, or bicubic where a model was trained so.
    root: the folder that no link may lead out of; None where links are followed anywhere.
    """

    paths: Sequence[Path]
    resize: int
    crop: int
    workers: int = 2
    interpolation: Interpolation = "bilinear"
    root: Path | None = None

    def __len__(self) -> int:
        """N."""
        return len(self.paths)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Decode the images of a slice.

        Raises:
            InputError: for a file that cannot be read; the message names it and its number.
        """
        start, stop, _ = rows.indices(len(self))
        with ThreadPoolExecutor(self.workers) as pool:
            images = list(pool.map(self.decode, range(start, stop)))
        if not images:
            return np.empty((0, self.crop, self.crop, 3), dtype=np.uint8)
        return np.stack(images)

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Decode one image: (crop, crop, 3) uint8."""
        path = self.paths[index]
        if self.root is not None:
            check_links(self.root, [path])
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata, for each image
        try:
            with (
                opened(path, f"image {index}", "check --root") as file,
                Image.open(file, formats=FORMATS) as image,
            ):
                for width, height in (image.size, scaled(image.size, self.resize)):
                    if width * height > MAX_PIXELS:
                        raise InputError(
                            f"{path}: image {index}: found {width} x {height} pixels, "
                            f"expected at most {MAX_PIXELS}; shrink it or leave it out"
                        )
                return transform(image, self.resize, self.crop, self.interpolation)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path}: image {index}: cannot be decoded ({error}); "
                "replace the file, or pass --on-error skip"
            ) from error

    def check_links(self) -> None:
        """Reject images outside `root` before any is opened.

        Raises:
            InputError: for the first folder or file that a link leads out.
        """
        if self.root is not None:
            folders = dict.fromkeys(path.parent for path in self.paths)
            check_links(self.root, folders)
            check_links(self.root, (path for path in self.paths if path.is_symlink()))


def check_links(root: Path, paths: Iterable[Path]) -> None:
    """Reject paths that a link leads out of a folder.

    Args:
        root: the folder, which may be a link itself.
        paths: of files or folders in it.

    Raises:
        InputError: for the first that lies elsewhere.
    """
    for path in paths:
        if not stays_in(root, path):
            raise InputError(
                f"{path}: a link leads out of {root}, expected images inside; copy them there, or "
                "allow it with --follow-links"
            )


def scaled(size: tuple[int, int], resize: int) -> tuple[int, int]:
    """Return the (width, height) whose shorter side is `resize`, as torchvision rounds it.

    Example:
        >>> scaled((500, 375), 256)
        (341, 256)
    """
    width, height = size
    shorter = min(size)
    return resize * width // shorter, resize * height // shorter


def transform(
    image: Image.Image, resize: int, crop: int, interpolation: Interpolation = "bilinear"
) -> NDArray[np.uint8]:
    """Return the (crop, crop, 3) uint8 evaluation view of a picture.

    Example:
        >>> transform(Image.new("L", (40, 20), 7), resize=10, crop=8).shape
        (8, 8, 3)
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        wide = np.asarray(image, dtype=np.int64)
        image = Image.fromarray((wide >> 8).clip(0, 255).astype(np.uint8))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow wants this step for a transparent palette
    image = image.convert("RGB")
    size = scaled(image.size, resize)
    if image.size != size:
        image = image.resize(size, Image.Resampling[interpolation.upper()])
    left = round((image.width - crop) / 2)
    top = round((image.height - crop) / 2)
    return np.asarray(image.crop((left, top, left + crop, top + crop)))
