"""SimCLR's views of whole uint8 batches: a part of the image at full size, other colours, grey.

Images are (B, H, W, channels) uint8, of one channel or three; colours change with three alone.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.training.auto_augment import brightness, color, contrast

SCALE, RATIO, TRIES = (0.2, 1.0), (3 / 4, 4 / 3), 10
"""Part of the image's area, its width over its height, and draws of both until the part fits."""

STRENGTH, HUE = 0.4, 0.1
"""Amounts by which brightness, contrast and colour, and the hue, change at most."""

CHANGED, GREY = 0.8, 0.2
"""Probabilities that an image's colours change, and that it is grey."""


def simclr(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """Return a random view of each image.

    Args:
        images: as above.
        flip: whether half of them are mirrored.
        generator: a CPU generator; the same state gives the same views on every device.

    Source:
        Chen et al., ICML 2020, arXiv:2002.05709, appendix A and B.9 (CIFAR, without blur); sizes
        as in the released code of MoCo v2, supervised contrastive learning and PaCo: areas from
        0.2, amounts 0.4 and 0.1. The order of the colour changes is drawn for each batch.
    """
    images = resized(images, *boxes(images, generator))
    mirrored = torch.rand(len(images), generator=generator) < (0.5 if flip else 0.0)
    mirrored = mirrored.to(images.device, non_blocking=True)[:, None, None, None]
    images = torch.where(mirrored, images.flip(2), images)
    return coloured(images, generator) if images.shape[3] == 3 else images


def boxes(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a part of each image: (B,) top, left, height and width in pixels, on the CPU.

    Of ten draws the first that fits is taken, else the middle of the image, all of it that the
    ratio allows.
    """
    count, height, width = images.shape[:3]
    draws = torch.rand(4, TRIES, count, generator=generator)
    area = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * draws[0])
    least, most = math.log(RATIO[0]), math.log(RATIO[1])
    ratio = (least + (most - least) * draws[1]).exp()
    wide, high = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()  # (TRIES, B)
    fits = (wide >= 1) & (wide <= width) & (high >= 1) & (high <= height)
    first = fits.int().argmax(dim=0)[None]
    wide, high, down, along = (t.gather(0, first)[0] for t in (wide, high, draws[2], draws[3]))
    none = ~fits.any(dim=0)
    whole = min(width / height, RATIO[1]) if width > height else max(width / height, RATIO[0])
    wide = torch.where(none, min(width, round(height * whole)), wide)
    high = torch.where(none, min(height, round(width / whole)), high)
    top, left = (down * (height - high + 1)).floor(), (along * (width - wide + 1)).floor()
    middle = ((height - high) // 2, (width - wide) // 2)
    return torch.where(none, middle[0], top), torch.where(none, middle[1], left), high, wide


def resized(images: Tensor, top: Tensor, left: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    """Return parts of images at the images' size, interpolated linearly.

    Example:
        >>> image = torch.tensor([10, 20, 30, 40], dtype=torch.uint8).view(1, 1, 4, 1)
        >>> zero, one, two = torch.tensor([0.0]), torch.tensor([1.0]), torch.tensor([2.0])
        >>> resized(image, zero, one, one, two).flatten().tolist()  # of 20 and 30
        [20, 23, 28, 30]
    """
    height, width = images.shape[1:3]

    def places(start: Tensor, size: Tensor, out: int) -> Tensor:
        at = (torch.arange(out) + 0.5) * size[:, None] / out - 0.5
        return start[:, None] + torch.minimum(at.clamp(min=0), size[:, None] - 1)

    rows, columns = places(top, high, height), places(left, wide, width)
    grid = torch.stack(
        [(2 * columns[:, None] + 1).expand(-1, height, -1) / width - 1,
         (2 * rows[:, :, None] + 1).expand(-1, -1, width) / height - 1], dim=3,
    ).to(images.device, non_blocking=True)  # fmt: skip
    pixels = images.permute(0, 3, 1, 2).float()
    found = functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)
    return (found.clamp(0, 255) + 0.5).floor().clamp(max=255).byte().permute(0, 2, 3, 1)


def coloured(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image with changed colours, or grey, or as it is."""
    count, device = len(images), images.device
    amounts = 1 + STRENGTH * (2 * torch.rand(3, count, generator=generator) - 1)
    turns = HUE * (2 * torch.rand(count, generator=generator) - 1)
    changed = torch.rand(count, generator=generator) < CHANGED
    grey = torch.rand(count, generator=generator) < GREY
    order = torch.randperm(4, generator=generator).tolist()
    amounts = torch.where(changed, amounts, 1.0).double().to(device, non_blocking=True)
    turns = torch.where(changed, turns, 0.0).to(device, non_blocking=True)
    for number in order:
        if number == 3:
            images = turned(images, turns)
        else:
            images = (brightness, contrast, color)[number](images, amounts[number])
    flat = color(images, torch.zeros(count, dtype=torch.float64, device=device))
    return torch.where(grey.to(device, non_blocking=True)[:, None, None, None], flat, images)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return images whose hue is moved by a part of the colour circle.

    Saturation and value, the largest of the three colours, stay.

    Args:
        images: (B, H, W, 3) uint8.
        turns: (B,) from -1 to 1.

    Example:
        >>> red = torch.tensor([200, 50, 50], dtype=torch.uint8).view(1, 1, 1, 3)
        >>> turned(red, torch.tensor([1 / 3])).flatten().tolist()
        [50, 200, 50]
    """
    colours = images.float()
    value, spread = colours.amax(dim=3), colours.amax(dim=3) - colours.amin(dim=3)
    red, green, blue = colours.unbind(dim=3)
    safe = spread.clamp(min=1)
    sixths = torch.where(
        value == red, (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )  # fmt: skip
    sixths = sixths + 6 * turns[:, None, None]
    moved = []
    for offset in (5, 3, 1):  # red, green, blue
        at = (offset + sixths) % 6
        moved.append(value - spread * torch.minimum(at, 4 - at).clamp(0, 1))
    found = (torch.stack(moved, dim=3) + 0.5).floor().clamp(0, 255).byte()
    return torch.where((turns == 0)[:, None, None, None], images, found)
