"""ResNets with separate last two stages for each expert (RIDE, SADE).

Layers carry the published names: the shared ``conv1``, ``bn1``, ``layer1`` (and ``layer2`` of the
large networks), then ``layer2s.i``, ``layer3s.i`` or ``layer3s.i``, ``layer4s.i`` of expert i.
`reduced` networks have three quarters of the width in the experts' stages.

Source:
    Wang et al., ICLR 2021, arXiv:2010.01809, sec. 4; Zhang et al., NeurIPS 2022, arXiv:2107.09249.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.cifar_resnet import BasicBlock
from ltkit.architectures.imagenet_resnet import EXPANSION, Block
from ltkit.architectures.network import Network, make_head


class Experts(nn.Module):
    """What both sizes share: a trunk, the experts' stages, and concatenated pooled features."""

    names: tuple[str, str]
    trunk: tuple[str, ...]

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, E * d), in the order of the experts."""
        out = functional.relu(self.get_submodule("bn1")(self.get_submodule("conv1")(images)))
        out = self.pool(out)
        for name in self.trunk:
            out = self.get_submodule(name)(out)
        features = []
        stages = (self.get_submodule(name).children() for name in self.names)
        for first, second in zip(*stages, strict=True):
            features.append(second(first(out)).mean(dim=(2, 3)))
        return torch.cat(features, dim=1)

    def pool(self, x: Tensor) -> Tensor:
        """Return the stem's output as the first stage expects it."""
        return x


class CifarExperts(Experts):
    """A CIFAR ResNet: (B, 3, H, W) to (B, 64 E), or 48 E when reduced."""

    names = ("layer2s", "layer3s")
    trunk = ("layer1",)

    def __init__(self, experts: int, reduced: bool, depth: int = 32) -> None:
        """Make the layers."""
        super().__init__()
        blocks = (depth - 2) // 6
        first, second = (24, 48) if reduced else (32, 64)
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _basic_stage(16, 16, blocks, 1)
        self.layer2s = nn.ModuleList(_basic_stage(16, first, blocks, 2) for _ in range(experts))
        self.layer3s = nn.ModuleList(_basic_stage(first, second, blocks, 2) for _ in range(experts))
        self.feature_size = experts * second


class ImagenetExperts(Experts):
    """ResNet-10, ResNet-50 or ResNeXt-50: (B, 3, H, W) to (B, E * d)."""

    names = ("layer3s", "layer4s")
    trunk = ("layer1", "layer2")

    def __init__(
        self,
        experts: int,
        reduced: bool,
        depths: Sequence[int],
        bottleneck: bool,
        groups: int = 1,
        group_width: int = 64,
    ) -> None:
        """Make the layers."""
        super().__init__()
        third, fourth = (192, 384) if reduced else (256, 512)
        factor = EXPANSION if bottleneck else 1

        def stage(channels_in: int, width: int, depth: int, stride: int) -> nn.Sequential:
            blocks = []
            for number in range(depth):
                step = stride if number == 0 else 1
                blocks.append(Block(channels_in, width, step, bottleneck, groups, group_width))
                channels_in = width * factor
            return nn.Sequential(*blocks)

        self.conv1 = nn.Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = stage(64, 64, depths[0], 1)
        self.layer2 = stage(64 * factor, 128, depths[1], 2)
        self.layer3s = nn.ModuleList(
            stage(128 * factor, third, depths[2], 2) for _ in range(experts)
        )
        self.layer4s = nn.ModuleList(
            stage(third * factor, fourth, depths[3], 2) for _ in range(experts)
        )
        self.feature_size = experts * fourth * factor

    def pool(self, x: Tensor) -> Tensor:
        """Return the stem's output after max pooling."""
        return functional.max_pool2d(x, 3, 2, padding=1)


def _basic_stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(blocks - 1)))


def build(
    num_classes: int,
    *,
    cosine: bool,
    scale: float,
    experts: int,
    reduced: bool,
    depth: int = 32,
    depths: Sequence[int] | None = None,
    bottleneck: bool = False,
    groups: int = 1,
    group_width: int = 64,
) -> Network:
    """Build a network; without `depths`, the one for small images, of `depth` layers."""
    backbone = (
        CifarExperts(experts, reduced, depth)
        if depths is None
        else ImagenetExperts(experts, reduced, depths, bottleneck, groups, group_width)
    )
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    size = backbone.feature_size
    head = make_head(size, num_classes, cosine=cosine, scale=scale, experts=experts)
    return Network(backbone, head)
