"""``ltkit analyze risk-coverage``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths, _tables
from ltkit.cli.analyze._one import OneClassifier, Run, read_one
from ltkit.cli.analyze._reading import Csv
from ltkit.cli.analyze._results import give
from ltkit.settings import FOLDS, Rejection, RiskOf

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = (0.0, 0.1, 0.2, 0.3, 0.5)
"""Budgets in the table."""

Budget = Annotated[
    float | None,
    _options.setting("budget", "Share of samples that may be handed over to a person."),
]
RiskWanted = Annotated[
    float | None,
    _options.setting("risk", "Wanted error among the answers, at the least budget."),
]


def risk_coverage(
    feats: _options.Feats = None,
    base: _options.Base = None,
    classifier: OneClassifier = None,
    run: Run = None,
    budget: Budget = None,
    risk: RiskWanted = None,
    of: Annotated[RiskOf, typer.Option(help="Which error --risk limits.")] = "balanced",
    method: Annotated[
        Rejection, typer.Option(help="How samples are ranked for --budget and --risk.")
    ] = "plug-in",
    split: _options.Split = "val",
    bins: _options.Bins = None,
    folds: Annotated[int, _options.setting("folds", "Parts of val.")] = FOLDS,
    seed: _options.Seed = 0,
    csv: Csv = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Rule file of the rejector.", show_default=False),
    ] = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print the error among the answers, by how many samples are handed over to a person.

    Handing over what has a small max softmax hands over the rare classes. The plug-in of Narasimhan
    et al. 2024 weighs shot groups by costs found on val, for the balanced error: the mean over
    classes; a group of which nothing is answered counts as wrong. On val each sample is judged by
    costs that were found without its fold. --budget or --risk gives the threshold to use.

    \b
    --json prints fractions:
      methods     of each: area (mean error over the budgets), its interval, points
                  (budget, rejected, rejected_by_group, risk, interval, by few, medium, many, all,
                  balanced)
      difference  area of the plug-in less that of the max softmax, with its interval
      rejector    null, or: threshold and its interval, alpha, mu, budget, what was wanted, and the
                  point out of fold on val; on another split what the threshold does there

    Example: ltkit analyze risk-coverage feats.h5 --budget 0.1 -o rejector.json
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit import abstention
    from ltkit.errors import InputError
    from ltkit.files import rules
    from ltkit.files.atomic import check_output

    if output is not None and budget is None and risk is None:
        raise InputError("--output: found neither --budget nor --risk, expected one: say how much")
    path = _paths.features_path(feats, quiet)
    for file in filter(None, (csv, output)):
        named = [file for file in (base, classifier) if file is not None]
        check_output(file, overwrite=overwrite, inputs=(path, *named))
    features, judged, notes = read_one(path, base, classifier, run, quiet)
    asked = abstention.Asked(budget, risk, of, method, folds, seed)
    found = abstention.risk_coverage(
        features, judged, asked, split=split, bins=_options.bins(bins),
        report=_output.Progress("curves", quiet, after=2),
    )  # fmt: skip
    document = found.document | {"features": str(path)}
    document["notes"] = [*notes, *document["notes"]]
    for line in document["notes"]:
        _output.say(f"note: {line}", quiet)
    if output is not None and found.rule is not None:
        rules.write(output, found.rule, command=_output.command_line())
        _output.say(f"wrote {output}", quiet)
    give(document, _show, _rows, csv, json, quiet)


def _rows(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [method["method"], point["budget"], point["rejected"], figure, point["risk"][figure],
         *(point["interval"][figure] or (None, None)), point["rejected_by_group"].get(figure)]
        for method in document["methods"]
        for point in method["points"]
        for figure in document["figures"]
    ]  # fmt: skip
    heading = [
        "method", "budget", "rejected", "figure", "error", "low", "high", "rejected_of_group",
    ]  # fmt: skip
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    where = "out of fold" if document["split"] == "val" else "with costs of val"
    title = f"{_tables.files(document)}, {document['split']} split, {where}"
    _output.print_fitting(
        partial(_table, document), f"{title}: % wrong of the answers, by % handed over"
    )
    typer.echo(_difference(document["difference"]))
    if document["rejector"] is not None:
        for line in _told(document["rejector"], document["split"]):
            typer.echo(line)


def _table(document: dict[str, Any], look: _output.Look) -> "Table":
    """Return a table with the errors of both methods at some budgets, and their areas."""
    figures = document["figures"][::-1]
    groups = [f"handed over\nof {name}" for name in document["figures"][:-2]]
    table = _tables.table_of("handed over", [*figures, *([] if look.narrow else groups)], look)
    for budget in SHOWN:
        for method in document["methods"]:
            point = next(p for p in method["points"] if p["budget"] == budget)
            cells = _cells(point["risk"], point["interval"], figures, look)
            shares = [_tables.percent(v) for v in point["rejected_by_group"].values()]
            name = f"{100 * budget:.0f} %, {method['method']}"
            table.add_row(name, *cells, *([] if look.narrow else shares))
    for method in document["methods"]:
        table.add_row(
            f"mean, {method['method']}",
            *_cells(method["area"], method["area_interval"], figures, look),
        )
    return table


def _cells(
    values: dict[str, Any], ends: dict[str, Any], figures: list[str], look: _output.Look
) -> list[str]:
    return [_tables.cell(values, ends, None, name, look=look) for name in figures]


def _difference(found: dict[str, Any]) -> str:
    """Return, in one line, what the costs gain."""
    parts = []
    for name in ("balanced", "all"):
        low, high = found["area_interval"][name]
        value = found["area"][name]
        parts.append(f"{name} {100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
    return f"plug-in less max-softmax, points of the mean error: {', '.join(parts)}"


def _told(made: dict[str, Any], split: str) -> list[str]:
    """Return the lines on the rejector."""
    low, high = (f"{end:.4g}" if end is not None else "none" for end in made["threshold_interval"])
    lines = [
        f"{made['method']}: hand over where the score is above {made['threshold']:.4g} "
        f"[{low}, {high}]"
    ]
    if made["wanted"] is not None:
        first, last = (
            "no budget" if end is None else f"{100 * end:.0f} %"
            for end in made["wanted"]["budget_interval"]
        )
        lines.append(
            f"for a {made['wanted']['of']} error of {100 * made['wanted']['risk']:g} %, "
            f"{100 * made['budget']:.0f} % are handed over [{first} to {last}]"
        )
    for name in dict.fromkeys(("val", split)):
        where = "out of fold on val" if name == "val" else f"with this threshold on {name}"
        lines.append(f"{where}: {_point(made[name])}")
    return lines


def _point(point: dict[str, Any]) -> str:
    low, high = point["rejected_interval"]
    parts = [f"{100 * point['rejected']:.1f} % handed over [{100 * low:.1f}, {100 * high:.1f}]"]
    for name in ("balanced", "all"):
        ends = point["interval"][name]
        told = "no interval" if ends is None else f"{100 * ends[0]:.1f}, {100 * ends[1]:.1f}"
        parts.append(f"{name} error {100 * point['risk'][name]:.1f} [{told}]")
    return ", ".join(parts)
