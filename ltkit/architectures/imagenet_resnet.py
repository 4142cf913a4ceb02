"""ResNets for large images, and ResNet-34 with the small stem for 32x32 ones.

Layers carry the names that nearly every published state dict of these networks has: conv1, bn1,
layer1..4, downsample.0 and .1.

Source:
    He et al., CVPR 2016, arXiv:1512.03385, table 1; Xie et al., CVPR 2017, arXiv:1611.05431,
    table 1 (ResNeXt-50, 32x4d). Strides sit on the 3x3 convolution of a bottleneck, as in the
    networks that the field's checkpoints hold.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network, make_head

WIDTHS = (64, 128, 256, 512)
EXPANSION = 4


class Block(nn.Module):
    """A residual block: two 3x3 convolutions, or a 1x1, 3x3, 1x1 bottleneck.

    channels: width of the stage; the bottleneck gives four times as many.
    groups, group_width: of the bottleneck's 3x3 convolution (ResNeXt).
    """

    def __init__(
        self,
        channels_in: int,
        channels: int,
        stride: int,
        bottleneck: bool,
        groups: int,
        group_width: int,
    ) -> None:
        """Make the layers; the shortcut is a 1x1 convolution where the shape changes."""
        super().__init__()
        inner = channels * group_width // 64 * groups if bottleneck else channels
        out = EXPANSION * channels if bottleneck else channels
        if bottleneck:
            shapes = [(channels_in, inner, 1, 1), (inner, inner, 3, stride), (inner, out, 1, 1)]
        else:
            shapes = [(channels_in, inner, 3, stride), (inner, out, 3, 1)]
        for number, (size_in, size, kernel, step) in enumerate(shapes, start=1):
            grouped = groups if kernel == 3 else 1
            conv = nn.Conv2d(
                size_in, size, kernel, step, padding=kernel // 2, groups=grouped, bias=False
            )
            self.add_module(f"conv{number}", conv)
            self.add_module(f"bn{number}", nn.BatchNorm2d(size))
        self.layers = len(shapes)
        self.downsample: nn.Module | None = None
        if stride > 1 or channels_in != out:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, out, H / stride, W / stride)."""
        out = x
        for number in range(1, self.layers + 1):
            conv, bn = self.get_submodule(f"conv{number}"), self.get_submodule(f"bn{number}")
            out = bn(conv(out))
            if number < self.layers:
                out = functional.relu(out, inplace=True)
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(out + shortcut, inplace=True)


class ResNet(nn.Module):
    """The part before the head: (B, 3, H, W) images to (B, D) features.

    depths: blocks of the four stages.
    small_images: a 3x3 stem with stride 1 and no pooling, for 32x32 images.
    added: units of a layer after the pooling, with a ReLU, as OLTR has one; 0 for none.
    """

    def __init__(
        self,
        depths: Sequence[int],
        bottleneck: bool,
        groups: int = 1,
        group_width: int = 64,
        small_images: bool = False,
        added: int = 0,
    ) -> None:
        """Make the layers."""
        super().__init__()
        kernel, stride = (3, 1) if small_images else (7, 2)
        self.conv1 = nn.Conv2d(3, WIDTHS[0], kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.pooled = not small_images
        channels = WIDTHS[0]
        for stage, (width, depth) in enumerate(zip(WIDTHS, depths, strict=True), start=1):
            blocks = []
            for number in range(depth):
                step = 2 if stage > 1 and number == 0 else 1
                blocks.append(Block(channels, width, step, bottleneck, groups, group_width))
                channels = width * (EXPANSION if bottleneck else 1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc_add = nn.Linear(channels, added) if added else None
        self.feature_size = added or channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D)."""
        out = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        if self.pooled:
            out = functional.max_pool2d(out, 3, 2, padding=1)
        for stage in (1, 2, 3, 4):
            out = self.get_submodule(f"layer{stage}")(out)
        pooled = torch.flatten(functional.adaptive_avg_pool2d(out, 1), 1)
        return pooled if self.fc_add is None else functional.relu(self.fc_add(pooled))


def build(
    num_classes: int,
    *,
    cosine: bool,
    scale: float,
    depths: Sequence[int],
    bottleneck: bool,
    groups: int = 1,
    group_width: int = 64,
    small_images: bool = False,
    added: int = 0,
) -> Network:
    """Build a network; see `ResNet`."""
    backbone = ResNet(depths, bottleneck, groups, group_width, small_images, added)
    head = make_head(backbone.feature_size, num_classes, cosine=cosine, scale=scale)
    return Network(backbone, head)
