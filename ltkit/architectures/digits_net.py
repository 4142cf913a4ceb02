"""A small convolutional network for 8x8 grey digits, for quick runs and tests."""

from torch import nn

from ltkit.architectures.network import Network, make_head

FEATURES = 64


def build(num_classes: int, *, cosine: bool, scale: float) -> Network:
    """Build the network: (B, 1, 8, 8) images, (B, 64) features."""
    layers: list[nn.Module] = []
    for channels_in, channels, stride in ((1, 16, 1), (16, 32, 2), (32, FEATURES, 2)):
        layers.append(nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False))
        layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU(inplace=True))
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return Network(
        nn.Sequential(*layers), make_head(FEATURES, num_classes, cosine=cosine, scale=scale)
    )
