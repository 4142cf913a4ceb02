"""Checkpoints by family, one file each: recognise the layout, build the network, name the head.

A family module has ``SUMMARY`` (origin and layout, in a line), ``matches(content, wanted) -> bool``
and ``load(content, wanted) -> Recognised``; ``GENERAL = True`` where it is asked after all others,
``BY_NAMES = True`` where the names of the dataset's classes make the head.
Files are told apart by what is in them, never by their names.
"""

from dataclasses import replace
from pathlib import Path
from types import ModuleType

from ltkit import checkpoints, registry
from ltkit.checkpoints._containers import Changes, read, rewrite
from ltkit.checkpoints._content import Content
from ltkit.checkpoints._inert import values_of
from ltkit.checkpoints._library import LIBRARIES
from ltkit.checkpoints._onnx_file import head_model
from ltkit.checkpoints._recognised import Recognised, Stored, View
from ltkit.checkpoints._torch_file import read_object
from ltkit.errors import InputError, nearest
from ltkit.numerals import shown
from ltkit.settings import LoadSettings

__all__ = [
    "Changes",
    "Content",
    "Recognised",
    "Stored",
    "View",
    "families",
    "head_model",
    "load",
    "read",
    "read_object",
    "rewrite",
    "values_of",
]


def families() -> list[ModuleType]:
    """Return the family modules in the order in which they are asked."""
    modules = [registry.load(checkpoints, name) for name in registry.names(checkpoints)]
    return sorted(modules, key=lambda module: getattr(module, "GENERAL", False))


def load(path: Path, wanted: LoadSettings | None = None) -> Recognised:
    """Read a checkpoint and build its network.

    Args:
        path: the file.
        wanted: what the user says where the file does not.

    Raises:
        InputError: when there is no such file, or no family knows its layout.
        FormatError: when it is damaged or unsafe, or its tensors do not fit the network.
    """
    content, wanted = read(path), wanted or LoadSettings()
    library, colon, _ = (wanted.arch or "").partition(":")
    if colon and library not in LIBRARIES:
        raise InputError(f"--arch {wanted.arch}: unknown library; {nearest(library, LIBRARIES)}")
    for family in families():
        if family.matches(content, wanted):
            recognised: Recognised = family.load(content, wanted)
            if not getattr(family, "BY_NAMES", False):
                wanted = replace(wanted, class_names=None)
            return replace(recognised, skipped=content.skipped, wanted=wanted)
    found = shown(", ".join(content.describe()))
    raise InputError(
        f"{path}: layout not recognised; found {found}, expected one of docs/checkpoints.md; name "
        "the network with --arch, or save its features and use ltkit import"
    )
