"""How every command prints: messages, written paths, JSON, progress."""

import json
import math
import os
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import typer

from ltkit.errors import printable as printable

if TYPE_CHECKING:
    from ltkit.records import Dataset
    from ltkit.shards import Shard


LONGEST, CUT = 300, " ... "
"""Most characters of a message, and what replaces the middle of a longer one."""


def one_line(message: str) -> str:
    r"""Return a message on one line that is not too long, whatever names there are in it.

    Example:
        >>> one_line("a\nb"), len(one_line("x" * 1000))
        ('a\\nb', 299)
    """
    line = printable(message)
    half = (LONGEST - len(CUT)) // 2
    return line if len(line) <= LONGEST else f"{line[:half]}{CUT}{line[-half:]}"


def say(message: str, quiet: bool = False) -> None:
    """Print a message to stderr, unless asked to be quiet."""
    if not quiet:
        typer.echo(one_line(message), err=True)


def note(quiet: bool) -> Callable[[str], None]:
    """Return a function that prints notes, unless asked to be quiet."""
    return lambda message: say(f"note: {message}", quiet)


def wrote(path: Path, quiet: bool = False) -> None:
    """Report what was written; print the path to a piped stdout, byte for byte."""
    say(f"wrote {path}", quiet)
    if not sys.stdout.isatty():
        typer.echo(os.fsencode(path))


@contextmanager
def resumable(what: str) -> Iterator[None]:
    """Say, where a command is interrupted, that finished parts are kept, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        say(f"interrupted; finished {what} are kept, continue with --resume")
        raise


def end_of_shard(
    shard: "Shard", own: int, total: int, kept: Path, output: Path, *, json: bool, quiet: bool
) -> None:
    """Say what a shard has done, and how the output comes of it.

    Args:
        shard: the shard.
        own: its parts.
        total: the parts of all shards.
        kept: where they are kept.
        output: what is made of them all.
        json: whether to print a document.
        quiet: whether to print no messages.
    """
    say(f"shard {shard}: {own} of {total} parts are in {kept}", quiet)
    say(
        "once every shard is done, the same command with --resume and without --shard writes "
        f"{output}", quiet,
    )  # fmt: skip
    if json:
        print_json({
            "schema": "ltkit.shard/1", "shard": str(shard), "parts": own, "of": total,
            "kept": str(kept), "output": str(output),
        })  # fmt: skip


def say_notes(dataset: "Dataset", quiet: bool = False) -> None:
    """Say what was assumed of a dataset, and which splits list an image more than once."""
    for line in dataset.notes:
        say(f"note: {line}", quiet)
    say_of_doubles(dataset, quiet)


def say_of_doubles(dataset: "Dataset", quiet: bool = False) -> None:
    """Report which splits list an image more than once; each occurrence counts."""
    for name, split in dataset.splits.items():
        again = [a for a, b in pairwise(sorted(split.ids)) if a == b]
        if again:
            say(f"note: {name}: {len(again)} rows repeat an image, such as {again[0]}", quiet)


def say_of_choice(compared: dict[str, Any] | None, quiet: bool = False) -> None:
    """Say that settings were chosen on the split that they are measured on, where they were."""
    frontier = (compared or {}).get("frontier")
    if compared is None or frontier is None or frontier["chosen_on"] == "val":
        return
    several = [m for m in compared["methods"] if len(m["points"]) > 1 and m["knob"] is None]
    if several:
        split = compared["split"]
        say(
            "note: no val images of few-shot classes: the settings on the curves of methods with "
            f"several knobs are chosen on {split}, on which they are measured: they look too good",
            quiet,
        )


def answer(line: str) -> None:
    """Print a line of an answer: on stdout, or on stderr where stdout takes a written path."""
    typer.echo(printable(line), err=not sys.stdout.isatty())


def print_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def command_line() -> str:
    """Return the command as typed, for files to record.

    It has neither the program's folder nor ``--resume``, which says where a run began.
    """
    words = [word for word in sys.argv[1:] if word != "--resume"]
    return shlex.join(["ltkit", *map(_as_text, words)])


def _as_text(word: str) -> str:
    """Return a word with bytes that are not UTF-8 shown as escapes."""
    return os.fsencode(word).decode(errors="backslashreplace")


SELDOM = 10.0
"""Seconds between two lines of progress that are not on a terminal."""


class Progress:
    """A progress line on stderr: what is done, the rate and the time left.

    On a terminal it is redrawn; elsewhere a line is printed every ten seconds at most.
    """

    def __init__(self, unit: str, quiet: bool, after: float = 0.0) -> None:
        """Set the unit that is counted; what takes fewer than `after` seconds is not shown."""
        self.unit, self.quiet, self.after = unit, quiet, after
        self.what, self.begun, self.start, self.shown = "", 0, 0.0, 0.0
        self.first: float | None = None

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished, 0 where that is not known.

        The clock restarts with each new `what`. What has no known end is mostly done soon: off a
        terminal it has its first line when a second one would be due.
        """
        now, terminal = time.monotonic(), sys.stderr.isatty()
        self.first = now if self.first is None else self.first
        if what != self.what or done < self.begun:
            self.what, self.start, self.begun = what, now, done
        least = self.after if total or terminal else SELDOM
        if now - (self.start if total else self.first) < least:
            return
        finished = 0 < total <= done
        if self.quiet or (not finished and now - self.shown < (0.2 if terminal else SELDOM)):
            return
        self.shown = now
        rate = (done - self.begun) / max(now - self.start, 1e-9)
        line = f"{what} {done}/{total}" if total else f"{what} {done}"
        if rate >= 1:
            line += f", {rate:.0f} {self.unit}/s" if total else f", {rate:.0f}/s"
        if rate > 0 and total:
            line += f", {(total - done) / rate:.0f} s left"
        if terminal:
            line = f"\r\x1b[K{line}"
        typer.echo(line, err=True, nl=finished or not terminal)


@dataclass(frozen=True)
class Look:
    """The style of a table: with bars for a terminal, narrow where space is short."""

    bars: bool = False
    narrow: bool = False

    def interval(self, low: str, high: str) -> str:
        """Return the bounds of an interval as text."""
        return f"{low}…{high}" if self.narrow else f"{low} to {high}"

    def bar(self, ends: Iterable[float] | None, scale: tuple[float, float]) -> str:
        """Return a line with the interval's bar, or nothing without bars."""
        if not self.bars or ends is None:
            return ""
        low, high = ends
        return f"\n[cyan]{interval_bar(low, high, scale, 11 if self.narrow else 15)}[/cyan]"


PLAIN = Look()


def interval_bar(low: float, high: float, scale: tuple[float, float], width: int = 15) -> str:
    """Return an interval drawn on a scale, as text of a fixed width.

    The interval is solid, to half a character, and at least that long; a line leads to it from the
    start of a scale of positive values. Where the scale goes below zero, zero is marked, by a thick
    mark when it is in the interval.

    Example:
        >>> interval_bar(0.25, 0.45, (0, 1), 10), interval_bar(0.0, 0.0, (0, 1), 10)
        ('──▐█▌·····', '▌·········')
        >>> interval_bar(0.2, 0.6, (-1, 1), 11), interval_bar(-0.6, 0.2, (-1, 1), 11)
        ('·····│▐██··', '··███┃█····')
    """
    start, end = scale
    steps = [2 * width * (value - start) / (end - start) for value in (low, high)]
    first = min(max(math.floor(steps[0]), 0), 2 * width - 1)
    last = min(max(math.ceil(steps[1]), first + 1), 2 * width)
    halves = [first <= half < last for half in range(2 * width)]
    cells = [
        "█" if left and right else "▌" if left else "▐" if right
        else "─" if start >= 0 and 2 * cell < first else "·"
        for cell, (left, right) in enumerate(zip(halves[::2], halves[1::2], strict=True))
    ]  # fmt: skip
    if start < 0 < end:
        cells[int(width * -start / (end - start))] = "┃" if low <= 0 <= high else "│"
    return "".join(cells)


HEIGHTS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Return a curve as text of at most a given width: heights from the lowest to the highest.

    Example:
        >>> sparkline([0.1, 0.2, 0.3, 0.4]), sparkline([0.5, 0.5]), sparkline(range(100), 4)
        ('▁▃▆█', '▁▁', '▁▃▆█')
    """
    size = min(width, len(values))
    some = [values[round(n * (len(values) - 1) / max(size - 1, 1))] for n in range(size)]
    low, high = min(some), max(some)
    steps = (len(HEIGHTS) - 1) / (high - low) if high > low else 0.0
    return "".join(HEIGHTS[round(steps * (value - low))] for value in some)


def for_people(stream: TextIO | None = None) -> bool:
    """Return whether stdout, or another stream, is a terminal that can show bars and curves."""
    stream = stream or sys.stdout
    try:
        f"─▌▐┃{HEIGHTS}".encode(stream.encoding)
    except UnicodeEncodeError:
        return False
    return stream.isatty()


def scale_of(
    intervals: Iterable[Iterable[float] | None], signed: bool = False
) -> tuple[float, float]:
    """Return the scale of bars: from 0, or symmetric, up to the next tenth beyond all bounds.

    Example:
        >>> scale_of([[0.11, 0.42], None]), scale_of([[-0.32, 0.05]], signed=True)
        ((0.0, 0.5), (-0.4, 0.4))
    """
    ends = [abs(end) for interval in intervals if interval is not None for end in interval]
    top = max(math.ceil(10 * max(ends, default=0) - 1e-9), 1) / 10
    return (-top if signed else 0.0), top


def print_table(table: Any, title: str) -> None:
    """Print a rich table on stdout: styled on a terminal, plain in a pipe, never wrapped."""
    print_fitting(lambda look: table, title)


def print_fitting(make: Callable[[Look], Any], title: str) -> None:
    """Print the table that suits stdout, as `fitting` returns it."""
    typer.echo(fitting(make, title))


def fitting(make: Callable[[Look], Any], title: str) -> str:
    """Return, as text, the table that suits stdout: plain in a pipe, with bars on a terminal.

    On a terminal with too few columns, it is the narrow table.
    """
    from rich.console import Console

    people = for_people()
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    table = make(Look(bars=people))
    needed = console.measure(table, options=console.options.update(width=1000)).maximum
    if people and needed > console.width:
        table = make(Look(bars=True, narrow=True))
    with console.capture() as captured:
        console.print(table)
    return f"{printable(title)}\n{captured.get()}".removesuffix("\n")


def is_longer_than_screen(text: str) -> bool:
    """Return whether a text has more lines than a terminal shows at once."""
    return len(text.splitlines()) >= shutil.get_terminal_size().lines


def columns() -> int:
    """Return how many columns a terminal has."""
    return shutil.get_terminal_size().columns


def wrapped(text: str) -> str:
    """Return a sentence in lines as wide as a terminal; elsewhere as one line."""
    line = printable(text)
    if not for_people():
        return line
    return textwrap.fill(line, columns(), break_on_hyphens=False)
