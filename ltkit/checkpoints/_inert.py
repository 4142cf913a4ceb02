"""An unpickler that can build nothing but tensors and plain containers.

Checkpoints often carry the run's arguments, a configuration or an optimiser: objects of classes
that are not here and whose code must not run. Such an object becomes an inert stand-in that takes
any state and does nothing; a call of anything but a few harmless constructors is refused, because
that is how a pickle runs code. It takes the place of the ``pickle`` module in ``torch.load``, and
is Python's own reader in Python: the one in C fills the memory when a pickle says so, and sets
attributes of whatever is there, functions of torch included.
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


def _bytes(data: Any = b"", coding: Any = "latin1") -> bytearray:
    """Return changeable bytes; of a number, they would be as many zeros."""
    if isinstance(data, str):
        data = _latin1(data, coding)
    if not isinstance(data, bytes):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL builtins.bytearray was called")
    return bytearray(data)


def _storage(data: Any) -> torch.TypedStorage:
    """Return the storage of a tensor in a plain pickle, which holds an old file of torch's in turn.

    A zip, which it never is, could be a program.
    """
    if not isinstance(data, bytes) or data.startswith(b"PK"):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL torch.storage._load_from_bytes")
    found = torch.load(
        io.BytesIO(data), map_location="cpu", weights_only=False, pickle_module=Pickle()
    )
    if not isinstance(found, torch.TypedStorage):
        raise pickle.UnpicklingError("Unsupported global: GLOBAL torch.storage._load_from_bytes")
    return found


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
       for kind in (set, frozenset, complex)},
    **{(module, "bytearray"): _bytes for module in ("builtins", "__builtin__")},
}  # fmt: skip
"""What is built as it is."""

PLAIN_NUMBERS = re.compile(r"[fiub][1248]")
"""NumPy's short names of types: floats, integers, booleans, with their bytes."""

HARMLESS = {
    "collections.Counter", "collections.defaultdict", "copy_reg._reconstructor",
    "copyreg._reconstructor", "numpy.random.__RandomState_ctor",
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


_InPython: Any = vars(pickle)["_Unpickler"]


class _Unpickler(_InPython):  # type: ignore[misc]
    """Python's reader of pickles, less what would change anything but the pickle's own objects."""

    dispatch: ClassVar[dict[int, Any]] = dict(_InPython.dispatch)

    def load_build(self) -> None:
        """Give a state to a mapping or a stand-in: functions, classes and tensors keep theirs."""
        thing = self.stack[-2]
        takes = hasattr(type(thing), "__setstate__") and not isinstance(thing, torch.Tensor)
        if not (takes or isinstance(thing, OrderedDict)):
            raise pickle.UnpicklingError(f"Unsupported class {type(thing).__name__} to be changed")
        super().load_build()

    def load_setitem(self) -> None:
        """Set an entry of a mapping."""
        self._needs_mapping(self.stack[-3])
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set entries of a mapping."""
        self._needs_mapping(self.metastack[-1][-1])
        super().load_setitems()

    @staticmethod
    def _needs_mapping(thing: Any) -> None:
        if not isinstance(thing, dict | Inert):
            raise pickle.UnpicklingError(f"Unsupported class {type(thing).__name__} to be filled")

    def load_binpersid(self) -> None:
        """Take a storage of torch's; of anything else, torch would look at the source code."""
        saved = self.stack[-1]
        if not (isinstance(saved, tuple) and saved[:1] in (("storage",), (b"storage",))):
            raise pickle.UnpicklingError("Unsupported persistent id that is no storage")
        super().load_binpersid()

    def load_bytearray8(self) -> None:
        """Read as many bytes as there are; the usual way makes room for as many as are said."""
        self.load_binbytes8()
        self.append(bytearray(self.stack.pop()))

    def get_extension(self, code: int) -> None:
        """Refuse what stands for a global."""
        raise pickle.UnpicklingError(f"Unsupported extension {code}")

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.BINPERSID[0]] = load_binpersid
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8


class Pickle:
    """What ``torch.load`` needs of a pickle module; `skipped` lists what became a stand-in."""

    __name__ = "inert"

    def __init__(self) -> None:
        """Start with nothing skipped."""
        self.skipped: dict[str, _Refusing] = {}
        skipped = self.skipped

        class Unpickler(_Unpickler):
            def find_class(self, module: str, name: str) -> Any:
                if (module, name) in PLAIN:
                    return PLAIN[module, name]
                origin = f"{module}.{name}"[:LONGEST]
                if kind := ARRAYS.get((module.replace("numpy._core", "numpy.core"), name)):
                    skipped[origin] = _Refusing(name, (Inert,), {})
                    return kind
                if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
                    return vars(torch)[name]
                base = Arguments if origin == "argparse.Namespace" else Inert
                of = {"origin": origin, "harmless": origin in HARMLESS}
                return skipped.setdefault(origin, _Refusing("Inert", (base,), of))

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
