"""The errors that a user can mend, and how near names are suggested.

A message is one line: where, what was found, what was expected, what to do. `cli` turns an
`LtkitError` into that line on stderr and exit code 2; nothing else in the package catches it.
"""

import difflib
from collections.abc import Iterable


class LtkitError(Exception):
    """Something the user can mend."""


class InputError(LtkitError):
    """A wrong argument, or data that a command cannot work with."""


class SettingError(InputError):
    """A setting out of its range; the command line shows the option that it is set with.

    name: of the setting; after a space, what of it.
    said: what was found and what was expected.
    where: what stands before the name: a file, and a colon.
    """

    def __init__(self, name: str, said: str, where: str = "") -> None:
        """Put them together."""
        super().__init__(f"{where}{name}: {said}")
        self.name, self.said, self.where = name, said, where


class FormatError(LtkitError):
    """A file that is not what it should be."""


def printable(text: str) -> str:
    r"""Return text with control characters shown as escapes, on one line.

    Example:
        >>> printable("a\x1b[31mred\nb")
        'a\\x1b[31mred\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Say which known names are nearest to an unknown one.

    Args:
        name: what was asked for.
        known: what there is.
        count: how many names to suggest at most.

    Returns:
        A clause for the end of a message.

    Example:
        >>> nearest("resnet23", ["resnet20", "resnet32", "digits_net"])
        'did you mean resnet32, resnet20?'
        >>> nearest("zzz", ["resnet20", "digits_net"])
        'there are: digits_net, resnet20'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.6)
    if close:
        return f"did you mean {', '.join(close)}?"
    return f"there are: {', '.join(names)}"
