"""The options shared by all of ``ltkit analyze``, and the input of its commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _inputs, _options
from ltkit.settings import Metric

if TYPE_CHECKING:
    from ltkit.evaluation.analysis import Subject

MetricName = Annotated[Metric, typer.Option(help="Distance between classes.")]
Csv = Annotated[
    Path | None, typer.Option(help="Also write the numbers to a CSV file.", show_default=False)
]


def read(
    files: list[str] | None,
    base: Path | None,
    split: str,
    bins: str | None,
    csv: Path | None,
    overwrite: bool,
    quiet: bool,
    with_rho: bool = False,
) -> "tuple[Subject, bool]":
    """Read features and corrections, and predict; return whether corrections were named.

    With `with_rho`, unnamed corrections without a rho are left out.
    """
    from ltkit.evaluation.analysis import observe
    from ltkit.files.atomic import check_output

    path, named = _inputs.features_and_named(files, quiet)
    features, entries = _inputs.read_judged(path, base, named, quiet, split)
    if with_rho and named is None:
        entries = [e for e in entries if all("rho" in run for run in e.correction.runs)]
    if csv is not None:
        inputs = (path, *(Path(entry.file) for entry in entries))
        check_output(csv, overwrite=overwrite, inputs=inputs)
    return observe(features, split, entries, _options.bins(bins)), named is not None
