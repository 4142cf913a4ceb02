"""The command line: one file per command; the only place that prints, parses and exits."""

from collections.abc import Callable
from typing import Any

import typer

from ltkit.cli import (
    _commands,
    _process,
    alphanet,
    analyze,
    check,
    compare,
    conformal,
    data,
    demo,
    diagnose,
    ensemble,
    evaluate,
    export,
    extract,
    fix,
    import_,
    inspect,
    neighbors,
    posthoc,
    recommend,
    report,
    study,
    train,
    validate,
)

FIRST_STEPS = """\
ltkit demo                                the whole workflow on bundled features, in a minute
ltkit fix model.pt --data DIR -o fixed.pt a checkpoint with the correction that suits it
ltkit recommend                           which correction to ship, and how sure, from feats.h5
ltkit evaluate                            accuracy by shot group; ltkit --help lists all commands"""
"""Printed by ``ltkit`` without arguments."""

BEGINNING, FEATURES, CORRECTIONS = "Getting started", "Features", "Corrections"
JUDGING, SHIPPING = "Evaluation", "Export"
STEPS: tuple[tuple[str, str, Callable[..., Any] | typer.Typer, str], ...] = (
    (BEGINNING, "demo", demo.demo, "Run the whole workflow on bundled features"),
    (BEGINNING, "fix", fix.fix, "Correct a checkpoint in one go, and report"),
    (FEATURES, "extract", extract.extract, "Write a model's features and last layer to a file"),
    (FEATURES, "import", import_.import_, "Write features made elsewhere to a features file"),
    (FEATURES, "ensemble", ensemble.ensemble, "Write several networks as one features file"),
    (FEATURES, "data", data.app, "List datasets, or show one"),
    (FEATURES, "inspect", inspect.inspect, "Show what is in a features file or checkpoint"),
    (FEATURES, "validate", validate.validate, "Check every byte of ltkit's files"),
    (FEATURES, "neighbors", neighbors.neighbors, "List the classes nearest to each rare class"),
    (CORRECTIONS, "posthoc", posthoc.posthoc, "Correct the last layer with a post-hoc method"),
    (CORRECTIONS, "alphanet", alphanet.app, "Correct rare classes with AlphaNet"),
    (CORRECTIONS, "train", train.train, "Train a network or a head with a long-tail loss"),
    (JUDGING, "recommend", recommend.recommend, "Say which correction to ship, and how sure"),
    (JUDGING, "diagnose", diagnose.diagnose, "Say why rare classes fail, and what can mend it"),
    (JUDGING, "evaluate", evaluate.evaluate, "Print accuracy by shot group, with intervals"),
    (JUDGING, "compare", compare.compare, "Compare corrections in pairs and at equal accuracy"),
    (JUDGING, "analyze", analyze.app, "Show what corrections do, and to which classes"),
    (JUDGING, "report", report.report, "Write an HTML report with figures"),
    (JUDGING, "study", study.study, "Repeat an experiment of the papers"),
    (
        SHIPPING,
        "conformal",
        conformal.conformal,
        "Make sets that have the true class as often as wanted",
    ),
    (SHIPPING, "export", export.export, "Write the corrected layer back into the checkpoint"),
    (SHIPPING, "check", check.check, "Measure what was shipped on new features; exit 1 if it fell"),
)
"""Each command's section in the help, name, function and summary."""

app = typer.Typer(
    name="ltkit",
    cls=_commands.Commands,
    help="Long-tailed classification on cached features: extract, diagnose, correct, compare.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for step, name, command, summary in STEPS:
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, short_help=summary, rich_help_panel=step)
    else:
        app.command(name, short_help=summary, rich_help_panel=step)(command)


@app.callback(invoke_without_command=True)
def first(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Answer --version, and ``ltkit`` without arguments."""
    if version:
        from ltkit.version import __version__

        typer.echo(f"ltkit {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(FIRST_STEPS)


def main() -> None:
    """Run the command line."""
    _process.run(app)
