"""Checkpoints: a container opens the file, a family recognises the network.

`containers` identifies the kind of file and reads its tensors; `families` identifies the network
and names its head. Files are told apart by their contents, never by their names.
"""

from dataclasses import replace
from pathlib import Path

from ltkit.checkpoints import families
from ltkit.checkpoints.containers import Changes, read, rewrite
from ltkit.checkpoints.containers.inert import values_of
from ltkit.checkpoints.containers.onnx_file import head_model
from ltkit.checkpoints.containers.torch_file import read_object
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._library import LIBRARIES
from ltkit.checkpoints.recognised import Recognised, Stored
from ltkit.errors import InputError, SettingError, nearest
from ltkit.numerals import shown
from ltkit.settings import LoadSettings

__all__ = [
    "Changes",
    "Content",
    "Recognised",
    "Stored",
    "head_model",
    "load",
    "read",
    "read_object",
    "rewrite",
    "values_of",
]


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
    library, colon, _ = (wanted.arch or "").partition(":")
    if colon and library not in LIBRARIES:
        raise SettingError(f"arch {wanted.arch}", f"unknown library; {nearest(library, LIBRARIES)}")
    for family in families.in_order():
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
