"""``ltkit export``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ltkit.cli import _inputs, _network_options, _options, _output, _paths

if TYPE_CHECKING:
    from ltkit.records import Classifier, Correction, FeatureSet
    from ltkit.settings import LoadSettings

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


BundleFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Write a folder to ship: the corrected checkpoint (with --into) or the head, the "
        "--rule files, a model card, the figures on --split and digests of all files; ltkit check "
        "measures it again.",
        show_default=False,
    ),
]
RuleFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--rule",
        metavar="FILE",
        help="Thresholds or a rejector that go into --bundle; may be repeated.",
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
    bundle: BundleFolder = None,
    rule: RuleFiles = None,
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
    from ltkit.files.atomic import check_output
    from ltkit.records import Correction
    from ltkit.settings import LoadSettings

    output = _check_form(into, to, bundle, directions, rule, output)
    classifier = classifier or _paths.recommended(quiet)
    wanted_run, how = _options.run_of(run or [], "--run")
    path = _paths.features_path(str(classifier), quiet)
    inputs = (classifier, path, *([into] if into else []))
    if bundle is None:
        check_output(output, overwrite=overwrite, inputs=inputs)
    own = path.resolve() == classifier.resolve()
    if own and into is not None:
        raise InputError(f"{classifier}: is the features file, expected a classifier for --into")
    features = _features(path, base, None if own or to == "latex" else classifier, quiet)
    if to == "latex":
        return _write_latex(path, features, split, None if own else [classifier], output, quiet)
    if own:
        correction = Correction.whole("baseline", features.classifier())
    else:
        correction = classifiers.read_for(classifier, features)
    correction, number = evaluation.one_run(correction, wanted_run, how, features), 0
    if features.base is not None:  # the checkpoint has another head than what is corrected
        correction, number = Correction.whole("", features.corrected(correction, number)), 0
    wanted = LoadSettings.from_json(
        features.settings.get("load", {}), trust_code=trust_code, model=own_model,
        model_args=tuple(model_arg or ()), base_model=base_model and str(base_model),
    )  # fmt: skip
    if bundle is not None:
        more = (split, rule or [], into, wanted, {} if own else classifiers.settings_of(classifier))
        return _write_bundle(bundle, features, correction.only([number]), more, quiet)
    if into is not None:
        written = checkpoint.export_into(
            into, correction, number, output, wanted=wanted, directions=directions,
            made_from=features_file.checkpoint_of(features),
        )  # fmt: skip
        if directions:
            _say_loss(features, split, features.corrected(correction, number), written, quiet)
    elif to in checkpoint.FORMS:
        checkpoint.export_head(features.corrected(correction, number), str(to), output)
    else:
        tables.write_samples(
            str(to), output, features.corrected(correction, number), features.split(split), split,
            features.classes, features.groups(),
        )  # fmt: skip
    return _output.wrote(output, quiet)


def _say_loss(
    features: "FeatureSet", split: str, whole: "Classifier", written: "Classifier", quiet: bool
) -> None:
    """Say what the directions of rows alone change."""
    from ltkit.exports import checkpoint

    lost = checkpoint.loss_of_lengths(features, split, whole, written)
    _output.say(f"note: {lost}", quiet)


def _write_latex(
    path: Path,
    features: "FeatureSet",
    split: str,
    named: list[Path] | None,
    output: Path,
    quiet: bool,
) -> None:
    """Write a table of the accuracies of classifier files, or of all beside the features."""
    from ltkit import evaluation
    from ltkit.exports import tables
    from ltkit.files.atomic import write_text

    entries = _inputs.read_entries(path, features, named, quiet)
    document, _ = evaluation.evaluate(features, split, entries, topk=())
    write_text(output, tables.latex(document) + "\n")
    _output.wrote(output, quiet)


def _write_bundle(
    folder: Path,
    features: "FeatureSet",
    correction: "Correction",
    wanted: "tuple[str, list[Path], Path | None, LoadSettings, dict[str, Any]]",
    quiet: bool,
) -> None:
    """Write a bundle, and say how many figures it has."""
    from ltkit import bundles
    from ltkit.files import rules

    split, files, into, load, settings = wanted
    with_it = [rules.read(file, *bundles.RULES) for file in files]
    held = bundles.write(
        folder, features, bundles.Wanted(correction, settings, with_it, split, into, load),
        command=_output.command_line(),
    )  # fmt: skip
    figures = len(held.manifest.content["figures"])
    _output.say(f"note: {figures} figures on {split}: {folder / bundles.CARD}", quiet)
    _output.wrote(folder, quiet)


def _check_form(
    into: Path | None, to: str | None, bundle: Path | None, directions: bool,
    rule: list[Path] | None, output: Path | None,
) -> Path:  # fmt: skip
    """Return the output; refuse no form of one, two, or an unknown one.

    Raises:
        InputError: naming the known ones.
    """
    from ltkit import bundles
    from ltkit.errors import InputError
    from ltkit.exports import checkpoint, tables

    forms = (*checkpoint.FORMS, *tables.FORMS)
    if bundle is not None and to is None:
        if output is not None:
            raise InputError("--output: found --bundle, which names the folder; leave it out")
        if directions:
            raise InputError("--directions: found --bundle, which holds rows whole; leave it out")
        bundles.check_free(bundle)
        return bundle
    if rule:
        raise InputError("--rule: goes into a bundle, found no --bundle; name its folder")
    if (into is None) == (to is None) or bundle is not None:
        raise InputError(
            f"export: expected one of --into CHECKPOINT, --bundle DIR, --to {'|'.join(forms)}"
        )
    if to is not None and directions:
        raise InputError("--directions: found --to, which holds rows as they are; leave it out")
    if to is not None:
        _options.one_of(to, forms, "--to")
    if output is None:
        raise InputError("--output: absent, expected the name of the new file")
    return output


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
