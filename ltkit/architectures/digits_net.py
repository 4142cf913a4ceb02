"""A small convolutional network for 8x8 grey digits, for quick runs and tests; also of experts."""

import torch
from torch import Tensor, nn

from ltkit.architectures.network import Network, make_head

WIDTHS = (16, 32, 64)


class Experts(nn.Module):
    """Layers side by side, whose features stand one after another."""

    def __init__(self, experts: list[nn.Module]) -> None:
        """Join them."""
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, E * d), in the order of the experts."""
        return torch.cat([expert(maps) for expert in self.experts], dim=1)


def _convolution(channels_in: int, channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
    ]


def build(
    num_classes: int, *, cosine: bool, scale: float, experts: int = 1, reduced: bool = False
) -> Network:
    """Build the network: (B, 1, 8, 8) images, (B, 64 E) features, or 48 E when reduced.

    Experts share the first convolution.
    """
    first, second, third = WIDTHS if not reduced else (16, 24, 48)

    def rest() -> list[nn.Module]:
        layers = _convolution(first, second, 2) + _convolution(second, third, 2)
        return [*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()]

    layers = _convolution(1, first, 1)
    layers += (
        rest() if experts == 1 else [Experts([nn.Sequential(*rest()) for _ in range(experts)])]
    )
    head = make_head(third * experts, num_classes, cosine=cosine, scale=scale, experts=experts)
    return Network(nn.Sequential(*layers), head)
