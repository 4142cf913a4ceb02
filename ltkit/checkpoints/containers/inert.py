"""Stand-ins for what a pickle holds besides tensors and plain containers.

Checkpoints often carry the run's arguments, a configuration or an optimiser: objects of classes
that are not here and whose code must not run. Such an object becomes an inert stand-in that takes
any state and does nothing; a call of anything but a few harmless constructors is refused, because
that is how a pickle runs code. So do tensors that are not plain values in the file, as sparse and
quantised ones; what they are is kept, so that it can be told where they are needed.
"""

import contextlib
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ltkit.untrusted.unpickling import unsupported

PLAIN_NUMBERS = re.compile(r"[fiub][1248]")
"""NumPy's short type names for floats, integers and booleans, with their sizes in bytes."""

HARMLESS = {
    "collections.defaultdict", "copy_reg._reconstructor",
    "copyreg._reconstructor", "numpy.random.__RandomState_ctor", "torch.serialization._get_layout",
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("bit_generator", "generator",
                                                         "randomstate")),
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"{module}.{system}Path" for module in ("pathlib", "pathlib._local")
      for system in ("", "Posix", "Windows", "Pure", "PurePosix", "PureWindows")),
}  # fmt: skip
"""Functions that pickles call for plain values; they, too, yield stand-ins."""

LONGEST = 120
"""Most characters of a name that are shown."""


SCALARS, SHORT = (str, int, float, bool, type(None)), 100
"""What is kept of a script's arguments: plain values, and lists up to this length."""


class _Refusing(type):
    """Metaclass of stand-ins: calling one is refused unless it is known to be harmless."""

    origin: str
    harmless: bool

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if cls.harmless:
            return cls.__new__(cls)  # type: ignore[call-overload]
        raise unsupported(cls.origin)


class Inert(metaclass=_Refusing):
    """A stand-in that accepts any state and holds nothing."""

    origin: ClassVar[str] = "object"
    harmless: ClassVar[bool] = False

    def __new__(cls, *arguments: Any, **named: Any) -> "Inert":
        """Ignore the constructor's arguments."""
        return object.__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def __setitem__(self, key: Any, value: Any) -> None:
        """Ignore the item."""

    def append(self, value: Any) -> None:
        """Ignore the item."""

    def extend(self, values: Any) -> None:
        """Ignore the items."""


class Odd(Inert):
    """A stand-in for a tensor whose values are not stored plainly.

    kind: what it is, as ``sparse tensor``.
    """

    kind = "other tensor"


def odd(kind: str) -> Odd:
    """Return the stand-in for a given kind of tensor."""
    thing: Odd = Odd.__new__(Odd)  # type: ignore[assignment]
    thing.kind = kind
    return thing


class Maker:
    """A constructor in a pickle; left uncalled, it cannot be saved again."""

    def __init__(self, origin: str, function: Callable[..., Any]) -> None:
        """Store the name and the function."""
        self.origin, self.function = origin, function

    def __call__(self, *arguments: Any) -> Any:
        """Build the object."""
        return self.function(*arguments)

    def __reduce__(self) -> Any:
        """Refuse to be saved."""
        raise pickle.PicklingError(self.origin)


class Arguments(Inert):
    """A stand-in for a script's arguments that keeps the plain values."""

    def __setstate__(self, state: Any) -> None:
        """Keep the attributes that are plain values."""
        self.values = plain_values(state)


def plain_values(state: Any) -> dict[str, Any]:
    """Return a mapping's entries that are text, numbers, None, or short lists of these.

    Example:
        >>> plain_values({"model": "resnet18", "lr": 0.1, "mean": (0.5, 0.5), "cuda": object()})
        {'model': 'resnet18', 'lr': 0.1, 'mean': (0.5, 0.5)}
    """
    entries = state.items() if isinstance(state, dict) else ()
    return {key: value for key, value in entries if isinstance(key, str) and _is_plain(value)}


def arguments_of(thing: Any) -> dict[str, Any]:
    """Return the script arguments in a checkpoint, from a namespace or a mapping."""
    return plain_values(getattr(thing, "values", {}) if isinstance(thing, Arguments) else thing)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict | list | tuple) and len(value) > SHORT:
        return False
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return all(type(entry) in SCALARS for entry in value)
    return type(value) in SCALARS


class DType:
    """A stand-in for a NumPy type; ``values`` is None unless it is a plain number type."""

    def __init__(self, code: Any = None, *others: Any) -> None:
        """Store the type's short name, as ``f4``."""
        self.code = code if isinstance(code, str) and PLAIN_NUMBERS.fullmatch(code) else None
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        """Store the byte order."""
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">"):
            self.order = state[1]


class Array:
    """A NumPy array in a pickle, read without NumPy's own unpickling.

    values: the array; None when it is not one of plain numbers with as many bytes as its shape
        needs.
    """

    values: NDArray[Any] | None = None

    def __init__(self, *arguments: Any) -> None:
        """Start without values, whatever the pickle passes."""

    def __setstate__(self, state: Any) -> None:
        """Read ``(version, shape, type, columns first, bytes)``."""
        with contextlib.suppress(TypeError, ValueError):
            _, shape, kind, columns, data = state if isinstance(state, tuple) else ()
            known = isinstance(kind, DType) and kind.code and isinstance(shape, tuple)
            if known and isinstance(data, bytes):
                flat = np.frombuffer(data, np.dtype(kind.order + kind.code)).astype(kind.code)
                self.values = flat.reshape(shape, order="F" if columns is True else "C")


def values_of(thing: Any) -> NDArray[Any] | None:
    """Return an array, a tensor or a list of numbers as a NumPy array; None for anything else."""
    if isinstance(thing, Array):
        return thing.values
    if isinstance(thing, torch.Tensor) and not thing.is_complex():
        narrow = thing.dtype in (torch.float16, torch.bfloat16)
        return (thing.detach().float() if narrow else thing.detach()).numpy()
    if isinstance(thing, list | tuple) and all(isinstance(v, int | float) for v in thing):
        values = np.asarray(thing)
        return values if values.dtype.kind in "fiub" else None  # no numbers of 65 bits
    return None


def _scalar(kind: Any, data: Any = None) -> Any:
    """Return a NumPy number as a Python number, if it is one."""
    with contextlib.suppress(IndexError, ValueError):
        if isinstance(kind, DType) and kind.code and isinstance(data, bytes):
            return np.frombuffer(data, np.dtype(kind.order + kind.code))[0].item()
    return None


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> Array:
    """Return an array stored in pickle protocol 5."""
    array = Array()
    raw = bytes(data) if isinstance(data, bytes | bytearray | memoryview) else b""
    array.__setstate__((1, shape, kind, order == "F", raw))
    return array


ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): Array, ("numpy", "dtype"): DType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
}  # fmt: skip
"""Constructors of NumPy arrays; listed as skipped, because arrays cannot be saved again."""
