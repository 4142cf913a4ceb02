"""``ltkit export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _inputs, _network_options, _options, _output, _paths

if TYPE_CHECKING:
    from ltkit.records import FeatureSet

Corrected = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CLASSIFIER]",
        help="Classifier file, or a features file for the own head; default: what ltkit recommend "
        "wrote for the features here.",
        show_default=False,
    ),
]
To = Annotated[
    str | None,
    typer.Option(
        help="Write the head alone (npz, safetensors, csv, onnx), its predictions on a split "
        "(cleanlab, fiftyone, parquet) or its accuracies (latex)."
    ),
]


Into = Annotated[
    Path | None,
    typer.Option(help="Checkpoint that the features were extracted from.", show_default=False),
]
Runs = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE|best|mean",
        help="Run to export, e.g. rho=1; may be repeated. best: of the balanced accuracy on val; "
        "mean: the mean of the heads over the seeds.",
        show_default=False,
    ),
]


Directions = Annotated[
    bool,
    typer.Option(
        "--directions",
        help="Of a cosine head, write where the corrected rows point, and say what their lengths "
        "made of the predictions on --split.",
    ),
]


def export(
    classifier: Corrected = None,
    into: Into = None,
    to: To = None,
    base: _options.Base = None,
    split: _options.Split = "test",
    run: Runs = None,
    directions: Directions = False,
    trust_code: _network_options.TrustCode = False,
    base_model: _network_options.BaseModel = None,
    own_model: _network_options.OwnModel = None,
    model_arg: _network_options.ModelArgs = None,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write the corrected head back into the model's checkpoint, or into a file of its own.

    Files for other tools: cleanlab, an npz of labels, pred_probs and ids; fiftyone, samples as
    JSON; parquet, a table with one row per sample (pip install 'ltkit[parquet]'); latex, a table of
    accuracies, mean and standard deviation over runs (for a features file: of every correction next
    to it).

    Example: ltkit export feats.alphanet.h5 --into model.pt --run rho=1 --run seed=0 -o fixed.pt
    """
    from ltkit import evaluation
    from ltkit.errors import InputError
    from ltkit.exports import checkpoint, tables
    from ltkit.files import classifiers
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output, write_text
    from ltkit.records import Correction
    from ltkit.settings import LoadSettings

    _check_form(into, to, directions)
    if output is None:
        raise InputError("--output: absent, expected the name of the new file")
    classifier = classifier or _paths.recommended(quiet)
    wanted_run, how = _options.run_of(run or [], "--run")
    path = _paths.features_path(str(classifier), quiet)
    inputs = (classifier, path, *([into] if into else []))
    check_output(output, overwrite=overwrite, inputs=inputs)
    own = path.resolve() == classifier.resolve()
    if own and into is not None:
        raise InputError(f"{classifier}: is the features file, expected a classifier for --into")
    features = _features(path, base, None if own or to == "latex" else classifier, quiet)
    if to == "latex":
        entries = _inputs.read_entries(path, features, None if own else [classifier], quiet)
        document, _ = evaluation.evaluate(features, split, entries, topk=())
        write_text(output, tables.latex(document) + "\n")
        return _output.wrote(output, quiet)
    if own:
        correction = Correction.whole("baseline", features.classifier())
    else:
        correction = classifiers.read_for(classifier, features)
    correction, number = evaluation.one_run(correction, wanted_run, how, features), 0
    if features.base is not None:  # the checkpoint has another head than what is corrected
        correction, number = Correction.whole("", features.corrected(correction, number)), 0
    if into is not None:
        wanted = LoadSettings.from_json(
            features.settings.get("load", {}), trust_code=trust_code, model=own_model,
            model_args=tuple(model_arg or ()),
            base_model=None if base_model is None else str(base_model),
        )  # fmt: skip
        written = checkpoint.export_into(
            into, correction, number, output, wanted=wanted, directions=directions,
            made_from=features_file.checkpoint_of(features),
        )  # fmt: skip
        if directions:
            whole = features.corrected(correction, number)
            lost = checkpoint.loss_of_lengths(features, split, whole, written)
            _output.say(f"note: {lost}", quiet)
    elif to in checkpoint.FORMS:
        checkpoint.export_head(features.corrected(correction, number), str(to), output)
    else:
        tables.write_samples(
            str(to), output, features.corrected(correction, number), features.split(split), split,
            features.classes, features.groups(),
        )  # fmt: skip
    return _output.wrote(output, quiet)


def _check_form(into: Path | None, to: str | None, directions: bool) -> None:
    """Refuse no form of output, two, or an unknown one.

    Raises:
        InputError: naming the known ones.
    """
    from ltkit.errors import InputError
    from ltkit.exports import checkpoint, tables

    forms = (*checkpoint.FORMS, *tables.FORMS)
    if (into is None) == (to is None):
        raise InputError(f"export: expected either --into CHECKPOINT or --to {'|'.join(forms)}")
    if to is not None and directions:
        raise InputError("--directions: found --to, which holds rows as they are; leave it out")
    if to is not None:
        _options.one_of(to, forms, "--to")


def _features(path: Path, base: Path | None, classifier: Path | None, quiet: bool) -> "FeatureSet":
    """Read the features; where they have no head, with a base if the classifier needs one."""
    from ltkit.files import classifiers
    from ltkit.files import features as features_file

    if base is None and classifier is not None:
        features = features_file.read(path)
        correction = classifiers.read_for(classifier, features, whole=True)
        if correction.is_whole(len(features.classes)):
            return features
    return _inputs.read_features(path, base, quiet, () if classifier is None else (classifier,))
