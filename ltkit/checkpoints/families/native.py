"""Checkpoints that ``ltkit train`` wrote, as torch files or as safetensors with metadata."""

from collections.abc import Mapping

from ltkit import architectures
from ltkit.architectures.network import make_head
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.numbers import number, shown
from ltkit.checkpoints.recognised import Recognised, Stored, assemble, head_size
from ltkit.errors import FormatError, SettingError
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
        raise SettingError(f"weights {wanted.weights}", "not in the file; it has raw", f"{path}: ")
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
    scale = number(path, "scale", top["scale"], positive=True, do="train it again")
    recipe = top["recipe"]
    trained_on = recipe.get("dataset", {}) if isinstance(recipe, Mapping) else None
    if not isinstance(trained_on, Mapping):
        raise FormatError(
            f"{path}: recipe: found {shown(recipe)}, expected a mapping with 'dataset'; train it "
            "again"
        )
    cosine = top["cosine"]
    if not isinstance(cosine, bool | int | float):
        raise FormatError(
            f"{path}: cosine: found {shown(cosine)}, expected true or false; train it again"
        )
    spec = architectures.spec(arch)
    stored = {name: Stored(content.place, name) for name in content.tensors}
    num_classes = 1
    weight = "head.weight" if spec.experts == 1 else "head.experts.0.weight"
    if weight in stored:
        num_classes, _ = head_size(content, stored[weight], spec.features // spec.experts)
    head = make_head(
        spec.features, num_classes, cosine=bool(cosine), scale=scale, experts=spec.experts
    )
    return assemble(
        content, "native", arch, head, stored, wanted, normalisation=(top["mean"], top["std"]),
        trained_on=dict(trained_on),
    )  # fmt: skip
