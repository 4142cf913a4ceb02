"""What the images of a dataset are like: sizes, kinds, the same ones twice, what is not there."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltkit.datasets.images import FORMATS, ImageFiles, check_links
from ltkit.datasets.names import split_of
from ltkit.errors import InputError
from ltkit.records import Dataset, Images, ImageSplit
from ltkit.untrusted.budget import opened

PIECE = 1 << 20
"""Bytes of a file that are read at a time."""

DIGEST = 16
"""Bytes of the digest that tells images apart."""

Report = Callable[[int, int], None]


class Place(NamedTuple):
    """An image of a dataset: its split, what it is called there, its label."""

    split: str
    name: str
    label: int


@dataclass
class Survey:
    """What is seen of the images of a dataset.

    images: how many; sizes: how many of each (width, height); modes: of each of Pillow's modes.
    missing, unreadable: images that are not there, or are none.
    doubles: images that have the same bytes, group by group.
    nested: images in a folder called as a class, within that of a class.
    """

    images: int
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    missing: list[Place] = field(default_factory=list)
    unreadable: list[Place] = field(default_factory=list)
    doubles: list[list[Place]] = field(default_factory=list)
    nested: list[Place] = field(default_factory=list)

    @property
    def across_splits(self) -> int:
        """Groups of the same bytes in more than one split."""
        return sum(len({place.split for place in group}) > 1 for group in self.doubles)

    @property
    def across_classes(self) -> int:
        """Groups of the same bytes with more than one label."""
        return sum(len({place.label for place in group}) > 1 for group in self.doubles)

    def document(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "images": self.images,
            "sizes": [
                {"width": w, "height": h, "images": n} for (w, h), n in self.sizes.most_common()
            ],
            "modes": dict(self.modes.most_common()),
            "missing": [place.name for place in self.missing],
            "unreadable": [place.name for place in self.unreadable],
            "doubles": [[place._asdict() for place in group] for group in self.doubles],
            "doubles_across_splits": self.across_splits,
            "doubles_across_classes": self.across_classes,
            "nested": [place.name for place in self.nested],
        }


def survey(dataset: Dataset, report: Report = lambda done, total: None) -> Survey:
    """Look at every image of a dataset; of files only the header is decoded.

    Files are compared by their bytes, only those of equal size, piece by piece.

    Args:
        dataset: which.
        report: called with (images seen, images in all).

    Raises:
        InputError: when a link leads out of the folder of images.
    """
    starts = np.cumsum([0, *map(len, dataset.splits.values())])
    found = Survey(int(starts[-1]))
    sizes = np.zeros(found.images, dtype=np.int64)  # bytes of a file; 0: of an array; -1: of none
    for start, (name, split) in zip(starts.tolist(), dataset.splits.items(), strict=False):
        if isinstance(split.images, ImageFiles):
            for row in range(len(split)):
                sizes[start + row] = _look(_place(name, split, row), split.images, row, found)
                report(start + row + 1, found.images)
        elif len(split):
            height, width, channels = split.images[:1].shape[1:]
            found.sizes[width, height] += len(split)
            found.modes["L" if channels == 1 else "RGB"] += len(split)
    found.doubles = _doubles(dataset, starts, sizes)
    found.nested = [*_nested(dataset)]
    return found


def _place(name: str, split: ImageSplit, row: int) -> Place:
    return Place(name, str(split.ids[row]), int(split.labels[row]))


def _look(place: Place, files: ImageFiles, row: int, found: Survey) -> int:
    """Return how many bytes an image has, -1 where it is none; gather what its header says."""
    path = files.paths[row]
    if files.root is not None:
        check_links(files.root, [path])
    if not path.exists():
        found.missing.append(place)
        return -1
    try:
        with opened(path, "an image") as file, Image.open(file, formats=FORMATS) as image:
            found.sizes[image.size] += 1
            found.modes[image.mode] += 1
            return os.fstat(file.fileno()).st_size
    except (InputError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        found.unreadable.append(place)
        return -1


def _doubles(
    dataset: Dataset, starts: NDArray[np.int64], sizes: NDArray[np.int64]
) -> list[list[Place]]:
    """Return the images with the same bytes, group by group; only those of one size are read."""
    _, inverse, counts = np.unique(sizes, return_inverse=True, return_counts=True)
    groups: dict[bytes, list[int]] = {}
    for position in np.flatnonzero((counts[inverse] > 1) & (sizes >= 0)).tolist():
        part = int(np.searchsorted(starts, position, side="right")) - 1
        split = list(dataset.splits.values())[part]
        digest = digest_of(split.images, position - int(starts[part]))
        groups.setdefault(digest, []).append(position)
    found = []
    for group in groups.values():
        if len(group) > 1:
            parts = (np.searchsorted(starts, group, side="right") - 1).tolist()
            rows = (np.array(group) - starts[parts]).tolist()
            places = []
            for part, row in zip(parts, rows, strict=True):
                name, split = list(dataset.splits.items())[part]
                places.append(_place(name, split, row))
            found.append(places)
    return found


def digest_of(images: Images, row: int) -> bytes:
    """Return the digest of an image: of a file's bytes, of an array's pixels."""
    digest = hashlib.blake2b(digest_size=DIGEST)
    if not isinstance(images, ImageFiles):
        digest.update(images[row : row + 1].tobytes())
        return digest.digest()
    with opened(images.paths[row], "an image") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.digest()


def _nested(dataset: Dataset) -> Iterator[Place]:
    """Give the images that lie in two folders that are called as classes."""
    classes = set(dataset.classes.names or ())
    for name, split in dataset.splits.items():
        for row, image in enumerate(split.ids.tolist()):
            folders = image.split("/")[:-1]
            own = folders[1:] if folders and split_of(folders[0]) == name else folders
            if sum(folder in classes for folder in own) > 1:
                yield _place(name, split, row)
