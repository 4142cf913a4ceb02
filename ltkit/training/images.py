"""A dataset's images in the memory of a device."""

from typing import NamedTuple

import numpy as np
import torch

from ltkit.errors import InputError
from ltkit.records import Dataset, ImageSplit, block_rows, blocks
from ltkit.settings import Augment
from ltkit.training.augment import ImageStore

MAX_RESIDENT = 32 << 30
"""Largest dataset in bytes; images are kept in memory."""


class Images(NamedTuple):
    """A dataset's images on a device, shared by runs."""

    train: ImageStore
    val: ImageStore | None


def resident(dataset: Dataset, augment: Augment, device: str) -> Images:
    """Move a dataset's images to a device.

    Raises:
        InputError: when they do not suit the memory or the augmentation.
    """
    val = dataset.splits.get("val")
    return Images(
        store_of(dataset.split("train"), dataset, device, augment),
        None if val is None else store_of(val, dataset, device),
    )


def store_of(
    split: ImageSplit, dataset: Dataset, device: str, augment: Augment = "none"
) -> ImageStore:
    """Move a split's images to a device.

    Raises:
        InputError: as `resident`.
    """
    shape = split.images[:1].shape
    needed = len(split) * int(np.prod(shape[1:]))
    if needed > MAX_RESIDENT:
        raise InputError(
            f"{dataset.record['spec']}: {len(split)} images of {shape[1:]} need {needed >> 30} GiB "
            f"of memory, expected at most {MAX_RESIDENT >> 30}; set a smaller resize= and crop="
        )
    pixels = torch.empty((len(split), *shape[1:]), dtype=torch.uint8)
    for rows in blocks(len(split), block_rows(needed // len(split))):
        pixels[rows] = torch.from_numpy(np.ascontiguousarray(split.images[rows]))
    return ImageStore(
        pixels.to(device), dataset.mean, dataset.std, dataset.crop_padding, dataset.flip, augment
    )
