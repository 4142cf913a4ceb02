"""``ltkit compare``."""

from dataclasses import replace
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

PAIRED = 6
"""Most settings beside confused pairs, in the table."""

NAME, FIGURE = 22, 13
"""Characters that a name and a figure take at least in the table for a screen."""

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
    files: _options.FeatsOfNetworks = None,
    base: _options.Base = None,
    against: Against = None,
    select: ChosenBy = "balanced",
    every_setting: _options.EverySetting = False,
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

    Features files of several networks are compared on one test set: the same ids in any order, or
    without ids the same labels in order. The shot groups are those of the first; the intervals
    hold for these networks as trained, on new samples. Of corrections, only the named are compared.
    The pairs of classes that the first confuses most are listed, with the others' share.

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
      confusions of several networks: of (a label), settings (labels), pairs as analyze confusion
                 has them; null for one network
      conclusion in words
      and features, networks (files), split, n, bins, groups, samples, bootstrap, select, against,
      prior (null without one), untested_classes; metrics of points as evaluate has them, of
      predictions

    Example: ltkit compare feats.h5 feats.alphanet.h5 feats.logit-adjust.h5 --against baseline

    Example: ltkit compare ce.h5 swrm.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit import evaluation
    from ltkit.files.atomic import check_output

    levels = None if at is None else _levels(at)
    path, named = _inputs.features_and_named(files, quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet, split)
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
    """Print everything; on a screen that is too low for that, what fits it."""
    even = all(
        point["accuracy"]["all"] is None
        or abs(point["accuracy"]["all"] - point["accuracy"]["balanced"]) < 1e-9
        for method in document["methods"]
        for point in method["points"]
    )
    columns = GROUPS[:-1] if even else GROUPS  # they coincide when balanced
    parts = [_of_points(document, columns), *_below(document)]
    if document["pairs"]:
        parts.append(_of_pairs(document, columns))
    if document["frontier"] is None:
        parts.append("no few-shot class in this split: no curves")
    else:
        parts.append(_of_frontier(document["frontier"], document["against"]))
    if document["confusions"] is not None:
        parts.append(_of_confusions(document["confusions"]))
    text = "\n".join([*parts, _output.wrapped(document["conclusion"])])
    if _output.for_people() and _output.is_longer_than_screen(text):
        text = _for_a_screen(document, columns)
    typer.echo(text)


def _of_confusions(found: dict[str, Any]) -> str:
    """Return the pairs of classes that the first network confuses most."""
    return _output.fitting(lambda look: _tables.of_pairs(found, PAIRED), _tables.about_pairs(found))


def _below(document: dict[str, Any]) -> list[str]:
    """Return lines on what the tables leave out."""
    every = [point for method in document["methods"] for point in method["points"]]
    others, untested = sum(not point["in_pairs"] for point in every), document["untested_classes"]
    lines = [f"{others} other settings: --all, or --csv"] if others else []
    return lines + [f"{untested} classes have no sample in this split: left out"] * bool(untested)


def _title(document: dict[str, Any]) -> str:
    chosen, methods = document["select"], document["methods"]
    title = f"{_tables.files(document)}, {document['split']} split, {document['n']} samples"
    title += _measures.under(document["prior"])
    if chosen and any(len(method["points"]) > 1 for method in methods):
        title += f"; * best on val by {chosen} accuracy"
    return title


def _for_a_screen(document: dict[str, Any], columns: tuple[str, ...]) -> str:
    """Return the accuracies and the differences to one of them, and the conclusion."""
    fewer = (columns, tuple(name for name in columns if name != "medium"))
    columns = next((some for some in fewer if _fits(some)), ("few", "all"))
    left_out = "; ".join([*_below(document), "all pairs and curves: | less -S"])
    table = _output.fitting(partial(_summary, document, columns), _title(document))
    return "\n".join([table, left_out, _output.wrapped(document["conclusion"])])


def _fits(columns: tuple[str, ...]) -> bool:
    return NAME + FIGURE * len(columns) <= _output.columns()


def _summary(document: dict[str, Any], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return a table of three lines a correction."""
    standing = _standing(document)
    against = document["against"] or standing[0][1]["label"]
    pairs = {pair["first"]: pair for pair in document["pairs"] if pair["second"] == against}
    table = _tables.table_of("accuracy in %", columns, replace(look, bars=False))
    table.columns[0].header = f"accuracy in %\nover {_tables.safe(against)}\n95 % interval"
    table.show_edge = False
    for method, point in standing:
        cells = []
        for name in columns:
            value = point["accuracy"][name]
            if (pair := pairs.get(point["label"])) and value is not None:
                gain = _tables.cell(pair["difference"], pair["interval"], None, name, "+", look)
                cells.append(f"{_tables.percent(value)}\n{gain}")
            else:
                cells.append(
                    _tables.cell(point["accuracy"], point["interval"], None, name, "", look)
                )
        table.add_row(_label(method, point | {"runs": 1}, document["select"], look), *cells)
    return table


def _of_points(document: dict[str, Any], columns: tuple[str, ...]) -> str:
    """Return the settings in the pairs, with intervals."""
    return _output.fitting(partial(_points, document, columns), _title(document))


def _standing(document: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the settings in the pairs, each with its method."""
    return [(m, p) for m in document["methods"] for p in m["points"] if p["in_pairs"]]


def _label(
    method: dict[str, Any], point: dict[str, Any], select: str | None, look: _output.Look
) -> str:
    """Return a setting's name, with lines on its seeds and on those it was chosen of."""
    label, points = _tables.safe(point["label"]), method["points"]
    seeds = f"\n± std over {point['runs']} seeds" if point["runs"] > 1 else ""
    if len(points) == 1 or select is None:
        return label + seeds
    settings = [other["settings"] for other in points]
    few = [other["accuracy"]["few"] for other in points]
    return f"{label} *{seeds}{_tables.of_sweep(settings, few, look)}"


def _points(document: dict[str, Any], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return the table of settings; the narrow one says below the names what beats them."""
    sizes = document["groups"]
    scale = _tables.scale_of([point for _, point in _standing(document)], columns)
    table = _tables.table_of("accuracy in %", columns, look, scale)
    for column in table.columns[1:]:
        count = sizes.get(str(column.header))
        column.header = f"{column.header}\n{'' if count is None else f'{count} classes'}"
    if not look.narrow:
        table.add_column("beaten in\nfew and all by")
    for method, point in _standing(document):
        label = _label(method, point, document["select"], look)
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


def _of_pairs(document: dict[str, Any], columns: tuple[str, ...]) -> str:
    """Return differences with intervals, their p, and the classes won and lost."""
    looks: list[_output.Look] = []

    def make(look: _output.Look) -> "Table":
        looks.append(look)
        return _pairs(document["pairs"], columns, look)

    lines = [
        _output.fitting(
            make, "pairs: 95 % intervals and p for each pair alone; samples only one is right on"
        )
    ]
    for pair in document["pairs"] if looks[-1].narrow else ():
        p, classes = (text.replace("\n", "; ") for text in _tests(pair))
        names = f"{pair['first']} - {pair['second']}"
        lines.append(_output.printable(f"{names}: p of all {p}; classes won, lost, tied {classes}"))
    return "\n".join(lines)


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


def _of_frontier(frontier: dict[str, Any], against: str | None) -> str:
    """Return the height of every method's curve at each level, and gaps with intervals."""
    table = _output.fitting(
        partial(_frontier, frontier, against),
        "curves: few-shot accuracy in % at equal overall accuracy, gaps with 95 % intervals",
    )
    spans = [
        ("up" if b["from"] is None else f"from {100 * b['from']:.1f}")
        + f" to {100 * b['to']:.1f} % {b['method']}"
        for b in frontier["best"]
    ]
    most = f"most few-shot accuracy at overall accuracy {'; '.join(spans)}"
    return f"{table}\n{_output.printable(most)}"


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
