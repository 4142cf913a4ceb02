"""``ltkit analyze confusion``."""

from typing import Annotated, Any

import typer

from ltkit.cli import _options, _output, _tables
from ltkit.cli.analyze._reading import Csv, read
from ltkit.cli.analyze._results import give, percent, table_of, title

WIDE = 6
"""Most settings in the tables."""

Of = Annotated[
    str | None,
    typer.Option(
        "--of",
        metavar="NAME",
        help="List the pairs that this setting confuses most; default: the model's own head.",
        show_default=False,
    ),
]


def confusion(
    files: _options.FeatsOfNetworks = None,
    base: _options.Base = None,
    of: Of = None,
    count: Annotated[int, _options.setting("k", "Most pairs listed.", called="--count")] = 25,
    split: _options.Split = "test",
    bins: _options.Bins = None,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print which shot groups and classes are taken for which, by corrections or networks.

    Pairs are directed: samples of a true class that are predicted as another, in % of the true
    class's samples, with the others' difference in points. A pair has few samples, and what is
    worst of one network is better in most others by chance alone: look at --of both.
    evaluate --confusion writes whole tables.

    \b
    --json prints fractions, in lists in the order of settings (means over seeds):
      settings   labels; of, whose pairs are listed
      groups     names; by_group: samples by true (row) and predicted (column) group
      pairs      true and predicted (id, name, train_count), samples, count, share (of the class's
                 samples), of_errors (of its errors), change (of the share)

    Example: ltkit analyze confusion ce.h5 swrm.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_confusion

    subject, _ = read(files, base, split, bins, csv, overwrite, quiet)
    document = analyze_confusion(subject, of=of, count=count)
    give(document, _show, _table, csv, json, quiet)
    if not json and (more := len(document["settings"]) - WIDE) > 0:
        _output.say(f"note: {more} more settings: --csv or --json", quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [pair["true"]["name"], pair["predicted"]["name"], setting, pair["samples"],
         *(pair[part][place] for part in ("count", "share", "of_errors", "change"))]
        for pair in document["pairs"]
        for place, setting in enumerate(document["settings"])
    ]  # fmt: skip
    heading = [
        "true", "predicted", "setting", "samples", "count", "share", "of_errors", "change",
    ]  # fmt: skip
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    groups, settings = document["groups"], document["settings"][:WIDE]
    table = table_of("% of the true group's samples", *map(_tables.safe, settings))
    for t, true in enumerate(groups):
        sums = [sum(rows[t]) for rows in document["by_group"][:WIDE]]
        for p, said in enumerate(groups):
            shares = [
                rows[t][p] / total if total else None
                for rows, total in zip(document["by_group"], sums, strict=False)
            ]
            table.add_row(
                f"{true} as {said}", *map(percent, shares), end_section=said == groups[-1]
            )
    _output.print_table(table, title(document))
    _output.print_table(_tables.of_pairs(document, WIDE), _tables.about_pairs(document))
