"""DisAlign: ``{model, ...}`` of cvpods, ``network.*``, the aligned head in ``network.linear``.

``linear`` has ``weight``, ``bias``, ``logit_scale``, ``logit_bias`` and ``confidence_layer``. The
mix of plain and aligned logits is linear in the features, the features times their confidence, and
the confidence: these 2 D + 1 values are what is extracted. ``--head linear`` takes the plain
classifier without the alignment, and leaves the rest out. cvpods reads images as BGR by default:
the first layer's channels are turned round, so that RGB images give the same features. Layers are
named as in Detectron2: ``stem.conv1``, ``res2`` .. ``res5``, ``norm``, ``shortcut``.
"""

import re

import torch
from torch import nn

from ltkit.architectures.heads import AlignedHead, LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import IMAGENET, Recognised, Stored, recognise_weights
from ltkit.errors import SettingError, listed
from ltkit.settings import LoadSettings

SUMMARY = "DisAlign, cvpods classification ('model', 'network.linear')"
PREFIX = "network."
LAYERS = (
    (re.compile(r"^stem\."), ""),
    (re.compile(r"^res(\d)\."), lambda found: f"layer{int(found[1]) - 1}."),
    (re.compile(r"\bconv(\d)\.norm\."), r"bn\1."),
    (re.compile(r"\bshortcut\.norm\."), "downsample.1."),
    (re.compile(r"\bshortcut\."), "downsample.0."),
)
HEAD = {
    "linear.weight": "head.linear.weight",
    "linear.bias": "head.linear.bias",
    "linear.logit_scale": "head.logit_scale",
    "linear.logit_bias": "head.logit_bias",
    "linear.confidence_layer.weight": "head.confidence.weight",
    "linear.confidence_layer.bias": "head.confidence.bias",
}
ROWS = {"linear.logit_scale", "linear.logit_bias"}
"""Tensors stored as 1 x C."""
PLAIN = {"linear.weight": "head.weight", "linear.bias": "head.bias"}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the weights are those of a classification network of cvpods."""
    state = content.states.get(("model",), {})
    return {"network.stem.conv1.weight", "network.linear.weight"} <= state.keys()


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network with the aligned head, or with the plain one.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
        InputError: for another head than ``linear``.
    """
    place = ("model",)
    names = {name.removeprefix(PREFIX): name for name in content.states[place]}
    if wanted.head not in (None, "linear"):
        said = "not in the file; --head linear is the head without its alignment"
        raise SettingError(f"head {wanted.head}", said, f"{content.path}: ")
    aligned = wanted.head is None and "linear.logit_scale" in names
    heads = HEAD if aligned else PLAIN
    left_out = [own for own in names if own.startswith("linear.") and own not in heads]
    stored = {
        heads[own] if own in heads else f"backbone.{_layer(own)}": Stored(
            place, name, row=own in ROWS
        )
        for own, name in names.items()
        if own not in left_out
    }
    bias = "linear.bias" in names

    def make(width: int, count: int) -> nn.Module:
        kind = AlignedHead if aligned else LinearHead
        return kind(width, count, bias=bias)

    notes = ["BGR images, as cvpods reads them by default: the first layer is turned to RGB"]
    notes += [f"left out: {listed(left_out)}"] if left_out else []
    found = recognise_weights(
        content, "disalign", stored, make, wanted, normalisation=IMAGENET, notes=notes,
        weight="head.linear.weight" if aligned else "head.weight",
    )  # fmt: skip
    first = found.network.get_parameter("backbone.conv1.weight")
    with torch.no_grad():
        first.copy_(first.flip(1))
    return found


def _layer(name: str) -> str:
    """Return ltkit's name for a layer of Detectron2's ResNet.

    Example:
        >>> _layer("res2.0.conv1.norm.weight"), _layer("res5.1.shortcut.weight")
        ('layer1.0.bn1.weight', 'layer4.1.downsample.0.weight')
    """
    for pattern, replacement in LAYERS:
        name = pattern.sub(replacement, name)
    return name
