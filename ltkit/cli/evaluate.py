"""``ltkit evaluate``."""

from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _inputs, _measures, _options, _output, _tables
from ltkit.settings import GROUPS, REPLICATES, Heads

if TYPE_CHECKING:
    from rich.table import Table

FRACTION = numerals.Range(0, 1)


Group = Annotated[
    str, typer.Option(help="Grouped accuracy: none, wordnet, coarse, or a file of class<TAB>group.")
]
TopK = Annotated[
    str | None,
    typer.Option(
        help="Top-k accuracies to print. Default: 1, and 5 if there are five classes or more.",
        show_default=False,
    ),
]
RelativeTo = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FEATS",
        show_default=False,
        help="Relative accuracy: features of a model trained with profile=balanced on a set of "
        "equal size; may be repeated, the best counts.",
    ),
]
PerClass = Annotated[
    Path | None,
    typer.Option(
        help="Also write class accuracies to a CSV file, and the --metrics of classes.",
        show_default=False,
    ),
]
FailUnder = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GROUP=X",
        show_default=False,
        help="Exit 1 if a correction (or a lone baseline) is below X in 0..1, e.g. few=0.35.",
    ),
]
HEADS = {
    "best": "; of several seeds the best on val",
    "mean": "; of several seeds the mean of the heads",
}
"""What a title says of ``--run``."""

Seeds = Annotated[
    Heads | None,
    typer.Option(
        "--run",
        help="Of several seeds, score the best on the validation split, or the mean of the heads, "
        "as export writes them. Default: the mean of their accuracies.",
        show_default=False,
    ),
]


def evaluate(
    files: _options.FeatsOfNetworks = None,
    classifier: _options.Classifiers = None,
    base: _options.Base = None,
    split: _options.Split = "test",
    group: Group = "none",
    rule: _options.Rule = "path",
    level: _options.Level = 4,
    topk: TopK = None,
    relative_to: RelativeTo = None,
    every_setting: _options.EverySetting = False,
    run: Seeds = None,
    metrics: _measures.Metrics = None,
    prior: _measures.PriorOption = None,
    priors: _measures.Priors = False,
    per_class: PerClass = None,
    confusion: _measures.Confusion = None,
    fail_under: FailUnder = None,
    bins: _options.Bins = None,
    replicates: _options.Replicates = REPLICATES,
    seed: _options.Seed = 0,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print many / medium / few accuracy of a model and its corrections, with 95 % intervals.

    Of a file with several settings, the one with the best balanced accuracy on the validation split
    is shown. The intervals hold for new samples of the same classes and new seeds;
    docs/statistics.md. Features files of other networks on the same test set are further rows.

    Example: ltkit evaluate feats.h5 --group wordnet
    """  # fmt: skip
    from ltkit import evaluation
    from ltkit.files.atomic import check_output
    from ltkit.files.tables import write_csv

    limits, asked = _limits(fail_under or []), _measures.names(metrics)
    path, named = _inputs.features_and_named(files, quiet, classifier)
    features, entries = _inputs.read_judged(path, base, named, quiet, split)
    given = entries
    if run is not None and (entries := evaluation.of_seeds(given, run, features)) == given:
        _output.say(f"note: no file has several seeds, so --run {run} changes nothing", quiet)
    references = relative_to or []
    read = (path, *(Path(entry.file) for entry in entries), *references)
    for output in (per_class, confusion):
        if output is not None:
            check_output(output, overwrite=overwrite, inputs=read)
    document, by_class = evaluation.evaluate(
        features, split, entries,
        bins=_options.bins(bins),
        grouping=evaluation.grouping_of(features, group, rule=rule, level=level),
        topk=None if topk is None else _options.whole_numbers(topk, "topk"),
        references=[_inputs.read_features(file, None, quiet) for file in references],
        prior=prior,
        shifts=priors,
        figures=asked,
        replicates=replicates,
        seed=seed,
    )  # fmt: skip
    document["features"] = str(path)
    if run is not None:
        document["run"] = run
    shown = document if every_setting else _chosen(document)
    failures = _failures(shown, limits)
    if per_class is not None:
        table = evaluation.class_table(features, split, by_class, _options.bins(bins))
        write_csv(per_class, *table)
        _output.say(f"wrote {per_class}", quiet)
    if confusion is not None:
        write_csv(confusion, *evaluation.confusion_table(features, split, entries))
        _output.say(f"wrote {confusion}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print_table(shown, asked)
    for failure in failures:
        _output.say(failure)
    if failures:
        raise typer.Exit(1)


def _limits(given: list[str]) -> list[tuple[str, float]]:
    """Read the lowest accuracy that each group must reach."""
    limits = []
    for name, text in _options.pairs(given, "--fail-under", "GROUP=X, as few=0.35"):
        _options.one_of(name, GROUPS, "--fail-under")
        limits.append((name, numerals.number(text, f"--fail-under {name}", FRACTION)))
    return limits


def _failures(document: dict[str, Any], limits: list[tuple[str, float]]) -> list[str]:
    """Check every correction, or a lone baseline, against the limits."""
    from ltkit.errors import InputError

    failures = []
    rows = document["rows"]
    for name, limit in limits:
        for row in rows[1:] or rows:
            value = row["accuracy"][name]
            if value is None:
                raise InputError(f"--fail-under: no {name} class in the {document['split']} split")
            if value < limit:
                failures.append(f"{row['label']}: {name} {value:.4f} is under {limit:g}")
    return failures


def _chosen(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document with one row of each correction, which knows those it was chosen from."""
    rows = document["rows"]
    of: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        of.setdefault((row["name"], row["file"]), []).append(row)
    kept = [row | {"of": of[row["name"], row["file"]]} for row in rows if row["chosen"]]
    return document | {"rows": kept, "hidden": len(rows) - len(kept)}


def _print_table(document: dict[str, Any], asked: Sequence[str]) -> None:
    """Print accuracies in per cent: the baseline, then each correction with its differences."""
    rows = document["rows"]
    accuracies = [row["accuracy"] for row in rows]
    even = all(a["all"] is None or abs(a["all"] - a["balanced"]) < 1e-9 for a in accuracies)
    columns = GROUPS[:-1] if even else GROUPS  # they coincide on a balanced split
    title = f"{_tables.files(document)}, {document['split']} split, {document['n']} samples"
    hidden = document.get("hidden", 0)
    by = "; * best on val by balanced accuracy" if hidden else ""
    by += HEADS.get(document.get("run", ""), "")
    _output.print_fitting(
        partial(_accuracies, document, columns), f"{title}{_measures.under(document['prior'])}{by}"
    )
    if hidden:
        typer.echo(f"{hidden} other settings: --all")
    if asked:
        _measures.print_figures(document, asked)
    if "priors" in rows[0]:
        _measures.print_priors(document)
    if "relative_to" in document:
        _print_relative(document, columns)
    if "grouped" in rows[0]:
        _print_grouped(rows, columns)
    if document["untested_classes"]:
        typer.echo(f"{document['untested_classes']} classes have no sample in this split: left out")


def _accuracies(document: dict[str, Any], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return the table of accuracies; the narrow one has top-k and ECE below the names."""
    sizes, rows = document["groups"], document["rows"]
    scale = _tables.scale_of(rows, columns)
    table = _tables.table_of("accuracy in %", (), look, scale)
    for name in columns:
        title = f"{name}\n{sizes[name]} class{'es' * (sizes[name] != 1)}" if name in sizes else name
        title = "all =\nbalanced" if name == "all" and name == columns[-1] else title
        table.add_column(title, justify="right", no_wrap=look.narrow)
    topk = max((int(key[3:]) for key in rows[0] if key.startswith("top")), default=1)
    more = (f"top-{topk}", "ECE")
    for name in () if look.narrow else more:
        table.add_column(name, justify="right")
    for row in rows:
        label = _label(row, look)
        cells = [
            _tables.cell(row["accuracy"], row["interval"], row["std"], name, "", look, scale)
            for name in columns
        ]
        top = row["accuracy" if topk == 1 else f"top{topk}"]["all"]
        last = [_tables.percent(top), _tables.percent(row["calibration"].get("all"))]
        if look.narrow:
            label += "\n" + ", ".join(map(" ".join, zip(more, last, strict=True)))
        table.add_row(label, *cells, *([] if look.narrow else last))
        if "difference" in row:
            gains, intervals = row["difference"], row["difference_interval"]
            cells = [_tables.cell(gains, intervals, None, name, "+", look) for name in columns]
            table.add_row(f"  over {_tables.safe(rows[0]['label'])}", *cells, style="dim")
    return table


def _label(row: dict[str, Any], look: _output.Look) -> str:
    """Return a row's name, with lines on its seeds and on the settings it was chosen of."""
    of, label = row.get("of", ()), _tables.safe(row["label"])
    if row["runs"] > 1:
        label += f"\n± std over {row['runs']} seeds"
    if len(of) < 2 or len([other for other in of if other["chosen"]]) > 1:
        return label
    few = [other["accuracy"]["few"] for other in of]
    first, *others = label.split("\n")
    lines = _tables.of_sweep([other["settings"] for other in of], few, look)
    return "\n".join([f"{first} *", *others]) + lines


def _print_relative(document: dict[str, Any], columns: tuple[str, ...]) -> None:
    rows = document["rows"]

    def make(look: _output.Look) -> "Table":
        scale = _tables.scale_of([row["relative"] for row in rows], columns, most=inf)
        table = _tables.table_of("relative accuracy in %", columns, look, scale)
        for model in document["relative_to"]:
            cells = [_tables.percent(model["accuracy"][name]) for name in columns]
            table.add_row(
                f"accuracy of {_tables.safe(Path(model['features']).name)}", *cells, style="dim"
            )
        for row in rows:
            found = row["relative"]
            table.add_row(_tables.safe(row["label"]), *(
                _tables.cell(found["accuracy"], found["interval"], None, name, "", look, scale)
                for name in columns
            ))  # fmt: skip
        return table

    _output.print_fitting(make, "accuracy over the best that balanced training data gave")


def _print_grouped(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    about = rows[0]["grouped"]

    def make(look: _output.Look) -> "Table":
        scale = _tables.scale_of([row["grouped"] for row in rows], columns)
        table = _tables.table_of("grouped accuracy in %", columns, look, scale)
        for row in rows:
            g = row["grouped"]
            table.add_row(_tables.safe(row["label"]), *(
                _tables.cell(g["accuracy"], g["interval"], g["std"], name, "", look, scale)
                for name in columns
            ))  # fmt: skip
        return table

    how = f" ({about['rule']} rule, level {about['level']})" if "rule" in about else ""
    title = (
        f"grouped by {about['by']}{how}: a prediction counts when it falls in the true class's "
        f"group; mean group {about['mean_group_size']:.1f} classes, chance "
        f"{100 * about['chance']:.1f} %"
    )
    _output.print_fitting(make, title)
