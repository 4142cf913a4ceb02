"""Files that ``torch.save`` writes: the zip of today, and the pickles of old."""

import copy
import io
import mmap
import pickle
import re
import struct
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints import _torch_zip
from ltkit.checkpoints._content import Content, Place, State
from ltkit.checkpoints._inert import Inert, Pickle
from ltkit.checkpoints._opening import ZIP_RATIO, ZIP_SLACK
from ltkit.errors import FormatError, InputError
from ltkit.files.atomic import uninterrupted

DAMAGED = (
    ArithmeticError, AssertionError, AttributeError, EOFError, ImportError, LookupError,
    MemoryError, OSError, RuntimeError, TypeError, ValueError, struct.error, zipfile.BadZipFile,
)  # fmt: skip
"""What torch raises at a file that is damaged, or is none of its own."""

MAX_BITS = 1000
"""Larger numbers are no floats; those of random generators have 128 bits."""

FILLING = (b"bytearray", b"_codecs")
"""What torch's reader of weights calls, though a few bytes of a pickle can fill the memory so."""


def holds(path: Path, start: bytes) -> bool:
    """Say yes: what is no other kind of file is given to torch."""
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
    """Return what was saved, with stand-ins for objects, and the names of those.

    Args:
        path: what ``torch.save`` wrote.
        bare: whether it is a bare pickle instead, as ``pickle.dump`` writes it.

    Raises:
        FormatError: when the file is damaged or holds code.
    """
    inert = Pickle()
    try:
        with warnings.catch_warnings(action="ignore"):  # about pickle protocols
            top = _loaded_bare(path, inert) if bare else _loaded(path, inert)
        if isinstance(top, Inert):
            raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {top.origin} ")
        _tidy(path, top)
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
    return top, tuple(sorted(inert.skipped))


def _loaded(path: Path, inert: Pickle) -> Any:
    """Return what torch's reader of weights gives, or else the inert one."""
    filling = _looked_at(path)
    with path.open("rb") as file:  # torch takes a path's suffix at its word
        try:
            if filling:
                raise pickle.UnpicklingError
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            file.seek(0)
            return torch.load(file, "cpu", inert, weights_only=False)


def _looked_at(path: Path) -> bool:
    """Say whether a pickle of torch's names one of `FILLING`.

    Raises:
        UnpicklingError: when torch's reader would run a program, or unpack a tar.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        zipped = raw[:4] == b"PK\x03\x04"
        if not zipped and not _is_tar(raw[: tarfile.BLOCKSIZE]):
            return any(raw.find(name) >= 0 for name in FILLING)
    archive = torch._C.PyTorchFileReader(str(path)) if zipped else None
    if archive is None or "constants.pkl" in archive.get_all_records():
        raise pickle.UnpicklingError("Unsupported class of file: a program, or torch's first tar")
    return any(name in archive.get_record("data.pkl") for name in FILLING)


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _loaded_bare(path: Path, inert: Pickle) -> Any:
    try:
        with path.open("rb") as file:
            return inert.load(file)
    except IndexError as error:  # no byte left, or nothing to take from the stack
        raise pickle.UnpicklingError("pickle data was truncated") from error


def _tidy(path: Path, top: Any) -> None:
    """Take the attributes of mappings away that would hide their methods.

    Raises:
        FormatError: when tensors take far more room than the file, or a number is like no other.
    """
    todo, seen, held = [top], set[int](), dict[int, int]()
    while todo:
        thing = todo.pop()
        if isinstance(thing, Tensor) and thing.layout == torch.strided:
            held[thing.untyped_storage()._cdata] = thing.untyped_storage().nbytes()
        elif isinstance(thing, int) and thing.bit_length() > MAX_BITS:
            raise FormatError(f"{path}: holds a number of {thing.bit_length()} bits; it is damaged")
        elif isinstance(thing, dict | list | tuple) and id(thing) not in seen:
            seen.add(id(thing))
            todo += [*thing.keys(), *thing.values()] if isinstance(thing, dict) else thing
            for name in vars(thing).keys() - {"_metadata"} if hasattr(thing, "__dict__") else ():
                delattr(thing, name)
    size, total = path.stat().st_size, sum(held.values())
    if total > ZIP_RATIO * size + ZIP_SLACK:
        raise FormatError(f"{path}: claims {total} bytes of tensors that are not in the file")


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again: a zip byte for byte but for the new values.

    An old pickle, and a zip in which another tensor shares the values, is saved anew.

    Raises:
        InputError: when it has to be saved anew, but holds objects that were skipped in reading.
    """
    if zipfile.is_zipfile(content.path) and _torch_zip.patch(content.path, output, changes):
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
    with uninterrupted():
        torch.save(top, file)
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
    if found := re.search(r"Unsupported (?:class|operand).{0,100}", message):
        return found[0]
    if "truncated" in message:
        return "its pickle is truncated"
    return "it holds objects that are not plain data, or is no torch file"
