"""``ltkit compare``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _inputs, _measures, _options, _output, _tables
from ltkit.settings import GROUPS, REPLICATES, Select

if TYPE_CHECKING:
    from rich.table import Table

NAMED = 3
"""Most classes named among those won and those lost, in the table."""


Against = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Compare all others with this one, e.g. baseline; default: every pair.",
        show_default=False,
    ),
]
ChosenBy = Annotated[
    Select,
    typer.Option(help="Accuracy on the validation split that a file's setting is chosen by."),
]
Levels = Annotated[
    str | None,
    typer.Option(
        help="Compare curves at these overall accuracies, in %, e.g. 40,41.5.", show_default=False
    ),
]
Csv = Annotated[
    Path | None,
    typer.Option(help="Also write every setting's accuracies to a CSV file.", show_default=False),
]


def compare(
    files: _options.FeatsAndClassifiers = None,
    base: _options.Base = None,
    against: Against = None,
    select: ChosenBy = "balanced",
    every_setting: Annotated[
        bool,
        typer.Option("--every-setting", help="Compare every setting of a file, not only the best."),
    ] = False,
    at: Levels = None,
    prior: _measures.PriorOption = None,
    split: _options.Split = "test",
    bins: _options.Bins = None,
    replicates: _options.Replicates = REPLICATES,
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Compare corrections with the model's own head and with each other, in pairs and as curves.

    Pairs: paired differences in accuracy with 95 % intervals for new samples and new seeds, as in
    evaluate; p of the overall difference (below 0.05 where its interval leaves out 0), with one
    seed each the samples that only one is right on; classes won and lost. A file with several
    settings is represented by the best one on the validation split. Curves: few-shot against
    overall accuracy, straight lines between settings; methods are compared at equal overall
    accuracy. A method with one knob has a curve through all its settings; one with several through
    those on the upper hull on the validation split. posthoc METHOD --sweep and alphanet fit --rho
    0.5,1,2 write files with several settings.

    \b
    --json prints fractions in 0..1, null where there is none:
      methods    name, file, knob (null with several) and points: label, settings, runs;
                 accuracy, std, interval, seed_share (of the variance) by group; val (accuracy by
                 group, of several settings), in_pairs, on_curve, dominated_by
      pairs      first, second; difference (first - second), interval, seed_share and p by group;
                 mcnemar (only_first, only_second, statistic or null where exact, p; null with
                 several seeds), classes (wins and losses with id, name, gain; ties)
      frontier   chosen_on (a split), best (from, to, method), overall (levels), few (by method, at
                 each level), gaps (first, second, overall, gap, interval; a null bound has no end)
      and features, split, n, bins, groups, samples, bootstrap, select, against, prior (null without
      one), untested_classes; metrics of points as evaluate has them, of predictions

    Example: ltkit compare feats.h5 feats.alphanet.h5 feats.logit-adjust.h5 --against baseline
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit import evaluation
    from ltkit.files.atomic import check_output

    levels = None if at is None else _levels(at)
    path, named = _inputs.features_and_named(files or [], quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet)
    if csv is not None:
        read = (path, *(Path(entry.file) for entry in entries))
        check_output(csv, overwrite=overwrite, inputs=read)
    document = evaluation.compare(
        features, split, entries,
        bins=_options.bins(bins), select=None if every_setting else select,
        against=against, at=levels, prior=prior, replicates=replicates, seed=seed,
    )  # fmt: skip
    document["features"] = str(path)
    _output.say_of_choice(document, quiet)
    if csv is not None:
        _write_csv(csv, document)
        _output.say(f"wrote {csv}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print(document)


def _levels(text: str) -> list[float]:
    given = numerals.numbers(text, "--at", numerals.Range(0, 100), example="40,41.5")
    return [round(value / 100, 12) for value in given]


def _write_csv(target: Path, document: dict[str, Any]) -> None:
    """Write a row for each setting and group; fractions, empty where there is none."""
    from ltkit.files.tables import write_csv

    rows = [
        [
            method["name"], point["label"], point["runs"], group, point["accuracy"][group],
            point["std"] and point["std"][group], *(point["interval"][group] or (None, None)),
        ]
        for method in document["methods"]
        for point in method["points"]
        for group in GROUPS
    ]  # fmt: skip
    heading = ["method", "setting", "seeds", "group", "accuracy", "std", "low", "high"]
    write_csv(target, heading, rows)


def _print(document: dict[str, Any]) -> None:
    even = all(
        point["accuracy"]["all"] is None
        or abs(point["accuracy"]["all"] - point["accuracy"]["balanced"]) < 1e-9
        for method in document["methods"]
        for point in method["points"]
    )
    columns = GROUPS[:-1] if even else GROUPS  # they coincide when balanced
    _print_points(document, columns)
    if document["pairs"]:
        _print_pairs(document, columns)
    if document["frontier"] is None:
        typer.echo("no few-shot class in this split: no curves")
    else:
        _print_frontier(document["frontier"], document["against"])
    if document["untested_classes"]:
        typer.echo(f"{document['untested_classes']} classes have no sample in this split: left out")


def _print_points(document: dict[str, Any], columns: tuple[str, ...]) -> None:
    """Print the settings in the pairs, with intervals."""
    chosen, methods = document["select"], document["methods"]
    title = f"{document['features']}, {document['split']} split, {document['n']} samples"
    title += _measures.under(document["prior"])
    if chosen and any(len(method["points"]) > 1 for method in methods):
        title += f"; * best on val by {chosen} accuracy"
    _output.print_fitting(partial(_points, document, columns), title)
    every = [point for method in methods for point in method["points"]]
    others = sum(not point["in_pairs"] for point in every)
    if others:
        typer.echo(f"{others} other settings, of the curves, are in --json and --csv")


def _points(document: dict[str, Any], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return the table of settings; the narrow one says below the names what beats them."""
    sizes, chosen = document["groups"], document["select"]
    every = [point for method in document["methods"] for point in method["points"]]
    several = {p["label"] for m in document["methods"] if len(m["points"]) > 1 for p in m["points"]}
    scale = _tables.scale_of([point for point in every if point["in_pairs"]], columns)
    table = _tables.table_of("accuracy in %", columns, look, scale)
    for column in table.columns[1:]:
        count = sizes.get(str(column.header))
        column.header = f"{column.header}\n{'' if count is None else f'{count} classes'}"
    if not look.narrow:
        table.add_column("beaten in\nfew and all by")
    for point in every:
        if not point["in_pairs"]:
            continue
        star = " *" if point["in_pairs"] and point["label"] in several and chosen else ""
        label = f"{_tables.safe(point['label'])}{star}"
        if point["runs"] > 1:
            label += f"\n± std over {point['runs']} seeds"
        cells = [
            _tables.cell(point["accuracy"], point["interval"], point["std"], name, "", look, scale)
            for name in columns
        ]
        above = _tables.safe(point["dominated_by"] or "")
        if look.narrow:
            table.add_row(f"{label}\n{'under ' * bool(above)}{above}".rstrip(), *cells)
        else:
            table.add_row(label, *cells, above)
    return table


def _print_pairs(document: dict[str, Any], columns: tuple[str, ...]) -> None:
    """Print differences with intervals, their p, and the classes won and lost."""
    looks: list[_output.Look] = []

    def make(look: _output.Look) -> "Table":
        looks.append(look)
        return _pairs(document["pairs"], columns, look)

    _output.print_fitting(
        make,
        "pairs: 95 % intervals and p for each pair alone; samples only one is right on",
    )
    for pair in document["pairs"] if looks[-1].narrow else ():
        p, classes = (text.replace("\n", "; ") for text in _tests(pair))
        names = f"{pair['first']} - {pair['second']}"
        typer.echo(_output.printable(f"{names}: p of all {p}; classes won, lost, tied {classes}"))


def _pairs(pairs: list[dict[str, Any]], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return the table of pairs; the narrow one omits tests and classes."""
    scale = _tables.scale_of(pairs, columns)
    table = _tables.table_of("difference in points", columns, look, scale)
    if not look.narrow:
        table.add_column("p of all", justify="right")
        table.add_column("classes won, lost, tied")
    for pair in pairs:
        table.add_row(
            f"{_tables.safe(pair['first'])}\n- {_tables.safe(pair['second'])}",
            *(
                _tables.cell(pair["difference"], pair["interval"], None, n, "+", look, scale)
                for n in columns
            ),
            *(() if look.narrow else map(_lines, _tests(pair))),
        )
    return table


def _tests(pair: dict[str, Any]) -> tuple[str, str]:
    """Return a pair's test and its classes won and lost, two lines each."""
    test, classes = pair["mcnemar"], pair["classes"]
    named = [
        f"{sign} {', '.join(_output.printable(c['name']) for c in classes[part][:NAMED])}"
        for sign, part in (("+", "wins"), ("-", "losses"))
        if classes[part]
    ]
    p = "–" if pair["p"]["all"] is None else _p_value(pair["p"]["all"])
    return (
        p if test is None else f"{p}\n{test['only_first']} : {test['only_second']}",
        f"{len(classes['wins'])}, {len(classes['losses'])}, {classes['ties']}\n{'; '.join(named)}",
    )


def _lines(text: str) -> str:
    return "\n".join(map(_tables.safe, text.split("\n")))


def _print_frontier(frontier: dict[str, Any], against: str | None) -> None:
    """Print the height of every method's curve at each level, and gaps with intervals."""
    _output.print_fitting(
        partial(_frontier, frontier, against),
        "curves: few-shot accuracy in % at equal overall accuracy, gaps with 95 % intervals",
    )
    spans = [
        ("up" if b["from"] is None else f"from {100 * b['from']:.1f}")
        + f" to {100 * b['to']:.1f} % {b['method']}"
        for b in frontier["best"]
    ]
    typer.echo(_output.printable(f"most few-shot accuracy at overall accuracy {'; '.join(spans)}"))


def _frontier(frontier: dict[str, Any], against: str | None, look: _output.Look) -> "Table":
    few, levels = frontier["few"], frontier["overall"]
    gaps = {(g["first"], g["second"], g["overall"]): _gap(g, look) for g in frontier["gaps"]}
    table = _tables.table_of("overall at least", (f"{100 * level:g}" for level in levels), look)
    for name, values in few.items():
        cells = [_tables.percent(value) for value in values]
        if against is not None:
            over = [gap for (first, *_), gap in gaps.items() if first == name] or [""] * len(cells)
            cells = [f"{cell}\n{gap}" for cell, gap in zip(cells, over, strict=True)]
        table.add_row(_tables.safe(name), *cells)
    if against is None:
        leads = []
        for number, level in enumerate(levels):
            there = {name: values[number] for name, values in few.items()}
            reached = [name for name, value in there.items() if value is not None]
            best, *others = sorted(reached, key=lambda name: -there[name]) or [""]
            leads.append(f"{_tables.safe(best)}\n{gaps[best, others[0], level]}" if others else "")
        table.add_row("the best's gap to the next", *leads)
    return table


def _p_value(p: float) -> str:
    return "<0.0001" if p < 1e-4 else f"{p:.2g}"


def _gap(gap: dict[str, Any], look: _output.Look) -> str:
    """Return a gap in points with its interval; a missing bound is infinite."""
    if gap["gap"] is None:
        return ""
    if gap["interval"] is None:
        return f"{100 * gap['gap']:+.1f}\nno interval"
    low, high = gap["interval"]
    ends = (
        "-∞" if low is None else f"{100 * low:+.1f}",
        "∞" if high is None else f"{100 * high:+.1f}",
    )
    return f"{100 * gap['gap']:+.1f}\n{look.interval(*ends)}"
