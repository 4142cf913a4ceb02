"""The user's own Python code, named on the command line as ``PACKAGE.MODULE:NAME``.

It is imported and runs, as ``python -m`` would run it; the folder the command was started in comes
first, as it does there. No name is ever taken from a file.
"""

import ast
import importlib
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ltkit.errors import SettingError


def imported(name: str, setting: str) -> Any:
    """Return what a name means.

    Args:
        name: as ``torch.nn:Linear``; what is after the colon may have dots.
        setting: what messages call it.

    Raises:
        SettingError: when it is not of that form, cannot be imported, or there is no such thing.

    Example:
        >>> imported("math:tau", "model").hex()
        '0x1.921fb54442d18p+2'
    """
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise SettingError(f"{setting} {name}", "expected PACKAGE.MODULE:NAME, as my_models:Net")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # the user's module may raise anything
        said = f"importing {module} fails ({told(error)})"
        raise SettingError(f"{setting} {name}", said) from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise SettingError(f"{setting} {name}", f"there is no {path} in {module}")
        found = getattr(found, part)
    return found


def called(name: str, arguments: Iterable[str], setting: str) -> Any:
    """Return what the user's class or function gives; anything else as it is.

    Args:
        name: as `imported`.
        arguments: ``key=value`` each; a value is a Python literal where it reads as one, else text.
        setting: what messages call it.

    Raises:
        SettingError: as `imported`, for an argument of another form, and when the call fails.

    Example:
        >>> called("torch.nn:Linear", ["in_features=2", "out_features=3"], "model")
        Linear(in_features=2, out_features=3, bias=True)
    """
    found, named = imported(name, setting), {}
    for argument in arguments:
        key, equals, text = argument.partition("=")
        if not (key.isidentifier() and equals):
            said = f"found {argument[:80]!r}, expected NAME=VALUE"
            raise SettingError(f"{setting}_arg", said)
        if key in named:
            raise SettingError(f"{setting}_arg", f"found {key} twice, expected it once")
        named[key] = _literal(text)
    if not callable(found) or (hasattr(found, "forward") and not isinstance(found, type)):
        if named:
            raise SettingError(f"{setting}_arg", f"{name} is made already, expected no arguments")
        return found
    try:
        return found(**named)
    except Exception as error:  # the user's code may raise anything
        raise SettingError(f"{setting} {name}", f"calling it fails ({told(error)})") from error


def told(error: BaseException) -> str:
    """Return what the user's code raised, and where, in one short line."""
    text = f"{type(error).__name__}: {error}".splitlines()[0][:120]
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text}; {Path(frames[-1].filename).name}, line {frames[-1].lineno}" if frames else text


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (MemoryError, RecursionError, SyntaxError, ValueError):
        return text
