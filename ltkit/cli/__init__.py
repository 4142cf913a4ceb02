"""The command line: one file a command; the only place that prints, parses and exits."""

import contextlib
import errno
import re
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from ltkit.cli import (
    _output,
    _streams,
    alphanet,
    analyze,
    compare,
    data,
    demo,
    evaluate,
    export,
    extract,
    import_,
    inspect,
    neighbors,
    posthoc,
    report,
    train,
    validate,
)
from ltkit.errors import InputError, LtkitError, SettingError
from ltkit.files import atomic
from ltkit.settings import flag

LONGEST, CUT = 300, " ... "
"""Characters of a message, and what stands for those of a longer one: its middle."""

OUT_OF_MEMORY = re.compile(r"you tried to allocate [0-9]+ bytes|Tried to allocate [0-9.]+ [KMGT]iB")
"""What torch says of it, on a CPU and on a GPU."""

MENDED = {errno.ENOSPC: "; free some space, or write elsewhere"}
"""What to do, for errors of the system whose own words do not say it."""

LESS = "take less at a time, or a machine with more"

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a wrong command line; it has no name of its own there."""


class _OneLine(TyperGroup):
    """The commands; what is wrong with a command line is one line, too."""

    def make_context(self, *words: Any, **named: Any) -> Any:
        """Read the options before the command."""
        return _in_one_line(super().make_context, *words, **named)

    def invoke(self, context: Any) -> Any:
        """Read those of the command, and run it."""
        return _in_one_line(super().invoke, context)


def _in_one_line(run: Callable[..., Any], *words: Any, **named: Any) -> Any:
    try:
        return run(*words, **named)
    except UsageError as error:
        said = error.format_message().replace("Value error, ", "").rstrip(".")
        if said.startswith("Usage: "):
            raise  # nothing was asked for: it prints the help
        where = error.ctx.command_path if error.ctx else "ltkit"
        raise InputError(f"{said}; see {where} --help") from None


app = typer.Typer(
    name="ltkit",
    cls=_OneLine,
    help="Long-tailed classification on cached features: extract, diagnose, correct, compare.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("extract")(extract.extract)
app.command("import")(import_.import_)
app.command("inspect")(inspect.inspect)
app.command("validate")(validate.validate)
app.command("neighbors")(neighbors.neighbors)
app.add_typer(alphanet.app, name="alphanet")
app.command("posthoc")(posthoc.posthoc)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("compare")(compare.compare)
app.add_typer(analyze.app, name="analyze")
app.add_typer(data.app, name="data")
app.command("report")(report.report)
app.command("export")(export.export)
app.command("demo")(demo.demo)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Answer --version."""
    if show:
        from ltkit import __version__

        typer.echo(f"ltkit {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; turn what a user can mend into one line and exit code 2."""
    _streams.prepare()
    sys.unraisablehook = _unraisable
    try:
        with atomic.command():
            app()
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
    """Raise a Ctrl-C once more that came within a finalizer, where Python drops it."""
    if issubclass(event.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(event)


def _fail(message: str) -> None:
    """Say what was wrong, in one line, and exit."""
    _streams.give_up_stdout()
    line = _output.printable(message)
    if len(line) > LONGEST:  # a name out of a damaged file
        half = (LONGEST - len(CUT)) // 2
        line = f"{line[:half]}{CUT}{line[-half:]}"
    with contextlib.suppress(OSError):  # there is nowhere else to say it
        typer.echo(f"ltkit: {line}", err=True)
    sys.exit(2)
