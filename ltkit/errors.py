"""Errors that the user can fix, and suggestions of similar names.

A message is one line: where, what was found, what was expected, what to do. `cli` turns an
`LtkitError` into that line on stderr and exit code 2; nothing else in the package catches it.
"""

import difflib
from collections.abc import Iterable
from itertools import accumulate


class LtkitError(Exception):
    """An error that the user can fix."""


class InputError(LtkitError):
    """A wrong argument, or data that a command cannot use."""


class SettingError(InputError):
    """A setting out of its range; the command line names the option that sets it.

    name: name of the setting; after a space, the part of it.
    said: what was found and what was expected.
    where: prefix of the name: a file, and a colon.
    """

    def __init__(self, name: str, said: str, where: str = "") -> None:
        """Build the message."""
        super().__init__(f"{where}{name}: {said}")
        self.name, self.said, self.where = name, said, where


class FormatError(LtkitError):
    """A file that is not what it should be."""


def printable(text: str) -> str:
    r"""Return text on one line, with control characters as escapes.

    Example:
        >>> printable("a\x1b[31mred\nb")
        'a\\x1b[31mred\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


LISTED, LONGEST_NAME = 120, 60
"""Characters of a list in a message, at most, and of a name in it."""


def listed(names: Iterable[object]) -> str:
    """Return names with commas, as many as fit in a message, and how many more there are.

    Example:
        >>> listed(["a", 2]), listed([]), listed(["x" * 90])[-5:]
        ('a, 2', 'none', 'xx...')
        >>> listed(range(100, 2000))
        '100, 101, ..., 123 and 1876 more'
    """
    texts = [str(name) for name in names]
    texts = [text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..." for text in texts]
    ends = accumulate(len(text) + 2 for text in texts)
    fitting = max(sum(end <= LISTED for end in ends), 1)
    more = len(texts) - fitting
    return (", ".join(texts[:fitting]) + (f" and {more} more" if more > 0 else "")) or "none"


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return a clause that suggests the known names nearest to an unknown one.

    Args:
        name: the unknown name.
        known: the known names.
        count: most names to suggest.

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
        return f"did you mean {listed(close)}?"
    return f"there are: {listed(names)}"
