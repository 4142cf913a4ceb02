"""Checkpoints that ``ltkit train`` wrote, as torch files or as safetensors with metadata."""

from collections.abc import Mapping
from typing import Any

from ltkit.checkpoints._containers import Content
from ltkit.checkpoints._recognised import Recognised, build
from ltkit.errors import FormatError

SUMMARY = "ltkit train ('ltkit-checkpoint')"
FORMAT, FORMAT_VERSION = "ltkit-checkpoint", 1
REQUIRED = ("arch", "num_classes", "cosine", "scale", "mean", "std", "recipe")


def matches(content: Content) -> bool:
    """Say whether the file says that it is ours."""
    return content.top.get("format") == FORMAT


def load(content: Content, arch: str | None) -> Recognised:
    """Build the network that the file names.

    Raises:
        FormatError: for a newer version, or a missing entry.
    """
    top: Mapping[str, Any] = content.top
    if top.get("format_version") != FORMAT_VERSION:
        raise FormatError(
            f"{content.path}: format_version: found {top.get('format_version')}, expected "
            f"{FORMAT_VERSION}; upgrade ltkit"
        )
    missing = [key for key in REQUIRED if key not in top]
    if missing:
        raise FormatError(f"{content.path}: {missing[0]}: absent; train it again")
    name = arch or str(top["arch"])
    network = build(
        content.path, name, content.tensors, int(top["num_classes"]),
        cosine=bool(top["cosine"]), scale=float(top["scale"]),
    )  # fmt: skip
    return Recognised(
        content.path, content.digest, "native", name, network,
        tuple(top["mean"]), tuple(top["std"]), top["recipe"].get("dataset", {}),
    )  # fmt: skip
