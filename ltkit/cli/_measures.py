"""How figures beside accuracy are asked for and printed."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _tables
from ltkit.settings import GROUPS, METRICS

if TYPE_CHECKING:
    from rich.table import Table

LONGEST = 9
"""Most characters of a class name in a cell."""

RAW = ("nll", "brier")
"""Figures that are no shares."""

TITLES = {
    "taken": "taken from others", "worst-class": "worst class", "harmonic": "harmonic mean",
    "harmonic-groups": "harmonic of groups", "auroc": "AUROC", "ap": "average precision",
    "nll": "NLL", "brier": "Brier", "ece": "ECE, equal mass", "f1": "F1",
}  # fmt: skip

Metrics = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help=f"Figures to print beside accuracy: {', '.join(METRICS)}, or all.",
        show_default=False,
    ),
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        metavar="PRIOR",
        help="How often classes occur in use: uniform, train, test, inverse, forward:50, "
        "backward:50, numbers, or a file of class<TAB>share. Default: as in the split.",
        show_default=False,
    ),
]
Priors = Annotated[
    bool,
    typer.Option("--priors", help="Also print accuracy under test priors forward and backward."),
]
Confusion = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT.csv",
        help="Also write which classes are taken for which to a CSV file.",
        show_default=False,
    ),
]


def names(text: str | None) -> Sequence[str]:
    """Read the figures that are asked for.

    Raises:
        InputError: for an unknown or repeated name.
    """
    if text is None:
        return ()
    if text == "all":
        return METRICS
    return [_options.one_of(w, METRICS, "--metrics") for w in _options.words(text, "--metrics")]


def under(prior: dict[str, Any] | None) -> str:
    """Return what a table's title says of a prior."""
    if prior is None:
        return ""
    left_out = f", {100 * prior['untested']:.1f} % of it in classes without a sample: left out"
    return f", weighted to prior {prior['prior']}{left_out if prior['untested'] else ''}"


def print_figures(document: dict[str, Any], asked: Sequence[str]) -> None:
    """Print the figures that were asked for, a line for each below each row's name."""
    _output.print_fitting(
        partial(_figures, document["rows"], asked),
        "in %, but NLL and Brier; all weights classes as samples, balanced all alike",
    )


def _figures(rows: Sequence[dict[str, Any]], asked: Sequence[str], look: _output.Look) -> "Table":
    table = _tables.table_of("", GROUPS, look)
    table.columns[0].header = "figure"
    for row in rows:
        table.add_row(_tables.safe(row["label"]), *[""] * len(GROUPS), style="bold")
        for name in asked:
            table.add_row(f"  {TITLES.get(name, name)}", *_cells(row, name, look))
    return table


def _cells(row: dict[str, Any], name: str, look: _output.Look) -> list[str]:
    """Return a figure of each group, and below it its interval."""
    cells = []
    for group in GROUPS:
        value = row["metrics"][name][group]
        shown = _tables.percent(value)
        if name in RAW and value is not None:
            shown = f"{value:.3f}"
        ends = row["metrics_interval"].get(name, {}).get(group)
        if ends is not None:
            shown += "\n" + look.interval(*(f"{100 * end:.1f}" for end in ends))
        if name == "worst-class" and value is not None:
            named = row["worst_class"][group]["name"]
            short = named if len(named) <= LONGEST else f"{named[: LONGEST - 1]}…"
            shown += f"\n{_tables.safe(short)}"
        cells.append(shown)
    return cells


def print_priors(document: dict[str, Any]) -> None:
    """Print each row's accuracy under the priors of LADE and SADE."""
    _output.print_fitting(
        partial(_priors, document["rows"]),
        "test priors: forward 50 is a tail as of training, 50 to 1; backward its reverse",
    )


def _priors(rows: Sequence[dict[str, Any]], look: _output.Look) -> "Table":
    """Return the table of priors: a line for each row; in the narrow one, one for each tail."""
    table = _tables.table_of("", (), look)
    table.columns[0].header = "accuracy in %"
    every = list(rows[0]["priors"])
    middle = every.index("uniform")
    heading = every[: middle + 1] if look.narrow else every
    for name in heading:
        title = name.partition(":")[2] if look.narrow else name.replace(":", "\n")
        table.add_column(title or "uniform", justify="right", no_wrap=True)
    for row in rows:
        shares = [_tables.percent(row["priors"][name]) for name in every]
        if not look.narrow:
            table.add_row(_tables.safe(row["label"]), *shares)
            continue
        table.add_row(_tables.safe(row["label"]), *[""] * len(heading), style="bold")
        table.add_row("  forward", *shares[: middle + 1])
        table.add_row("  backward", *reversed(shares[middle:]))
    return table
