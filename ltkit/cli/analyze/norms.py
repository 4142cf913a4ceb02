"""``ltkit analyze norms``."""

from pathlib import Path
from typing import Any

from ltkit.cli import _inputs, _options, _output, _tables
from ltkit.cli.analyze._reading import Csv
from ltkit.cli.analyze._results import correlation, give, setting, table_of

GROUPS = ("few", "medium", "many", "all")


def norms(
    files: _options.FeatsOfNetworks = None,
    base: _options.Base = None,
    bins: _options.Bins = None,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print the L2 norms of classifier rows by shot group, and their standard deviation.

    A head trained without correction has longer rows for frequent classes. The deviation over all
    classes times 100 tells losses apart; r is Spearman's rank correlation of norms with training
    images. A head of several experts has a line for each, and one for the head as a whole, whose
    logits are their mean. Networks need the same classes, not the same images.

    \b
    --json prints one row for each head, setting and expert:
      name, label, file, settings, runs, expert (from 1; null for the whole head), mean and
      deviation by group (few, medium, many, all; null without classes), r, norm (of each class)
      and features, networks (files), bins, groups; means over runs

    Example: ltkit analyze norms ce.h5 swrm.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation.analysis import analyze_norms
    from ltkit.files.atomic import check_output

    path, named = _inputs.features_and_named(files, quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet)
    if csv is not None:
        inputs = (path, *(Path(entry.file) for entry in entries))
        check_output(csv, overwrite=overwrite, inputs=inputs)
    document = analyze_norms(features, entries, _options.bins(bins))
    give(document, _show, _table, csv, json, quiet)


def _table(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [row["label"], row["expert"], group, row["mean"][group], row["deviation"][group]]
        for row in document["rows"]
        for group in GROUPS
    ]
    return ["setting", "expert", "group", "mean", "deviation"], rows


def _show(document: dict[str, Any]) -> None:
    heads = [
        f"{name}\n{size} classes" if (size := document["groups"].get(name)) else name
        for name in GROUPS
    ]
    table = table_of("mean norm of rows", *heads, "100 x deviation\nof all", "r with\nimages")
    for row in document["rows"]:
        name = setting(row) if row["expert"] is None else f"  expert {row['expert']}"
        deviation = 100 * row["deviation"]["all"]
        table.add_row(
            name, *(_norm(row["mean"][group]) for group in GROUPS), f"{deviation:.1f}",
            correlation(row["r"]),
        )  # fmt: skip
    _output.print_table(table, _tables.files(document))


def _norm(value: float | None) -> str:
    return "–" if value is None else f"{value:#.3g}"
