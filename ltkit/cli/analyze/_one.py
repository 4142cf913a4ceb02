"""The one classifier that a command judges: the head, or a run of a classifier file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _inputs, _options

if TYPE_CHECKING:
    from ltkit.records import Classifier, FeatureSet

OneClassifier = Annotated[
    Path | None,
    typer.Option(
        "--classifier",
        metavar="FILE",
        help="Classifier file whose answers are judged; default: the features' own head.",
        show_default=False,
    ),
]
Run = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE|best|mean",
        help="Run of --classifier, e.g. rho=1; may be repeated. best: of the balanced accuracy on "
        "val; mean: the mean of the heads over the seeds.",
        show_default=False,
    ),
]


def read_one(
    path: Path, base: Path | None, classifier: Path | None, run: list[str] | None, quiet: bool
) -> "tuple[FeatureSet, Classifier, list[str]]":
    """Read features and the classifier to judge; return them and what is to be said of it.

    Raises:
        FormatError: when a file is not sound.
        InputError: when they do not fit, or a run is named without a file.
    """
    from ltkit.errors import InputError
    from ltkit.evaluation.named import classifier_of

    if run and classifier is None:
        raise InputError("--run: found no --classifier, expected the file that has the run")
    wanted, how = _options.run_of(run or [], "--run")
    named = () if classifier is None else (classifier,)
    features = _inputs.read_features(path, base, quiet, named)
    return features, *classifier_of(features, classifier, wanted, how)
