"""``ltkit recommend``."""

import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit import numerals
from ltkit.cli import _inputs, _options, _output, _paths, _tables
from ltkit.settings import CONFIDENCE, FOLDS, GROUPS, RANGES, REPEATS, Objective

if TYPE_CHECKING:
    from rich.table import Table

    from ltkit.recommendation import Recommendation
    from ltkit.records import FeatureSet

Goal = Annotated[
    Objective, typer.Option("--objective", help="Accuracy to maximise on the validation split.")
]
Keep = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GROUP=POINTS",
        show_default=False,
        help="Limit on a change, as all=-0.5; may be repeated. Default: all=-0.5 for few, "
        "worst-group and worst-class, else none; none lifts it.",
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help="Post-hoc methods to choose among; default: all that fit in seconds.",
        show_default=False,
    ),
]
RecalibrateOn = Annotated[
    str | None,
    typer.Option(
        metavar="FEATS[:SPLIT]",
        help="Features with labels to choose on, in the place of val; default split: val.",
        show_default=False,
    ),
]


def recommend(
    feats: _options.Feats = None,
    objective: Goal = "balanced",
    keep: Keep = None,
    methods: Methods = None,
    with_alphanet: Annotated[
        bool, typer.Option("--with-alphanet", help="AlphaNet is one of the methods, too.")
    ] = False,
    recalibrate_on: RecalibrateOn = None,
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

    wanted = recommendation.Wanted(
        objective, _limits(keep), None if methods is None else _options.words(methods, "--methods"),
        with_alphanet, confidence, repeats, folds, seed, _options.bins(bins),
    )  # fmt: skip
    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, _paths.RECOMMENDED)
    check_output(target, overwrite=overwrite, inputs=(path,))
    features, others = _read(path, base, recalibrate_on, quiet)
    found = recommendation.recommend(features, wanted, report=_output.Progress("methods", quiet))
    document = found.document | {"features": str(path), "output": str(target)}
    document["command"] = _ship(target, found, features)
    classifiers.write(
        target, found.correction, settings=as_json(wanted) | {"choice": document["choice"]},
        inputs=features.inputs | others, command=_output.command_line(),
    )  # fmt: skip
    if json:
        _output.print_json(document)
        return _output.say(f"wrote {target}", quiet)
    for line in _answer(document):
        _output.answer(line)
    if all_:
        _output.print_fitting(partial(_every, document), "gains over the baseline, in points")
    return _output.wrote(target, quiet)


def _limits(given: list[str] | None) -> dict[str, float] | None:
    """Read the limits: none is no limit, absent the objective's own."""
    if given is None:
        return None
    if given == ["none"]:
        return {}
    pairs = _options.pairs(given, "--keep", "GROUP=POINTS, as all=-0.5")
    return {name: numerals.number(text, f"--keep {name}", RANGES["keep"]) for name, text in pairs}


def _read(
    path: Path, base: Path | None, recalibrate_on: str | None, quiet: bool
) -> "tuple[FeatureSet, dict[str, str]]":
    """Read the features, with another file's split in the place of val where that is wanted."""
    from ltkit.files import features as features_file
    from ltkit.records import SPLITS

    features = _inputs.read_features(path, base, quiet)
    if recalibrate_on is None:
        return features, {}
    name, _, split = recalibrate_on.rpartition(":")
    if split not in SPLITS:
        name, split = recalibrate_on, "val"
    other = features_file.read(Path(name))
    return features.recalibrated(other, split), {"recalibrated": other.digest}


def _ship(target: Path, found: "Recommendation", features: "FeatureSet") -> str | None:
    """Return the command that ships the choice; None where the baseline is kept."""
    if found.keep:
        return None
    into = "--into CKPT -o fixed.pt"
    if features.head is None or "arch" not in features.settings:
        into = "--to npz -o head.npz"
    return f"ltkit export {shlex.quote(str(target))} {into}"


def _answer(document: dict[str, Any]) -> list[str]:
    """Return the lines that a person reads first, at most ten."""
    choice, gain = document["choice"], document["gain"]
    if gain is None:
        return [f"recommended: {choice['label']}; {choice['reason']}", *document["notes"],
                *_last(document)]  # fmt: skip
    objective = document["objective"]
    told = _change(document["objective_gain"], document["objective_interval"])
    if choice["keep"]:
        first = f"keep the baseline: {choice['reason']}"
    else:
        first = f"recommended: {choice['label']}; {objective} accuracy {told} points"
    return [
        first,
        *([] if choice["keep"] else _by_group(document)),
        *_sure(document),
        *_last(document),
    ]


def _change(value: float, ends: list[float] | None) -> str:
    """Return a change in points with its interval."""
    if ends is None:
        return f"{100 * value:+.1f} [no interval]"
    return f"{100 * value:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def _by_group(document: dict[str, Any]) -> list[str]:
    """Return a line for each group: before, after, the change."""
    before, after = document["accuracy"]["baseline"], document["accuracy"]["expected"]
    gain, ends = document["gain"], document["interval"]
    names = [name for name in GROUPS if gain[name] is not None]
    if gain["all"] is not None and abs(gain["all"] - gain["balanced"]) < 1e-9:
        names.remove("balanced")
    limits = {limit["group"]: limit for limit in document["limits"]}
    lines = []
    for name in names:
        line = f"  {name:<9}{100 * before[name]:5.1f} -> {100 * after[name]:5.1f}  "
        line += f"{_change(gain[name], ends[name])}"
        if name in limits:
            limit = limits[name]
            line += (
                f", kept at {100 * limit['least']:+g} or more with "
                f"{100 * limit['confidence']:g} % confidence"
            )
        lines.append(line)
    return lines


def _sure(document: dict[str, Any]) -> list[str]:
    """Return how sure the choice is: what it was made on, how often it wins, what comes next."""
    folds, choice, other = document["folds"], document["choice"], document["runner_up"]
    count = folds["folds"] * folds["repeats"]
    lines = [
        f"chosen on {document['n']} val images, in {folds['folds']} parts, {folds['repeats']} "
        "times; every gain is of images that the choice was not made on"
    ]
    if not choice["keep"]:
        lines.append(
            f"{choice['method']} is chosen in {100 * choice['wins']:.0f} % of {count} folds"
        )
    if other is not None and not choice["keep"]:
        behind = _change(-other["behind"], [-end for end in other["interval"][::-1]])
        noise = "within noise" if other["within_noise"] else "beyond noise"
        lines[-1] += f"; next is {other['label']}, {behind}: {noise}"
    return lines


def _last(document: dict[str, Any]) -> list[str]:
    command = document["command"]
    return [] if command is None else [f"ship it: {command}"]


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
