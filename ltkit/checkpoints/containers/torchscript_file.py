"""TorchScript zips: tensors are read without running the program.

``data.pkl`` is a pickle of modules, and says in which member each parameter lies; ``constants.pkl``
holds what the program uses as constants, which is all that a frozen one has. torch itself cannot
read either without running code of the file (a module's ``__setstate__`` runs as it is loaded), so
the pickle is read here: modules become their attributes, and a call of anything is refused.
"""

import io
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor

from ltkit.checkpoints.containers.inert import Maker
from ltkit.checkpoints.containers.members import Member, overwrite_named, tensors
from ltkit.checkpoints.containers.pickle_reader import NOT_PLAIN, Reader
from ltkit.checkpoints.containers.torch_file import DAMAGED
from ltkit.checkpoints.content import Content, Place, State
from ltkit.checkpoints.families._program import PLACE
from ltkit.checkpoints.opening import reason, zipped
from ltkit.errors import FormatError
from ltkit.untrusted.zips import Zip

PICKLES = {"data.pkl": "data", "constants.pkl": "constants"}
"""Each pickle in the zip, and the folder of its tensors."""


def holds(path: Path, start: bytes) -> bool:
    """Return whether it is a zip with a program's constants."""
    return zipped(path, start, lambda archive: f"{archive.root}constants.pkl" in archive.entries)


def read(path: Path) -> tuple[dict[str, Any], dict[Place, State], tuple[str, ...]]:
    """Return the parameters by dotted name, constants as ``constants.<number>``.

    Raises:
        FormatError: when the file is damaged, or its pickle calls something.
    """
    try:
        with Zip(path) as archive:
            found = tensors(archive, _placed(archive))
            archive.verify()
            return {}, {PLACE: found}, ()
    except (*DAMAGED, pickle.UnpicklingError) as error:
        raise FormatError(
            f"{path}: not sound TorchScript ({reason(error)}); fetch it again, or save the weights "
            "alone"
        ) from error


def rewrite(content: Content, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> None:
    """Write the file again, byte for byte except for the new values.

    Raises:
        InputError: when another parameter shares a value.
    """
    with Zip(content.path) as archive:
        placed = _placed(archive)
    overwrite_named(content.path, output, placed, changes)


def _placed(archive: Zip) -> dict[str, Member]:
    """Return the locations of all tensors."""
    found: dict[str, Member] = {}
    for name, inner in PICKLES.items():
        top = _Places(archive, name, inner).load()
        constants = name == "constants.pkl" and isinstance(top, tuple)
        found |= (
            {f"constants.{n}": value for n, value in enumerate(top) if isinstance(value, Member)}
            if constants
            else dict(_walk(top, "", set()))
        )
    return found


class _Object:
    """A module, or another object of a program's class: only its attributes."""

    attributes: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *arguments: Any) -> None:
        """Ignore the constructor's arguments."""

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes."""
        self.attributes = state if isinstance(state, dict) else {}


def _walk(value: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Member]]:
    """Yield tensors by name; a module that appears twice is visited at its first place."""
    todo = [(prefix, value)]
    while todo:
        prefix, value = todo.pop()
        if isinstance(value, Member):
            yield prefix.removesuffix("."), value
        if isinstance(value, _Object) and id(value) not in seen:
            seen.add(id(value))
            inner = [(f"{prefix}{name}.", part) for name, part in value.attributes.items()]
            todo += reversed(inner)


class _Places(Reader):
    """Reads a pickle: tensors become their locations, program objects their attributes."""

    changed: ClassVar[tuple[type, ...]] = (*Reader.changed, _Object)

    def __init__(self, archive: Zip, name: str, inner: str) -> None:
        pickled = archive.read(f"{archive.root}{name}")
        super().__init__(
            io.BytesIO(pickled), archive.budget, size=len(pickled), storages=self._named
        )
        self.folder = f"{archive.root}{inner}/"

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a global."""
        if module.split(".")[0] == "__torch__":
            return _Object
        lists = module == "torch.jit._pickle" and name.startswith("build_")
        if lists or (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return Maker(f"{module}.{name}", lambda value, *others: value)
        return super().find_class(module, name)

    def _named(self, dtype: torch.dtype, key: Any, location: Any, count: Any) -> Any:
        if dtype in NOT_PLAIN:
            raise pickle.UnpicklingError(f"a tensor of {dtype}")
        return f"{self.folder}{key}", dtype

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> Any:
        name, dtype = storage
        return Member(name, dtype, offset, tuple(shape), tuple(strides))
