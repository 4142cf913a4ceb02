"""CIFAR ResNets with f times the usual width: stages of 16 f, 32 f, 64 f channels.

Layers carry the names of the plain ones. PaCo's released code has a ResNet-32 with f = 2 for CIFAR,
thus 128 features.

Source:
    Cui et al., ICCV 2021, arXiv:2107.12028 (the networks of its released code).
"""

from torch import nn

from ltkit.architectures.cifar_resnet import WIDTHS, BasicBlock, CifarResNet
from ltkit.architectures.network import Network, make_head


class WideCifarResNet(CifarResNet):
    """The part before the head: (B, 3, 32, 32) images to (B, 64 f) features.

    Example:
        >>> wide = WideCifarResNet(8, factor=2)
        >>> [tuple(stage[0].conv1.weight.shape[:2]) for stage in (wide.layer1, wide.layer2)]
        [(32, 32), (64, 32)]
    """

    def __init__(self, depth: int, factor: int) -> None:
        """Replace each layer of a CIFAR ResNet by one with `factor` times the channels."""
        super().__init__(depth)
        self.conv1 = nn.Conv2d(3, factor * WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(factor * WIDTHS[0])
        for stage in (1, 2, 3):
            wider = [
                BasicBlock(
                    factor * block.conv1.in_channels, factor * block.conv1.out_channels,
                    block.stride,
                )
                for block in self.get_submodule(f"layer{stage}").children()
                if isinstance(block, BasicBlock)
            ]  # fmt: skip
            self.add_module(f"layer{stage}", nn.Sequential(*wider))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)


def build(num_classes: int, *, cosine: bool, scale: float, depth: int, factor: int) -> Network:
    """Build a network of the given depth and width factor."""
    head = make_head(factor * WIDTHS[-1], num_classes, cosine=cosine, scale=scale)
    return Network(WideCifarResNet(depth, factor), head)
