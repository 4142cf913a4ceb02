"""OpenMMLab's classifiers: ``{meta, state_dict, optimizer}``, ``backbone.*`` and ``head.fc``.

Their image statistics are those of ``data_preprocessor.mean`` and ``.std`` where the file has them,
in pixel values of 0..255, else ImageNet's. Images are read as BGR and turned to RGB unless the
configuration in ``meta.cfg`` says ``to_rgb=False``: then the first layer's channels are turned
round, so that RGB images give the same features.
"""

import re
from collections.abc import Mapping

import torch

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.numbers import Statistics, numbers
from ltkit.checkpoints.recognised import IMAGENET, Recognised, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "OpenMMLab classification ('meta', 'state_dict', head 'head.fc')"
PREPROCESSOR = "data_preprocessor."
"""Buffers that only normalise images."""

TO_RGB = re.compile(r"\b(?:bgr_to_rgb|to_rgb)\b['\"]?\s*[=:]\s*(True|False)\b")
PIXEL = 255.0


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a head ``head.fc`` on a ``backbone``."""
    names = content.tensors
    return "head.fc.weight" in names and "backbone.conv1.weight" in names


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network.

    Raises:
        FormatError: when tensors do not fit, the head is not as wide as the features, or the
            preprocessor's statistics cannot be.
    """
    names = {
        name.replace("head.fc.", "head."): name
        for name in content.tensors
        if not name.startswith(PREPROCESSOR)
    }
    stored = under("", content.place, names)
    rgb, (mean, std), notes = _to_rgb(content), *_statistics(content)
    if rgb is False:
        mean, std = mean[::-1], std[::-1]
        notes.append(
            "BGR images, as meta.cfg says (to_rgb=False): the first layer is turned to RGB"
        )
    elif notes and rgb is None:
        notes.append("RGB taken, OpenMMLab's usual order; the file does not say to_rgb")
    found = recognise_weights(
        content, "openmmlab", stored, LinearHead, wanted, normalisation=(mean, std), notes=notes
    )
    if rgb is False:
        first = found.network.get_parameter("backbone.conv1.weight")
        with torch.no_grad():
            first.copy_(first.flip(1))
    return found


def _to_rgb(content: Content) -> bool | None:
    """Return whether images are turned to RGB; None where the file does not say."""
    meta = content.top.get("meta")
    said = meta.get("cfg", meta.get("config")) if isinstance(meta, Mapping) else None
    found = set(TO_RGB.findall(said)) if isinstance(said, str) else set()
    return found.pop() == "True" if len(found) == 1 else None


def _statistics(content: Content) -> tuple[Statistics, list[str]]:
    """Return the mean and deviation of values in 0..1, and where they are from.

    Raises:
        FormatError: when those of the file are no such numbers.
    """
    kept = {key: content.tensors.get(f"{PREPROCESSOR}{key}") for key in ("mean", "std")}
    mean, std = kept["mean"], kept["std"]
    if mean is None or std is None:
        return IMAGENET, []
    found = [
        tuple(one / PIXEL for one in numbers(
            content.path, f"{PREPROCESSOR}{key}", tensor.flatten().tolist(), f"--{key}"
        ))
        for key, tensor in (("mean", mean), ("std", std))
    ]  # fmt: skip
    return (found[0], found[1]), ["mean and std from data_preprocessor, divided by 255"]
