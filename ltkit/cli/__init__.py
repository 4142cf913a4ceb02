"""The command line: one file a command; the only place that prints, parses and exits."""

import contextlib
import io
import os
import signal
import sys
import threading
from typing import Any

import typer

from ltkit.cli import (
    _output,
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
from ltkit.errors import LtkitError
from ltkit.files import atomic

LONGEST = 2000
"""Characters of a message."""

app = typer.Typer(
    name="ltkit",
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
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names that the terminal cannot show
    sys.unraisablehook = _unraisable
    try:
        with atomic.command():
            app()
    except LtkitError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None and error.strerror is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror}")


def _unraisable(event: Any) -> None:
    """Raise a Ctrl-C once more that came within a finalizer, where Python drops it."""
    if issubclass(event.exc_type, KeyboardInterrupt):
        main_thread = threading.main_thread().ident
        threading.Timer(0.01, signal.pthread_kill, (main_thread, signal.SIGINT)).start()
    else:
        sys.__unraisablehook__(event)


def _fail(message: str) -> None:
    try:
        sys.stdout.flush()
    except OSError:  # what cannot be printed would be tried once more at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    line = _output.printable(message)
    if len(line) > LONGEST:  # a name out of a damaged file
        line = f"{line[: LONGEST // 2]} ... {line[-LONGEST // 2 :]}"
    with contextlib.suppress(OSError):  # there is nowhere else to say it
        typer.echo(f"ltkit: {line}", err=True)
    sys.exit(2)
