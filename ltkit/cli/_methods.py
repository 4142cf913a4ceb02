"""Methods on the command line: their names, and their parameters from ``--set name=value``."""

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

from ltkit import numerals, registry
from ltkit.cli import _options
from ltkit.errors import InputError, nearest
from ltkit.numerals import shown

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
    for written, text in _options.pairs(given, "--set", "NAME=VALUE"):
        name = written.replace("-", "_")
        if name not in known:
            hint = nearest(name, known) if known else "it has no parameters"
            raise InputError(
                f"--set {shown(written)}: {method} has no parameter of that name; {hint}"
            )
        parameters[name] = _value(text, type(known[name]), f"--set {name}")
    return parameters


def _value(text: str, kind: type, name: str) -> Any:
    """Return a value of the type that the default has."""
    if kind is str:
        return text
    return kind(numerals.number(text, name, numerals.WHOLES if kind is int else numerals.ANY))


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
