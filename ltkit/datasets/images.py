"""Image files as arrays of pixels, decoded with Pillow by one fixed, documented conversion.

The conversion: palette, grey, CMYK, RGBA and wider pictures become 8-bit RGB (transparency is
dropped); EXIF rotation is not applied, as in the loaders that the field's checkpoints were trained
with. Grey pictures of 16 bits and of float values are cut to a window of values first; without one,
16-bit values are divided by 256. Then the picture is brought to size as its `ImageView` says
(antialiased): usually the shorter side, and the centre square is taken.

A folder of images may come from others, with links in it that lead to files of the user's own. What
leaves the folder is not read, unless the user says so.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltkit import own_code
from ltkit.errors import InputError
from ltkit.records import Images, ImageView
from ltkit.settings import Interpolation
from ltkit.untrusted.budget import opened, stays_in

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it writes to stderr

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF", "GIF")
"""Accepted image formats; Pillow knows others, and runs programs to read some."""

MAX_PIXELS = 100_000_000
"""Larger pictures, as stored or as scaled, are refused: small files can unpack to gigabytes."""

SMALL = 64
"""Pixels of a side up to which pictures are taken whole."""

MOST_OF_DARK = 63
"""Of 255: no value of a picture whose upper two bits are empty is above it."""


@dataclass(frozen=True)
class ImageFiles:
    """(N, crop, crop, 3) uint8 images, read from files on demand.

    paths: N files.
    view: how each is brought to size.
    workers: decoding threads.
    root: the folder that no link may lead out of; None where links are followed anywhere.
    sampled: whether the view's window was chosen by a sample of the pictures; then one that is
        wider is refused.
    """

    paths: Sequence[Path]
    view: ImageView
    workers: int = 2
    root: Path | None = None
    sampled: bool = False

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
            return np.empty((0, self.view.crop, self.view.crop, 3), dtype=np.uint8)
        return np.stack(images)

    def decode(self, index: int) -> NDArray[np.uint8]:
        """Decode one image: (crop, crop, 3) uint8."""
        with self.opened(index) as image:
            for width, height in (image.size, brought(image.size, self.view)):
                if width * height > MAX_PIXELS:
                    raise InputError(
                        f"{self.paths[index]}: image {index}: found {width} x {height} pixels, "
                        f"expected at most {MAX_PIXELS}; shrink it or leave it out"
                    )
            if self.sampled and (said := beyond(image, self.view.window)):
                raise InputError(f"{self.paths[index]}: image {index}: {said}")
            return transform(image, self.view)

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        """Give one picture, whose pixels are not read yet.

        Raises:
            InputError: when it cannot be read, then or later, or a link leads out of the folder.
        """
        path = self.paths[index]
        if self.root is not None:
            check_links(self.root, [path])
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of odd metadata, for each image
        try:
            with (
                opened(path, f"image {index}", "check --root") as file,
                Image.open(file, formats=FORMATS) as image,
            ):
                yield image
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


@dataclass(frozen=True)
class Transformed:
    """(N, channels, H, W) float32 images, made by the user's own code as they are asked for.

    images: files, or pictures of one size.
    function: gives what the network gets for a PIL image: RGB, but as it is stored where it has
        more than eight bits, which Pillow would cut off.
    name: of the function, for messages.
    """

    images: Images
    function: Callable[[Image.Image], Any]
    name: str

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def __getitem__(self, rows: slice) -> NDArray[np.float32]:
        """Transform the images of a slice.

        Raises:
            InputError: for an image that cannot be read, and when the function fails or does not
                give (channels, H, W) numbers.
        """
        start, stop, _ = rows.indices(len(self))
        found = [self._one(index) for index in range(start, stop)]
        shapes = {values.shape for values in found}
        if len(shapes) > 1 or any(len(shape) != 3 for shape in shapes):
            raise InputError(
                f"{self.name}: gives {', '.join(map(str, sorted(shapes)[:3]))}, expected one shape "
                "(channels, height, width) for all images"
            )
        return np.stack(found) if found else np.empty((0, 0, 0, 0), dtype=np.float32)

    def _one(self, index: int) -> NDArray[np.float32]:
        files = self.images
        if isinstance(files, ImageFiles):
            with files.opened(index) as opened_:
                picture = opened_.copy() if is_wide(opened_) else opened_.convert("RGB")
        else:
            pixels = np.asarray(files[index : index + 1])[0]
            picture = Image.fromarray(pixels if pixels.shape[-1] == 3 else pixels[..., 0])
        try:
            return np.asarray(self.function(picture), dtype=np.float32)
        except Exception as error:  # the user's code may raise anything
            said = own_code.told(error)
            raise InputError(f"{self.name}: fails on image {index} ({said})") from error


@dataclass(frozen=True)
class Rescaled:
    """(N, crop, crop, channels) uint8 images, brought to another size as they are asked for.

    images: of one size.
    view: how each is brought to size.
    """

    images: Images
    view: ImageView

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Bring the images of a slice to size."""
        block = np.asarray(self.images[rows])
        side, channels = self.view.crop, block.shape[-1]
        found = np.empty((len(block), side, side, channels), dtype=np.uint8)
        for row, pixels in zip(found, block, strict=True):
            picture = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
            row[:] = _cut(picture, self.view).reshape(side, side, channels)
        return found


def usual_view(size: int) -> ImageView:
    """Return how pictures are usually brought to a size: small ones whole, of others 7/8.

    Example:
        >>> usual_view(224).resize, usual_view(32).resize
        (256, 32)
    """
    return ImageView(size if size <= SMALL else size * 8 // 7, size)


def view_of(resize: int | None, crop: int | None) -> ImageView:
    """Return the usual view for what is said of its size; of one size, the whole picture.

    Example:
        >>> view_of(None, None), view_of(32, None).crop, view_of(None, 32).resize
        (ImageView(resize=256, crop=224, interpolation='bilinear', fit='crop', window=None), 32, 32)
    """
    if resize is None and crop is None:
        return usual_view(224)
    if crop is None:
        crop = min(int(resize or 0), 224)
    return ImageView(resize or crop, crop)


def brought(size: tuple[int, int], view: ImageView) -> tuple[int, int]:
    """Return the (width, height) that a picture is brought to, as torchvision rounds it.

    Example:
        >>> brought((500, 375), ImageView(256, 224))
        (341, 256)
        >>> brought((500, 375), ImageView(256, 224, fit="pad"))
        (256, 192)
    """
    width, height = size
    if view.fit == "squeeze":
        return view.resize, view.resize
    side = min(size) if view.fit == "crop" else max(size)
    return max(view.resize * width // side, 1), max(view.resize * height // side, 1)


def is_wide(image: Image.Image) -> bool:
    """Return whether a picture has values of more than eight bits, which are not read yet."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def beyond(image: Image.Image, window: tuple[float, float] | None) -> str:
    """Return what is wrong with a picture whose window was chosen by a sample of others.

    Nothing is wrong where it has eight bits, or where all its values are within the window.
    """
    if _is_wide_colour(image):
        if int(np.asarray(image).max()) <= MOST_OF_DARK:
            return "is 16-bit colour whose upper bits are empty; save it with 8 bits a channel"
        return ""
    if not is_wide(image):
        return ""
    values = np.asarray(image)
    low, high = window or (0, 0)
    if window is None or not low <= float(values.min()) <= float(values.max()) <= high:
        return (
            f"found values from {values.min():g} to {values.max():g}, expected "
            f"{'8 bits' if window is None else f'{low:g} to {high:g}'}; say with --window LOW,HIGH "
            "what becomes black and white"
        )
    return ""


def interpolation_of(word: object) -> Interpolation:
    """Return how pictures are scaled, by another library's word for it; bilinear where it has none.

    Example:
        >>> [interpolation_of(word) for word in ("bicubic", "lanczos", "random", None)]
        ['bicubic', 'lanczos', 'bilinear', 'bilinear']
    """
    known: tuple[Interpolation, ...] = get_args(Interpolation)
    return next((one for one in known if one == word), known[0])


def transform(image: Image.Image, view: ImageView) -> NDArray[np.uint8]:
    """Return the (crop, crop, 3) uint8 view of a picture.

    Example:
        >>> transform(Image.new("L", (40, 20), 7), ImageView(resize=10, crop=8)).shape
        (8, 8, 3)
    """
    if is_wide(image):
        image = Image.fromarray(_to_bytes(np.asarray(image), view.window))
    if "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow wants this step for a transparent palette
    return _cut(image.convert("RGB"), view)


def _cut(image: Image.Image, view: ImageView) -> NDArray[np.uint8]:
    """Bring a picture of eight bits to size, and take the centre; black is what lies beside it."""
    size = brought(image.size, view)
    if image.size != size:
        image = image.resize(size, Image.Resampling[view.interpolation.upper()])
    left = round((image.width - view.crop) / 2)
    top = round((image.height - view.crop) / 2)
    return np.asarray(image.crop((left, top, left + view.crop, top + view.crop)))


def _to_bytes(values: NDArray[Any], window: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return wide values as bytes: those of the window, or all of 16 bits.

    Example:
        >>> _to_bytes(np.array([0, 2047, 4095, 9000]), (0, 4095)).tolist()
        [0, 127, 255, 255]
    """
    if window is None:
        if values.dtype.kind == "f":
            raise ValueError("its values are fractions; say with --window LOW,HIGH what they span")
        return (values.astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
    low, high = window
    shares = (values.astype(np.float64) - low) / (high - low)
    bytes_: NDArray[np.uint8] = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return bytes_


def _is_wide_colour(image: Image.Image) -> bool:
    """Return whether a picture is 16-bit colour, of which Pillow reads the upper eight bits."""
    tiles: list[Any] = getattr(image, "tile", [])
    return image.mode in ("RGB", "RGBA", "LA") and bool(tiles) and ";16" in str(tiles[0][-1])
