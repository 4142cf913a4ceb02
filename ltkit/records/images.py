"""Labelled images, in splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records.arrays import Ints
from ltkit.records.features import ClassTable
from ltkit.settings import Fit, Interpolation


@dataclass(frozen=True)
class ImageView:
    """How a picture becomes what a network sees: brought to size, then the centre cut out.

    resize: pixels; of the shorter side (``fit="crop"``), of both sides, whatever the proportions
        (``squeeze``), or of the longer side, with black bars beside the picture (``pad``).
    crop: side of the square that is cut out of the centre.
    interpolation: how it is scaled, antialiased but for ``nearest``.
    window: (low, high) values that become 0 and 255, of pictures with more than eight bits; None:
        all that their type holds.
    """

    resize: int
    crop: int
    interpolation: Interpolation = "bilinear"
    fit: Fit = "crop"
    window: tuple[float, float] | None = None


class Images(Protocol):
    """N images of one size, read in blocks; a uint8 array qualifies."""

    def __len__(self) -> int:
        """N."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read (B, H, W, channels) uint8 images.

        Raises:
            InputError: for an image that cannot be read; the message names it.
        """


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """The images of one split.

    labels: (N,) int64; ids: (N,) what each image is called.
    """

    images: Images
    labels: Ints
    ids: NDArray[np.str_]

    def __post_init__(self) -> None:
        """Check the lengths."""
        if not len(self.images) == len(self.labels) == len(self.ids):
            raise ValueError(f"{len(self.images)} images, {len(self.labels)} labels")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in splits, with what training and extraction need to know about them.

    mean, std: per channel, of pixel values in 0..1: the field's usual normalisation.
    crop_padding, flip: the usual training augmentation (pixels; whether to mirror).
    record: what makes the dataset repeatable (spec, validation rule, index digest).
    notes: what was assumed or left out, a line each, for the user.
    labelled: how many of the training images, the first, have labels of their own; None: all.
    """

    splits: Mapping[str, ImageSplit]
    classes: ClassTable
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int
    flip: bool
    record: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    labelled: int | None = None

    def split(self, name: str) -> ImageSplit:
        """Return a split.

        Raises:
            InputError: when there is no such split; the message lists those present.
        """
        if name not in self.splits:
            raise InputError(
                f"{self.record['spec']}: no split {name}; there are: {', '.join(self.splits)}"
            )
        return self.splits[name]
