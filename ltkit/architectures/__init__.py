"""ltkit's own networks by name; add one as an entry of `CATALOGUE`.

Listing names imports nothing heavy; `build` imports the module that holds the network.
"""

import functools
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ltkit.errors import InputError, SettingError, nearest

if TYPE_CHECKING:
    from ltkit.architectures.network import Network


@dataclass(frozen=True)
class ArchSpec:
    """Where a network's code is, and the images it takes.

    module: of `ltkit.architectures`, with a function ``build(num_classes, cosine, **settings)``.
    settings: arguments that distinguish entries of the same module.
    features: D, over all experts.
    image_size: usual side length in pixels.
    experts: E, how many heads share the features.
    """

    module: str
    settings: dict[str, Any]
    features: int
    summary: str
    channels: int = 3
    image_size: int = 32
    experts: int = 1


def _cifar(depth: int) -> ArchSpec:
    return ArchSpec("cifar_resnet", {"depth": depth}, 64, f"CIFAR ResNet-{depth}")


def _two_branch(depth: int) -> ArchSpec:
    summary = f"CIFAR ResNet-{depth} with two last blocks (BBN)"
    return ArchSpec("two_branch_resnet", {"depth": depth}, 128, summary)


def _imagenet(
    depths: tuple[int, ...], features: int, summary: str, image_size: int = 224, **others: Any
) -> ArchSpec:
    settings = {"depths": depths, "bottleneck": features == 2048, **others}
    return ArchSpec("imagenet_resnet", settings, features, summary, image_size=image_size)


def _experts(arch: str, experts: int, reduced: bool) -> ArchSpec:
    """Return RIDE's form of a network, with separate last two stages per expert."""
    single = {"digits_net": _DIGITS, **_SMALL, **_LARGE}[arch]
    width = single.features * 3 // 4 if reduced else single.features
    summary = f"{single.summary} with {experts} experts{' of 3/4 width' if reduced else ''}"
    settings = {**single.settings, "experts": experts, "reduced": reduced}
    return replace(
        single, module="digits_net" if single is _DIGITS else "expert_resnet", settings=settings,
        features=experts * width, summary=summary, experts=experts,
    )  # fmt: skip


_DIGITS = ArchSpec("digits_net", {}, 64, "three convolutions for digits", channels=1, image_size=8)

_SMALL = {f"resnet{depth}": _cifar(depth) for depth in (8, 14, 20, 32, 44, 56)}

_LARGE = {
    "resnet10": _imagenet((1, 1, 1, 1), 512, "ResNet-10"),
    "resnet18": _imagenet((2, 2, 2, 2), 512, "ResNet-18"),
    "resnet34": _imagenet((3, 4, 6, 3), 512, "ResNet-34"),
    "resnet50": _imagenet((3, 4, 6, 3), 2048, "ResNet-50"),
    "resnet101": _imagenet((3, 4, 23, 3), 2048, "ResNet-101"),
    "resnet152": _imagenet((3, 8, 36, 3), 2048, "ResNet-152"),
    "resnext50": _imagenet((3, 4, 6, 3), 2048, "ResNeXt-50 32x4d", groups=32, group_width=4),
    "wide_resnet50_2": _imagenet((3, 4, 6, 3), 2048, "Wide ResNet-50-2", group_width=128),
}


def _oltr(arch: str) -> ArchSpec:
    """Return OLTR's form of a network, with a layer of 512 units after the pooling."""
    single = _LARGE[arch]
    settings = {**single.settings, "added": 512}
    summary = f"{single.summary} with an added layer (OLTR)"
    return ArchSpec("imagenet_resnet", settings, 512, summary, image_size=224)


def _small(arch: str) -> ArchSpec:
    """Return a network's form for small images: a 3x3 stem of stride 1 and no pooling."""
    single = _LARGE[arch]
    settings = {**single.settings, "small_images": True}
    summary = f"{single.summary} with a 3x3 stem for small images"
    return ArchSpec("imagenet_resnet", settings, single.features, summary, image_size=32)


WITH_EXPERTS = (
    "digits_net", "resnet8", "resnet32", "resnet10", "resnet18", "resnet50", "resnext50",
    "resnet152",
)  # fmt: skip
"""Networks that have a form with several experts."""

CATALOGUE: dict[str, ArchSpec] = {
    **_SMALL,
    **_LARGE,
    **{f"{arch}_small": _small(arch) for arch in _LARGE},
    "resnet32_wide": ArchSpec(
        "wide_cifar_resnet", {"depth": 32, "factor": 2}, 128, "CIFAR ResNet-32, twice as wide"
    ),
    "resnet10_oltr": _oltr("resnet10"),
    "resnet152_oltr": _oltr("resnet152"),
    "resnet8_two_branch": _two_branch(8),
    "resnet32_two_branch": _two_branch(32),
    "resnet32_l2t": ArchSpec(
        "l2t_resnet", {"depth": 32}, 64, "CIFAR ResNet-32 with 1x1 shortcuts (L2T-ww)"
    ),
    "digits_net": _DIGITS,
    **{
        f"{arch}_{experts}experts{'_reduced' if reduced else ''}": _experts(arch, experts, reduced)
        for arch in WITH_EXPERTS
        for experts in (2, 3, 4, 6)
        for reduced in (False, True)
    },
}


def with_experts(arch: str, experts: int) -> str:
    """Return the form of a network that has so many experts, of three quarters of its width.

    Args:
        arch: a network of one expert, or of as many.
        experts: E.

    Raises:
        SettingError: when there is none.

    Example:
        >>> with_experts("resnet32", 3), with_experts("resnet8_6experts", 6)
        ('resnet32_3experts_reduced', 'resnet8_6experts')
    """
    found = spec(arch)
    if found.experts == experts:
        return arch
    name = f"{arch}_{experts}experts_reduced"
    if found.experts > 1 or name not in CATALOGUE:
        said = f"{arch} has {found.experts}, and no form with {experts}"
        expected = f"2, 3, 4 or 6 of one of {', '.join(WITH_EXPERTS)}"
        raise SettingError("experts", f"{said}; expected {expected}; name one with --arch")
    return name


def build(
    arch: str,
    num_classes: int,
    *,
    cosine: bool = False,
    scale: float = 1.0,
    channels: int | None = None,
) -> "Network":
    """Build an untrained network.

    Args:
        arch: a key of `CATALOGUE`.
        num_classes: C.
        cosine: normalised features and rows, no bias, logits ``scale * cos`` (Cao et al. 2019).
        scale: the factor of the cosine head; 1 for a linear head.
        channels: of the images; None for the usual number of that network.

    Raises:
        InputError: for an unknown name, with the nearest ones.
    """
    entry = spec(arch)
    module = importlib.import_module(f"ltkit.architectures.{entry.module}")
    network: Network = module.build(num_classes, cosine=cosine, scale=scale, **entry.settings)
    if channels not in (None, entry.channels):
        _take_channels(network, channels)
    return network


FIRST = ("conv1.weight", "0.weight")
"""The first layer's weight in the backbones, (out, channels, height, width)."""


def _take_channels(network: "Network", channels: int | None) -> None:
    """Give the first layer another number of input channels, with He's initial values."""
    from torch import nn

    name, old = next(
        (n, m) for n, m in network.backbone.named_modules() if isinstance(m, nn.Conv2d)
    )
    new = nn.Conv2d(
        channels or 1, old.out_channels, old.kernel_size, old.stride, old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )  # fmt: skip
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    parent, _, leaf = name.rpartition(".")
    setattr(network.backbone.get_submodule(parent), leaf, new)


def channels_of(shapes: Mapping[str, tuple[int, ...]], arch: str) -> int:
    """Return how many channels a network's images have, by its tensors.

    Args:
        shapes: of the tensors, ``backbone.*``.
        arch: whose usual number is returned where the first layer is not there.
    """
    found = (shapes.get(f"backbone.{name}", ()) for name in FIRST)
    return next((shape[1] for shape in found if len(shape) == 4 and shape[1]), spec(arch).channels)


def spec(arch: str) -> ArchSpec:
    """Return the entry of an architecture.

    Raises:
        InputError: for an unknown name, with the nearest ones.
    """
    if arch not in CATALOGUE:
        raise InputError(f"{arch}: unknown architecture; {nearest(arch, CATALOGUE)}")
    return CATALOGUE[arch]


@functools.cache
def backbone_shapes(arch: str) -> dict[str, tuple[int, ...]]:
    """Return an architecture's backbone tensors, without batch norm's counters."""
    import torch

    with torch.device("meta"):
        tensors = build(arch, 1).backbone.state_dict()
    return {k: tuple(v.shape) for k, v in tensors.items() if not k.endswith(COUNTER)}


@functools.cache
def _shapes(arch: str) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset(backbone_shapes(arch).items())


def _of_colours(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape; that of the first layer for images of three channels, whatever it takes."""
    return (shape[0], 3, *shape[2:]) if name == FIRST[0] and len(shape) == 4 else shape


COUNTER = "num_batches_tracked"
"""Buffer that only training uses; old files lack it."""


def most_like(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, float]:
    """Return the architecture that shares most of these tensors, and the shared fraction.

    Args:
        shapes: names and shapes of a backbone's tensors.

    Returns:
        The name, and the number of common tensors over the number of different ones: 1 when
        all are equal, 0 when none is.

    Example:
        >>> most_like(backbone_shapes("resnet20"))
        ('resnet20', 1.0)
    """
    found = {(k, _of_colours(k, v)) for k, v in shapes.items() if not k.endswith(COUNTER)}
    several = any(name.startswith("layer3s.") for name in shapes)
    likeness = {}
    for arch in (a for a, entry in CATALOGUE.items() if (entry.experts > 1) == several):
        expected = _shapes(arch)
        common = len(found & expected)  # walks the smaller of the two
        likeness[arch] = common / (len(found) + len(expected) - common)
        if likeness[arch] == 1:
            break
    best = max(likeness, key=lambda arch: likeness[arch])
    return best, likeness[best]
