"""Methods on the command line: their names, and their parameters from ``--set name=value``."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ltkit import registry
from ltkit.errors import InputError, nearest

load = registry.load


def defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of a method with their defaults."""
    signature = inspect.signature(function)
    return {p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY}


def parameters_of(function: Callable[..., Any], given: list[str], method: str) -> dict[str, Any]:
    """Read ``name=value`` items for a method; values take the type of the default.

    Raises:
        InputError: for an unknown name (the nearest are said) or a value of another type.
    """
    known, parameters = defaults(function), {}
    for item in given:
        name, _, text = item.partition("=")
        name = name.strip().replace("-", "_")
        if name not in known:
            hint = nearest(name, known) if known else "it has no parameters"
            raise InputError(f"--set {item}: {method} has no parameter {name}; {hint}")
        kind = type(known[name])
        try:
            parameters[name] = kind(text)
        except ValueError:
            raise InputError(f"--set {item}: found {text!r}, expected a {kind.__name__}") from None
    return parameters


def described(package: ModuleType, function: str) -> list[str]:
    """Return a line for each method of a package: name, parameters, summary, source."""
    lines = []
    for name in registry.names(package):
        module = registry.load(package, name)
        method = getattr(module, function)
        parameters = ", ".join(f"{k}={v}" for k, v in defaults(method).items())
        source = (inspect.getdoc(method) or "").partition("Source:")[2].split("\n\n")[0].split()
        summary = (module.__doc__ or "").splitlines()[0]
        lines.append(f"{name:<22}{summary} [{parameters or 'no parameters'}] {' '.join(source)}")
    return lines
