"""The CIFAR ResNets of L2T-ww, with 1x1 convolutions as shortcuts and a bias in the first layer.

Layers carry the published names: ``block1``, ``blocks2``, ``block3``, ``blocks4``, ``block5``,
``blocks6``; odd ones are single blocks that may halve the image, even ones keep its size.

Source:
    Jang et al., ICML 2019, arXiv:1905.05901 (the networks of its released code).
"""

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.cifar_resnet import WIDTHS
from ltkit.architectures.imagenet_resnet import Block
from ltkit.architectures.network import Network, make_head


def _block(channels_in: int, channels: int) -> Block:
    stride = 1 if channels_in == channels else 2
    return Block(channels_in, channels, stride, bottleneck=False, groups=1, group_width=64)


class L2TResNet(nn.Module):
    """The part before the head: (B, 3, 32, 32) images to (B, 64) features."""

    def __init__(self, depth: int) -> None:
        """Make 6n + 2 layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.stages = []
        channels = WIDTHS[0]
        for number, width in enumerate(WIDTHS):
            first, rest = f"block{2 * number + 1}", f"blocks{2 * number + 2}"
            self.add_module(first, _block(channels, width))
            same = (_block(width, width) for _ in range((depth - 2) // 6 - 1))
            self.add_module(rest, nn.Sequential(*same))
            self.stages += [first, rest]
            channels = width

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64)."""
        out = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        for stage in self.stages:
            out = self.get_submodule(stage)(out)
        return out.mean(dim=(2, 3))


def build(num_classes: int, *, cosine: bool, scale: float, depth: int) -> Network:
    """Build a network of the given depth."""
    head = make_head(WIDTHS[-1], num_classes, cosine=cosine, scale=scale)
    return Network(L2TResNet(depth), head)
