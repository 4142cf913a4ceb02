"""Networks of our own, by name; an entry of `CATALOGUE` adds one.

Listing names imports nothing heavy; `build` imports the module that holds the network.
"""

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ltkit.errors import InputError, nearest

if TYPE_CHECKING:
    from ltkit.architectures.network import Network


@dataclass(frozen=True)
class ArchSpec:
    """Where a network is built, and the images it takes.

    module: of `ltkit.architectures`, with a function ``build(num_classes, cosine, **settings)``.
    settings: what tells this entry from others of the same module.
    """

    module: str
    settings: dict[str, Any]
    channels: int
    summary: str


CATALOGUE: dict[str, ArchSpec] = {
    "resnet20": ArchSpec("cifar_resnet", {"depth": 20}, 3, "CIFAR ResNet-20, 64 features"),
    "resnet32": ArchSpec("cifar_resnet", {"depth": 32}, 3, "CIFAR ResNet-32, 64 features"),
    "resnet44": ArchSpec("cifar_resnet", {"depth": 44}, 3, "CIFAR ResNet-44, 64 features"),
    "resnet56": ArchSpec("cifar_resnet", {"depth": 56}, 3, "CIFAR ResNet-56, 64 features"),
    "resnet10": ArchSpec(
        "imagenet_resnet",
        {"depths": (1, 1, 1, 1), "bottleneck": False},
        3,
        "ResNet-10, 512 features",
    ),
    "resnet34_small": ArchSpec(
        "imagenet_resnet",
        {"depths": (3, 4, 6, 3), "bottleneck": False, "small_images": True},
        3,
        "ResNet-34 with a 3x3 stem for 32x32 images, 512 features",
    ),
    "resnet50": ArchSpec(
        "imagenet_resnet",
        {"depths": (3, 4, 6, 3), "bottleneck": True},
        3,
        "ResNet-50, 2048 features",
    ),
    "resnet152": ArchSpec(
        "imagenet_resnet",
        {"depths": (3, 8, 36, 3), "bottleneck": True},
        3,
        "ResNet-152, 2048 features",
    ),
    "resnext50": ArchSpec(
        "imagenet_resnet",
        {"depths": (3, 4, 6, 3), "bottleneck": True, "groups": 32, "group_width": 4},
        3,
        "ResNeXt-50 32x4d, 2048 features",
    ),
    "digits_net": ArchSpec("digits_net", {}, 1, "three convolutions for 8x8 digits, 64 features"),
}


def build(arch: str, num_classes: int, *, cosine: bool = False, scale: float = 1.0) -> "Network":
    """Build an untrained network.

    Args:
        arch: a key of `CATALOGUE`.
        num_classes: C.
        cosine: normalised features and rows, no bias, logits ``scale * cos`` (Cao et al. 2019).
        scale: the factor of the cosine head; 1 for a linear head.

    Raises:
        InputError: for an unknown name, with the nearest ones.
    """
    if arch not in CATALOGUE:
        raise InputError(f"{arch}: unknown architecture; {nearest(arch, CATALOGUE)}")
    spec = CATALOGUE[arch]
    module = importlib.import_module(f"ltkit.architectures.{spec.module}")
    network: Network = module.build(num_classes, cosine=cosine, scale=scale, **spec.settings)
    return network
