"""A share of a long run's points: several processes, each with its own, on one file system."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from ltkit.errors import SettingError
from ltkit.numerals import shown

MOST = 100_000
"""Shards of a run."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """One of the processes that share a run.

    number: from 1 to `count`.
    count: of the shards.
    """

    number: int
    count: int

    def __str__(self) -> str:
        """Write it as the command line has it."""
        return f"{self.number}/{self.count}"

    @property
    def label(self) -> str:
        """The shard in the name of a file."""
        return f"shard-{self.number}-of-{self.count}"

    @classmethod
    def of(cls, text: str) -> "Shard":
        """Read ``i/n``.

        Raises:
            SettingError: when it is anything else, or i is not from 1 to n.

        Example:
            >>> Shard.of("2/4").own("abcdefg")
            ['b', 'f']
        """
        found = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", text)
        number, count = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= count <= MOST:
            raise SettingError(
                "shard",
                f"found {shown(text)}, expected i/n, the i-th of n shards, counted from 1, as 2/4",
            )
        return cls(number, count)

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return this shard's items: every n-th, since neighbours tend to cost alike."""
        return list(items[self.number - 1 :: self.count])
