"""Files of ``torch.save``: the current zip format and the old pickles."""

import copy
import io
import os
import pickle
import re
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints.containers import old_torch_file, torch_zip
from ltkit.checkpoints.containers.inert import Inert, Maker
from ltkit.checkpoints.content import Content, Place, State
from ltkit.checkpoints.opening import reason
from ltkit.errors import FormatError, InputError
from ltkit.files.atomic import uninterrupted
from ltkit.untrusted.budget import Budget, opened
from ltkit.untrusted.unpickling import unsupported

DAMAGED = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error,
)  # fmt: skip
"""Errors that torch raises for a damaged or foreign file."""


def holds(path: Path, start: bytes) -> bool:
    """Return True: every file that nothing else recognises is tried as torch's."""
    return True


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the outermost mapping, and what became a stand-in.

    Raises:
        FormatError: when the file is damaged, holds code, or is no mapping.
    """
    top, skipped = read_object(path)
    if not isinstance(top, Mapping):
        raise FormatError(
            f"{path}: found a {type(top).__name__}, expected a dictionary; save the state_dict"
        )
    return dict(top), {}, skipped


def read_object(path: Path, *, bare: bool = False) -> tuple[Any, tuple[str, ...]]:
    """Return the saved object, with stand-ins, and the names of what they replace.

    Args:
        path: what ``torch.save`` wrote.
        bare: whether it is a bare pickle instead, as ``pickle.dump`` writes it.

    Raises:
        FormatError: when the file is damaged or holds code.
    """
    try:
        top, skipped = _loaded(path, bare)
        if isinstance(top, Inert | Maker):
            raise unsupported(top.origin)
    except pickle.UnpicklingError as error:
        detail = _unsafe_global(str(error))
        raise FormatError(
            f"{path}: refused: {detail}; save the weights alone, with "
            "torch.save(model.state_dict(), path)"
        ) from error
    except DAMAGED as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{path}: not a checkpoint that torch reads ({detail}); it is truncated or another "
            "kind of file"
        ) from error
    return top, skipped


def _loaded(path: Path, bare: bool) -> tuple[Any, tuple[str, ...]]:
    with opened(path, "a checkpoint file") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(tarfile.BLOCKSIZE)
        if start.startswith(b"PK") and not bare:
            return torch_zip.load(path)
        if _is_tar(start):
            raise pickle.UnpicklingError("Unsupported class of file: torch's first, a tar")
        file.seek(0)
        budget = Budget(path, size)
        if bare:
            return old_torch_file.load_bare(file, budget, size)
        return old_torch_file.load(file, budget, size, old_torch_file.embedded_storage)


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again; a zip stays the same byte for byte except for the new values.

    An old pickle, and a zip in which another tensor shares the values, is saved again as a whole.

    Raises:
        InputError: when it has to be saved again but holds objects that were skipped in reading.
    """
    with content.path.open("rb") as old:
        zipped = old.read(2) == b"PK"
    if zipped and torch_zip.patch(content.path, output, changes):
        return
    if content.skipped:
        raise InputError(
            f"{content.path}: holds {', '.join(content.skipped[:3])}, which cannot be written "
            "again; save it without them, or use --to npz"
        )
    top: Any = content.top
    for (place, name), value in changes.items():
        top = _replaced(top, (*place, name), value)
    file = io.BytesIO()  # torch's writer crashes on a full disk
    try:
        with uninterrupted():
            torch.save(top, file)
    except (pickle.PicklingError, RecursionError) as error:
        raise InputError(
            f"{content.path}: holds what cannot be written again ({reason(error)}); use --to npz"
        ) from error
    output.write_bytes(file.getbuffer())


def _replaced(mapping: Any, keys: tuple[str, ...], value: Tensor) -> Any:
    """Return a copy of nested mappings with one entry replaced; state dicts keep attributes."""
    new = copy.copy(mapping)
    new[keys[0]] = value if len(keys) == 1 else _replaced(mapping[keys[0]], keys[1:], value)
    return new


def _unsafe_global(message: str) -> str:
    """Return what torch's loader refused, in a few words."""
    if found := re.search(r"nsupported (?:global: )?GLOBAL (\S{1,120})", message):
        return f"it holds {found[1]}, not plain data"
    if found := re.search(r"Unsupported (?:class|persistent|extension).{0,100}", message):
        return found[0]
    if "truncated" in message:
        return "its pickle is truncated"
    if found := re.search(r"a number of \d{1,10} bits", message):
        return f"it holds {found[0]}"
    return "it holds objects that are not plain data, or is no torch file"
