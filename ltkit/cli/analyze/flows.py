"""``ltkit analyze flows``."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltkit.cli import _options, _output
from ltkit.cli.analyze._reading import Csv, MetricName, read
from ltkit.cli.analyze._results import give, setting, table_of, title
from ltkit.settings import NeighborSettings

if TYPE_CHECKING:
    from rich.table import Table

WORDS = ("correct", "neighbour", "other")
"""Names of the statuses."""

By = Literal["features", "wordnet", "both"]


def flows(
    files: _options.FeatsOfNetworks = None,
    base: _options.Base = None,
    by: Annotated[
        By,
        typer.Option(
            help="Neighbours: the k nearest by mean feature, classes near in WordNet, or both "
            "(WordNet only if the classes have wnids)."
        ),
    ] = "both",
    k: _options.Neighbours = NeighborSettings.k,
    metric: MetricName = NeighborSettings.metric,
    rule: _options.Rule = "path",
    level: _options.Level = 4,
    split: _options.Split = "test",
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Count moves between correct, neighbour and other predictions.

    A neighbour is a neighbour of the true class. Samples of few-shot classes have neighbours among
    the base classes, samples of base classes among the few-shot classes, samples of all classes
    among all; WordNet neighbours are always among all. Without a correction, the model's own
    predictions are counted.

    \b
    --json prints one row for each correction, group of samples and kind of neighbours:
      name, label, settings, runs, samples, by, k, classes, n, mean_neighbors (of a class), before,
      after and after_std (by correct, neighbor, other), count (3 x 3, rows before, columns after),
      share (of n) and std (of count); means over runs, std null for a single one

    Example: ltkit analyze flows feats.h5 feats.alphanet.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_flows

    subject, _ = read(files, base, split, bins, csv, overwrite, quiet)
    document = analyze_flows(
        subject, NeighborSettings(k, metric, seed), by=by, rule=rule, level=level,
        note=_output.note(quiet),
    )  # fmt: skip
    give(document, _show, _table, csv, json, quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    from ltkit.evaluation.analysis import STATUSES

    rows = [
        [row["label"], row["runs"], row["samples"], row["by"], row["n"], before, after,
         row["count"][b][a], row["std"] and row["std"][b][a], row["share"][b][a]]
        for row in document["rows"]
        for b, before in enumerate(STATUSES)
        for a, after in enumerate(STATUSES)
    ]  # fmt: skip
    heading = ["setting", "runs", "samples", "by", "n", "before", "after", "count", "std", "share"]
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    """Print the flows of every group for each correction: samples, and their share in %."""
    from itertools import groupby

    for (file, _), rows in groupby(document["rows"], lambda r: (r["file"], r["label"])):
        group, alone = list(rows), file == document["base"]["file"]
        heads = ("samples",) if alone else ("before", *(f"then {word}" for word in WORDS))
        table = table_of(f"{setting(group[0])}\nsamples (% of the group)", *heads)
        for row in group:
            table.add_row(_about(row, document["level"]), *[""] * len(heads), style="bold")
            _add_flow(table, row, alone)
        _output.print_table(table, title(document))


def _about(row: dict[str, Any], level: int) -> str:
    near = (
        f"{row['k']} neighbours per class" if row["by"] == "features"
        else f"WordNet, level {level}: {row['mean_neighbors']:.1f} a class"
    )  # fmt: skip
    return f"{row['samples']}: {row['n']} samples of {row['classes']} classes; {near}"


def _add_flow(table: "Table", row: dict[str, Any], alone: bool) -> None:
    """Add a row for each status before the correction, and one for those after it, if any."""
    n, std = row["n"], row["std"]
    for b, (word, before) in enumerate(zip(WORDS, row["before"].values(), strict=True)):
        counts = row["count"][b]
        cells = [_count(count, n, std and std[b][a]) for a, count in enumerate(counts)]
        table.add_row(f"  {word}", _count(before, n), *([] if alone else cells))
    if not alone:
        spread = row["after_std"]
        totals = [_count(after, n, spread and spread[s]) for s, after in row["after"].items()]
        table.add_row("  after", "", *totals, end_section=True)


def _count(value: float, n: int, std: float | None = None) -> str:
    spread = "" if std is None else f" ± {std:.1f}"
    whole = f"{value:.0f}" if float(value).is_integer() and std is None else f"{value:.1f}"
    return f"{whole}{spread} ({100 * value / n:.1f})"
