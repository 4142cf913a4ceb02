"""CIFAR ResNets: conv1, bn1, layer1..3, linear, under ``module.`` or not.

Two origins share these names. Networks published by themselves have a linear head with a bias, and
their images are normalised with ImageNet's statistics. Those of LDAM-DRW and its descendants come
with ``arch`` and ``epoch`` beside the ``state_dict`` and with CIFAR's statistics; their cosine head
has no bias, is stored D x C, and its scale, 30, lives in the loss.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from ltkit.checkpoints._containers import Content
from ltkit.checkpoints._recognised import IMAGENET_MEAN, IMAGENET_STD, Recognised, build
from ltkit.errors import FormatError

SUMMARY = "CIFAR ResNet-20/32/44/56 state dicts ('layer1..3', 'linear'), LDAM-DRW's among them"
PREFIX = re.compile(r"^(module\.|_orig_mod\.|model\.)+")
FEATURES, SCALE = 64, 30.0
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
HEAD = re.compile(r"^(linear|fc)\.")


def matches(content: Content) -> bool:
    """Say whether the names are those of a three-stage CIFAR ResNet with basic blocks."""
    names = _ours(content.tensors)
    stages = {n.split(".")[1] for n in names if n.startswith("backbone.layer")}
    return (
        stages == {"layer1", "layer2", "layer3"}
        and "backbone.layer1.0.conv2.weight" in names
        and "backbone.layer1.0.conv3.weight" not in names
        and {"backbone.conv1.weight", "head.weight"} <= set(names)
    )


def load(content: Content, arch: str | None) -> Recognised:
    """Build the network; its depth follows from the number of blocks.

    Raises:
        FormatError: when two names are one without their prefix, or a cosine head is not 64 wide.
    """
    tensors = _ours(content.tensors)
    if len(tensors) < len(content.tensors):
        raise FormatError(
            f"{content.path}: some names differ only in their prefix; save one network's state_dict"
        )
    blocks = {n.split(".")[2] for n in tensors if n.startswith("backbone.layer1.")}
    name = arch or f"resnet{6 * len(blocks) + 2}"
    cosine = "head.bias" not in tensors
    if cosine:
        weight = tensors["head.weight"]
        if weight.ndim != 2 or FEATURES not in weight.shape:
            raise FormatError(
                f"{content.path}: head: found {tuple(weight.shape)}, expected {FEATURES} x classes"
            )
        tensors["head.weight"] = weight.T if weight.shape[0] == FEATURES else weight
    network = build(content.path, name, tensors, cosine=cosine, scale=SCALE if cosine else 1.0)
    trained_by_script = {"arch", "epoch"} <= content.top.keys()
    mean, std = CIFAR if trained_by_script or cosine else (IMAGENET_MEAN, IMAGENET_STD)
    return Recognised(
        content.path, content.digest, "cifar-resnet", name, network, mean, std, {},
        (_named(content, "head.weight"), _named(content, "head.bias")),
    )  # fmt: skip


def _named(content: Content, name: str) -> str:
    """Return what the file calls a tensor of ours; our own name where it has none."""
    return next((n for n in content.tensors if name in _ours({n: content.tensors[n]})), name)


def _ours(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our own names: ``backbone.*`` and ``head.*``."""
    found = {}
    for name, tensor in tensors.items():
        bare = PREFIX.sub("", name)
        found[HEAD.sub("head.", bare) if HEAD.match(bare) else f"backbone.{bare}"] = tensor
    return found
