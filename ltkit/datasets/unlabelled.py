"""Images without labels beside a dataset: those of another dataset, or of a folder."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.datasets import load
from ltkit.datasets.folders import Ignored, images
from ltkit.datasets.images import ImageFiles, Rescaled, usual_view
from ltkit.datasets.lists import shown
from ltkit.datasets.survey import digest_of
from ltkit.errors import SettingError
from ltkit.records import Dataset, Images, ImageSplit, ImageView

UNLABELLED = "unlabelled"
"""Their split's name; its labels are -1."""


@dataclass(frozen=True)
class _Some:
    """Some images of others."""

    images: Images
    rows: Sequence[int]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        chosen = self.rows[rows]
        each = [self.images[row : row + 1] for row in chosen]
        return np.concatenate(each) if each else self.images[:0]


def with_unlabelled(
    dataset: Dataset, spec: str, root: Path | None = None, *, follow_links: bool = False
) -> Dataset:
    """Return a dataset with a further split: images whose labels are not known, or not looked at.

    Images of the dataset itself, of any of its splits, are left out; files are compared by their
    bytes, arrays by their pixels.

    Args:
        dataset: that the images are beside.
        spec: a folder, whose images are taken wherever they lie in it; or a dataset as
            `ltkit.datasets.load` takes it, whose training images are taken.
        root: where a dataset's images are.
        follow_links: whether links may lead out of the folder.

    Raises:
        InputError: when there are none, or none are left, or as `ltkit.datasets.load`.
    """
    if Path(spec).is_dir():
        found, notes = _of_folder(Path(spec), follow_links)
    else:
        other = load(spec, root, follow_links=follow_links)
        found, notes = other.split("train"), other.notes
    own = {digest_of(s.images, row) for s in dataset.splits.values() for row in range(len(s))}
    digests = [digest_of(found.images, row) for row in range(len(found))]
    rows = [row for row, digest in enumerate(digests) if digest not in own]
    if not rows:
        said = f"{spec}: found {len(found)} images, {len(found)} of them of the dataset itself"
        raise SettingError(UNLABELLED, f"{said}; expected others")
    if left := len(found) - len(rows):
        notes += (f"{spec}: {left} of {len(found)} images are the dataset's own, and left out",)
    split = ImageSplit(
        _brought(_taken(found.images, rows), dataset), np.full(len(rows), -1), found.ids[rows]
    )
    content = hashlib.sha256(b"".join(digests[row] for row in rows)).hexdigest()
    record = {**dataset.record, UNLABELLED: {"spec": spec, "content": content}}
    splits = {**dataset.splits, UNLABELLED: split}
    return replace(dataset, splits=splits, record=record, notes=(*dataset.notes, *notes))


def _of_folder(folder: Path, follow_links: bool) -> tuple[ImageSplit, tuple[str, ...]]:
    """Return the images in a folder and the folders in it, and a note on what else is there."""
    ignored = Ignored()
    paths = [*images(folder, ignored)]
    files = ImageFiles(paths, usual_view(224), root=None if follow_links else folder)
    files.check_links()
    ids = np.array([shown(path.relative_to(folder).as_posix()) for path in paths], dtype=np.str_)
    return ImageSplit(files, np.full(len(paths), -1), ids), ignored.note()


def _taken(found: Images, rows: Sequence[int]) -> Images:
    """Return some images; of files, still files, which are brought to size later."""
    if isinstance(found, ImageFiles):
        return replace(found, paths=[found.paths[row] for row in rows])
    return found if len(rows) == len(found) else _Some(found, rows)


def _brought(found: Images, dataset: Dataset) -> Images:
    """Return images at the size of a dataset's that are stored at one."""
    own = dataset.split("train").images
    if isinstance(own, ImageFiles):
        return found
    side = own[:1].shape[1]
    if isinstance(found, ImageFiles):
        return replace(found, view=ImageView(side, side))
    return found if found[:1].shape[1] == side else Rescaled(found, ImageView(side, side))
