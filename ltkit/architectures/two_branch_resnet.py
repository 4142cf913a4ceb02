"""The CIFAR ResNet-32 of BBN, TDE and LADE: two copies of the last block, their features joined.

Layers carry the published names: ``cb_block`` and ``rb_block`` stand for the last block of
``layer3``.

Source:
    Zhou et al., CVPR 2020, arXiv:1912.02413, sec. 4 (bilateral branches).
"""

import torch
from torch import Tensor, nn

from ltkit.architectures.cifar_resnet import WIDTHS, BasicBlock, CifarResNet
from ltkit.architectures.network import Network, make_head


class TwoBranchResNet(CifarResNet):
    """The part before the head: (B, 3, 32, 32) images to (B, 128) features."""

    def __init__(self, depth: int) -> None:
        """Replace the last block of a CIFAR ResNet by two parallel ones."""
        super().__init__(depth)
        before = list(self.get_submodule("layer3").children())[:-1]
        self.layer3 = nn.Sequential(*before)
        shape = (WIDTHS[-1], WIDTHS[-1], 1) if before else (WIDTHS[-2], WIDTHS[-1], 2)
        self.cb_block, self.rb_block = BasicBlock(*shape), BasicBlock(*shape)
        for block in (self.cb_block, self.rb_block):
            for conv in (block.conv1, block.conv2):
                nn.init.kaiming_normal_(conv.weight)
        self.shares: Tensor
        self.register_buffer("shares", torch.ones(2), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 128).

        Of pairs, (B, 2, 3, H, W), each image goes through its own branch, whose features are
        multiplied by its share.
        """
        if images.ndim == 5:
            branches = zip(images.unbind(dim=1), (self.cb_block, self.rb_block), strict=True)
            parts = [block(self.trunk(x)).mean(dim=(2, 3)) for x, block in branches]
            return torch.cat([s * f for s, f in zip(self.shares, parts, strict=True)], dim=1)
        out = self.trunk(images)
        maps = torch.cat([self.cb_block(out), self.rb_block(out)], dim=1)
        return maps.mean(dim=(2, 3))


def build(num_classes: int, *, cosine: bool, scale: float, depth: int) -> Network:
    """Build a network of the given depth."""
    head = make_head(2 * WIDTHS[-1], num_classes, cosine=cosine, scale=scale)
    return Network(TwoBranchResNet(depth), head)
