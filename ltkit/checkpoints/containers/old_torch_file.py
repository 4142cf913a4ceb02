"""Files that ``torch.save`` wrote before torch 1.6: pickles, followed by the values.

There are five pickles: two numbers that say what follows, what machine wrote it, the objects, and
the keys of the storages; and then, for each key, how many values and the values. The same is what
a plain pickle has for each of its tensors.
"""

import io
import pickle
from typing import Any

import torch

from ltkit.checkpoints.containers.pickle_reader import Embedded, Reader, Storage, room
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.unpickling import unsupported

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
EMBEDDED_STEPS = 1000
"""Steps charged for reading one storage in a plain pickle."""


def load(
    file: io.BufferedIOBase, budget: Budget, size: int, embedded: Embedded | None = None
) -> tuple[Any, tuple[str, ...]]:
    """Return the saved object, and what became a stand-in.

    Args:
        file: open file, at its start.
        budget: limits on reading it.
        size: its size in bytes.
        embedded: see `Reader`.

    Raises:
        ValueError, UnpicklingError: when it is no such file, or is damaged.
        FormatError: when it takes more than its budget.
    """
    storages = _Storages(size)
    if Reader(file, budget, size=size).load() != MAGIC:
        raise ValueError("it does not begin as torch's files do")
    if Reader(file, budget, size=size).load() != VERSION:
        raise ValueError(f"expected version {VERSION} of torch's old files")
    Reader(file, budget, size=size).load()  # the machine, which was little-endian
    reader = Reader(file, budget, size=size, storages=storages.storage, embedded=embedded)
    top = reader.load()
    storages.fill(file, Reader(file, budget, size=size).load())
    return top, tuple(sorted(reader.skipped))


def load_bare(file: io.BufferedIOBase, budget: Budget, size: int) -> tuple[Any, tuple[str, ...]]:
    """Return the object of a plain pickle, and what became a stand-in; see `load`."""
    reader = Reader(file, budget, size=size, embedded=embedded_storage, encoding="ASCII")
    return reader.load(), tuple(sorted(reader.skipped))


def embedded_storage(data: bytes, budget: Budget) -> Storage:
    """Return the storage held in bytes; these bytes must not hold another."""
    budget.take(len(data), "tensors")
    budget.step(EMBEDDED_STEPS)
    found, _ = load(io.BytesIO(data), budget, len(data))
    if not isinstance(found, Storage):
        raise unsupported("torch.storage._load_from_bytes")
    return found


class _Storages:
    """Storages named before their values are read; none is larger than the file."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.room: dict[Any, memoryview] = {}
        self.made: dict[Any, Storage] = {}

    def storage(
        self, dtype: torch.dtype, key: Any, location: Any = None, count: Any = 0, view: Any = None
    ) -> Storage:  # fmt: skip
        """Return a storage or a part of it, without values as yet."""
        if _plain(key) not in self.made:
            size = _whole(count) * dtype.itemsize
            if size > self.left:
                raise ValueError(f"claims {size} bytes of tensors that are not in the file")
            self.left -= size
            values, self.room[key] = room(size)
            self.made[key] = Storage(values.untyped_storage(), dtype)
        whole = self.made[key]
        if whole.dtype != dtype or whole.values.nbytes() != _whole(count) * dtype.itemsize:
            raise ValueError("a storage has two types or sizes")
        if view is None:
            return whole
        if not isinstance(view, tuple):
            raise ValueError("a part of a storage is damaged")
        name, first, count = view
        if _plain(name) not in self.made:
            start, size = _whole(first) * dtype.itemsize, _whole(count) * dtype.itemsize
            if start + size > whole.values.nbytes():
                raise ValueError("a part of a storage is not in it")
            self.made[name] = Storage(whole.values[start : start + size], dtype)
        return self.made[name]

    def fill(self, file: io.BufferedIOBase, keys: Any) -> None:
        """Read the values of all storages, in file order."""
        for key in keys:
            values = self.room.pop(_plain(key), None)
            if values is None:
                raise ValueError("it has values of a storage twice, or of one that it has not")
            count = int.from_bytes(file.read(8), "little")
            if count * self.made[key].dtype.itemsize != len(values):
                raise ValueError("a storage has other values than its tensors need")
            if file.readinto(values) != len(values):
                raise ValueError("its values are cut off")
        if self.room:
            raise ValueError(f"the values of {len(self.room)} storages are not in the file")


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise ValueError("a storage's size is damaged")
    return number


def _plain(key: Any) -> Any:
    if not isinstance(key, str | bytes | int):
        raise pickle.UnpicklingError("Unsupported class of key of a storage")
    return key
