"""Self-training: images without labels are trained on with those that a teacher gives them."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltkit.datasets.unlabelled import UNLABELLED
from ltkit.errors import SettingError
from ltkit.records import Dataset, Images, ImageSplit, block_rows, blocks
from ltkit.training import distributed
from ltkit.training.augment import ImageStore
from ltkit.training.teachers import Teacher

AT_ONCE = 256
"""Images that the teacher labels together."""


@dataclass(frozen=True)
class _Joined:
    """Images, and others of their size after them."""

    first: Images
    second: Images

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        start, stop, _ = rows.indices(len(self))
        size = len(self.first)
        own = self.first[min(start, size) : min(stop, size)]
        others = self.second[max(start - size, 0) : max(stop - size, 0)]
        return np.concatenate([own, others])


def self_trained(dataset: Dataset, teacher: Teacher | None, device: str) -> tuple[Dataset, str]:
    """Return a dataset whose unlabelled images are training images, with the teacher's labels.

    Each has the class that the teacher predicts, however sure it is. Losses, samplers and mixing
    see them as any other: training counts are those of all labels. Shot groups in the log stay
    those of the labels that were given.

    Args:
        dataset: with a split `UNLABELLED`, as the network sees it.
        teacher: of these classes.
        device: ``cpu`` or ``cuda[:i]``.

    Returns:
        The dataset without that split, and a note on the labels.

    Raises:
        SettingError: when there is no teacher, or the images have another size or channels.

    Source:
        Yang and Xu, NeurIPS 2020, arXiv:2006.07529, sec. 3.2, semi-supervised; labels and counts as
        in the released code.
    """
    others, train = dataset.split(UNLABELLED), dataset.split("train")
    if teacher is None:
        said = "absent; unlabelled images take their labels from a checkpoint of these classes"
        raise SettingError("teacher", f"{said}, name it")
    found, expected = (split.images[:1].shape[1:] for split in (others, train))
    if found != expected:
        what = f"found images of {_size(found)}, expected {_size(expected)}, as those with labels"
        raise SettingError(UNLABELLED, what)
    given = torch.cat([*_labels(dataset, others, teacher.to(torch.device(device)), device)])
    labels = distributed.shared(given).cpu().numpy()
    counts = np.bincount(labels, minlength=len(dataset.classes))
    union = ImageSplit(
        _Joined(train.images, others.images), np.concatenate([train.labels, labels]),
        np.concatenate([train.ids, others.ids]),
    )  # fmt: skip
    record = {
        **dataset.record[UNLABELLED], "teacher": teacher.digest,
        "labels": hashlib.sha256(labels.tobytes()).hexdigest(),
    }  # fmt: skip
    splits = {name: split for name, split in dataset.splits.items() if name != UNLABELLED}
    classes = replace(dataset.classes, train_count=dataset.classes.train_count + counts)
    note = (
        f"{teacher.path}: gives labels to {len(labels)} images, {counts.min()} to {counts.max()} "
        "a class; training counts are those of all labels"
    )
    return replace(
        dataset, splits=splits | {"train": union}, classes=classes, labelled=len(train),
        record={**dataset.record, UNLABELLED: record},
    ), note  # fmt: skip


def _labels(dataset: Dataset, split: ImageSplit, teacher: Teacher, device: str) -> Iterator[Tensor]:
    """Yield the classes that a teacher predicts of a split's images, block by block."""
    size = min(AT_ONCE, block_rows(int(np.prod(split.images[:1].shape))))
    for rows in blocks(len(split), size):
        pixels = torch.from_numpy(np.ascontiguousarray(split.images[rows])).to(device)
        store = ImageStore(pixels, dataset.mean, dataset.std, 0, False, "none")
        yield teacher.logits(store.block(slice(0, len(pixels)))).argmax(dim=1)


def _size(shape: tuple[int, ...]) -> str:
    """Return the size of an image in words.

    Example:
        >>> _size((8, 8, 1))
        '8 x 8 pixels in 1 channel'
    """
    height, width, channels = shape
    return f"{height} x {width} pixels in {channels} channel{'s' * (channels != 1)}"
