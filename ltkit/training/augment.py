"""Batched augmentation on the device: random crop and flip in one gather, then other changes."""

from collections.abc import Iterator, Sequence
from typing import get_args

import torch
from torch import Tensor

from ltkit.errors import SettingError
from ltkit.records import blocks
from ltkit.settings import Augment
from ltkit.training.auto_augment import auto_augmented, cut_out, turned
from ltkit.training.simclr import simclr

VIEWS: dict[str, Augment] = {name: name for name in get_args(Augment)}
"""The augmentations by name."""


def check_channels(augment: Augment, channels: int) -> None:
    """Reject an augmentation of colours for images that have none.

    Raises:
        SettingError: naming ``augment``.
    """
    if ("autoaugment" in augment or augment == "simclr") and channels not in (1, 3):
        said = f"found images of {channels} channels, expected 1 or 3"
        raise SettingError(f"augment {augment}", said)


class ImageStore:
    """All images of a split on one device as padded uint8, read as normalised batches.

    images: (N, H, W, channels) uint8.
    mean, std: per channel, of pixel values in 0..1.
    padding: pixels of zeros on each side, so that a crop is a gather.
    augment: ``none``, ``standard`` for crop and flip, which the others have, too, and before all
        else; ``rotation`` and ``autoaugment`` come before normalisation, ``cutout`` after it;
        ``simclr`` has its own crop.
    """

    unit = "images"

    def __init__(
        self,
        images: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        padding: int,
        flip: bool,
        augment: Augment = "standard",
    ) -> None:
        """Pad the images.

        Raises:
            SettingError: when the policy does not suit the images.
        """
        check_channels(augment, images.shape[3])
        self.height, self.width = images.shape[1:3]
        self.padding, self.flip, self.augment = padding, flip, augment
        self.images = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
        self.mean = torch.tensor(mean, device=images.device) * 255
        self.scale = 1 / (torch.tensor(std, device=images.device) * 255)

    def __len__(self) -> int:
        """N."""
        return len(self.images)

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def slices(self) -> Iterator[slice]:
        """Cut the images into batches for the network."""
        return blocks(len(self), 512)

    def block(self, rows: slice) -> Tensor:
        """Return consecutive images without augmentation."""
        return self.plain(torch.arange(rows.start, rows.stop, device=self.device))

    def drawn(self, order: Tensor) -> None:
        """Do nothing: all images are in memory."""

    def plain(self, index: Tensor) -> Tensor:
        """Return unaugmented images: (B, channels, H, W) float32, channels last in memory."""
        return self._normalised(self._pixels(index))

    def augmented(
        self, index: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> Tensor:
        """Return a random view of each image: a crop, flipped half of the time, and the rest.

        Args:
            index: (B,) image indices.
            generator: a CPU generator; the same state gives the same views on every device.
            augment: instead of the store's own.
        """
        augment = augment or self.augment
        if augment == "none":
            return self.plain(index)
        if augment == "simclr":
            return self._normalised(simclr(self._pixels(index), self.flip, generator))
        count, device = len(index), self.images.device
        offsets = torch.randint(0, 2 * self.padding + 1, (2, count, 1), generator=generator)
        mirrored = torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0.0)
        columns = torch.arange(self.width)
        rows = offsets[0] + torch.arange(self.height)  # (B, H)
        columns = offsets[1] + torch.where(mirrored, columns.flip(0), columns)  # (B, W)
        rows, columns = (t.to(device, non_blocking=True) for t in (rows, columns))
        pixels = self.images[index[:, None, None], rows[:, :, None], columns[:, None]]
        if augment == "rotation":
            pixels = turned(pixels, generator)
        if "autoaugment" in augment:
            pixels = auto_augmented(pixels, generator)
        views = self._normalised(pixels)
        return cut_out(views, generator) if "cutout" in augment else views

    def _pixels(self, index: Tensor) -> Tensor:
        p = self.padding
        return self.images[index][:, p : p + self.height, p : p + self.width]

    def _normalised(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).mul_(self.scale).permute(0, 3, 1, 2)
