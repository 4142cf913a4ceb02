"""``ltkit conformal``."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _inputs, _options, _output, _tables
from ltkit.settings import (
    COVERAGE,
    SET_FOLDS,
    SETS_FILE,
    SHOT_GROUPS,
    ConformalSettings,
    SetGoal,
    SetScore,
    SetThreshold,
)

if TYPE_CHECKING:
    from rich.table import Table

    from ltkit.records import Correction, FeatureSet

OfClassifier = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        help="Classifier file whose answers become sets. Default: the head of FEATS.",
        show_default=False,
    ),
]
Run = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE|best|mean",
        help="Run of --classifier, as ltkit export takes it; may be repeated.",
        show_default=False,
    ),
]
Wide = Annotated[
    float,
    _options.setting("coverage", "Part of the images whose set is to have the true class."),
]
ScoreOption = Annotated[
    SetScore | None,
    typer.Option(
        "--score",
        help="What a class's threshold is on: its probability; aps, raps: that of all classes as "
        "likely; pas: over its share in training. Default: all are tried.",
        show_default=False,
    ),
]
ThresholdOption = Annotated[
    SetThreshold | None,
    typer.Option(
        "--threshold",
        help="Which images a class's threshold is from: all; its own; a cluster of like classes; "
        "classes about as rare; between its own and all. Default: all are tried.",
        show_default=False,
    ),
]
Goal = Annotated[
    SetGoal,
    typer.Option(
        help="Of which images together the coverage is wanted, where several are tried: of all, of "
        "each shot group, or of each class. The smallest sets that serve it are recommended."
    ),
]


def conformal(
    feats: _options.Feats = None,
    classifier: OfClassifier = None,
    run: Run = None,
    coverage: Wide = COVERAGE,
    score: ScoreOption = None,
    threshold: ThresholdOption = None,
    goal: Goal = "groups",
    share: Annotated[
        float, _options.setting("share", "Of interpolated, the part of a class's own threshold.")
    ] = ConformalSettings.share,
    split: Annotated[
        str,
        typer.Option(help="Split whose figures are printed: val, by cross-fitting, or test."),
    ] = "val",
    recalibrate_on: _inputs.RecalibrateOn = None,
    base: _options.Base = None,
    bins: _options.Bins = None,
    folds: Annotated[int, _options.setting("folds", "Parts of val to try sets on.")] = SET_FOLDS,
    seed: _options.Seed = 0,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Make sets of classes that have the true one as often as wanted, of rare classes, too.

    Thresholds are calibrated on val; all scores and thresholds are tried there by cross-fitting,
    and the recommended ones are written to <stem>.sets.json, which ltkit.predict_sets applies.
    docs/production.md says what each guarantees. The test split is not read, unless --split says
    so, and then only to print figures.

    Example: ltkit conformal feats.h5 --coverage 0.9
    """
    from ltkit import prediction_sets as sets
    from ltkit.files import rules
    from ltkit.files.atomic import check_output

    settings = ConformalSettings(share=share, seed=seed)
    wanted = sets.Wanted(
        coverage, score, threshold, goal, split, _options.bins(bins), folds, settings
    )
    wanted.check()
    path, correcting = _paths_of(feats, classifier, quiet)
    target = output or path.with_name(f"{path.stem}.{SETS_FILE}")
    read = (path, *([correcting] if correcting else []))
    check_output(target, overwrite=overwrite, inputs=read)
    features, correction, made_with = _read(path, base, correcting, run or [], quiet)
    features, others = _inputs.recalibrated(features, recalibrate_on)
    inputs = others if correcting is None else {"classifier": _digest(correcting), **others}
    found = sets.conformal(
        features, correction, wanted, made_with=made_with, fresh=bool(others),
        report=_output.Progress("steps", quiet, after=2),
    )  # fmt: skip
    document = found.document | {"features": str(path), "output": str(target)}
    for line in document["notes"]:
        _output.say(f"note: {line}", quiet)
    rule = replace(found.rule, inputs={**found.rule.inputs, **inputs})
    rules.write(target, rule, command=_output.command_line())
    if json:
        _output.print_json(document)
        return _output.say(f"wrote {target}", quiet)
    for line in str(found).splitlines():
        _output.answer(line)
    if len(document["rows"]) > 1:
        _output.print_fitting(partial(_table, document), _title(document))
    return _output.wrote(target, quiet)


def _paths_of(feats: str | None, classifier: Path | None, quiet: bool) -> tuple[Path, Path | None]:
    """Return the features file, and the classifier file, which may be named alone.

    Raises:
        InputError: for two classifier files.
    """
    from ltkit.errors import InputError

    alone = None if classifier is None else str(classifier)
    files = [name for name in (feats or alone,) if name]
    rest = [] if feats is None or classifier is None else [classifier]
    path, named = _inputs.features_and_named(files, quiet, rest)
    if named is not None and len(named) > 1:
        raise InputError(f"{named[0]}: is a classifier file, and so is {named[1]}; name one")
    return path, None if named is None else named[0]


def _read(
    path: Path, base: Path | None, classifier: Path | None, run: list[str], quiet: bool
) -> "tuple[FeatureSet, Correction | None, dict[str, Any]]":
    """Read the features, one run of the classifier file, and the settings that this was made with.

    Raises:
        InputError: for a run that it does not have, or ``--run`` without a file.
    """
    from ltkit import evaluation
    from ltkit.errors import InputError
    from ltkit.files import classifiers, hdf5
    from ltkit.files import features as features_file

    if classifier is None:
        if run:
            raise InputError("--run: found no --classifier whose run it is; name it, or leave out")
        return _inputs.read_features(path, base, quiet), None, {}
    features = features_file.read(path)
    correction = classifiers.read_for(classifier, features, whole=True)
    if base is not None or not correction.is_whole(len(features.classes)):
        features = _inputs.read_features(path, base, quiet, (classifier,))
        correction = classifiers.read_for(classifier, features)
    one = evaluation.one_run(correction, *_options.run_of(run, "--run"), features)
    return features, one, dict(hdf5.read(classifier, hdf5.CLASSIFIER).settings)


def _digest(path: Path) -> str:
    from ltkit.files import hdf5

    return str(hdf5.header(path)["digest"])


def _title(document: dict[str, Any]) -> str:
    on = "val, by cross-fitting" if document["split"] == "val" else f"the {document['split']} split"
    return (
        f"coverage in % and mean size of sets on {on}, {document['n']} samples, smallest first; "
        "* recommended"
    )


def _table(document: dict[str, Any], look: _output.Look) -> "Table":
    """Return a table with a row for each score and threshold: coverage in %, then sizes."""
    rows, wide = document["rows"], not look.narrow
    groups = [name for name in (*SHOT_GROUPS, "all") if rows[0]["coverage"][name] is not None]
    sizes = [name for name in ("few", "all") if name in groups and (wide or name == "all")]
    columns = [*groups, "worst class", *(f"size {name}" for name in sizes)]
    table = _tables.table_of("score, thresholds", columns, look)
    further = ["single, empty", *["always in"] * any(row["always"] for row in rows)] if wide else []
    for name in further:
        table.add_column(name, justify="right")
    if wide:
        table.add_column("guaranteed" if document["proven"] else "aimed at", overflow="fold")
    for row in sorted(rows, key=lambda row: row["size"]["all"]):
        worst = {"worst": row["worst_class"]["coverage"]}, {"worst": row["worst_class"]["interval"]}
        cells = [
            *(_tables.cell(row["coverage"], row["coverage_interval"], None, name, look=look)
              for name in groups),
            _tables.cell(*worst, None, "worst", look=look),
            *(_size(row["size"][name], row["size_interval"][name], look) for name in sizes),
        ]  # fmt: skip
        counts = [f"{_tables.percent(row['single'])}, {_tables.percent(row['empty'])}",
                  str(row["always"])]  # fmt: skip
        last = [*counts[: len(further)], row["guaranteed"]] if wide else []
        mark = "* " * row["recommended"]
        table.add_row(f"{mark}{row['score']} {row['threshold']}", *cells, *last)
    return table


def _size(value: float, ends: list[float] | None, look: _output.Look) -> str:
    """Return a mean number of classes with its interval below."""
    if ends is None:
        return f"{value:.1f}\nno interval"
    return f"{value:.1f}\n{look.interval(*(f'{end:.1f}' for end in ends))}"
