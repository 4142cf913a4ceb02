"""Strict JSON for ltkit's files: whatever is read can be printed again.

Python's reader takes NaN, numbers beyond all bounds, a name twice and half a character, which its
own writer, or a terminal, then refuses. Here they are refused where they are read.
"""

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any

DEEPEST = 50
"""Deepest nesting of lists and objects."""

LARGEST = 1 << 63
"""Bound on the absolute value of whole numbers."""


def loads(text: str) -> Any:
    """Parse JSON text.

    Raises:
        ValueError: for what is no JSON, and for NaN, infinity, whole numbers beyond 64 bits, a name
            that an object has twice, half a surrogate pair, and too deep nesting.

    Example:
        >>> loads('{"k": [1, 2.5]}')
        {'k': [1, 2.5]}
        >>> loads('{"k": NaN}')
        Traceback (most recent call last):
        ...
        ValueError: NaN
    """
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_float,
            parse_int=_whole,
        )  # fmt: skip
    except RecursionError:
        raise ValueError("too deep nesting") from None
    _check_texts_and_depth(value)
    return value


def dumps(value: Any) -> str:
    """Return a value as JSON text that `loads` accepts, with sorted names.

    Paths may hold bytes that are not UTF-8; they become escapes.

    Raises:
        ValueError: for NaN and infinity.

    Example:
        >>> dumps({"b": (1, 2), "a": "x"})
        '{"a": "x", "b": [1, 2]}'
    """
    return json.dumps(_whole_texts(value), sort_keys=True, allow_nan=False)


def _whole_texts(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_whole_texts(name): _whole_texts(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_whole_texts(part) for part in value]
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice in one object")
    return found


def _constant(text: str) -> Any:
    raise ValueError(text)


def _float(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or not -LARGEST <= int(text) < LARGEST:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _check_texts_and_depth(value: Any) -> None:
    """Reject half characters, and nesting too deep for a JSON writer."""
    layer: Iterable[Any] = [value]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for part in layer:
            if isinstance(part, str):
                _check_text(part)
            elif isinstance(part, dict):
                inner += [*part, *part.values()]
            elif isinstance(part, list):
                inner += part
        if not inner:
            return
        layer = inner
    raise ValueError("too deep nesting")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair") from None
