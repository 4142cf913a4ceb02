"""``ltkit evaluate``."""

from collections.abc import Iterable
from functools import partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _options, _output, _paths
from ltkit.settings import GROUPS, PathRule

if TYPE_CHECKING:
    from rich.table import Table

    from ltkit.evaluation import Entry, Grouping
    from ltkit.records import FeatureSet

FRACTION = numerals.Range(0, 1)


def evaluate(
    feats: _options.Feats = None,
    classifier: Annotated[
        list[Path] | None,
        typer.Option(
            help="Classifier file; may be repeated; default: all beside FEATS made from it.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    group: Annotated[
        str, typer.Option(help="Grouped accuracy: none, wordnet, coarse or a file class<TAB>group.")
    ] = "none",
    rule: Annotated[
        PathRule, typer.Option(help="WordNet: a path of at most --level links, or an ancestor.")
    ] = "path",
    level: _options.Level = 4,
    topk: Annotated[
        str | None,
        typer.Option(
            help="Which top-k accuracies. Default: 1, and 5 of five classes or more.",
            show_default=False,
        ),
    ] = None,
    relative_to: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FEATS",
            show_default=False,
            help="Relative accuracy: features of a model trained with profile=balanced on a set as "
            "large; may be repeated, the best counts.",
        ),
    ] = None,
    per_class: Annotated[
        Path | None, typer.Option(help="Also write class accuracies to a CSV.", show_default=False)
    ] = None,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GROUP=X",
            show_default=False,
            help="Exit 1 when a correction, or the baseline alone, is below X in 0..1: few=0.35.",
        ),
    ] = None,
    bins: _options.Bins = "20,100",
    replicates: _options.Replicates = 2000,
    seed: _options.Seed = 0,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print many / medium / few accuracy of a model and its corrections, with 95 % intervals.

    Example: ltkit evaluate feats.h5 --group wordnet
    """  # fmt: skip
    from ltkit import evaluation
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output

    limits = [
        _limit(name, text)
        for name, text in _options.pairs(fail_under or [], "--fail-under", "GROUP=X, as few=0.35")
    ]
    path = _paths.features_path(feats, quiet)
    features = features_file.read(path)
    entries = read_entries(path, features, classifier, quiet)
    references = relative_to or []
    if per_class is not None:
        read = (path, *(Path(entry.file) for entry in entries), *references)
        check_output(per_class, overwrite=overwrite, inputs=read)
    document, by_class = evaluation.evaluate(
        features, split, entries,
        bins=_options.bins(bins),
        grouping=_grouping(group, rule, level, features),
        topk=None if topk is None else _options.whole_numbers(topk, "topk"),
        references=[features_file.read(file) for file in references],
        replicates=replicates,
        seed=seed,
    )  # fmt: skip
    document["features"] = str(path)
    failures = _failures(document, limits)
    if per_class is not None:
        _write_per_class(per_class, features, split, bins, by_class)
        _output.say(f"wrote {per_class}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print_table(document)
    for failure in failures:
        _output.say(failure)
    if failures:
        raise typer.Exit(1)


def read_entries(
    path: Path, features: "FeatureSet", named: list[Path] | None, quiet: bool
) -> "list[Entry]":
    """Read the classifier files that are named, or all beside the features file made from it.

    Of those that are not named, one that cannot be used is left out, and a note says why.

    Raises:
        FormatError: when one that is named is not sound.
        InputError: when one that is named was made from other features.
    """
    from ltkit.errors import LtkitError
    from ltkit.evaluation import Entry
    from ltkit.files import classifiers

    files = _paths.classifiers_of(path, features.digest) if named is None else named
    read = []
    for file in {file.resolve(): file for file in files}.values():
        try:
            read.append((file, classifiers.read_for(file, features)))
        except LtkitError as error:
            if named is not None:
                raise
            _output.say(f"note: left out: {error}", quiet)
    if named is None and read:
        _output.say(f"with {', '.join(file.name for file, _ in read)}", quiet)
    methods, stems = [c.method for _, c in read], [file.stem for file, _ in read]
    return [
        Entry(
            c.method if methods.count(c.method) == 1
            else file.stem if stems.count(file.stem) == 1
            else str(file),
            str(file),
            c,
        )
        for file, c in read
    ]  # fmt: skip


def _grouping(group: str, rule: PathRule, level: int, features: "FeatureSet") -> "Grouping | None":
    from ltkit.errors import InputError
    from ltkit.evaluation import Grouping
    from ltkit.neighbors import wordnet

    classes = features.classes
    if group == "none":
        return None
    if group == "wordnet":
        if classes.wnids is None:
            raise InputError(
                f"{features.source}: classes/wnid: absent, so no WordNet groups; use --group "
                "coarse or a group file"
            )
        related = wordnet.related_classes(classes.wnids, rule=rule, level=level)
        return Grouping(related, {"by": "wordnet", "rule": rule, "level": level})
    if group == "coarse":
        if classes.coarse is None:
            raise InputError(
                f"{features.source}: classes/coarse: absent, so no superclasses; use a group file"
            )
        return Grouping(wordnet.group_members(classes.coarse), {"by": "coarse"})
    if not Path(group).is_file():
        raise InputError(f"--group: found {group}, expected none, wordnet, coarse or a file")
    names = classes.names or tuple(map(str, range(len(classes))))
    groups = wordnet.read_group_file(Path(group), names)
    return Grouping(wordnet.group_members(groups), {"by": group})


def _limit(name: str, text: str) -> tuple[str, float]:
    _options.one_of(name, GROUPS, "--fail-under")
    return name, numerals.number(text, f"--fail-under {name}", FRACTION)


def _failures(document: dict[str, Any], limits: list[tuple[str, float]]) -> list[str]:
    """Hold every correction, or the baseline when it is alone, to the limits."""
    from ltkit.errors import InputError
    from ltkit.evaluation import labels

    failures = []
    named = list(zip(labels(document["rows"]), document["rows"], strict=True))
    for name, limit in limits:
        for label, row in named[1:] or named:
            value = row["accuracy"][name]
            if value is None:
                raise InputError(f"--fail-under: no {name} class in the {document['split']} split")
            if value < limit:
                failures.append(f"{label}: {name} {value:.4f} is under {limit:g}")
    return failures


def _write_per_class(
    target: Path, features: "FeatureSet", split: str, bins: str, by_class: dict[str, Any]
) -> None:
    import numpy as np

    from ltkit.files.tables import write_csv
    from ltkit.records import shot_groups

    classes = features.classes
    groups = shot_groups(classes.train_count, _options.bins(bins))
    group_of = {int(c): name for name, ids in groups.items() for c in ids}
    counts = np.bincount(features.split(split).labels, minlength=len(classes))
    heading = ["class", "name", "group", "train_count", f"{split}_count", *by_class]
    rows = [
        [
            c, classes.name(c), group_of[c], classes.train_count[c], counts[c],
            *(values[c] for values in by_class.values()),
        ]
        for c in range(len(classes))
    ]  # fmt: skip
    write_csv(target, heading, rows)


def _print_table(document: dict[str, Any]) -> None:
    """Print accuracies in percent: a baseline row, then each correction with its differences."""
    rows = document["rows"]
    accuracies = [row["accuracy"] for row in rows]
    even = all(a["all"] is None or abs(a["all"] - a["balanced"]) < 1e-9 for a in accuracies)
    columns = GROUPS[:-1] if even else GROUPS  # they coincide on a balanced split
    _output.print_fitting(
        partial(_accuracies, document, columns),
        f"{document['features']}, {document['split']} split, {document['n']} samples",
    )
    if "relative_to" in document:
        _print_relative(document, columns)
    if "grouped" in rows[0]:
        _print_grouped(rows, columns)
    if document["untested_classes"]:
        typer.echo(f"{document['untested_classes']} classes have no sample in this split: left out")


def _accuracies(document: dict[str, Any], columns: tuple[str, ...], look: _output.Look) -> "Table":
    """Return the table of accuracies; a narrow one has top-k and ECE below the names."""
    from ltkit.evaluation import labels

    sizes, rows = document["groups"], document["rows"]
    scale = scale_of(rows, columns)
    table = table_of("accuracy in %", (), look, scale)
    for name in columns:
        title = f"{name}\n{sizes[name]} class{'es' * (sizes[name] != 1)}" if name in sizes else name
        title = "all =\nbalanced" if name == "all" and name == columns[-1] else title
        table.add_column(title, justify="right", no_wrap=look.narrow)
    topk = max((int(key[3:]) for key in rows[0] if key.startswith("top")), default=1)
    more = (f"top-{topk}", "ECE")
    for name in () if look.narrow else more:
        table.add_column(name, justify="right")
    for label, row in zip(labels(rows), rows, strict=True):
        label = safe(label) + (f"\n± std over {row['runs']} seeds" if row["runs"] > 1 else "")
        cells = [
            cell(row["accuracy"], row["interval"], row["std"], name, "", look, scale)
            for name in columns
        ]
        top = row["accuracy" if topk == 1 else f"top{topk}"]["all"]
        last = [percent(top), percent(row["calibration"].get("all"))]
        if look.narrow:
            label += "\n" + ", ".join(map(" ".join, zip(more, last, strict=True)))
        table.add_row(label, *cells, *([] if look.narrow else last))
        if "difference" in row:
            gains, intervals = row["difference"], row["difference_interval"]
            cells = [cell(gains, intervals, None, name, "+", look) for name in columns]
            table.add_row("  over baseline", *cells, style="dim")
    return table


def _print_relative(document: dict[str, Any], columns: tuple[str, ...]) -> None:
    from ltkit.evaluation import labels

    rows = document["rows"]

    def make(look: _output.Look) -> "Table":
        scale = scale_of([row["relative"] for row in rows], columns, most=inf)
        table = table_of("relative accuracy in %", columns, look, scale)
        for model in document["relative_to"]:
            cells = [percent(model["accuracy"][name]) for name in columns]
            table.add_row(f"accuracy of {safe(Path(model['features']).name)}", *cells, style="dim")
        for label, row in zip(labels(rows), rows, strict=True):
            found = row["relative"]
            table.add_row(safe(label), *(
                cell(found["accuracy"], found["interval"], None, name, "", look, scale)
                for name in columns
            ))  # fmt: skip
        return table

    _output.print_fitting(make, "accuracy over the best that balanced training data gave")


def _print_grouped(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from ltkit.evaluation import labels

    about = rows[0]["grouped"]

    def make(look: _output.Look) -> "Table":
        scale = scale_of([row["grouped"] for row in rows], columns)
        table = table_of("grouped accuracy in %", columns, look, scale)
        for label, row in zip(labels(rows), rows, strict=True):
            g = row["grouped"]
            table.add_row(safe(label), *(
                cell(g["accuracy"], g["interval"], g["std"], name, "", look, scale)
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


def table_of(
    first: str,
    columns: Iterable[str],
    look: _output.Look,
    scale: tuple[float, float] | None = None,
) -> "Table":
    """Return an empty table of figures with 95 % intervals, and bars on a scale if it has them."""
    from rich import box
    from rich.table import Table

    bar = ""
    if look.bars and scale is not None:
        bar = f"\nbar {' to '.join(f'{100 * end:.0f}' for end in scale)}"
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column(f"{first}\n95 % interval{bar}", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=look.narrow)
    return table


def scale_of(
    found: Iterable[dict[str, Any]], columns: Iterable[str], most: float = 1.0
) -> tuple[float, float]:
    """Return the scale of the bars of all rows: of differences around 0, else up to `most`."""
    names = tuple(columns)
    every = [row["interval"][name] for row in found for name in names]
    signed = any(min(ends) < 0 for ends in every if ends is not None)
    low, high = _output.scale_of(every, signed)
    return low, min(high, most)


def safe(text: str) -> str:
    """Return text for a cell of a table, letter by letter."""
    from rich.markup import escape

    return escape(_output.printable(text))


def percent(value: float | None) -> str:
    """Return a fraction in %, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def cell(
    values: dict[str, float | None],
    intervals: dict[str, list[float] | None],
    deviations: dict[str, float | None] | None,
    name: str,
    sign: str = "",
    look: _output.Look = _output.PLAIN,
    scale: tuple[float, float] | None = None,
) -> str:
    """Return a fraction in % with its deviation, its interval below, and a bar on a scale."""
    value, interval = values[name], intervals[name]
    if value is None:
        return "–"
    deviation = deviations[name] if deviations else None
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    shown = f"{100 * value:{sign}.1f}{spread}"
    if interval is None:
        return f"{shown}\nno interval"
    ends = look.interval(*(f"{100 * v:{sign}.1f}" for v in interval))
    return f"{shown}\n{ends}{'' if scale is None else look.bar(interval, scale)}"
