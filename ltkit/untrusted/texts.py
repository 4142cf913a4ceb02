"""Text files that people write: lists of images, tables, class names, groups.

A line ends where an editor ends it: at a line feed, a carriage return, or both. Python's own
`str.splitlines` also ends lines at signs that may stand in a name, such as U+2028.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.untrusted.budget import opened

MOST_BYTES, MOST_LINES = 1 << 30, 20_000_000
"""Most bytes and lines of a text file, more than any list of images needs."""

LINES, LINES_FOLD = 1_000_000, 0.5
"""Most lines in a small packed file, and how many per byte of a large one."""

MOST_LINE = 1 << 20
"""Most characters of a line."""

UNPACKED, UNPACKED_FOLD = 64 << 20, 32
"""Most characters in a small packed file, and how many per byte of a large one."""

PADDING, PADDING_FOLD = 512 << 20, 16
"""Most bytes of texts in one array, and their largest multiple of the texts' own bytes."""


def lines(path: Path, what: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, without their ends, read piece by piece.

    Args:
        path: the file, packed by gzip where it is named ``.gz``; a byte order mark is skipped.
        what: what it should be, for the message, as ``a list of images``.

    Raises:
        InputError: when there is no such file, it is no regular file, it cannot be unpacked, it is
            not text, or larger than such a file is; the message names the line.
    """
    with opened(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        packed = path.suffix == ".gz"
        most, most_lines = MOST_BYTES, MOST_LINES
        if packed:
            most = min(most, UNPACKED + UNPACKED_FOLD * size)
            most_lines = min(most_lines, LINES + int(LINES_FOLD * size))
        stream = cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file
        text = io.TextIOWrapper(stream, encoding="utf-8-sig")
        number, left = 1, most - size
        try:
            while left >= 0 and (line := text.readline(MOST_LINE)):
                left -= len(line) if packed else 0
                yield _checked(line, path, number, what)
                number += 1
                if number > most_lines + 1:
                    left = -1
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path}: cannot be read as {what} (line {number} or later: {error.reason}), "
                "expected UTF-8 text; save it as UTF-8"
            ) from error
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{path}: cannot be read as {what} ({error}); make the file again"
            ) from error
        if left < 0:
            raise InputError(
                f"{path}: found more than {most} bytes or {most_lines} lines, expected {what}; "
                + ("unpack it, and name that file" if packed else "check the path")
            )


def _checked(line: str, path: Path, number: int, what: str) -> str:
    """Return a line without its end."""
    if "\0" in line or "\ufeff" in line:
        found = "a NUL" if "\0" in line else "a byte order mark within the text"
        raise InputError(
            f"{path}: line {number}: found {found}, expected {what}; save it as plain UTF-8 text"
        )
    if len(line) == MOST_LINE and not line.endswith("\n"):
        raise InputError(
            f"{path}: line {number}: found over {MOST_LINE} characters, expected {what}; check "
            "the path"
        )
    return line.removesuffix("\n")


def in_array(texts: Sequence[str], where: str) -> NDArray[np.str_]:
    """Return texts as an array, in which each takes the space of the longest.

    Args:
        texts: of any lengths.
        where: their name in messages.

    Raises:
        InputError: when a few long ones would take the memory many times over.

    Example:
        >>> in_array(["ant", "a"], "names").itemsize
        12
    """
    longest = max(map(len, texts), default=0)
    room, used = 4 * longest * len(texts), 4 * sum(map(len, texts))
    if room > PADDING + PADDING_FOLD * used:
        row = next(i for i, text in enumerate(texts) if len(text) == longest)
        raise InputError(
            f"{where}: row {row}: found {longest} characters among {len(texts)} texts, which would "
            f"take {room} bytes; shorten it"
        )
    return np.array(texts, dtype=np.str_)
