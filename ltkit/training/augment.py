"""Batched augmentation on the device: random crop and horizontal flip in one gather."""

from collections.abc import Sequence

import torch
from torch import Tensor


class ImageStore:
    """All images of a split on one device as padded uint8, read as normalised batches.

    images: (N, H, W, channels) uint8.
    mean, std: per channel, of pixel values in 0..1.
    padding: pixels of zeros on each side, so that a crop is a gather.
    """

    def __init__(
        self,
        images: Tensor,
        mean: Sequence[float],
        std: Sequence[float],
        padding: int,
        flip: bool,
    ) -> None:
        """Pad the images and move nothing else."""
        self.height, self.width = images.shape[1:3]
        self.padding, self.flip = padding, flip
        self.images = torch.nn.functional.pad(images, (0, 0, padding, padding, padding, padding))
        self.mean = torch.tensor(mean, device=images.device) * 255
        self.scale = 1 / (torch.tensor(std, device=images.device) * 255)

    def plain(self, index: Tensor) -> Tensor:
        """Return the images as they are: (B, channels, H, W) float32, channels last in memory."""
        p = self.padding
        return self._normalised(self.images[index][:, p : p + self.height, p : p + self.width])

    def augmented(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random crop of each padded image, mirrored half of the time.

        Args:
            index: (B,) which images.
            generator: a CPU generator; the same state gives the same views on every device.
        """
        count, device = len(index), self.images.device
        offsets = torch.randint(0, 2 * self.padding + 1, (2, count, 1), generator=generator)
        mirrored = torch.rand(count, 1, generator=generator) < (0.5 if self.flip else 0.0)
        columns = torch.arange(self.width)
        rows = offsets[0] + torch.arange(self.height)  # (B, H)
        columns = offsets[1] + torch.where(mirrored, columns.flip(0), columns)  # (B, W)
        rows, columns = rows.to(device), columns.to(device)
        return self._normalised(
            self.images[index[:, None, None], rows[:, :, None], columns[:, None]]
        )

    def _normalised(self, pixels: Tensor) -> Tensor:
        return pixels.float().sub_(self.mean).mul_(self.scale).permute(0, 3, 1, 2)
