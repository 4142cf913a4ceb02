"""The CIFAR ResNets: three stages of basic blocks, widths 16, 32, 64, option-A shortcuts.

Source:
    He et al., CVPR 2016, arXiv:1512.03385, sec. 4.2.
"""

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network, make_head

WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters.

    Where the size changes, the shortcut takes every other pixel and pads the new channels with
    zeros, half of them on either side (option A).
    """

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        """Make the layers."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.stride = stride
        self.padding = (channels - channels_in) // 2

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels_in, H, W) -> (B, channels, H / stride, W / stride)."""
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        if self.stride > 1 or self.padding:
            x = x[:, :, :: self.stride, :: self.stride]
            x = functional.pad(x, (0, 0, 0, 0, self.padding, self.padding))
        return functional.relu(out + x, inplace=True)


class CifarResNet(nn.Module):
    """The part before the head: (B, 3, 32, 32) images to (B, 64) features."""

    def __init__(self, depth: int) -> None:
        """Make 6n + 2 layers: n blocks a stage."""
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth: found {depth}, expected 6n + 2, as 20, 32, 44, 56")
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        channels = WIDTHS[0]
        for stage, width in enumerate(WIDTHS, start=1):
            blocks = []
            for block in range((depth - 2) // 6):
                blocks.append(BasicBlock(channels, width, 2 if stage > 1 and block == 0 else 1))
                channels = width
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64)."""
        return self.trunk(images).mean(dim=(2, 3))

    def trunk(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 64, H / 4, W / 4)."""
        out = functional.relu(self.bn1(self.conv1(images)), inplace=True)
        for stage in (1, 2, 3):
            out = self.get_submodule(f"layer{stage}")(out)
        return out


def build(num_classes: int, *, cosine: bool, scale: float, depth: int) -> Network:
    """Build a network of the given depth; the linear head starts from He's normal rule."""
    head = make_head(WIDTHS[-1], num_classes, cosine=cosine, scale=scale)
    if isinstance(head, nn.Linear):
        nn.init.kaiming_normal_(head.weight)
    return Network(CifarResNet(depth), head)
