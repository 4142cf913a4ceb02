"""Checkpoints that ``ltkit train`` wrote, as torch files or as safetensors with metadata."""

from math import isfinite

from ltkit import architectures
from ltkit.architectures.network import make_head
from ltkit.checkpoints._content import Content
from ltkit.checkpoints._opening import reason
from ltkit.checkpoints._recognised import Recognised, Stored, assemble
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

SUMMARY = "ltkit train ('ltkit-checkpoint')"
FORMAT, FORMAT_VERSION = "ltkit-checkpoint", 1
REQUIRED = ("arch", "cosine", "scale", "mean", "std", "recipe")


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether the file says that it is ours."""
    return content.top.get("format") == FORMAT


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that the file names.

    Raises:
        FormatError: for a newer version, or an entry that is missing or another.
        InputError: when an average of the weights is wanted.
    """
    top, path = content.top, content.path
    if wanted.weights not in (None, "raw"):
        raise InputError(f"{path}: --weights {wanted.weights}: not in the file; it has raw")
    version = top.get("format_version")
    if not isinstance(version, int) or version != FORMAT_VERSION:
        raise FormatError(
            f"{path}: format_version: found {str(version)[:40]}, expected {FORMAT_VERSION}; "
            "upgrade ltkit"
        )
    missing = [key for key in REQUIRED if key not in top]
    if missing:
        raise FormatError(f"{path}: {missing[0]}: absent; train it again")
    arch = wanted.arch or str(top["arch"])[:40]
    try:
        scale = _number(top["scale"])
        mean, std = (tuple(map(_number, top[key])) for key in ("mean", "std"))
        trained_on = dict(top["recipe"].get("dataset", {}))
        cosine = bool(_number(top["cosine"]))
    except (AttributeError, TypeError, ValueError) as error:
        raise FormatError(
            f"{path}: scale, mean, std or recipe are not what ltkit writes ({reason(error)}); "
            "train it again"
        ) from error
    spec = architectures.spec(arch)
    sound = all(map(isfinite, (scale, *mean, *std))) and min(std, default=0) > 0
    if not sound or not len(mean) == len(std) == spec.channels:
        raise FormatError(
            f"{path}: scale, mean, std: found {scale}, {mean}, {std}, expected one number "
            f"and {spec.channels} each; train it again"
        )
    weight = content.tensors.get("head.weight")
    num_classes = len(weight) if weight is not None and weight.ndim else 1
    head = make_head(spec.features, num_classes, cosine=cosine, scale=scale)
    stored = {name: Stored(content.place, name) for name in content.tensors}
    return assemble(
        content, "native", arch, head, stored, wanted, normalisation=(mean, std),
        trained_on=trained_on,
    )  # fmt: skip


def _number(value: object) -> float:
    """Return a number; a tensor would be one too, with a warning where it has a gradient."""
    if not isinstance(value, int | float):
        raise TypeError(f"found {type(value).__name__}, expected a number")
    return float(value)
