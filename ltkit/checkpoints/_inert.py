"""An unpickler that can build nothing but tensors and plain containers.

Checkpoints often carry the run's arguments, a configuration or an optimiser: objects of classes
that are not here and whose code must not run. Such an object becomes an inert stand-in that takes
any state and does nothing; a call of anything but a few harmless constructors is refused, because
that is how a pickle runs code. It takes the place of the ``pickle`` module in ``torch.load``.
"""

import pickle
from collections import OrderedDict
from typing import Any, ClassVar

import torch

PLAIN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    **{(module, kind.__name__): kind for module in ("builtins", "__builtin__")
       for kind in (set, frozenset, complex, bytearray)},
}  # fmt: skip
"""What is built as it is."""

HARMLESS = {
    ("collections", "defaultdict"), ("copy_reg", "_reconstructor"), ("copyreg", "_reconstructor"),
    ("_codecs", "encode"),
}  # fmt: skip
HARMLESS_MODULES = {"pathlib", "datetime", "numpy"}
"""Whose constructors a pickle calls for plain values; they give stand-ins, too."""


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
                if module == "torch" and isinstance(vars(torch).get(name), torch.dtype):
                    return vars(torch)[name]
                origin = f"{module}.{name}"
                harmless = (module, name) in HARMLESS or module.split(".")[0] in HARMLESS_MODULES
                made = _Refusing(name, (Inert,), {"origin": origin, "harmless": harmless})
                return skipped.setdefault(origin, made)

        self.Unpickler = Unpickler
        self.UnpicklingError = pickle.UnpicklingError

    def load(self, file: Any, **settings: Any) -> Any:
        """Read one object, as ``pickle.load``."""
        return self.Unpickler(file, **settings).load()
