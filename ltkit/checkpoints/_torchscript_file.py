"""TorchScript's zips: their tensors, read without the program.

``data.pkl`` is a pickle of modules, and says in which member each parameter lies; ``constants.pkl``
holds what the program uses as constants, which is all that a frozen one has. torch itself cannot
read either without running code of the file (a module's ``__setstate__`` runs as it is loaded), so
the pickle is read here: modules become their attributes, and a call of anything is refused.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints._content import Content, Place, State
from ltkit.checkpoints._inert import Pickle
from ltkit.checkpoints._members import Member, overwrite, tensors
from ltkit.checkpoints._opening import members, reason
from ltkit.checkpoints._program import PLACE
from ltkit.checkpoints._torch_file import DAMAGED
from ltkit.errors import FormatError

PICKLES = {"data.pkl": "data", "constants.pkl": "constants"}
"""Each pickle in the zip to the folder of its tensors."""

TYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip


def holds(path: Path, start: bytes) -> bool:
    """Say whether it is a zip with a program's constants."""
    return start.startswith(b"PK") and _folder(path) is not None


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the parameters by their dotted names, constants as ``constants.<number>``.

    Raises:
        FormatError: when the file is damaged, or its pickle calls something.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {}, {PLACE: tensors(archive, _placed(archive, _folder(path)))}, ()
    except (*DAMAGED, pickle.UnpicklingError, zlib.error, struct.error) as error:
        raise FormatError(
            f"{path}: not sound TorchScript ({reason(error)}); fetch it again, or save the weights "
            "alone"
        ) from error


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again, byte for byte but for the new values.

    Raises:
        InputError: when another parameter shares a value.
    """
    with zipfile.ZipFile(content.path) as archive:
        placed = _placed(archive, _folder(content.path))
    overwrite(content.path, output, placed, {name: value for (_, name), value in changes.items()})


def _folder(path: Path) -> str | None:
    """Return the folder that the zip's members are in, with its slash."""
    found = (name.removesuffix("constants.pkl") for name in members(path)
             if name.count("/") == 1 and name.endswith("/constants.pkl"))  # fmt: skip
    return next(found, None)


def _placed(archive: zipfile.ZipFile, folder: str | None) -> dict[str, Member]:
    """Return the places of all tensors."""
    found: dict[str, Member] = {}
    for name, inner in PICKLES.items():
        top = _unpickled(archive.read(f"{folder}{name}"), f"{folder}{inner}/")
        constants = name == "constants.pkl" and isinstance(top, tuple)
        found |= (
            {f"constants.{n}": value for n, value in enumerate(top) if isinstance(value, Member)}
            if constants
            else dict(_walk(top, "", set()))
        )
    return found


class _Object:
    """A module, or anything else of a class of the program's: its attributes and nothing more."""

    attributes: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *arguments: Any) -> None:
        """Ignore what the class would have been given."""

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        self.attributes = state if isinstance(state, dict) else {}


def _walk(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Member]]:
    if isinstance(value, Member):
        yield prefix.removesuffix("."), value
    if isinstance(value, _Object) and id(value) not in seen:
        seen.add(id(value))
        for name, inner in value.attributes.items():
            yield from _walk(inner, f"{prefix}{name}.", seen)


def _unpickled(pickled: bytes, folder: str) -> Any:
    """Read one pickle; tensors become their places."""
    inert = Pickle()

    def tensor(saved: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> Member:
        name, dtype = saved
        return Member(name, dtype, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))

    def first(value: Any, *others: Any) -> Any:
        return value

    built = {
        ("torch._utils", "_rebuild_tensor_v2"): tensor,
        ("torch._utils", "_rebuild_parameter"): first,
        **{("torch.jit._pickle", f"build_{kind}list"): first
           for kind in ("int", "bool", "double", "tensor")},
        ("torch.jit._pickle", "restore_type_tag"): first,
    }  # fmt: skip

    class Unpickler(inert.Unpickler):  # type: ignore[name-defined, misc]
        def find_class(self, module: str, name: str) -> Any:
            if module.split(".")[0] == "__torch__":
                return _Object
            if module == "torch" and name in TYPES:
                return TYPES[name]
            return built.get((module, name)) or super().find_class(module, name)

        def persistent_load(self, saved: Any) -> tuple[str, torch.dtype]:
            _, dtype, key, *_ = saved
            if not isinstance(dtype, torch.dtype):
                raise pickle.UnpicklingError(f"a tensor of {getattr(dtype, 'origin', dtype)}")
            return f"{folder}{key}", dtype

    return Unpickler(io.BytesIO(pickled), encoding="utf-8").load()
