"""AutoAugment's CIFAR policy on whole uint8 batches, each operation bit for bit as Pillow's.

Operations take (B, H, W, channels) uint8 images and (B,) float64 amounts on the same device, and
return new images. Grey images have one channel, others red, green and blue.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

FILL = 128
"""Fill colour for pixels from outside a moved image: grey, near the mean of most datasets."""

Operation = Callable[[Tensor, Tensor], Tensor]


def invert(images: Tensor, amounts: Tensor) -> Tensor:
    """Return the negatives; the amounts are ignored."""
    return 255 - images


def auto_contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Return each channel stretched to 0..255; the amounts are ignored.

    Example:
        >>> image = torch.tensor([50, 100, 150], dtype=torch.uint8).view(1, 1, 3, 1)
        >>> auto_contrast(image, torch.zeros(1)).flatten().tolist()
        [0, 127, 255]
    """
    least, most = (f(images, dim=(1, 2), keepdim=True).double() for f in (torch.amin, torch.amax))
    factor = torch.full_like(least, 255) / (most - least).clamp(min=1)  # 255 / tensor rounds twice
    stretched = (images * factor - least * factor).clamp(0, 255).byte()  # cut off, not rounded
    return torch.where(most > least, stretched, images)


def equalize(images: Tensor, amounts: Tensor) -> Tensor:
    """Return each channel with an even histogram; the amounts are ignored.

    With h the histogram and q = (number of pixels, less those of the highest value) // 255, the
    value v becomes (q // 2 + h_0 + ... + h_(v-1)) // q; where q is 0 nothing changes.

    Example:
        >>> image = torch.tensor([7] * 510 + [9] * 90, dtype=torch.uint8).view(1, 1, 600, 1)
        >>> equalize(image, torch.zeros(1))[0, 0, [0, -1], 0]  # q = 2; 1 // 2, (1 + 510) // 2
        tensor([  0, 255], dtype=torch.uint8)
    """
    count, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(count, channels, height * width).long()
    histogram = values.new_zeros(count, channels, 256)
    histogram.scatter_add_(2, values, torch.ones_like(values))
    highest = histogram.gather(2, values.amax(dim=2, keepdim=True))
    quantum = (height * width - highest) // 255  # (B, channels, 1)
    below = histogram.cumsum(2) - histogram
    table = ((quantum // 2 + below) // quantum.clamp(min=1)).clamp(max=255)
    found = torch.where(quantum > 0, table.gather(2, values), values)
    return found.byte().view(count, channels, height, width).permute(0, 2, 3, 1)


def solarize(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images whose values are inverted where they reach the amount."""
    return torch.where(images < _spread(amounts), images, 255 - images)


def posterize(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images with this many of the highest bits; the amount is rounded."""
    lost = _spread(8 - amounts.round()).byte()
    return images.bitwise_right_shift(lost).bitwise_left_shift(lost)


def brightness(images: Tensor, amounts: Tensor) -> Tensor:
    """Return a blend with black: 0 is black, 1 the image, more is brighter."""
    return _blend(torch.zeros_like(images), images, amounts)


def color(images: Tensor, amounts: Tensor) -> Tensor:
    """Return a blend with the grey image: 0 is grey, 1 the image, more has more colour."""
    return _blend(_grey(images)[..., None].expand_as(images), images, amounts)


def contrast(images: Tensor, amounts: Tensor) -> Tensor:
    """Return a blend with the mean grey: 0 is flat, 1 the image, more has more contrast."""
    grey = _grey(images)
    pixels = grey[0].numel()
    mean = (2 * grey.sum(dim=(1, 2)) + pixels) // (2 * pixels)  # rounded, half upwards
    return _blend(mean[:, None, None, None].expand_as(images), images, amounts)


def sharpness(images: Tensor, amounts: Tensor) -> Tensor:
    """Return a blend with a smooth image: 0 is smooth, 1 the image, more is sharper.

    Smooth is the mean over the eight neighbours and five times the pixel; the border is kept.
    """
    channels_first = images.permute(0, 3, 1, 2).float()
    sums = 9 * functional.avg_pool2d(channels_first, 3, 1, 1, divisor_override=9)
    sums = (sums.round() + 4 * channels_first).long().permute(0, 2, 3, 1)
    smooth = images.clone()
    smooth[:, 1:-1, 1:-1] = ((2 * sums + 13) // 26)[:, 1:-1, 1:-1].byte()
    return _blend(smooth, images, amounts)


def shear_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images whose column x is moved up by the amount times x."""
    return _moved(images, 1, 0, 0, amounts, 1, 0)


def translate_x(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images moved left by a fraction of their width.

    Example:
        >>> image = torch.tensor([1, 2, 3, 4], dtype=torch.uint8).view(1, 1, 4, 1)
        >>> translate_x(image, torch.tensor([0.25])).flatten().tolist()
        [2, 3, 4, 128]
    """
    return _moved(images, 1, 0, amounts * images.shape[2], 0, 1, 0)


def translate_y(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images moved up by a fraction of their height."""
    return _moved(images, 1, 0, 0, 0, 1, amounts * images.shape[1])


def rotate(images: Tensor, amounts: Tensor, fill: int = FILL) -> Tensor:
    """Return images turned counterclockwise about their centre, in degrees."""
    height, width = images.shape[1:3]
    cos, sin = (f(-torch.deg2rad(amounts.double())) for f in (torch.cos, torch.sin))
    x = width / 2 - cos * width / 2 - sin * height / 2
    y = height / 2 + sin * width / 2 - cos * height / 2
    return _moved(images, cos, sin, x, -sin, cos, y, fill=fill)


class Kind(NamedTuple):
    """An operation and its amounts: neutral + span * level / 9, level 0 to 9.

    either_way: whether a coin gives the span its sign.
    """

    operation: Operation
    neutral: float = 0.0
    span: float = 0.0
    either_way: bool = False


KINDS = {
    "invert": Kind(invert),
    "auto-contrast": Kind(auto_contrast),
    "equalize": Kind(equalize),
    "solarize": Kind(solarize, 256, -256),
    "posterize": Kind(posterize, 8, -4),
    "brightness": Kind(brightness, 1, 0.9, True),
    "color": Kind(color, 1, 0.9, True),
    "contrast": Kind(contrast, 1, 0.9, True),
    "sharpness": Kind(sharpness, 1, 0.9, True),
    "shear-y": Kind(shear_y, 0, 0.3, True),
    "translate-x": Kind(translate_x, 0, 150 / 331, True),
    "translate-y": Kind(translate_y, 0, 150 / 331, True),
    "rotate": Kind(rotate, 0, 30, True),
}

POLICY = """
    invert        0.1 0   contrast      0.2 6
    rotate        0.7 2   translate-x   0.3 9
    sharpness     0.8 1   sharpness     0.9 3
    shear-y       0.5 8   translate-y   0.7 9
    auto-contrast 0.5 0   equalize      0.9 0
    shear-y       0.2 7   posterize     0.3 7
    color         0.4 3   brightness    0.6 7
    sharpness     0.3 9   brightness    0.7 9
    equalize      0.6 0   equalize      0.5 0
    contrast      0.6 7   sharpness     0.6 5
    color         0.7 7   translate-x   0.5 8
    equalize      0.3 0   auto-contrast 0.4 0
    translate-y   0.4 3   sharpness     0.2 6
    brightness    0.9 6   color         0.2 8
    solarize      0.5 2   invert        0.0 0
    equalize      0.2 0   auto-contrast 0.6 0
    equalize      0.2 0   equalize      0.6 0
    color         0.9 9   equalize      0.6 0
    auto-contrast 0.8 0   solarize      0.2 8
    brightness    0.1 3   color         0.7 0
    solarize      0.4 5   auto-contrast 0.9 0
    translate-y   0.9 9   translate-y   0.7 9
    auto-contrast 0.9 0   solarize      0.8 3
    equalize      0.8 0   invert        0.1 0
    translate-y   0.7 9   auto-contrast 0.9 0
"""
"""The 25 sub-policies: an operation, its probability and its level; then a second one."""

_WORDS = [line.split() for line in POLICY.strip().splitlines()]
_NAMES = list(KINDS)
_KIND = torch.tensor([[_NAMES.index(words[i]) for i in (0, 3)] for words in _WORDS])  # (25, 2)
_CHANCE = torch.tensor([[float(words[i]) for i in (1, 4)] for words in _WORDS])
_LEVEL = torch.tensor([[float(words[i]) for i in (2, 5)] for words in _WORDS], dtype=torch.float64)


def auto_augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return each image after a randomly drawn sub-policy.

    Args:
        images: (B, H, W, channels) uint8, of one channel or three.
        generator: a CPU generator; the same state gives the same images on every device.

    Source:
        Cubuk et al., CVPR 2019, arXiv:1805.09501, tables 6 and 7. Amounts, signs and grey borders
        as in the code of the field (balanced softmax, PaCo, CMO), which reads the paper's table
        with levels 0 to 9. That code shears with cubic interpolation and turns one way only; here
        the nearest pixel is taken and both ways are as likely.
    """
    count, device = len(images), images.device
    chosen = torch.randint(len(_WORDS), (count,), generator=generator)
    active = torch.rand(count, 2, generator=generator) < _CHANCE[chosen]
    signs = 2 * torch.randint(2, (count, 2), generator=generator) - 1
    images = images.clone()
    for turn in (0, 1):
        for number, kind in enumerate(KINDS.values()):
            rows = (active[:, turn] & (_KIND[chosen, turn] == number)).nonzero()[:, 0]  # on the CPU
            if not len(rows):
                continue
            moves = kind.span * _LEVEL[chosen[rows], turn] / 9  # (rows,) float64
            amounts = kind.neutral + (moves * signs[rows, turn] if kind.either_way else moves)
            rows, amounts = (t.to(device, non_blocking=True) for t in (rows, amounts))
            images[rows] = kind.operation(images[rows], amounts)
    return images


def turned(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images turned by up to 15 degrees either way; what comes from outside is black.

    Args:
        images: (B, H, W, channels) uint8.
        generator: a CPU generator.

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, the released code for CIFAR.
    """
    degrees = 15 * (2 * torch.rand(len(images), generator=generator, dtype=torch.float64) - 1)
    return rotate(images, degrees.to(images.device, non_blocking=True), fill=0)


def cut_out(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images with a square of zeros, half as wide as the shorter side, at any centre.

    Args:
        images: (B, channels, H, W) normalised; zero is the mean colour.
        generator: a CPU generator.

    Source:
        DeVries and Taylor, 2017, arXiv:1708.04552; 16 of 32 pixels, as balanced softmax and PaCo
        have it. The square's part beyond the border is lost, as in the source.
    """
    inside = []
    half = min(images.shape[2:]) // 4
    for size in images.shape[2:]:
        centre = torch.randint(size, (len(images), 1), generator=generator)
        distance = torch.arange(size) - centre
        inside.append(
            ((distance >= -half) & (distance < half)).to(images.device, non_blocking=True)
        )
    return images.masked_fill(inside[0][:, None, :, None] & inside[1][:, None, None, :], 0)


def _spread(amounts: Tensor) -> Tensor:
    return amounts[:, None, None, None]


def _grey(images: Tensor) -> Tensor:
    """Return (B, H, W) int64 grey values, in weights of 1 / 65536."""
    if images.shape[3] == 1:
        return images[..., 0].long()
    red, green, blue = images.long().unbind(dim=3)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def _blend(first: Tensor, second: Tensor, amounts: Tensor) -> Tensor:
    """Return first + amount * (second - first) in single precision, clipped to bytes."""
    low, high = first.float(), second.float()
    return (low + _spread(amounts).float() * (high - low)).clamp(0, 255).byte()


def _moved(images: Tensor, *entries: Tensor | float, fill: int = FILL) -> Tensor:
    """Return images whose pixel (x, y) comes from (a x + b y + c, d x + e y + f) of the old ones.

    Pixels are where their centres are. Coordinates are whole numbers of 1 / 65536 pixel, as
    Pillow has them, so that every device finds the same pixels.

    Args:
        images: (B, H, W, channels).
        entries: a to f, each a number or one for each image.
        fill: what comes from outside.
    """
    count, height, width = images.shape[:3]
    like = next(e for e in entries if isinstance(e, Tensor))
    a, b, c, d, e, f = (torch.as_tensor(x, device=like.device).double() for x in entries)

    def along(x_step: Tensor, y_step: Tensor, start: Tensor) -> Tensor:
        start = start + x_step / 2 + y_step / 2
        fixed = [(65536 * t + 0.5).floor().long().expand(count) for t in (x_step, y_step, start)]
        by_x, by_y, first = (t[:, None, None] for t in fixed)
        x, y = torch.arange(width, device=like.device), torch.arange(height, device=like.device)
        return (first + by_x * x + by_y * y[:, None]) >> 16  # (B, H, W)

    columns, rows = along(a, b, c), along(d, e, f)
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    image = torch.arange(count, device=images.device)[:, None, None]
    found = images[image, rows.clamp(0, height - 1), columns.clamp(0, width - 1)]
    return torch.where(inside[..., None], found, fill)
