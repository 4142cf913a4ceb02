"""``ltkit analyze``."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ltkit.cli import _options, _output, compare, evaluate
from ltkit.errors import InputError
from ltkit.settings import GROUPS, Metric, NeighborSettings, PathRule

if TYPE_CHECKING:
    from ltkit.evaluation.analysis import ByDistance, Case, Flow, RhoCurve
    from ltkit.records import FeatureSet, Ints, Neighbors, ShotGroups

app = typer.Typer(
    help="What corrections do, and where: by neighbour distance, as flows, over rho.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip

WIDE = 4
"""Corrections up to which the table of classes is printed."""

By = Literal["features", "wordnet", "both"]
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FEATS] [CLASSIFIER...]",
        help="Features file, as for evaluate, and corrections; default: all beside FEATS made from "
        "it.",
        show_default=False,
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
MetricName = Annotated[Metric, typer.Option(help="Of the neighbours.")]
Csv = Annotated[
    Path | None, typer.Option(help="Also write the figures to a CSV.", show_default=False)
]


@app.callback()
def group() -> None:
    """What corrections do, and where: by neighbour distance, as flows, over rho."""


@app.command()
def distance(
    files: Files = None,
    k: _options.Neighbours = NeighborSettings.k,
    metric: MetricName = NeighborSettings.metric,
    of: Annotated[str, typer.Option(help="Which classes: few, medium, many, base, all.")] = "few",
    among: Annotated[str, typer.Option(help="Which classes may be neighbours.")] = "base",
    split: Split = "test",
    bins: _options.Bins = "20,100",
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Relate class accuracies, and their change, to the distance of the nearest classes.

    The distance of a class is the mean over its k neighbours. r is Spearman's rank correlation over
    classes: with the accuracy (of several seeds, their mean), and with its change. Classes close to
    others are mistaken for them, so the first is usually positive; a correction that helps just
    them has a negative second one.

    \b
    --json prints fractions in 0..1, null where there is none:
      classes    class, name, train_count, samples, distance, neighbors (ids, nearest first)
      rows       name, label, settings, runs, accuracy and std by class, r, and for corrections
                 change by class, change_r, and r_std and change_r_std over runs

    Example: ltkit analyze distance feats.h5 feats.alphanet.h5 --k 5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    import numpy as np

    from ltkit.evaluation import analysis

    read = _read(files, split, bins, csv, overwrite, quiet)
    means = _Means.of(read, quiet)
    chosen, others = means.members(of, "--of"), means.members(among, "--among")
    for option, ids in ((f"--of {of}", chosen), (f"--among {among}", others)):
        if not len(ids):
            raise InputError(f"{read.path}: {option}: found no such class with bins {bins}")
    near = means.nearest(chosen, others, NeighborSettings(k, metric, seed))
    after: list[Any] = [case.predicted for case in read.cases] or [read.before[None]]
    found = [
        analysis.by_distance(read.before, predicted, read.labels, read.num_classes, near)
        for predicted in after
    ]
    counts = np.bincount(read.labels, minlength=read.num_classes)
    classes = read.features.classes
    base_class = dict(zip(near.few_class.tolist(), near.base_class.tolist(), strict=True))
    rows: list[dict[str, Any]] = [
        {
            "name": "baseline", "label": "baseline", "file": str(read.path), "settings": {},
            "runs": 1, "accuracy": found[0].before.tolist(), "std": None,
            "r": _number(found[0].before_r),
        }
    ]  # fmt: skip
    rows += [_distance_row(case, by) for case, by in zip(read.cases, found, strict=False)]
    document = {
        "schema": "ltkit.analyze-distance/1", **read.described, "of": of, "among": among, "k": k,
        "metric": metric, "n": len(found[0].class_id),
        "classes": [
            {
                "class": c, "name": classes.name(c), "train_count": int(classes.train_count[c]),
                "samples": int(counts[c]), "distance": mean, "neighbors": base_class[c],
            }
            for c, mean in zip(
                found[0].class_id.tolist(), found[0].distance.tolist(), strict=True
            )
        ],
        "rows": rows,
    }  # fmt: skip
    if csv is not None:
        _write_distance(csv, document)
        _output.say(f"wrote {csv}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print_distance(document, found[0].thirds())


@app.command()
def flows(
    files: Files = None,
    by: Annotated[
        By,
        typer.Option(
            help="What a neighbour is: one of the k nearest by mean feature, or near in WordNet; "
            "both: WordNet where the classes have wnids."
        ),
    ] = "both",
    k: _options.Neighbours = NeighborSettings.k,
    metric: MetricName = NeighborSettings.metric,
    rule: Annotated[
        PathRule, typer.Option(help="WordNet: a path of at most --level links, or an ancestor.")
    ] = "path",
    level: _options.Level = 4,
    split: Split = "test",
    bins: _options.Bins = "20,100",
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Count where predictions go between correct, a neighbour of the true class, and other.

    For samples of few classes with neighbours among the base classes, of base classes with
    neighbours among the few, and of all classes among all; in WordNet always among all. Without a
    correction: what the model's own predictions are.

    \b
    --json prints for each correction, group of samples and kind of neighbours a row:
      name, label, settings, runs, samples, by, k, classes, n, mean_neighbors (of a class), before,
      after and after_std (by correct, neighbor, other), count (3 x 3, rows before, columns after),
      share (of n) and std (of count); means over runs, std null for a single one

    Example: ltkit analyze flows feats.h5 feats.alphanet.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    read = _read(files, split, bins, csv, overwrite, quiet)
    wnids = read.features.classes.wnids
    if by == "wordnet" and wnids is None:
        raise InputError(
            f"{read.features.source}: classes/wnid: absent, so WordNet has no neighbours; use --by "
            "features"
        )
    if by == "both" and wnids is None:
        _output.say("note: classes/wnid: absent, so no WordNet neighbours", quiet)
    kinds: list[dict[str, Any]] = []
    if by != "wordnet":
        kinds += _feature_neighbors(read, NeighborSettings(k, metric, seed), quiet)
    if by != "features" and wnids is not None:
        kinds += _wordnet_neighbors(read, wnids, rule, level)
    asked: list[Case | None] = [*read.cases] or [None]
    rows = [_flow_row(read, case, kind) for case in asked for kind in kinds]
    document = {
        "schema": "ltkit.analyze-flows/1", **read.described, "k": k, "metric": metric,
        "rule": rule, "level": level, "rows": [row for row in rows if row["n"]],
    }  # fmt: skip
    if csv is not None:
        _write_flows(csv, document)
        _output.say(f"wrote {csv}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print_flows(document)


@app.command()
def deltas(
    files: Files = None,
    split: Split = "test",
    bins: _options.Bins = "20,100",
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print the change of few, medium, many and overall accuracy against rho, mean over seeds.

    Fits that agree in everything but rho and seed make one curve, in one file or several; give a
    fit of --metric random beside that of nearest neighbours as the control. Equal rho is not equal
    overall accuracy: ltkit compare has the curves of few-shot against overall accuracy.

    \b
    --json prints fractions, null where there is none:
      baseline   accuracy by group
      curves     name, files, metric, k, and points: rho, runs, change and std by group

    Example: ltkit analyze deltas feats.h5 feats.alphanet.h5 feats.random.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.evaluation import analysis, metrics

    read = _read(files, split, bins, csv, overwrite, quiet, with_rho=True)
    every = analysis.rho_curves(read.cases, read.before, read.labels, read.num_classes, read.groups)
    curves = [curve for curve in every if len(curve.rho) > 1]
    for curve in every:
        if curve not in curves and (read.named or not curves):
            raise InputError(
                f"{', '.join(curve.files)}: found one rho ({curve.rho[0]:g}) of {curve.name}, "
                "expected several for a curve; fit with --rho 0.5,1,1.5"
            )
        if curve not in curves:
            _output.say(f"note: {', '.join(curve.files)}: one rho of {curve.name}: left out", quiet)
    if not curves:
        raise InputError(
            f"{read.path}: found no fit beside it, expected one of several rho; make it with "
            "ltkit alphanet fit --rho 0.5,1,1.5 --seeds 5"
        )
    weights = metrics.group_weights(read.labels, read.num_classes, read.groups)
    right = read.before == read.labels
    own = metrics.class_accuracy(right, read.labels, read.num_classes)
    document = {
        "schema": "ltkit.analyze-deltas/1", **read.described,
        "baseline": metrics.summarize(own, weights),
        "curves": [
            {
                "name": curve.name, "files": list(curve.files), "metric": curve.metric,
                "k": curve.k,
                "points": [_point(curve, place) for place in range(len(curve.rho))],
            }
            for curve in curves
        ],
    }  # fmt: skip
    if csv is not None:
        _write_deltas(csv, document)
        _output.say(f"wrote {csv}", quiet)
    if json:
        _output.print_json(document)
    else:
        _print_deltas(document)


@dataclass(frozen=True, eq=False)
class _Read:
    """Features, and what the model's own head and every correction predict of a split."""

    path: Path
    features: "FeatureSet"
    groups: "ShotGroups"
    labels: "Ints"
    before: "Ints"
    cases: "list[Case]"
    named: bool
    described: dict[str, Any]

    @property
    def num_classes(self) -> int:
        return len(self.features.classes)


def _read(
    files: list[str] | None,
    split: str,
    bins: str,
    csv: Path | None,
    overwrite: bool,
    quiet: bool,
    with_rho: bool = False,
) -> _Read:
    """Read features and corrections; `with_rho`: of those not named, the ones that have a rho."""
    from ltkit.evaluation import analysis, predict_classes
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.records import Correction, shot_groups

    path, named = compare._inputs(files or [], quiet)
    features = features_file.read(path)
    entries = evaluate.read_entries(path, features, named, quiet)
    if with_rho and named is None:
        entries = [e for e in entries if all("rho" in run for run in e.correction.runs)]
    if csv is not None:
        read = (path, *(Path(entry.file) for entry in entries))
        check_output(csv, overwrite=overwrite, inputs=read)
    groups = shot_groups(features.classes.train_count, _options.bins(bins))
    data, base = features.split(split), features.classifier()
    if not len(data):
        raise InputError(f"{features.source}: {split}: found no sample")
    own = Correction.baseline(base)
    before, *after = predict_classes(data, base, [own, *(e.correction for e in entries)])
    described = {
        "features": str(path), "split": split, "bins": _options.bins(bins)
    }  # fmt: skip
    return _Read(
        path, features, groups, data.labels, before[0].astype("int64"),
        analysis.cases(entries, after), named is not None, described,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Means:
    """Mean features, and the neighbours found by them."""

    read: _Read
    means: Any
    trained: "Ints"

    @classmethod
    def of(cls, read: _Read, quiet: bool) -> "_Means":
        """Compute them; say how many classes have none."""
        import numpy as np

        from ltkit.class_means import class_means

        means, counts = class_means(read.features.split("train"), read.num_classes)
        if unseen := int((counts == 0).sum()):
            _output.say(f"note: {unseen} classes have no training sample: left out", quiet)
        return cls(read, means, np.flatnonzero(counts))

    def members(self, name: str, option: str) -> "Ints":
        import numpy as np

        from ltkit.records import members

        return np.intersect1d(members(self.read.groups, name, option), self.trained)

    def nearest(self, of: "Ints", among: "Ints", settings: NeighborSettings) -> "Neighbors":
        from ltkit.studies import Study

        study = Study(self.read.features, of, among, of[:0], self.means)
        return study.neighbors(settings.k, settings.metric, settings.seed)


def _feature_neighbors(
    read: _Read, settings: NeighborSettings, quiet: bool
) -> list[dict[str, Any]]:
    """Return the groups of samples with their neighbours in feature space."""
    from ltkit.evaluation import analysis

    means, kinds = _Means.of(read, quiet), []
    for samples, among in (("few", "base"), ("base", "few"), ("all", "all")):
        of, others = means.members(samples, ""), means.members(among, "")
        k = min(settings.k, len(others) - (samples == among))
        if not len(of) or k < 1:
            _output.say(f"note: no {samples} classes with neighbours among {among}", quiet)
            continue
        near = means.nearest(of, others, replace(settings, k=k))
        kinds.append({"samples": samples, "by": "features", "k": k, "of": of,
                      "pairs": analysis.pairs_of(near)})  # fmt: skip
    return kinds


def _wordnet_neighbors(
    read: _Read, wnids: Sequence[str], rule: PathRule, level: int
) -> list[dict[str, Any]]:
    """Return the groups of samples with the neighbours that their classes have in WordNet."""
    from ltkit import hierarchy
    from ltkit.evaluation import analysis
    from ltkit.records import members

    pairs = analysis.pairs_within(hierarchy.related_classes(wnids, rule=rule, level=level))
    return [
        {"samples": samples, "by": "wordnet", "k": None,
         "of": members(read.groups, samples, ""), "pairs": pairs}
        for samples in ("few", "base", "all")
    ]  # fmt: skip


def _number(value: float) -> float | None:
    """Return a number for JSON: null for what is not defined."""
    return None if math.isnan(value) else float(value)


def _distance_row(case: "Case", by: "ByDistance") -> dict[str, Any]:
    from ltkit.evaluation.analysis import mean_and_std

    accuracy, std = mean_and_std(by.after)
    several = len(by.after) > 1
    return {
        "name": case.name, "label": case.label, "file": case.file, "settings": dict(case.settings),
        "runs": len(by.after), "accuracy": accuracy.tolist(),
        "std": std.tolist() if several else None, "r": _number(by.after_r),
        "r_std": _number(float(mean_and_std(by.run_after_r)[1])),
        "change": (accuracy - by.before).round(12).tolist(), "change_r": _number(by.change_r),
        "change_r_std": _number(float(mean_and_std(by.run_change_r)[1])),
    }  # fmt: skip


def _flow_row(read: _Read, case: "Case | None", kind: dict[str, Any]) -> dict[str, Any]:
    """Return the flows of a group of samples; of the own head's predictions without a case."""
    import numpy as np

    from ltkit.evaluation import analysis

    inside = np.isin(read.labels, kind["of"])
    after: Any = read.before[None] if case is None else case.predicted
    found: Flow = analysis.flow(
        read.before[inside], after[:, inside], read.labels[inside], read.num_classes, kind["pairs"]
    )
    mean, std = analysis.mean_and_std(found.count)
    after_mean, after_std = analysis.mean_and_std(found.after)
    several = len(found.count) > 1
    names = analysis.STATUSES
    return {
        "name": "baseline" if case is None else case.name,
        "label": "baseline" if case is None else case.label,
        "file": str(read.path) if case is None else case.file,
        "settings": {} if case is None else dict(case.settings),
        "runs": len(found.count), "samples": kind["samples"], "by": kind["by"], "k": kind["k"],
        "classes": len(kind["of"]), "n": found.n,
        "mean_neighbors": float(np.isin(kind["pairs"][:, 0], kind["of"]).sum() / len(kind["of"])),
        "before": dict(zip(names, found.before.tolist(), strict=True)),
        "after": dict(zip(names, after_mean.tolist(), strict=True)),
        "after_std": dict(zip(names, after_std.tolist(), strict=True)) if several else None,
        "count": mean.tolist(), "share": (mean / max(found.n, 1)).tolist(),
        "std": std.tolist() if several else None,
    }  # fmt: skip


def _point(curve: "RhoCurve", place: int) -> dict[str, Any]:
    change, std = (
        {g: _number(parts[g][place]) if g in parts else None for g in GROUPS}
        for parts in (curve.change, curve.std)
    )
    return {
        "rho": float(curve.rho[place]), "runs": int(curve.runs[place]), "change": change,
        "std": std if curve.runs[place] > 1 else None,
    }  # fmt: skip


def _write_distance(target: Path, document: dict[str, Any]) -> None:
    from ltkit.files.tables import write_csv

    rows = [
        [row["label"], row["runs"], c["class"], c["name"], c["train_count"], c["samples"],
         _length(c["distance"]), row["accuracy"][place], row["std"] and row["std"][place],
         row["change"][place] if "change" in row else None]
        for row in document["rows"]
        for place, c in enumerate(document["classes"])
    ]  # fmt: skip
    heading = ["setting", "runs", "class", "name", "train_count", "samples", "distance",
               "accuracy", "std", "change"]  # fmt: skip
    write_csv(target, heading, rows)


def _length(value: float) -> float | str:
    """Return a length in the features' unit as a cell, with its digits where it is small."""
    return f"{value:.6e}" if 0 < value < 1e-3 else value


def _write_flows(target: Path, document: dict[str, Any]) -> None:
    from ltkit.evaluation.analysis import STATUSES
    from ltkit.files.tables import write_csv

    rows = [
        [row["label"], row["runs"], row["samples"], row["by"], row["n"], before, after,
         row["count"][b][a], row["std"] and row["std"][b][a], row["share"][b][a]]
        for row in document["rows"]
        for b, before in enumerate(STATUSES)
        for a, after in enumerate(STATUSES)
    ]  # fmt: skip
    heading = ["setting", "runs", "samples", "by", "n", "before", "after", "count", "std", "share"]
    write_csv(target, heading, rows)


def _write_deltas(target: Path, document: dict[str, Any]) -> None:
    from ltkit.files.tables import write_csv

    rows = [
        [curve["name"], curve["metric"], curve["k"], point["rho"], point["runs"], group,
         point["change"][group], point["std"] and point["std"][group]]
        for curve in document["curves"]
        for point in curve["points"]
        for group in GROUPS
    ]  # fmt: skip
    heading = ["curve", "metric", "k", "rho", "runs", "group", "change", "std"]
    write_csv(target, heading, rows)


def _table(first: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table


def _percent(value: float | None, std: float | None = None, sign: str = "") -> str:
    if value is None:
        return "–"
    return f"{100 * value:{sign}.1f}" + ("" if std is None else f" ± {100 * std:.1f}")


def _r(value: float | None, std: float | None = None) -> str:
    if value is None:
        return "–"
    return f"{value:+.2f}" + ("" if std is None else f" ± {std:.2f}")


def _title(document: dict[str, Any]) -> str:
    return f"{document['features']}, {document['split']} split"


def _print_distance(document: dict[str, Any], thirds: "list[Ints]") -> None:
    """Print accuracies by thirds of the classes, correlations, and classes if they fit."""
    classes, rows = document["classes"], document["rows"]
    parts = [
        (name, part)
        for name, part in zip(("nearest", "middle", "farthest"), thirds, strict=True)
        if len(part)
    ]
    heads = []
    for name, part in parts:
        spans = [classes[place]["distance"] for place in part]
        heads.append(f"{name} {len(part)}\n{min(spans):.3g} to {max(spans):.3g}")
    table = _table("accuracy in %, change", *heads, "r, accuracy", "r, change")
    for row in rows:
        cells = []
        for _, part in parts:
            cell = _percent(sum(row["accuracy"][p] for p in part) / len(part))
            if "change" in row:
                cell += f" {_percent(sum(row['change'][p] for p in part) / len(part), None, '+')}"
            cells.append(cell)
        table.add_row(
            _setting(row), *cells, _r(row["r"], row.get("r_std")),
            _r(row["change_r"], row["change_r_std"]) if "change" in row else "",
        )  # fmt: skip
    _output.print_table(
        table,
        f"{_title(document)}: {document['n']} {_among(document)}; r: Spearman's over the classes",
    )
    if len(rows) > 1 + WIDE:
        typer.echo("the classes one by one: --csv or --json, or fewer corrections")
        return
    table = _table("class (training samples)", "distance", *map(_setting, rows))
    for place in sorted(range(len(classes)), key=lambda p: (classes[p]["distance"], p)):
        c = classes[place]
        table.add_row(
            evaluate.safe(f"{c['name']} ({c['train_count']})"), f"{c['distance']:.3g}",
            *(_percent(row["accuracy"][place], row["std"] and row["std"][place]) for row in rows),
        )  # fmt: skip
    _output.print_table(table, "accuracy in %, nearest first")


def _among(document: dict[str, Any]) -> str:
    kind = "" if document["of"] == "all" else f"{document['of']} "
    return (
        f"{kind}classes by mean {document['metric']} distance to their {document['k']} "
        f"neighbours among {document['among']}"
    )


def _setting(row: dict[str, Any]) -> str:
    label = evaluate.safe(row["label"])
    return f"{label}\n± std, {row['runs']} seeds" if row["runs"] > 1 else label


def _print_flows(document: dict[str, Any]) -> None:
    """Print for each correction the flows of every group: samples, and their share in %."""
    from itertools import groupby

    from ltkit.evaluation.analysis import STATUSES

    words = ("correct", "neighbour", "other")
    for (file, _), rows in groupby(document["rows"], lambda r: (r["file"], r["label"])):
        group = list(rows)
        alone = file == document["features"]
        heads = ("samples",) if alone else ("before", *(f"then {word}" for word in words))
        table = _table(f"{_setting(group[0])}\nsamples (% of the group)", *heads)
        for row in group:
            near = (
                f"{row['k']} neighbours a class" if row["by"] == "features"
                else f"WordNet, level {document['level']}: {row['mean_neighbors']:.1f} a class"
            )  # fmt: skip
            table.add_row(
                f"{row['samples']}: {row['n']} samples of {row['classes']} classes; {near}",
                *[""] * len(heads),
                style="bold",
            )
            for b, status in enumerate(STATUSES):
                cells = [
                    _count(row["count"][b][a], row["n"], row["std"] and row["std"][b][a])
                    for a in range(len(STATUSES))
                ]
                total = _count(row["before"][status], row["n"])
                table.add_row(f"  {words[b]}", total, *([] if alone else cells))
            if not alone:
                totals = [
                    _count(row["after"][s], row["n"], row["after_std"] and row["after_std"][s])
                    for s in STATUSES
                ]
                table.add_row("  after", "", *totals, end_section=True)
        _output.print_table(table, _title(document))


def _count(value: float, n: int, std: float | None = None) -> str:
    spread = "" if std is None else f" ± {std:.1f}"
    whole = f"{value:.0f}" if float(value).is_integer() and std is None else f"{value:.1f}"
    return f"{whole}{spread} ({100 * value / n:.1f})"


def _print_deltas(document: dict[str, Any]) -> None:
    baseline = document["baseline"]
    same = abs(baseline["all"] - baseline["balanced"]) < 1e-9
    columns = GROUPS[:-1] if same else GROUPS
    table = _table("change in points", "rho", "seeds", *columns)
    own = [_percent(baseline[name]) for name in columns]
    table.add_row("baseline, accuracy in %", "", "", *own, end_section=True)
    for curve in document["curves"]:
        for point in curve["points"]:
            std = point["std"] or {}
            cells = [_percent(point["change"][name], std.get(name), "+") for name in columns]
            table.add_row(
                evaluate.safe(curve["name"]), f"{point['rho']:g}", str(point["runs"]), *cells,
                end_section=point is curve["points"][-1],
            )  # fmt: skip
    _output.print_table(table, f"{_title(document)}; mean ± std over seeds")
