"""The three standard streams, whatever state the shell left them in.

- One that is closed (``>&-``) is as ``/dev/null``. Were its number left free, the next file that is
  opened would get it, and be written into as the stream.
- A reader of stdout that leaves early (``| head -1``) has what it wanted: the rest is dropped, the
  command does its work, and its exit code is its own, so that a check that says no still exits 1.
- Where stdout cannot be written (a full disk), the error names it. Where stderr cannot, there is
  nobody to tell, and the result is the same.
"""

import io
import os
import sys
from typing import Any

from ltkit.errors import InputError

MOST_TEXT = 1 << 16
"""Most bytes read from stdin where a name is expected."""


class _Told(io.FileIO):
    """Descriptor 1 or 2, written by the module's rules."""

    def write(self, content: Any) -> int:
        """Write, or drop what nobody reads."""
        try:
            return super().write(content)
        except BrokenPipeError:
            return len(content)
        except OSError as error:
            if self.fileno() == 2:
                return len(content)
            raise OSError(error.errno, error.strerror, "stdout") from error


def prepare() -> None:
    """Open closed streams and install these rules, once per process."""
    for number, mode in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        if not _is_open(number):  # those below are open, so this number is the next that is given
            os.set_inheritable(os.open(os.devnull, mode), True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is sys.__stdout__:
        sys.stdout = _writer(1, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _writer(2, sys.stderr)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _writer(number: int, before: Any) -> io.TextIOWrapper:
    if before is not None:
        before.flush()
    raw = _Told(number, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=before.encoding if before is not None else "utf-8",
        errors="backslashreplace",  # names that the terminal cannot show
        line_buffering=number == 2 or raw.isatty(),
    )


def give_up_stdout() -> None:
    """Drop unprinted output, which Python would otherwise try to print again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def read_stdin() -> bytes:
    """Return stdin's content: one line of a terminal, the start of an endless stream.

    Raises:
        InputError: when it cannot be read.
    """
    stream = sys.stdin.buffer
    try:
        return stream.readline(MOST_TEXT) if sys.stdin.isatty() else stream.read(MOST_TEXT)
    except OSError as error:
        raise InputError(
            f"-: stdin cannot be read ({error.strerror}); name the file instead"
        ) from error
