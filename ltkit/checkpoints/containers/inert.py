"""Stand-ins for what a pickle holds beside tensors and plain containers.

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
"""NumPy's short names of types: floats, integers, booleans, with their bytes."""

HARMLESS = {
    "collections.defaultdict", "copy_reg._reconstructor",
    "copyreg._reconstructor", "numpy.random.__RandomState_ctor", "torch.serialization._get_layout",
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("bit_generator", "generator",
                                                         "randomstate")),
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"{module}.{system}Path" for module in ("pathlib", "pathlib._local")
      for system in ("", "Posix", "Windows", "Pure", "PurePosix", "PureWindows")),
}  # fmt: skip
"""What a pickle calls for plain values; a stand-in comes of it, too."""

LONGEST = 120
"""So much of a name is told."""


SCALARS, SHORT = (str, int, float, bool, type(None)), 100
"""What of a script's arguments is kept: plain values, and at most so many in a list."""


class _Refusing(type):
    """The class of stand-in classes: calling one is refused, unless it is known to be harmless."""

    origin: str
    harmless: bool

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        if cls.harmless:
            return cls.__new__(cls)  # type: ignore[call-overload]
        raise unsupported(cls.origin)


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


class Odd(Inert):
    """A stand-in for a tensor that is not plain values in the file.

    kind: what it is, as ``sparse tensor``.
    """

    kind = "other tensor"


def odd(kind: str) -> Odd:
    """Return the stand-in for a tensor of some kind."""
    thing: Odd = Odd.__new__(Odd)  # type: ignore[assignment]
    thing.kind = kind
    return thing


class Maker:
    """What is called to build something; left uncalled, it cannot be saved again."""

    def __init__(self, origin: str, function: Callable[..., Any]) -> None:
        """Take the name and the function."""
        self.origin, self.function = origin, function

    def __call__(self, *arguments: Any) -> Any:
        """Build it."""
        return self.function(*arguments)

    def __reduce__(self) -> Any:
        """Refuse."""
        raise pickle.PicklingError(self.origin)


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
    if isinstance(value, dict | list | tuple) and len(value) > SHORT:
        return False
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        return all(type(entry) in SCALARS for entry in value)
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

    values: NDArray[Any] | None = None

    def __init__(self, *arguments: Any) -> None:
        """Start without values, whatever the pickle gives."""

    def __setstate__(self, state: Any) -> None:
        """Take ``(version, shape, type, columns first, bytes)``."""
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
        return thing.detach().float().numpy() if thing.is_floating_point() else thing.numpy()
    if isinstance(thing, list | tuple) and all(isinstance(v, int | float) for v in thing):
        values = np.asarray(thing)
        return values if values.dtype.kind in "fiub" else None  # no numbers of 65 bits
    return None


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
