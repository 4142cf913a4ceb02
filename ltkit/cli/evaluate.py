"""``ltkit evaluate``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths
from ltkit.settings import PathRule

if TYPE_CHECKING:
    from ltkit.evaluation import Entry, Grouping
    from ltkit.records import FeatureSet

COLUMNS = ("few", "medium", "many", "all", "balanced")


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
    level: Annotated[int, typer.Option(min=0)] = 4,
    topk: Annotated[str, typer.Option(help="Which top-k accuracies.")] = "1,5",
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
    replicates: Annotated[
        int, typer.Option(help="Of the bootstrap.", min=100, max=1_000_000)
    ] = 2000,
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

    limits = [_limit(text) for text in fail_under or []]
    path = _paths.features_path(feats, quiet)
    features = features_file.read(path)
    entries = read_entries(path, features, classifier, quiet)
    references = relative_to or []
    if per_class is not None:
        read = (path, *(Path(entry.file) for entry in entries), *references)
        check_output(per_class, overwrite=overwrite, inputs=read)
    document, by_class = evaluation.evaluate(
        features, split, entries,
        bins=_options.whole_numbers(bins, "--bins"),
        grouping=_grouping(group, rule, level, features),
        topk=_options.whole_numbers(topk, "--topk"),
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

    Raises:
        InputError: when one was made from other features.
    """
    from ltkit.errors import InputError
    from ltkit.evaluation import Entry
    from ltkit.files import classifiers

    files = _paths.classifiers_of(path, features.digest) if named is None else named
    if named is None and files:
        _output.say(f"with {', '.join(f.name for f in files)}", quiet)
    files = list({file.resolve(): file for file in files}.values())
    read = [(file, *classifiers.read(file)) for file in files]
    for file, _, inputs in read:
        if inputs.get("features") != features.digest:
            raise InputError(
                f"{file}: fitted on features {str(inputs.get('features'))[:12]}, found "
                f"{features.digest[:12]} in {path}; fit it again on these"
            )
    methods, stems = [c.method for _, c, _ in read], [file.stem for file in files]
    return [
        Entry(
            c.method if methods.count(c.method) == 1
            else file.stem if stems.count(file.stem) == 1
            else str(file),
            str(file),
            c,
        )
        for file, c, _ in read
    ]  # fmt: skip


def _grouping(group: str, rule: PathRule, level: int, features: "FeatureSet") -> "Grouping | None":
    from ltkit import hierarchy
    from ltkit.errors import InputError
    from ltkit.evaluation import Grouping

    classes = features.classes
    if group == "none":
        return None
    if group == "wordnet":
        if classes.wnids is None:
            raise InputError(
                f"{features.source}: classes/wnid: absent, so no WordNet groups; use --group "
                "coarse or a group file"
            )
        related = hierarchy.related_classes(classes.wnids, rule=rule, level=level)
        return Grouping(related, {"by": "wordnet", "rule": rule, "level": level})
    if group == "coarse":
        if classes.coarse is None:
            raise InputError(
                f"{features.source}: classes/coarse: absent, so no superclasses; use a group file"
            )
        return Grouping(hierarchy.group_members(classes.coarse), {"by": "coarse"})
    if not Path(group).is_file():
        raise InputError(f"--group: found {group}, expected none, wordnet, coarse or a file")
    names = classes.names or tuple(map(str, range(len(classes))))
    groups = hierarchy.read_group_file(Path(group), names)
    return Grouping(hierarchy.group_members(groups), {"by": group})


def _limit(text: str) -> tuple[str, float]:
    from ltkit.errors import InputError

    name, _, value = text.partition("=")
    try:
        limit = float(value)
    except ValueError:
        limit = -1.0
    if name not in COLUMNS or not 0 <= limit <= 1:
        raise InputError(
            f"--fail-under: found {text!r}, expected GROUP=X with a group of {', '.join(COLUMNS)} "
            "and X from 0 to 1, as few=0.35"
        )
    return name, limit


def _failures(document: dict[str, Any], limits: list[tuple[str, float]]) -> list[str]:
    """Hold every correction, or the baseline when it is alone, to the limits."""
    from ltkit.errors import InputError

    failures = []
    for name, limit in limits:
        for row in document["rows"][1:] or document["rows"]:
            value = row["accuracy"][name]
            if value is None:
                raise InputError(f"--fail-under: no {name} class in the {document['split']} split")
            if value < limit:
                failures.append(f"{_label(row)}: {name} {value:.4f} is under {limit:g}")
    return failures


def _label(row: dict[str, Any]) -> str:
    from ltkit.evaluation import shown

    knobs = [f"{k} {v:g}" for k, v in shown(row["settings"])]
    return " ".join([row["name"], *knobs])


def _write_per_class(
    target: Path, features: "FeatureSet", split: str, bins: str, by_class: dict[str, Any]
) -> None:
    import csv
    import io

    import numpy as np

    from ltkit.files.atomic import write_text
    from ltkit.records import shot_groups

    classes = features.classes
    groups = shot_groups(classes.train_count, _options.whole_numbers(bins, "--bins"))
    group_of = {int(c): name for name, ids in groups.items() for c in ids}
    counts = np.bincount(features.split(split).labels, minlength=len(classes))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", "name", "group", "train_count", f"{split}_count", *by_class])
    for c in range(len(classes)):
        accuracy = ["" if np.isnan(v[c]) else f"{v[c]:.6f}" for v in by_class.values()]
        name = _output.spreadsheet_safe(classes.name(c))
        writer.writerow([c, name, group_of[c], classes.train_count[c], counts[c], *accuracy])
    write_text(target, text.getvalue())


def _print_table(document: dict[str, Any]) -> None:
    """Print accuracies in percent: a baseline row, then each correction with its differences."""
    from rich import box
    from rich.table import Table

    sizes, rows = document["groups"], document["rows"]
    accuracies = [row["accuracy"] for row in rows]
    even = all(a["all"] is None or abs(a["all"] - a["balanced"]) < 1e-9 for a in accuracies)
    columns = COLUMNS[:-1] if even else COLUMNS  # they coincide on a balanced split
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("accuracy in %\n95 % interval")
    for name in columns:
        title = f"{name}\n{sizes[name]} class{'es' * (sizes[name] != 1)}" if name in sizes else name
        table.add_column("all =\nbalanced" if even and name == "all" else title, justify="right")
    topk = max((int(key[3:]) for key in rows[0] if key.startswith("top")), default=1)
    table.add_column(f"top-{topk}", justify="right")
    table.add_column("ECE", justify="right")
    for row in rows:
        label = _label(row) + (f"\n± std over {row['runs']} seeds" if row["runs"] > 1 else "")
        cells = [cell(row["accuracy"], row["interval"], row["std"], name) for name in columns]
        top = row["accuracy" if topk == 1 else f"top{topk}"]["all"]
        table.add_row(label, *cells, percent(top), percent(row["calibration"].get("all")))
        if "difference" in row:
            gains, intervals = row["difference"], row["difference_interval"]
            cells = [cell(gains, intervals, None, name, sign="+") for name in columns]
            table.add_row("  over baseline", *cells, style="dim")
    _output.print_table(
        table, f"{document['features']}, {document['split']} split, {document['n']} samples"
    )
    if "relative_to" in document:
        _print_relative(document, columns)
    if "grouped" in rows[0]:
        _print_grouped(rows, columns)
    if document["untested_classes"]:
        typer.echo(f"{document['untested_classes']} classes have no sample in this split: left out")


def _print_relative(document: dict[str, Any], columns: tuple[str, ...]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("relative accuracy in %\n95 % interval")
    for name in columns:
        table.add_column(name, justify="right")
    for model in document["relative_to"]:
        cells = [percent(model["accuracy"][name]) for name in columns]
        table.add_row(f"accuracy of {Path(model['features']).name}", *cells, style="dim")
    for row in document["rows"]:
        relative = row["relative"]
        cells = [cell(relative["accuracy"], relative["interval"], None, name) for name in columns]
        table.add_row(_label(row), *cells)
    _output.print_table(table, "accuracy over the best that balanced training data gave")


def _print_grouped(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    from rich import box
    from rich.table import Table

    about = rows[0]["grouped"]
    how = f" ({about['rule']} rule, level {about['level']})" if "rule" in about else ""
    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("grouped accuracy in %\n95 % interval")
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        g = row["grouped"]
        cells = [cell(g["accuracy"], g["interval"], g["std"], name) for name in columns]
        table.add_row(_label(row), *cells)
    title = (
        f"grouped by {about['by']}{how}: a prediction counts when it falls in the true class's "
        f"group; mean group {about['mean_group_size']:.1f} classes, chance "
        f"{100 * about['chance']:.1f} %"
    )
    _output.print_table(table, title)


def percent(value: float | None) -> str:
    """Return a fraction in %, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def cell(
    values: dict[str, float | None],
    intervals: dict[str, list[float] | None],
    deviations: dict[str, float | None] | None,
    name: str,
    sign: str = "",
) -> str:
    """Return a fraction in % with its deviation, and its interval on a second line."""
    value, interval = values[name], intervals[name]
    if value is None:
        return "–"
    deviation = deviations[name] if deviations else None
    spread = "" if deviation is None else f" ± {100 * deviation:.1f}"
    shown = f"{100 * value:{sign}.1f}{spread}"
    if interval is None:
        return f"{shown}\nno interval"
    low, high = (f"{100 * v:{sign}.1f}" for v in interval)
    return f"{shown}\n{low} to {high}"
