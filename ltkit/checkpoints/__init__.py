"""Checkpoints: a container opens the file, a family recognises the network.

`containers` identifies the kind of file and reads its tensors; `families` identifies the network
and names its head. Files are told apart by their contents, never by their names.
"""

import re
from dataclasses import replace
from pathlib import Path

from ltkit import architectures
from ltkit.checkpoints import adapters, beside, class_names, families
from ltkit.checkpoints.containers import Changes, read, rewrite
from ltkit.checkpoints.containers.inert import values_of
from ltkit.checkpoints.containers.onnx_file import head_model
from ltkit.checkpoints.containers.torch_file import read_object
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import state_dict
from ltkit.checkpoints.families._library import LIBRARIES, SEARCHED, library_has
from ltkit.checkpoints.recognised import Recognised, Stored
from ltkit.errors import InputError, SettingError, nearest
from ltkit.numerals import shown
from ltkit.settings import LoadSettings

__all__ = [
    "Changes",
    "Content",
    "Recognised",
    "Stored",
    "families_table",
    "head_model",
    "load",
    "read",
    "read_object",
    "rewrite",
    "values_of",
]

TRANSFORMERS = re.compile(r"(^|\.)(embedder|embeddings)\.")
"""In the names of nearly all of transformers' networks, and of few others."""


def load(path: Path, wanted: LoadSettings | None = None) -> Recognised:
    """Read a checkpoint and build its network.

    Args:
        path: the file.
        wanted: the user's settings, for what the file does not say.

    Raises:
        InputError: when there is no such file, or no family knows its layout.
        FormatError: when it is damaged or unsafe, or its tensors do not fit the network.
    """
    content, wanted = read(path), wanted or LoadSettings()
    if content.container in ("torch", "safetensors"):
        content = beside.without_losses(content, wanted.head)
    whole: dict[str, str] | None = None
    if adapters.is_adapter(content):
        content, whole, base = adapters.merged(content, wanted.base_model)
        wanted = replace(wanted, base_model=base)
    wanted = _with_library(wanted)
    for family in families.in_order():
        if family.matches(content, wanted):
            recognised: Recognised = family.load(content, wanted)
            if not getattr(family, "BY_NAMES", False):
                wanted = replace(wanted, class_names=None)
            if whole is not None:
                stored = adapters.of_the_adapter(recognised.stored, whole)
                recognised = replace(recognised, stored=stored)
            head = recognised.head
            names, note = class_names.stated(content, head.num_classes) if head else (None, "")
            said = (*recognised.notes, *beside.notes(content), *([note] if note else []))
            return replace(
                recognised, skipped=content.skipped, wanted=wanted, notes=said, class_names=names
            )
    raise _unknown(content)


def _with_library(wanted: LoadSettings) -> LoadSettings:
    """Name the library of an architecture that is none of ours, as ``resnet10t``.

    Raises:
        InputError: when there is no such library, or none that is installed has the network.
    """
    library, colon, _ = (wanted.arch or "").partition(":")
    if wanted.arch is None or wanted.arch in architectures.CATALOGUE or library in LIBRARIES:
        return wanted
    if colon:
        raise SettingError(f"arch {wanted.arch}", f"unknown library; {nearest(library, LIBRARIES)}")
    missing = []
    for name in SEARCHED:
        try:
            if library_has(name, wanted.arch):
                return replace(wanted, arch=f"{name}:{wanted.arch}")
        except InputError:
            missing.append(name)
    where = f"; not looked for in {' and '.join(missing)}, not installed" if missing else ""
    close = nearest(wanted.arch, architectures.CATALOGUE)
    raise SettingError(
        f"arch {wanted.arch}", f"unknown architecture{where}; {close}, or LIBRARY:NAME"
    )


def _unknown(content: Content) -> InputError:
    """Return what is said of a file that no family knows: what is nearest, and the ways out."""
    arch, part = state_dict.nearest(content)
    found = shown(", ".join(content.describe()))
    near = "no tensors of a known network (ltkit inspect --families)"
    if any(TRANSFORMERS.search(name) for state in content.states.values() for name in state):
        near = "looks like transformers': save it there with save_pretrained(FOLDER)"
    elif part:
        near = f"nearest is {arch}, with {part:.0%} of its tensors in common"
    return InputError(
        f"{content.path}: layout not recognised; found {found}; {near}; --arch timm:NAME takes a "
        "library's network, --model PKG.MODULE:NAME your own, ltkit import its features"
    )


def families_table() -> list[dict[str, str]]:
    """Return each family with its files, in the order in which they are asked.

    Example:
        >>> next(row["files"] for row in families_table() if row["family"] == "native")
        "ltkit train ('ltkit-checkpoint')"
    """
    return [
        {"family": module.__name__.rpartition(".")[2].replace("_", "-"), "files": module.SUMMARY}
        for module in families.in_order()
    ]
