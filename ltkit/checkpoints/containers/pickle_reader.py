"""The pickle reader for checkpoints: it builds tensors and plain containers, nothing else.

Everything else becomes a stand-in (`_inert`). torch has readers of its own: they trust offsets,
leave out checksums, and one of them runs code.
"""

import io
import pickle
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ltkit.checkpoints.containers.inert import (
    ARRAYS,
    HARMLESS,
    LONGEST,
    Arguments,
    Array,
    DType,
    Inert,
    Maker,
    _Refusing,
    odd,
)
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.unpickling import Unpickler, unsupported

STORAGES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
    "QInt8Storage": torch.qint8, "QUInt8Storage": torch.quint8, "QInt32Storage": torch.qint32,
    "QUInt4x2Storage": torch.quint4x2, "QUInt2x4Storage": torch.quint2x4,
}  # fmt: skip
"""torch's storage names and their value types."""

ODD = {f"torch._utils.{name}": kind for name, kind in {
    "_rebuild_sparse_tensor": "sparse tensor", "_rebuild_sparse_csr_tensor": "sparse tensor",
    "_rebuild_qtensor": "quantised tensor", "_rebuild_nested_tensor": "nested tensor",
    "_rebuild_meta_tensor_no_storage": "meta tensor, without values",
    "_rebuild_device_tensor_from_numpy": "tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "tensor of another device",
    "_rebuild_xla_tensor": "tensor of another device",
}.items()}  # fmt: skip
"""torch's functions for tensors without plain values, and what they make."""

NOT_PLAIN = {
    getattr(torch, name) for name in (
        "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2", "complex32", "float4_e2m1fn_x2",
        "qint8", "quint8", "qint32", "quint4x2", "quint2x4")
    if hasattr(torch, name)
}  # fmt: skip
"""Types whose values are not plain numbers, or that torch cannot compute with."""

MOST_CLASSES, MOST_DIMENSIONS = 10_000, 16
"""Limits that no real checkpoint exceeds."""

Storages = Callable[..., Any]
"""Returns a storage for its type, key, location, number of values, and an old file's view."""

Embedded = Callable[[bytes, Budget], "Storage"]
"""Returns the storage held in bytes of a plain pickle."""


BUILT = {
    "collections.OrderedDict": "_ordered", "collections.Counter": "_counter",
    "_codecs.encode": "_latin1", "torch.Size": "_size", "torch.device": "_device",
    "torch.storage._load_from_bytes": "_load_from_bytes",
    "torch._utils._rebuild_tensor": "_tensor", "torch._utils._rebuild_tensor_v2": "_tensor",
    "torch._utils._rebuild_tensor_v3": "_typed_tensor",
    "torch._utils._rebuild_parameter": "_parameter",
    **{f"{module}.{kind}": f"_{kind}" for module in ("builtins", "__builtin__")
       for kind in ("set", "frozenset", "complex", "bytearray")},
}  # fmt: skip
"""Globals that are built for real, and the methods that do so."""

LOSSY = {
    "torch._utils._rebuild_parameter_with_state": "_parameter",
    "torch._tensor._rebuild_from_type_v2": "_of_type",
}
"""Globals that are built without the attributes set on them."""


@dataclass(frozen=True, eq=False)
class Storage:
    """The storage of tensors of one type."""

    values: torch.UntypedStorage
    dtype: torch.dtype

    def __reduce__(self) -> Any:
        """Refuse: a storage alone is not saved again."""
        raise pickle.PicklingError("a storage")


class Reader(Unpickler):
    """Reads one pickle; `skipped` lists what became a stand-in."""

    filled = (Inert,)
    changed: ClassVar[tuple[type, ...]] = (Inert, Array, DType, OrderedDict)
    hashed = (Inert, type, torch.dtype, torch.device, Tensor)

    def __init__(
        self, file: io.BufferedIOBase, budget: Budget, *, size: int,
        storages: Storages | None = None, embedded: Embedded | None = None,
        encoding: str = "utf-8",
    ) -> None:  # fmt: skip
        """Prepare to read a pickle.

        Args:
            file: see `Unpickler`.
            budget: limits for the whole file.
            size: size of the file in bytes.
            storages: returns storages outside the pickle, if they are allowed.
            embedded: returns storages in bytes of the pickle, if they are allowed.
            encoding: encoding of Python 2 strings.
        """
        super().__init__(file, budget, size=size, encoding=encoding)
        self.storages, self.embedded = storages, embedded
        self.skipped: dict[str, _Refusing] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands in for a global."""
        origin = f"{module}.{name}"
        if origin in BUILT:
            return Maker(origin, getattr(self, BUILT[origin]))
        if name in STORAGES and module.split(".")[0] == "torch":
            return STORAGES[name]
        if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
            return vars(torch)[name]
        kept, origin = origin, origin[:LONGEST]
        if len(self.skipped) >= MOST_CLASSES and origin not in self.skipped:
            raise pickle.UnpicklingError(f"Unsupported class {origin}, one of too many")
        stand_in = self._skip(origin)
        if kept in LOSSY:
            return Maker(origin, getattr(self, LOSSY[kept]))
        if kept in ODD:
            return Maker(origin, lambda *given: odd(ODD[kept]))
        return ARRAYS.get((module.replace("numpy._core", "numpy.core"), name), stand_in)

    def _skip(self, origin: str) -> _Refusing:
        if origin not in self.skipped:
            base = Arguments if origin == "argparse.Namespace" else Inert
            of = {"origin": origin, "harmless": origin in HARMLESS}
            self.skipped[origin] = _Refusing("Inert", (base,), of)
        return self.skipped[origin]

    def persistent_load(self, saved: Any) -> Any:
        """Return a torch storage."""
        known = isinstance(saved, tuple) and saved[:1] in (("storage",), (b"storage",))
        if not known or self.storages is None or not isinstance(saved[1:2][0], torch.dtype):
            raise pickle.UnpicklingError("Unsupported persistent id that is no storage")
        return self.storages(*saved[1:])

    def load_build(self) -> None:
        """Pass state to a stand-in; of a mapping's state, keep only what a state dict has."""
        thing = self.stack[-2]
        if not isinstance(thing, OrderedDict):
            super().load_build()
            return
        state = self.stack.pop()
        if isinstance(state, dict) and "_metadata" in state:
            thing._metadata = _versions(state["_metadata"])  # type: ignore[attr-defined]

    dispatch: ClassVar[dict[int, Any]] = {**Unpickler.dispatch, pickle.BUILD[0]: load_build}

    # What is built

    def _ordered(self, entries: Any = ()) -> OrderedDict[Any, Any]:
        if not isinstance(entries, dict | list | tuple):
            raise unsupported("collections.OrderedDict")
        made: OrderedDict[Any, Any] = OrderedDict()
        for entry in entries.items() if isinstance(entries, dict) else entries:
            if not isinstance(entry, list | tuple):
                raise unsupported("collections.OrderedDict")
            key, value = entry
            self.key(key)
            made[key] = value
        return made

    def _counter(self, entries: Any = ()) -> Counter[Any]:
        return Counter(dict(self._ordered(entries)))

    def _set(self, values: Any = ()) -> set[Any]:
        if not isinstance(values, list | tuple | set):
            raise unsupported("builtins.set")
        self.keys(values)
        return set(values)

    def _frozenset(self, values: Any = ()) -> frozenset[Any]:
        return frozenset(self._set(values))

    @staticmethod
    def _size(shape: Any = ()) -> torch.Size:
        if not isinstance(shape, list | tuple):
            raise unsupported("torch.Size")
        return torch.Size(shape)

    @staticmethod
    def _latin1(text: Any, coding: Any) -> bytes:
        """Return bytes that old pickles store as text."""
        if not isinstance(text, str) or coding != "latin1":
            raise unsupported("_codecs.encode")
        return text.encode("latin1")

    @staticmethod
    def _bytearray(data: Any = b"", coding: Any = "latin1") -> bytearray:
        """Return a bytearray; a number, which would mean that many zeros, is refused."""
        if isinstance(data, str) and coding == "latin1":
            data = data.encode("latin1")
        if not isinstance(data, bytes):
            raise unsupported("builtins.bytearray")
        return bytearray(data)

    @staticmethod
    def _complex(*parts: Any) -> complex:
        if not all(isinstance(part, int | float) for part in parts):
            raise unsupported("builtins.complex")
        return complex(*parts)

    @staticmethod
    def _device(*parts: Any) -> torch.device:
        if not all(isinstance(part, int | str) for part in parts) or len(str(parts)) > LONGEST:
            raise unsupported("torch.device")
        return torch.device(*parts)

    @staticmethod
    def _parameter(data: Any, grad: Any = True, *others: Any) -> Any:
        return torch.nn.Parameter(data, grad is True) if isinstance(data, Tensor) else data

    def _load_from_bytes(self, data: Any) -> Storage:
        """Return a tensor's storage in a plain pickle, which embeds an old torch file."""
        if not isinstance(data, bytes) or self.embedded is None:
            raise unsupported("torch.storage._load_from_bytes")
        return self.embedded(data, self.budget)

    def _tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False,
        hooks: Any = None, metadata: Any = None,
    ) -> Any:  # fmt: skip
        if not isinstance(storage, Storage):
            raise unsupported("torch._utils._rebuild_tensor_v2")
        return self._placed(storage, storage.dtype, offset, shape, strides, grad, metadata)

    def _typed_tensor(
        self, storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False,
        hooks: Any = None, dtype: Any = None, metadata: Any = None,
    ) -> Any:  # fmt: skip
        if not isinstance(storage, Storage) or not isinstance(dtype, torch.dtype):
            raise unsupported("torch._utils._rebuild_tensor_v3")
        return self._placed(storage, dtype, offset, shape, strides, grad, metadata)

    def _placed(
        self, storage: Storage, dtype: torch.dtype, offset: Any, shape: Any,
        strides: Any, grad: Any, metadata: Any,
    ) -> Any:  # fmt: skip
        """Return a tensor whose values are in its storage, or a stand-in."""
        held = storage.values
        if extent(offset, shape, strides) * dtype.itemsize > held.nbytes():
            raise ValueError("a tensor's values are not in the file")
        claimed = prod(shape) * dtype.itemsize
        if claimed > held.nbytes():
            return self._odd(f"tensor that claims {claimed} bytes that are not in the file")
        if dtype in NOT_PLAIN:
            return self._odd(f"{dtype} tensor")
        if isinstance(metadata, dict) and metadata:
            return self._odd("conjugated or negated tensor")
        self.budget.take(claimed, "tensors")  # many may show the same values
        tensor = torch.empty(0, dtype=dtype).set_(held, offset, shape, strides)
        return tensor.requires_grad_(grad is True)

    def _odd(self, kind: str) -> Inert:
        self._skip(f"a {kind}")
        return odd(kind)

    def _of_type(self, function: Any, kind: Any, arguments: Any, state: Any = None) -> Any:
        """Return a tensor without extra attributes and without its own class."""
        known = isinstance(function, Maker) and function.origin.startswith("torch._utils._rebuild")
        if not known or not isinstance(arguments, tuple):
            raise unsupported("torch._tensor._rebuild_from_type_v2")
        return function(*arguments)


def room(size: int) -> tuple[Tensor, memoryview]:
    """Return a buffer for a tensor's values, and the memory to read into."""
    values = torch.zeros(size, dtype=torch.uint8)
    return values, values.numpy().data


def extent(offset: Any, shape: Any, strides: Any) -> int:
    """Return how many values of a storage a tensor spans.

    Raises:
        ValueError: when the numbers cannot be those of a tensor.

    Example:
        >>> extent(5, (2, 3), (3, 1))
        11
    """
    if not (isinstance(shape, list | tuple) and isinstance(strides, list | tuple)):
        raise ValueError("a tensor's shape is damaged")
    numbers = (offset, *shape, *strides)
    if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
        raise ValueError("a tensor's shape is damaged")
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"a tensor has {len(shape)} dimensions")
    last = sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    return int(offset + (last + 1 if all(shape) else 0))


def _versions(metadata: Any) -> Any:
    """Return the layer versions of a state dict, if they are nothing else."""
    scalars = (str, int, float, bool, type(None))
    sound = isinstance(metadata, dict) and all(
        isinstance(own, dict) and all(isinstance(value, scalars) for value in own.values())
        for own in metadata.values()
    )
    if not sound:
        raise pickle.UnpicklingError("Unsupported class of versions")
    return metadata
