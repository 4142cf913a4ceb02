"""Numbers in text, and their allowed ranges: parsed and checked in one place.

Python's own ``int`` and ``float`` read more than a person means: ``1_0``, digits of every script,
``nan``, ``1e400``. Here a number has the digits 0 to 9, is finite, and is in its range.
"""

import math
import re
from dataclasses import dataclass

from ltkit.errors import InputError

WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
NUMBER = re.compile(r"[+-]?([0-9]{1,30}(\.[0-9]{0,60})?|\.[0-9]{1,60})([eE][+-]?[0-9]{1,4})?")

ITEMS = 10_000
"""Most numbers in a list."""

SHOWN = 60
"""Most characters of a wrong text in a message."""


@dataclass(frozen=True)
class Range:
    """The allowed numbers of a setting: finite, both ends included.

    whole: whether only whole numbers are allowed.
    above: whether the lower end is excluded.

    Example:
        >>> str(Range(1, 1000, whole=True)), str(Range(0, 100, above=True)), str(Range(0))
        ('a whole number from 1 to 1000', 'a number above 0, at most 100', 'a finite number, at \
least 0')
        >>> Range(0, 1).check(2, "share")
        Traceback (most recent call last):
        ...
        ltkit.errors.InputError: share: found 2, expected a number from 0 to 1
    """

    least: float = -math.inf
    most: float = math.inf
    whole: bool = False
    above: bool = False

    def __str__(self) -> str:
        """Describe the numbers, for messages."""
        kind = "a whole number" if self.whole else "a number"
        if self.most == math.inf:
            kind = "a finite number" + "," * (self.least > -math.inf and not self.above)
        between = "" if self.above or self.most == math.inf else "from "
        return f"{kind} {between}{self.span}".strip()

    @property
    def span(self) -> str:
        """The range in words, for help texts."""
        low, high = f"{self.least:.15g}", f"{self.most:.15g}"
        if self.most == math.inf:
            return "" if self.least == -math.inf else f"{'above' * self.above or 'at least'} {low}"
        return f"above {low}, at most {high}" if self.above else f"{low} to {high}"

    def __contains__(self, value: float) -> bool:
        """Return whether a number is in the range."""
        inside = self.least <= value <= self.most and not (self.above and value == self.least)
        return inside and math.isfinite(value) and (not self.whole or value == math.floor(value))

    def check(self, value: float, name: str) -> None:
        """Reject a number out of the range.

        Args:
            value: the number.
            name: of the setting, for the message.

        Raises:
            InputError: naming the setting, what was found and what was expected.
        """
        if value not in self:
            raise InputError(f"{name}: found {value}, expected {self}")


ANY = Range()
WHOLES = Range(-(2**62), 2**62, whole=True)


def number(text: str, name: str, within: Range = ANY) -> float:
    """Parse a number; a whole one if the range has only whole numbers.

    Args:
        text: the number, in the digits 0 to 9; spaces around it are left out.
        name: of the setting, for the message.
        within: which numbers it may be.

    Raises:
        InputError: when it is none, or out of the range.

    Example:
        >>> number("2.5", "--tau"), number(" 3 ", "--k", Range(1, 9, whole=True))
        (2.5, 3)
        >>> number("1_0", "--k", Range(1, 9, whole=True))
        Traceback (most recent call last):
        ...
        ltkit.errors.InputError: --k: found 1_0, expected a whole number from 1 to 9
    """
    value = read(text, within)
    if value is None:
        raise InputError(f"{name}: found {shown(text)}, expected {within}")
    return value


def read(text: str, within: Range = ANY) -> float | None:
    """Parse a number as `number` does; return None if it is invalid or out of the range."""
    bare = text.strip(" ")
    if within.whole and WHOLE.fullmatch(bare):
        value: float = int(bare)
    elif not within.whole and NUMBER.fullmatch(bare):
        value = float(bare)
    else:
        return None
    return value if value in within else None


def numbers(
    text: str, name: str, within: Range = ANY, *, once: bool = True, example: str = "0.5,1,1.5"
) -> list[float]:
    """Parse numbers separated by commas.

    Args:
        text: the numbers, as `number` reads each.
        name: of the setting, for the message.
        within: which numbers each may be.
        once: whether each number may occur only once.
        example: an example of such a list, for the message.

    Raises:
        InputError: when one is not a number, out of the range, or repeated.

    Example:
        >>> numbers("0.5,1", "--rho"), numbers("32,32", "--hidden", WHOLES, once=False)
        ([0.5, 1.0], [32, 32])
    """
    parts = text.split(",", ITEMS)
    form = WHOLE if within.whole else NUMBER
    if len(parts) > ITEMS or not all(form.fullmatch(part.strip(" ")) for part in parts):
        kind = "whole numbers" if within.whole else "numbers"
        raise InputError(f"{name}: found {shown(text, always=True)}, expected {kind}, as {example}")
    values = [number(part, name, within) for part in parts]
    if once:
        check_once(values, name)
    return values


def check_once(items: list[float] | list[str], name: str) -> None:
    """Reject a list with a repeated item.

    Raises:
        InputError: naming it.
    """
    seen: set[float | str] = set()
    for item in items:
        if item in seen:
            again = f"{item:g}" if isinstance(item, float) else shown(str(item))
            raise InputError(f"{name}: found {again} twice, expected each once; leave one out")
        seen.add(item)


def shown(text: str, always: bool = False) -> str:
    """Return a wrong text for a message: shortened, and in quotes if it is blank.

    Args:
        text: what was found.
        always: whether it has quotes in any case.

    Example:
        >>> shown("1_0"), shown(""), len(shown("x" * 100))
        ('1_0', "''", 63)
    """
    plain = not always and text and text.isprintable() and text == text.strip()
    told = text if plain else repr(text)
    half = SHOWN // 2
    return told if len(told) <= SHOWN else f"{told[:half]}...{told[-half:]}"
