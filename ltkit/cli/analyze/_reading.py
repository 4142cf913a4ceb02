"""The options that all of ``ltkit analyze`` has, and what its commands read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _inputs, _options
from ltkit.settings import Metric

if TYPE_CHECKING:
    from ltkit.evaluation.analysis import Subject

Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[FEATS] [CLASSIFIER...]",
        help="Features file, as for evaluate, and corrections; default: all beside FEATS made from "
        "it.",
        show_default=False,
    ),
]
MetricName = Annotated[Metric, typer.Option(help="Of the neighbours.")]
Csv = Annotated[
    Path | None, typer.Option(help="Also write the figures to a CSV.", show_default=False)
]


def read(
    files: list[str] | None,
    base: Path | None,
    split: str,
    bins: str,
    csv: Path | None,
    overwrite: bool,
    quiet: bool,
    with_rho: bool = False,
) -> "tuple[Subject, bool]":
    """Read features and corrections, and predict; say whether corrections were named.

    With `with_rho`, of corrections that are not named those are taken that have a rho.
    """
    from ltkit.evaluation.analysis import observe
    from ltkit.files.atomic import check_output

    path, named = _inputs.features_and_named(files or [], quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet)
    if with_rho and named is None:
        entries = [e for e in entries if all("rho" in run for run in e.correction.runs)]
    if csv is not None:
        inputs = (path, *(Path(entry.file) for entry in entries))
        check_output(csv, overwrite=overwrite, inputs=inputs)
    return observe(features, split, entries, _options.bins(bins)), named is not None
