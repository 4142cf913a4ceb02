"""``ltkit analyze novelty``."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _options, _output, _paths, _tables
from ltkit.cli.analyze._one import OneClassifier, Run, read_one
from ltkit.cli.analyze._reading import Csv
from ltkit.cli.analyze._results import give
from ltkit.settings import KNOWN_KEPT, NOVELTY_NEIGHBORS, REPLICATES

if TYPE_CHECKING:
    from rich.table import Table

    from ltkit.records import FeatureSet

Outsiders = Annotated[
    str | None,
    typer.Option(
        metavar="FEATS[:SPLIT]",
        help="Features of classes that the network has never seen, by the same checkpoint (ltkit "
        "extract --no-head); default: their test split, or the only one.",
        show_default=False,
    ),
]
HoldOut = Annotated[
    str | None,
    typer.Option(
        metavar="ID,...",
        help="Classes that stand for new ones: the head and the scores are made without them.",
        show_default=False,
    ),
]


def novelty(
    feats: _options.Feats = None,
    outsiders: Outsiders = None,
    hold_out: HoldOut = None,
    base: _options.Base = None,
    classifier: OneClassifier = None,
    run: Run = None,
    k: Annotated[
        int, _options.setting("k", "Which nearest training sample tells how new one is.", "--k")
    ] = NOVELTY_NEIGHBORS,
    kept: Annotated[
        float, _options.setting("kept", "Share of known samples that the threshold keeps.")
    ] = KNOWN_KEPT,
    split: _options.Split = "test",
    bins: _options.Bins = None,
    replicates: _options.Replicates = REPLICATES,
    seed: _options.Seed = 0,
    csv: Csv = None,
    overwrite: _options.Overwrite = False,
    json: _options.Json = False,
    quiet: _options.Quiet = False,
) -> None:
    """Print how well samples of new classes are told, and how many rare ones are taken for new.

    Five scores: 1 - max softmax, max logit, energy, distance to the k-th nearest training feature,
    and to the nearest class mean by the classes' shared covariance (Mahalanobis). The threshold
    keeps --kept of the known samples, whatever their class: the rare classes lose more. F is the
    open-set F-measure of OLTR at this threshold.

    \b
    --json prints one row for each score:
      score, auroc, threshold, fpr (share of outsiders taken for known), taken_for_novel (share of
      known samples, by few, medium, many, all, balanced), f_measure; intervals of them
      and outsiders, known, kept, k, notes

    Example: ltkit analyze novelty feats.h5 --outsiders others.h5
    """  # noqa: D301 - for click, a backspace keeps the lines of a paragraph
    from ltkit.files.atomic import check_output
    from ltkit.open_set import novelty as measured

    path = _paths.features_path(feats, quiet)
    if csv is not None:
        named = [file for file in (base, classifier) if file is not None]
        check_output(csv, overwrite=overwrite, inputs=(path, *named))
    features, judged, notes = read_one(path, base, classifier, run, quiet)
    other, of = _outsiders(outsiders)
    held = None
    if hold_out is not None:
        held = _options.class_ids(hold_out, "--hold-out", len(features.classes))
    document = measured(
        features, judged, outsiders=other, of=of, hold_out=held, split=split, k=k, kept=kept,
        bins=_options.bins(bins), replicates=replicates, seed=seed,
        report=_output.Progress("images", quiet, after=2),
    ) | {"features": str(path)}  # fmt: skip
    document["notes"] = [*notes, *document["notes"]]
    for line in document["notes"]:
        _output.say(f"note: {line}", quiet)
    give(document, _show, _rows, csv, json, quiet)


def _outsiders(said: str | None) -> "tuple[FeatureSet | None, str | None]":
    """Read the outsiders' file; return it and the split that is named."""
    from ltkit.files import features as features_file
    from ltkit.records import SPLITS

    if said is None:
        return None, None
    name, _, split = said.rpartition(":")
    if split not in SPLITS or not name:
        return features_file.read(Path(said)), None
    return features_file.read(Path(name)), split


def _rows(document: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [row["score"], row["auroc"], row["fpr"], row["threshold"], row["f_measure"], group, share,
         *(row["taken_interval"][group] or (None, None))]
        for row in document["scores"]
        for group, share in row["taken_for_novel"].items()
    ]  # fmt: skip
    heading = [
        "score", "auroc", "fpr", "threshold", "f_measure", "group", "taken_for_novel", "low",
        "high",
    ]  # fmt: skip
    return heading, rows


def _show(document: dict[str, Any]) -> None:
    others = document["outsiders"]
    where = others.get("features", "held-out classes")
    title = (
        f"{_tables.files(document)}, {document['split']} split, against {others['n']} samples of "
        f"{others['classes']} classes of {where}: %, at a threshold that keeps "
        f"{100 * document['kept']:g} % of the known"
    )
    _output.print_fitting(partial(_table, document), title)


def _table(document: dict[str, Any], look: _output.Look) -> "Table":
    """Return a table with a row for each score."""
    first = document["scores"][0]
    groups = [name for name in first["taken_for_novel"] if name not in ("all", "balanced")]
    heads = [f"{name} taken\nfor novel" for name in groups]
    table = _tables.table_of(
        "score", ["AUROC", "outsiders taken\nfor known (FPR)", *heads, "F"], look
    )
    for row in document["scores"]:
        cells = [
            _tables.cell({name: row[name]}, {name: row[f"{name}_interval"]}, None, name, look=look)
            for name in ("auroc", "fpr")
        ]
        cells += [
            _tables.cell(row["taken_for_novel"], row["taken_interval"], None, name, look=look)
            for name in groups
        ]
        table.add_row(row["score"], *cells, _tables.percent(row["f_measure"]))
    return table
