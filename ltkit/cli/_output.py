"""What every command prints alike: messages, written paths, JSON, progress."""

import json
import shlex
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from ltkit.records import Dataset


def printable(text: str) -> str:
    r"""Return text with control characters shown as escapes, on one line.

    Example:
        >>> printable("a\x1b[31mred\nb")
        'a\\x1b[31mred\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def say(message: str, quiet: bool = False) -> None:
    """Print a message to stderr, unless asked to be quiet."""
    if not quiet:
        typer.echo(printable(message), err=True)


def wrote(path: Path, quiet: bool = False) -> None:
    """Say what was written; give the path on stdout where a pipe reads it."""
    say(f"wrote {path}", quiet)
    if not sys.stdout.isatty():
        typer.echo(str(path))


def say_of_doubles(dataset: "Dataset", quiet: bool = False) -> None:
    """Say which splits list an image more than once: it counts each time."""
    for name, split in dataset.splits.items():
        again = [a for a, b in pairwise(sorted(split.ids)) if a == b]
        if again:
            say(f"note: {name}: {len(again)} rows name an image again, as {again[0]}", quiet)


def print_json(document: Any) -> None:
    """Print one JSON document."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def command_line() -> str:
    """Return the command as typed, without the folder of the program, to be kept in files."""
    return shlex.join(["ltkit", *sys.argv[1:]])


class Progress:
    """A line on stderr with what is done, the rate and the time left.

    On a terminal it is redrawn; elsewhere a line is printed every ten seconds at most.
    """

    def __init__(self, unit: str, quiet: bool) -> None:
        """Name what is counted."""
        self.unit, self.quiet = unit, quiet
        self.what, self.begun, self.start, self.shown = "", 0, 0.0, 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished; the clock starts anew with each `what`."""
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if what != self.what:
            self.what, self.start, self.begun = what, now, done
        finished = done >= total
        if self.quiet or (not finished and now - self.shown < (0.2 if terminal else 10)):
            return
        self.shown = now
        rate = (done - self.begun) / max(now - self.start, 1e-9)
        line = f"{what} {done}/{total}"
        if rate > 0:
            line += f", {rate:.0f} {self.unit}/s, {(total - done) / rate:.0f} s left"
        if terminal:
            line = f"\r\x1b[K{line}"
        typer.echo(line, err=True, nl=finished or not terminal)


def spreadsheet_safe(text: str) -> str:
    """Return a CSV cell that a spreadsheet does not take for a formula.

    Example:
        >>> spreadsheet_safe("=cmd()"), spreadsheet_safe("cat")
        ("'=cmd()", 'cat')
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def print_table(table: Any, title: str) -> None:
    """Print a rich table on stdout: styled on a terminal, plain text in a pipe, never folded."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    typer.echo(printable(title))
    console.print(table)
