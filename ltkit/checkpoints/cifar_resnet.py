"""CIFAR ResNets as published by themselves: conv1, bn1, layer1..3, linear, under ``module.``."""

import re
from collections.abc import Mapping

from torch import Tensor

from ltkit.checkpoints._containers import Content
from ltkit.checkpoints._recognised import IMAGENET_MEAN, IMAGENET_STD, Recognised, build
from ltkit.errors import FormatError

SUMMARY = "CIFAR ResNet-20/32/44/56 state dicts ('layer1..3', 'linear')"
PREFIX = re.compile(r"^(module\.|_orig_mod\.|model\.)+")
HEAD = re.compile(r"^(linear|fc)\.")


def matches(content: Content) -> bool:
    """Say whether the names are those of a three-stage CIFAR ResNet with basic blocks."""
    names = _ours(content.tensors)
    stages = {n.split(".")[1] for n in names if n.startswith("backbone.layer")}
    return (
        stages == {"layer1", "layer2", "layer3"}
        and "backbone.layer1.0.conv2.weight" in names
        and "backbone.layer1.0.conv3.weight" not in names
        and {"backbone.conv1.weight", "head.weight", "head.bias"} <= set(names)
    )


def load(content: Content, arch: str | None) -> Recognised:
    """Build the network; its depth follows from the number of blocks.

    Images are normalised with ImageNet's statistics, as the published networks of this layout are.
    """
    tensors = _ours(content.tensors)
    if len(tensors) < len(content.tensors):
        raise FormatError(
            f"{content.path}: some names differ only in their prefix; save one network's state_dict"
        )
    blocks = {n.split(".")[2] for n in tensors if n.startswith("backbone.layer1.")}
    name = arch or f"resnet{6 * len(blocks) + 2}"
    network = build(content.path, name, tensors)
    weight, bias = (
        next(n for n in content.tensors if HEAD.sub("", PREFIX.sub("", n)) == part)
        for part in ("weight", "bias")
    )
    return Recognised(
        content.path, content.digest, "cifar-resnet", name, network,
        IMAGENET_MEAN, IMAGENET_STD, {}, (weight, bias),
    )  # fmt: skip


def _ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our own names: ``backbone.*`` and ``head.*``."""
    found = {}
    for name, tensor in tensors.items():
        bare = PREFIX.sub("", name)
        found[HEAD.sub("head.", bare) if HEAD.match(bare) else f"backbone.{bare}"] = tensor
    return found
