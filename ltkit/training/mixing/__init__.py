"""Mixing two images into one, one method per file; the file's ``mix`` is a `Mixing`.

The loss of a mixed batch is weight * loss(labels) + (1 - weight) * loss(others), so that every
loss works whose value does not depend on batches that it met before.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any

from ltkit.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class Mixed:
    """A mixed batch.

    images: (B, channels, H, W).
    labels, others: (B,) int64, with shares weight and 1 - weight in the loss.
    """

    images: "Tensor"
    labels: "Tensor"
    others: "Tensor"
    weight: float


@dataclass(frozen=True, kw_only=True)
class Mixing(ABC):
    """How and when batches are mixed.

    probability: probability that a batch is mixed, 0 to 1.
    first, last: epochs at the beginning and at the end without mixing.

    Raises:
        InputError: when a parameter is out of range.
    """

    alpha: float = 1.0
    probability: float = 1.0
    first: int = 0
    last: int = 0

    def __post_init__(self) -> None:
        """Reject parameters out of range."""
        if not 0 < self.alpha < float("inf"):
            raise InputError(f"alpha: found {self.alpha}, expected a finite number above 0")
        if not 0 <= self.probability <= 1:
            raise InputError(f"probability: found {self.probability}, expected from 0 to 1")
        for field in fields(self):
            value = getattr(self, field.name)
            if not (isfinite(value) and value >= 0):
                raise InputError(f"{field.name}: found {value}, expected a number of at least 0")

    def active(self, epoch: int, epochs: int) -> bool:
        """Return whether batches are mixed after this many finished epochs of all.

        Example:
            >>> from ltkit.training.mixing.cmo import CMO
            >>> [e for e in range(10) if CMO(first=3, last=2).active(e, 10)]
            [3, 4, 5, 6, 7]
        """
        return self.first <= epoch < epochs - self.last

    def chances(self, class_counts: "Tensor") -> "Tensor | None":
        """Return the (C,) class probabilities of the partners; None: they come from the batch."""
        return None

    def record(self) -> dict[str, Any]:
        """Return the name and the parameters, for a checkpoint."""
        return {"name": type(self).__name__.lower()} | asdict(self)

    @abstractmethod
    def __call__(
        self,
        images: "Tensor",
        labels: "Tensor",
        partners: "Tensor",
        partner_labels: "Tensor",
        class_counts: "Tensor",
        rng: "np.random.Generator",
    ) -> Mixed:
        """Return a mixed batch.

        Args:
            images: (B, channels, H, W); left as they are.
            labels: (B,) int64.
            partners: as images, what is mixed into them.
            partner_labels: (B,) int64.
            class_counts: (C,) training images per class.
            rng: draws what is the same for the whole batch, on the CPU.
        """


def pasted(
    images: "Tensor", partners: "Tensor", alpha: float, rng: "np.random.Generator"
) -> "tuple[Tensor, float]":
    """Return images with a box of their partners, and the share of pixels that is left.

    With lambda from Beta(alpha, alpha), the box has the sides' lengths times sqrt(1 - lambda) and
    any pixel as its centre; what is beyond the border is lost.
    """
    height, width = images.shape[2:]
    cut = (1 - rng.beta(alpha, alpha)) ** 0.5
    half_height, half_width = int(height * cut) // 2, int(width * cut) // 2
    row, column = int(rng.integers(height)), int(rng.integers(width))
    rows = slice(max(row - half_height, 0), min(row + half_height, height))
    columns = slice(max(column - half_width, 0), min(column + half_width, width))
    result = images.clone()
    result[:, :, rows, columns] = partners[:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return result, 1 - area / (height * width)
