"""``ltkit recommend``."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _advice, _inputs, _measures, _options, _output, _paths, _tables
from ltkit.settings import CONFIDENCE, FOLDS, GROUPS, RECOMMENDED_FILE, REPEATS

if TYPE_CHECKING:
    from rich.table import Table


def recommend(
    feats: _options.Feats = None,
    objective: _advice.Goal = None,
    keep: _advice.Keep = None,
    methods: _advice.Methods = None,
    with_alphanet: _advice.WithAlphaNet = False,
    prior: _measures.PriorOption = None,
    recalibrate_on: _inputs.RecalibrateOn = None,
    base: _options.Base = None,
    bins: _options.Bins = None,
    confidence: Annotated[
        float, _options.setting("confidence", "Confidence with which --keep must hold.")
    ] = CONFIDENCE,
    folds: Annotated[int, _options.setting("folds", "Parts of the validation split.")] = FOLDS,
    repeats: Annotated[
        int, _options.setting("repeats", "How often it is divided into parts anew.")
    ] = REPEATS,
    seed: _options.Seed = 0,
    all_: Annotated[bool, typer.Option("--all", help="Also print a row for each method.")] = False,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Say which correction to ship, what it gains and costs, and how sure that is.

    Method and setting are chosen by cross-validation inside the validation split; the gains are
    those in the folds that the choice was not made in. The test split is never read. The choice is
    written to <stem>.recommended.h5, which ltkit export takes by default.

    Example: ltkit recommend feats.h5 --objective few --keep all=-0.5
    """
    from ltkit import recommendation
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output
    from ltkit.settings import as_json

    wanted = _advice.wanted(
        objective, keep, methods, with_alphanet, confidence=confidence, folds=folds,
        repeats=repeats, seed=seed, bins=_options.bins(bins), prior=prior,
    )  # fmt: skip
    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, RECOMMENDED_FILE)
    check_output(target, overwrite=overwrite, inputs=(path,))
    features = _inputs.read_features(path, base, quiet)
    features, others = _inputs.recalibrated(features, recalibrate_on)
    found = recommendation.recommend(features, wanted, report=_output.Progress("methods", quiet))
    document = found.document | {"features": str(path), "output": str(target)}
    document["command"] = None if found.keep else recommendation.ship(features, str(target))
    classifiers.write(
        target, found.correction, settings=as_json(wanted) | recommendation.summary(document),
        inputs=features.inputs | others, command=_output.command_line(),
    )  # fmt: skip
    if json:
        _output.print_json(document)
        return _output.say(f"wrote {target}", quiet)
    for line in recommendation.answer(document):
        _output.answer(line)
    if all_:
        _output.print_fitting(partial(_every, document), "gains over the baseline, in points")
    return _output.wrote(target, quiet)


def _every(document: dict[str, Any], look: _output.Look) -> "Table":
    """Return a table with a row for each method, the best objective first."""
    columns = [name for name in GROUPS if document["gain"][name] is not None]
    rows = sorted(document["rows"], key=lambda row: -row["objective_gain"])
    table = _tables.table_of("method", columns, look)
    table.add_column("chosen in", justify="right")
    for row in rows:
        cells = [_tables.cell(row["gain"], row["interval"], None, n, "+", look) for n in columns]
        label = row["label"] if row["within_limits"] else f"{row['label']}: not within the limits"
        table.add_row(_tables.safe(label), *cells, f"{100 * row['wins']:.0f} %")
    return table
