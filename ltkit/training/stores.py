"""The source of batches: samples on a device."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from ltkit.settings import Augment


class Store(Protocol):
    """N samples on a device, read in batches: images, or cached features."""

    unit: str

    @property
    def device(self) -> torch.device:
        """The device of the batches."""

    def __len__(self) -> int:
        """N."""

    def slices(self) -> Iterator[slice]:
        """Cut the samples into what is read at a time."""

    def block(self, rows: slice) -> Tensor:
        """Return samples without augmentation."""

    def drawn(self, order: Tensor) -> None:
        """Note the indices of an epoch, in the order in which they will be requested."""

    def augmented(
        self, index: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> Tensor:
        """Return a random view of each sample, with the store's own augmentation or another."""
