"""An unpickler that can build nothing but tensors and plain containers.

Checkpoints often carry the run's arguments, a configuration or an optimiser: objects of classes
that are not here and whose code must not run. Such an object becomes an inert stand-in that takes
any state and does nothing; a call of anything but a few harmless constructors is refused, because
that is how a pickle runs code. It takes the place of the ``pickle`` module in ``torch.load``.
"""

import contextlib
import io
import pickle
import re
from collections import OrderedDict
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray


def _latin1(text: Any, coding: Any) -> bytes:
    """Return the bytes that old pickles write as text."""
    if not isinstance(text, str) or coding != "latin1":
        raise pickle.UnpicklingError("Unsupported global: GLOBAL _codecs.encode was called")
    return text.encode("latin1")


def _storage(data: Any) -> Any:
    """Return the storage of a tensor in a plain pickle, which holds a file of torch's in turn."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("_codecs", "encode"): _latin1,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__")
       for kind in (set, frozenset, complex, bytearray)},
}  # fmt: skip
"""What is built as it is."""

PLAIN_NUMBERS = re.compile(r"[fiub][1248]")
"""NumPy's short names of types: floats, integers, booleans, with their bytes."""

HARMLESS = {
    ("collections", "defaultdict"), ("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"),
}  # fmt: skip
HARMLESS_MODULES = {"pathlib", "datetime", "numpy"}
"""Whose constructors a pickle calls for plain values; they give stand-ins, too."""


SCALARS, SHORT = (str, int, float, bool, type(None)), 100
"""What of a script's arguments is kept: plain values, and at most so many in a list."""


class _Refusing(type):
    """The class of stand-in classes: calling one is refused, unless it is known to be harmless."""

    origin: str
    harmless: bool

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if cls.harmless:
            return cls.__new__(cls)  # type: ignore[call-overload]
        raise pickle.UnpicklingError(f"Unsupported global: GLOBAL {cls.origin} was called")


class Inert(metaclass=_Refusing):
    """A stand-in: takes any state, holds nothing."""

    origin: ClassVar[str] = "object"
    harmless: ClassVar[bool] = False

    def __new__(cls, *arguments: Any, **named: Any) -> "Inert":
        """Ignore what the class would have been given."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore it."""

    def append(self, value: Any) -> None:
        """Ignore it."""

    def extend(self, values: Any) -> None:
        """Ignore it."""


class Arguments(Inert):
    """A stand-in for the arguments of a script: it keeps those that are plain values."""

    def __setstate__(self, state: Any) -> None:
        """Take the attributes."""
        self.values = plain_values(state)


def plain_values(state: Any) -> dict[str, Any]:
    """Return the entries of a mapping that are texts, numbers, None, or short lists of such.

    Example:
        >>> plain_values({"model": "resnet18", "lr": 0.1, "mean": (0.5, 0.5), "cuda": object()})
        {'model': 'resnet18', 'lr': 0.1, 'mean': (0.5, 0.5)}
    """
    entries = state.items() if isinstance(state, dict) else ()
    return {key: value for key, value in entries if isinstance(key, str) and _is_plain(value)}


def arguments_of(thing: Any) -> dict[str, Any]:
    """Return a script's arguments as a checkpoint has them, a namespace or a mapping."""
    return plain_values(getattr(thing, "values", {}) if isinstance(thing, Arguments) else thing)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return len(value) <= SHORT and all(type(entry) in SCALARS for entry in value)
    return type(value) in SCALARS


class DType:
    """A stand-in for a NumPy type of plain numbers; of any other kind, ``values`` is None."""

    def __init__(self, code: Any = None, *others: Any) -> None:
        """Take the type's short name, as ``f4``."""
        self.code = code if isinstance(code, str) and PLAIN_NUMBERS.fullmatch(code) else None
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        """Take the byte order."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class Array:
    """A NumPy array in a pickle, read without NumPy's own unpickling.

    values: the array; None when it is not one of plain numbers with as many bytes as its shape
        needs.
    """

    def __init__(self, *arguments: Any) -> None:
        """Start without values, whatever the pickle gives."""
        self.values: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        """Take ``(version, shape, type, columns first, bytes)``."""
        with contextlib.suppress(TypeError, ValueError):
            _, shape, kind, columns, data = state
            if isinstance(kind, DType) and kind.code and isinstance(data, bytes):
                flat = np.frombuffer(data, np.dtype(kind.order + kind.code))
                self.values = flat.astype(kind.code).reshape(shape, order="F" if columns else "C")


def values_of(thing: Any) -> NDArray[Any] | None:
    """Return an array, a tensor or a list of numbers as a NumPy array; None for anything else."""
    if isinstance(thing, Array):
        return thing.values
    if isinstance(thing, torch.Tensor):
        return thing.detach().float().numpy() if thing.is_floating_point() else thing.numpy()
    if isinstance(thing, list | tuple) and all(isinstance(v, int | float) for v in thing):
        return np.asarray(thing)
    return None


class Pickle:
    """What ``torch.load`` needs of a pickle module; `skipped` lists what became a stand-in."""

    __name__ = "inert"

    def __init__(self) -> None:
        """Start with nothing skipped."""
        self.skipped: dict[str, _Refusing] = {}
        skipped = self.skipped

        class Unpickler(pickle.Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if (module, name) in PLAIN:
                    return PLAIN[module, name]
                if kind := ARRAYS.get((module.replace("numpy._core", "numpy.core"), name)):
                    skipped[f"{module}.{name}"] = _Refusing(name, (Inert,), {})
                    return kind
                if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
                    return vars(torch)[name]
                origin = f"{module}.{name}"
                harmless = (module, name) in HARMLESS or module.split(".")[0] in HARMLESS_MODULES
                base = Arguments if origin == "argparse.Namespace" else Inert
                made = _Refusing(name, (base,), {"origin": origin, "harmless": harmless})
                return skipped.setdefault(origin, made)

        self.Unpickler = Unpickler
        self.UnpicklingError = pickle.UnpicklingError

    def load(self, file: Any, **settings: Any) -> Any:
        """Read one object, as ``pickle.load``."""
        return self.Unpickler(file, **settings).load()


def _scalar(kind: Any, data: Any = None) -> Any:
    """Return a NumPy number as Python's, where it is one."""
    with contextlib.suppress(IndexError, ValueError):
        if isinstance(kind, DType) and kind.code and isinstance(data, bytes):
            return np.frombuffer(data, np.dtype(kind.order + kind.code))[0].item()
    return None


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
    """Return an array as pickles of protocol 5 hold it."""
    array = Array()
    raw = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b""
    array.__setstate__((1, shape, kind, order == "F", raw))
    return array


ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): Array, ("numpy", "dtype"): DType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}  # fmt: skip
"""What builds a NumPy array; they are listed as skipped, because they cannot be saved again."""
