"""A folder as a list of methods: one public module, one name.

`losses/balanced_softmax.py` is ``balanced-softmax`` on the command line. Names are listed without
importing the modules, so that ``--help`` stays quick. The signature of a method is the only list of
its parameters.
"""

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from ltkit import numerals
from ltkit.errors import InputError, SettingError, nearest
from ltkit.numerals import shown


def names(package: ModuleType) -> list[str]:
    """Return a package's public module names, with dashes, sorted."""
    modules = pkgutil.iter_modules(package.__path__)
    return sorted(m.name.replace("_", "-") for m in modules if not m.name.startswith("_"))


def names_in(folder: str) -> list[str]:
    """Return the names in a package of ltkit, as `names` does, without importing the package.

    Example:
        >>> "tau-norm" in names_in("posthoc")
        True
    """
    found = importlib.util.find_spec(f"ltkit.{folder}")
    return names(importlib.util.module_from_spec(found)) if found is not None else []


def load(package: ModuleType, name: str) -> ModuleType:
    """Import one module of a package by its command-line name.

    Raises:
        InputError: when there is no such module; the message lists the nearest names.
    """
    known = names(package)
    if name not in known:
        kind = package.__name__.rsplit(".", 1)[-1]
        raise InputError(f"{name}: unknown name in {kind}; {nearest(name, known)}")
    return importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}")


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of a method with their defaults.

    Example:
        >>> def loss(logits, *, max_margin=0.5, scale=30.0): ...
        >>> defaults(loss)
        {'max_margin': 0.5, 'scale': 30.0}
    """
    signature = inspect.signature(function)
    return {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def parameters_of(
    function: Callable[..., Any], given: Mapping[str, Any], method: str
) -> dict[str, Any]:
    """Return a method's given parameters; text is converted to the default's type.

    Args:
        function: the method.
        given: values by name, which may have dashes.
        method: its name, for messages.

    Raises:
        SettingError: for an unknown name (the nearest are suggested), a repeated one, or text of
            another type.

    Example:
        >>> def loss(logits, *, max_margin=0.5, window=3): ...
        >>> parameters_of(loss, {"max-margin": "0.25", "window": 5}, "ldam")
        {'max_margin': 0.25, 'window': 5}
    """
    known, parameters = defaults(function), dict[str, Any]()
    for written, value in given.items():
        name = written.replace("-", "_")
        if name not in known:
            hint = nearest(name, known) if known else "it has no parameters"
            said = f"{method} has no parameter of that name; {hint}"
            raise SettingError(f"parameters {shown(written)}", said)
        if name in parameters:
            raise SettingError("parameters", f"found {name} twice, expected each once")
        parameters[name] = _value(value, type(known[name]), name)
    return parameters


def _value(given: Any, kind: type, name: str) -> Any:
    """Return a value, with text converted to the default's type."""
    if kind is str or not isinstance(given, str):
        return given
    within = numerals.WHOLES if kind is int else numerals.ANY
    value = numerals.read(given, within)
    if value is None:
        raise SettingError(f"parameters {name}", f"found {shown(given)}, expected {within}")
    return kind(value)


def described(package: ModuleType, function: str) -> list[str]:
    """Return one line per method of a package: name, parameters, summary, source."""
    lines = []
    for name in names(package):
        module = load(package, name)
        method = getattr(module, function)
        parameters = ", ".join(f"{k}={v}" for k, v in defaults(method).items())
        source = (inspect.getdoc(method) or "").partition("Source:")[2].split("\n\n")[0].split()
        summary = (module.__doc__ or "").splitlines()[0]
        lines.append(f"{name:<22}{summary} [{parameters or 'no parameters'}] {' '.join(source)}")
    return lines
