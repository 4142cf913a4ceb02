"""How far a long computation is: what a caller is told of it."""

from collections.abc import Callable

Report = Callable[[str, int, int], None]
"""Called with what is counted, how many are done, and of how many; 0 where that is not known."""


def silent(what: str, done: int, total: int) -> None:
    """Report nothing."""
