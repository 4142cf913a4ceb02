"""The zip format of ``torch.save``: reading its objects, and replacing values in it.

``data.pkl`` is a pickle of the objects, and says in which member the values of each tensor lie.
Values are changed in place, and the checksums with them; every other byte of the zip stays, so a
file that holds objects of unknown classes keeps them.
"""

import io
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit.checkpoints.containers.members import Member, overwrite
from ltkit.checkpoints.containers.old_torch_file import embedded_storage
from ltkit.checkpoints.containers.pickle_reader import Reader, Storage, room
from ltkit.checkpoints.content import Place
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.zips import Zip


def load(
    path: Path, budget: Budget | None = None, inside: bytearray | None = None
) -> tuple[Any, tuple[str, ...]]:
    """Return the saved object, and what became a stand-in.

    Args:
        path: the file.
        budget: limits on reading it.
        inside: the zip, if it is a member of that file.

    Raises:
        ValueError, UnpicklingError: when it is not a torch zip, or is damaged.
        FormatError: when the zip is damaged, or takes more than its budget.
    """
    with Zip(path, budget, inside) as archive:
        pickled = _pickled(archive)
        storages = _Storages(archive)
        reader = Reader(
            io.BytesIO(pickled), archive.budget, size=len(pickled), storages=storages.storage,
            embedded=embedded_storage,
        )  # fmt: skip
        top = reader.load()
        archive.verify()
    return top, tuple(sorted(reader.skipped))


def _pickled(archive: Zip) -> bytearray:
    """Return the pickle of the objects."""
    order = f"{archive.root}byteorder"
    if order in archive.entries and archive.read(order) != b"little":
        raise ValueError("its values are big-endian; save it again on another machine")
    return archive.read(f"{archive.root}data.pkl")


class _Storages:
    """Storages, each read on first use."""

    def __init__(self, archive: Zip) -> None:
        self.archive = archive
        self.made: dict[str, Storage] = {}

    def storage(self, dtype: torch.dtype, key: Any, location: Any, count: Any) -> Any:
        """Return a storage."""
        name = f"{self.archive.root}data/{str(key)[:100]}"
        if name not in self.made:
            values, memory = room(self.archive.entry(name).size)
            self.archive.read_into(name, memory)
            self.made[name] = Storage(values.untyped_storage(), dtype)
        found = self.made[name]
        held = found.values.nbytes()
        if found.dtype != dtype or type(count) is not int or count * dtype.itemsize != held:
            raise ValueError("a storage has two types or sizes")
        return found


def patch(path: Path, output: Path, changes: Mapping[tuple[Place, str], Tensor]) -> bool:
    """Copy a zip, replacing the values of some tensors.

    Nothing is written where another tensor would change with them, because both share the values.

    Args:
        path: what ``torch.save`` wrote.
        output: the new file.
        changes: places and names to new values, of the same shape and type.

    Returns:
        Whether it was written.

    Raises:
        FormatError: when the zip is not laid out as torch does it.
    """
    with Zip(path) as archive:
        top = _Places(archive).load()
    users = _users(top)
    new = []
    for (place, name), value in changes.items():
        found = top
        for key in (*place, name):
            found = found[key]
        if users[found.name] > 1:
            return False
        new.append((found, value))
    overwrite(path, output, new)
    return True


def _users(top: Any) -> Counter[str]:
    """Count how often each member is used; one that appears in two places counts twice."""
    users, todo, visits = Counter[str](), [top], Counter[int]()
    while todo:
        thing = todo.pop()
        if isinstance(thing, Member):
            users[thing.name] += 1
        elif isinstance(thing, Mapping | list | tuple) and visits[id(thing)] < 2:
            visits[id(thing)] += 1
            todo += thing.values() if isinstance(thing, Mapping) else thing
    return users


class _Places(Reader):
    """Reads a pickle for the locations of its tensors."""

    def __init__(self, archive: Zip) -> None:
        pickled = _pickled(archive)
        super().__init__(
            io.BytesIO(pickled), archive.budget, size=len(pickled), storages=self._named,
            embedded=embedded_storage,
        )  # fmt: skip
        self.root = archive.root

    def _named(self, dtype: torch.dtype, key: Any, location: Any, count: Any) -> Any:
        return f"{self.root}data/{key}", dtype

    def _tensor(self, storage: Any, offset: Any, shape: Any, strides: Any, *others: Any) -> Any:
        name, dtype = storage
        return Member(name, dtype, offset, tuple(shape), tuple(strides))

    def _typed_tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False,
        hooks: Any = None, dtype: Any = None, *others: Any,
    ) -> Any:  # fmt: skip
        return Member(storage[0], dtype, offset, tuple(shape), tuple(strides))
