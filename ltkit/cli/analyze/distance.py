"""``ltkit analyze distance``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _tables
from ltkit.cli.analyze._reading import Csv, MetricName, read
from ltkit.cli.analyze._results import correlation, give, percent, setting, table_of, title
from ltkit.settings import NeighborSettings

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 4
"""Most corrections for which the table of classes is printed."""


def distance(
    files: _options.FeatsOfNetworks = None,
    base: _options.Base = None,
    k: _options.Neighbours = NeighborSettings.k,
    metric: MetricName = NeighborSettings.metric,
    of: Annotated[
        str, typer.Option(help="Classes to analyse: few, medium, many, base, all.")
    ] = "few",
    among: Annotated[str, typer.Option(help="Classes that may be neighbours.")] = "base",
    split: _options.Split = "test",
    bins: _options.Bins = None,
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Relate class accuracies and their changes to neighbour distance.

    The distance of a class is the mean distance to its k neighbours. r is Spearman's rank
    correlation over classes, of distance with accuracy (the mean over seeds) and with its change.
    Classes close to others are mistaken for them, so the first r is usually positive; a correction
    that helps just these classes has a negative second r.

    \b
    --json prints fractions in 0..1, null where there is none:
      classes    class, name, train_count, samples, distance, neighbors (ids, nearest first)
      rows       name, label, settings, runs, accuracy and std by class, r, and for corrections
                 change by class, change_r, and r_std and change_r_std over runs

    Example: ltkit analyze distance feats.h5 feats.alphanet.h5 --k 5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_distance

    subject, _ = read(files, base, split, bins, csv, overwrite, quiet)
    document = analyze_distance(
        subject, NeighborSettings(k, metric, seed), of=of, among=among, note=_output.note(quiet)
    )
    give(document, _show, _table, csv, json, quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [row["label"], row["runs"], c["class"], c["name"], c["train_count"], c["samples"],
         _length(c["distance"]), row["accuracy"][place], row["std"] and row["std"][place],
         row["change"][place] if "change" in row else None]
        for row in document["rows"]
        for place, c in enumerate(document["classes"])
    ]  # fmt: skip
    heading = ["setting", "runs", "class", "name", "train_count", "samples", "distance",
               "accuracy", "std", "change"]  # fmt: skip
    return heading, rows


def _length(value: float) -> float | str:
    """Return a length in the features' unit as a cell, with enough digits for small values."""
    return f"{value:.6e}" if 0 < value < 1e-3 else value


def _show(document: dict[str, Any]) -> None:
    """Print accuracies by thirds of the classes, correlations, and the classes if they fit."""
    about = f"{document['n']} {_among(document)}; r: Spearman's over the classes"
    _output.print_table(_thirds(document), f"{title(document)}: {about}")
    if len(document["rows"]) > 1 + WIDE:
        typer.echo("the classes one by one: --csv or --json, or fewer corrections")
    else:
        _output.print_table(_one_by_one(document), "accuracy in %, nearest first")


def _thirds(document: dict[str, Any]) -> "Table":
    from ltkit.evaluation.analysis import thirds

    distance = [c["distance"] for c in document["classes"]]
    named = zip(("nearest", "middle", "farthest"), thirds(distance), strict=True)
    parts = [(name, part) for name, part in named if part]
    heads = []
    for name, part in parts:
        spans = [distance[place] for place in part]
        heads.append(f"{name} {len(part)}\n{min(spans):.3g} to {max(spans):.3g}")
    table = table_of("accuracy in %, change", *heads, "r, accuracy", "r, change")
    for row in document["rows"]:
        cells = []
        for _, part in parts:
            cell = percent(sum(row["accuracy"][p] for p in part) / len(part))
            if "change" in row:
                change = sum(row["change"][p] for p in part) / len(part)
                cell += f" {percent(change, None, '+')}"
            cells.append(cell)
        table.add_row(
            setting(row), *cells, correlation(row["r"], row.get("r_std")),
            correlation(row["change_r"], row["change_r_std"]) if "change" in row else "",
        )  # fmt: skip
    return table


def _one_by_one(document: dict[str, Any]) -> "Table":
    classes, rows = document["classes"], document["rows"]
    table = table_of("class (training samples)", "distance", *map(setting, rows))
    for place in sorted(range(len(classes)), key=lambda p: (classes[p]["distance"], p)):
        c = classes[place]
        table.add_row(
            _tables.safe(f"{c['name']} ({c['train_count']})"), f"{c['distance']:.3g}",
            *(percent(row["accuracy"][place], row["std"] and row["std"][place]) for row in rows),
        )  # fmt: skip
    return table


def _among(document: dict[str, Any]) -> str:
    kind = "" if document["of"] == "all" else f"{document['of']} "
    return (
        f"{kind}classes by mean {document['metric']} distance to their {document['k']} "
        f"neighbours among {document['among']}"
    )
