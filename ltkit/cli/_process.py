"""How the program ends: errors that the user can fix are one line, with exit code 2."""

import contextlib
import errno
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import typer

from ltkit.cli import _output, _streams
from ltkit.errors import LtkitError, SettingError
from ltkit.files import atomic
from ltkit.settings import flag

OUT_OF_MEMORY = re.compile(r"you tried to allocate [0-9]+ bytes|Tried to allocate [0-9.]+ [KMGT]iB")
"""torch's words for lack of memory, on the CPU and on the GPU."""

MENDED = {errno.ENOSPC: "; free some space, or write elsewhere"}
"""Advice for system errors whose own text gives none."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells and click have it."""

LESS = "take less at a time, or a machine with more"


def run(app: Callable[[], Any]) -> None:
    """Run the command line; turn errors that the user can fix into one line and exit code 2."""
    _streams.prepare()
    sys.unraisablehook = _unraisable
    try:
        with atomic.command():
            app()
    except KeyboardInterrupt:  # before typer takes over, or when it has let go
        sys.exit(INTERRUPTED)
    except SettingError as error:
        _fail(f"{error.where}{flag(error.name)}: {error.said}")
    except LtkitError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}{MENDED.get(error.errno or 0, '')}")
    except RecursionError:
        _fail("an input is nested too deeply to be read; make it again, flatter")
    except MemoryError as error:
        _fail(f"out of memory: {str(error) or 'what was asked for'} is too large; {LESS}")
    except RuntimeError as error:
        if not (found := OUT_OF_MEMORY.search(str(error))):
            raise
        _fail(f"out of memory: {found[0]}; {LESS}")


def _unraisable(event: Any) -> None:
    """Raise Ctrl-C again when it arrived in a finalizer, where Python drops it."""
    if issubclass(event.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(event)


def _fail(message: str) -> None:
    """Print what was wrong, in one line, and exit."""
    _streams.give_up_stdout()
    with contextlib.suppress(OSError):  # there is nowhere else to say it
        typer.echo(f"ltkit: {_output.one_line(message)}", err=True)
    sys.exit(2)
