"""Tiny ImageNet, long-tailed: from its own folder, or from one file with 32 x 32 pictures.

How many images a class keeps follows from its place in the data set's own list of classes,
``wnids.txt``, which is in no order; class ids follow from the sorted ones.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltkit.datasets import longtail
from ltkit.datasets.images import ImageFiles
from ltkit.datasets.lists import MEAN, STD
from ltkit.datasets.names import SUFFIXES, hidden
from ltkit.errors import FormatError, InputError
from ltkit.records import ClassTable, Dataset, Images, ImageSplit, ImageView, Ints
from ltkit.untrusted.texts import lines
from ltkit.untrusted.zips import Zip

PER_CLASS = 500
"""Training images of a class, of the whole data set."""

FOLDER, FILE = "tiny-imagenet-200", "tiny_imagenet32_lt.npz"


@dataclass(frozen=True, eq=False)
class JpegImages:
    """(N, 32, 32, 3) uint8 images, JPEG files end to end, decoded as they are asked for.

    path: where they are from, for messages; data: all bytes; starts, stops: (N,) of each.
    """

    path: Path
    data: NDArray[np.uint8]
    starts: Ints
    stops: Ints

    def __len__(self) -> int:
        """N."""
        return len(self.starts)

    def __getitem__(self, rows: slice) -> NDArray[np.uint8]:
        """Decode the images of a slice.

        Raises:
            FormatError: for one that is no such JPEG.
        """
        images = [self._decoded(row) for row in range(*rows.indices(len(self)))]
        return np.stack(images) if images else np.empty((0, 32, 32, 3), dtype=np.uint8)

    def take(self, rows: Ints) -> "JpegImages":
        """Return some of the images."""
        return JpegImages(self.path, self.data, self.starts[rows], self.stops[rows])

    def _decoded(self, row: int) -> NDArray[np.uint8]:
        raw = self.data[self.starts[row] : self.stops[row]].tobytes()
        try:
            with Image.open(io.BytesIO(raw), formats=("JPEG",)) as image:
                if image.size != (32, 32):
                    raise ValueError(f"found {image.width} x {image.height} pixels")
                return np.asarray(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise FormatError(
                f"{self.path}: image {row}: not a JPEG of 32 x 32 pixels ({error}); fetch it again"
            ) from error


class Whole(NamedTuple):
    """The images before the draw.

    images, labels, ids: of training and of test; rank: (C,) place of each class in the own list.
    """

    train: tuple[Any, Ints, Sequence[str]]
    test: tuple[Any, Ints, Sequence[str]]
    wnids: tuple[str, ...]
    rank: Ints
    pixels: int
    shuffled: bool


def load(
    root: Path, *, ir: float, seed: int, val: longtail.ValRule, profile: longtail.Profile
) -> Dataset:
    """Load a long-tailed Tiny ImageNet; its validation images, 50 a class, are the test split.

    From the folder the images of a class are drawn as those of CIFAR are. The file of small
    pictures holds those of imbalance 10 in the order of such a draw, and the first ones are kept.

    Args:
        root: a folder that holds ``tiny-imagenet-200`` or the file, or that folder itself.
        ir: imbalance factor n_max / n_min.
        seed: of the draw from the folder, and of what is held out.
        val: see `longtail.draw`.
        profile: see `longtail.profile_counts`.

    Raises:
        InputError: when neither is there, or the file has too few images of a class.
        FormatError: when one is not what it should be.
    """
    whole = _find(root)
    labels, classes = whole.train[1], len(whole.wnids)
    counts = longtail.profile_counts(profile, classes, PER_CLASS, ir)[whole.rank]
    there = np.bincount(labels, minlength=classes)
    if (few := np.flatnonzero(there < counts)).size:
        raise InputError(
            f"{root}: found {there[few[0]]} images of class {whole.wnids[few[0]]}, expected "
            f"{counts[few[0]]} for profile={profile},ir={ir:g}; {FILE} has those of the "
            f"exponential profile from ir=10 on, {FOLDER}/ has all"
        )
    drawn = longtail.draw(labels, counts, seed, val, shuffled=whole.shuffled)
    parts = {"train": _taken(whole.train, drawn.train)}
    if drawn.val is not None:
        parts["val"] = _taken(whole.train, drawn.val)
    parts["test"] = _taken(whole.test, np.arange(len(whole.test[1])))
    table = np.bincount(parts["train"].labels, minlength=classes)
    digest = longtail.index_digest(drawn.train, drawn.val)
    return Dataset(
        parts, ClassTable(table, whole.wnids, whole.wnids), mean=MEAN, std=STD,
        crop_padding=whole.pixels // 8, flip=True,
        record={"index_digest": digest, "pixels": whole.pixels},
    )  # fmt: skip


def _taken(part: tuple[Any, Ints, Sequence[str]], rows: Ints) -> ImageSplit:
    """Return some images of a part."""
    images, labels, ids = part
    chosen: Images
    if isinstance(images, JpegImages):
        chosen = images.take(rows)
    else:
        chosen = ImageFiles([images[row] for row in rows.tolist()], ImageView(64, 64))
    return ImageSplit(chosen, labels[rows], np.array([ids[row] for row in rows.tolist()]))


def files(root: Path) -> list[Path]:
    """Return the files beside the images that may be read; some of them are absent."""
    inside = ("wnids.txt", "val/val_annotations.txt")
    return [root / FILE, *(folder / name for folder in (root / FOLDER, root) for name in inside)]


def _find(root: Path) -> Whole:
    """Read whichever form is there.

    Raises:
        InputError: when none is.
    """
    for folder in (root / FOLDER, root):
        if (folder / "wnids.txt").is_file() and (folder / "train").is_dir():
            return _read_folder(folder)
    if (root / FILE).is_file():
        return _read_file(root / FILE)
    raise InputError(
        f"{root}: found neither {FOLDER}/ with wnids.txt and train/, nor {FILE}; unpack "
        f"{FOLDER}.zip there, or name its folder with --root"
    )


def _read_folder(folder: Path) -> Whole:
    """List the images of the data set's own folder.

    Raises:
        FormatError: when a class has other than its 500 images, or an annotation does not fit.
    """
    own = [line.strip() for line in lines(folder / "wnids.txt", "the list of classes") if line]
    wnids = tuple(sorted(own))
    paths: list[Path] = []
    for wnid in wnids:
        images = folder / "train" / wnid / "images"
        found = sorted(images.iterdir()) if images.is_dir() else []
        found = [p for p in found if p.suffix.lower() in SUFFIXES and not hidden(p.name)]
        if len(found) != PER_CLASS:
            raise FormatError(
                f"{images}: found {len(found)} images, expected {PER_CLASS}; unpack it again"
            )
        paths += found
    labels = np.repeat(np.arange(len(wnids)), PER_CLASS)
    ids = [f"train/{path.name}" for path in paths]
    rank = np.array([own.index(wnid) for wnid in wnids])
    return Whole((paths, labels, ids), _annotated(folder / "val", wnids), wnids, rank, 64, True)


def _annotated(folder: Path, wnids: tuple[str, ...]) -> tuple[list[Path], Ints, list[str]]:
    """List the images of the validation part by their annotations.

    Raises:
        FormatError: for a line that does not fit.
    """
    table = folder / "val_annotations.txt"
    class_ids = {wnid: class_id for class_id, wnid in enumerate(wnids)}
    paths, labels = [], []
    for number, line in enumerate(lines(table, "the annotations of Tiny ImageNet"), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0].strip()
        if wnid not in class_ids or not name or "/" in name:
            raise FormatError(
                f"{table}: line {number}: found {line[:80]!r}, expected an image and its class; "
                "unpack it again"
            )
        paths.append(folder / "images" / name)
        labels.append(class_ids[wnid])
    return paths, np.array(labels, dtype=np.int64), [f"val/{path.name}" for path in paths]


def _read_file(path: Path) -> Whole:
    """Read the file of small pictures.

    Raises:
        FormatError: when an array is absent, or not as it should be.
    """
    with Zip(path) as archive:
        wnids = tuple(_texts(archive, "wnids"))
        rank = _array(archive, "frequency_rank", "i").astype(np.int64)
        if sorted(rank.tolist()) != [*range(len(wnids))] or len(wnids) < 2:
            raise FormatError(f"{path}: frequency_rank: expected each place once; fetch it again")
        train, test = (_part(archive, name, len(wnids)) for name in ("train", "val"))
    return Whole(train, test, wnids, rank, 32, False)


def _part(archive: Zip, name: str, classes: int) -> tuple[JpegImages, Ints, list[str]]:
    """Read the pictures, labels and file names of a part."""
    data = _array(archive, f"{name}_jpeg", "u")
    offset = _array(archive, f"{name}_offset", "i").astype(np.int64)
    labels = _array(archive, f"{name}_y", "u").astype(np.int64)
    ids = [f"{name}/{file}" for file in _texts(archive, f"{name}_file")]
    ends = offset[:1].tolist() + offset[-1:].tolist()
    if (
        not len(offset) == len(labels) + 1 == len(ids) + 1
        or ends != [0, len(data)]
        or (np.diff(offset) < 0).any()
        or labels.max(initial=0) >= classes
    ):
        raise FormatError(
            f"{archive.path}: {name}: found {len(offset)} offsets, {len(labels)} labels, "
            f"{len(ids)} names that do not fit each other; fetch it again"
        )
    return JpegImages(archive.path, data, offset[:-1], offset[1:]), labels, ids


def _texts(archive: Zip, name: str) -> list[str]:
    return [raw.decode("ascii", "replace") for raw in _array(archive, name, "S").tolist()]


def _array(archive: Zip, name: str, kind: str) -> NDArray[Any]:
    """Read an array of one dimension.

    Raises:
        FormatError: when it is damaged, or of another kind.
    """
    raw = archive.read(f"{name}.npy")
    stream = io.BytesIO(raw[:10_000])
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("another version of its header")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if dtype.kind != kind or len(shape) != 1:
            raise ValueError(f"found {dtype} {shape}")
        return np.frombuffer(raw, dtype, math.prod(shape), stream.tell())
    except (ValueError, EOFError, OverflowError) as error:
        raise FormatError(
            f"{archive.path}: {name}: cannot be read ({error}); fetch it again"
        ) from error
