"""Checks of the numbers that a file gives for images and its head, made where they are read.

A deviation of 0, a side of 8,000 pixels or a factor that is a word would be met much later, as a
division by zero, a full memory or a head that seems to be wrong.
"""

from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

MOST = 1e6
"""Bound on means, deviations and factors; deviations and factors also exceed its inverse."""

MOST_SIDE = 2048
"""Largest side length in pixels; no known network takes images of even half of it."""

FIX = "correct it in the file"

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def number(
    path: Path, field: str, value: object, *, positive: bool = False, do: str = FIX
) -> float:
    """Return a number from a file, checked.

    Args:
        path: the file, for messages.
        field: the number's name in it.
        value: its value in the file; text, booleans and tensors are not numbers.
        positive: whether it must be above 0.
        do: advice for the message.

    Raises:
        FormatError: when it is not a finite number of a usual size.

    Example:
        >>> number(Path("config.json"), "rescale_factor", -1, positive=True)
        Traceback (most recent call last):
        ...
        ltkit.errors.FormatError: config.json: rescale_factor: found -1, expected a number from
        1e-06 to 1e+06; correct it in the file
    """
    least = 1 / MOST if positive else -MOST
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    if not plain or not least <= value <= MOST:  # type: ignore[operator]
        raise FormatError(
            f"{path}: {field}: found {shown(value)}, expected a number from {least:g} to {MOST:g}; "
            f"{do}"
        )
    return float(value)  # type: ignore[arg-type]


def whole(path: Path, field: str, value: object, least: int = 1, most: float = MOST_SIDE) -> int:
    """Return a whole number from a file, such as a side length in pixels.

    Raises:
        FormatError: when it is not in the range.
    """
    plain = isinstance(value, int) and not isinstance(value, bool)
    if not plain or not least <= value <= most:  # type: ignore[operator]
        rest = f"from {least} to {most:g}" if most < inf else f"of at least {least}"
        raise FormatError(
            f"{path}: {field}: found {shown(value)}, expected a whole number {rest}; {FIX}"
        )
    return int(value)  # type: ignore[call-overload,no-any-return]


def statistics(
    path: Path, mean: object, std: object, channels: int, wanted: LoadSettings, arch: str = ""
) -> Statistics:
    """Return the images' mean and deviation: the user's, else the file's or the usual ones.

    Args:
        path: the file, for messages.
        mean: mean in the file; ignored if the user gives one.
        std: deviation in the file; ignored if the user gives one.
        channels: how many numbers each has.
        wanted: the user's settings.
        arch: the network with this many channels.

    Raises:
        FormatError: when they are not numbers, or a deviation is not positive.
        InputError: when their number differs.

    Example:
        >>> statistics(Path("m.pt"), [0.5], [0], 1, LoadSettings(std=(0.25,)))
        ((0.5,), (0.25,))
    """
    means = _listed(path, "mean", wanted.mean or mean, "--mean")
    stds = _listed(path, "std", wanted.std or std, "--std")
    if not len(means) == len(stds) == channels:
        raise InputError(
            f"{path}: mean, std: found {len(means)} and {len(stds)}, expected {channels} each"
            f"{arch and ' for '}{arch}; pass --mean and --std"
        )
    found = numbers(path, "mean", means, "--mean"), numbers(path, "std", stds, "--std")
    return tuple(found[0]), tuple(found[1])


def numbers(path: Path, field: str, value: object, option: str) -> list[float]:
    """Return the mean or the deviation given by a file; a deviation is positive.

    Args:
        path: the file, for messages.
        field: its name in the file.
        value: its value in the file.
        option: the option that overrides it.

    Raises:
        FormatError: when it is not a list of such numbers.
    """
    do, positive = f"say {option}", option == "--std"
    listed = _listed(path, field, value, option)
    return [number(path, field, one, positive=positive, do=do) for one in listed]


def _listed(path: Path, field: str, value: object, option: str) -> Sequence[object]:
    if not isinstance(value, list | tuple):
        raise FormatError(
            f"{path}: {field}: found {shown(value)}, expected a list of numbers; pass {option}"
        )
    return value


def shown(value: Any) -> str:
    """Return a short text for any value, for messages.

    Example:
        >>> shown(10**5000), shown([1, -0.5]), shown({"a": 1})
        ('a number of 16610 bits', '[1, -0.5]', 'a dict')
    """
    if isinstance(value, int) and value.bit_length() > 64:
        return f"a number of {value.bit_length()} bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, str):
        return ascii(value[:40])[:60]
    if isinstance(value, list | tuple) and len(value) <= 4:
        return f"[{', '.join(one if len(one := shown(v)) < 30 else '...' for v in value)}]"
    if isinstance(value, Sequence):
        return f"{len(value)} values"
    return f"a {type(value).__name__}"
