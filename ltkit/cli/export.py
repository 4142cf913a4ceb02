"""``ltkit export``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _options, _output, _paths


def export(
    classifier: Annotated[Path, typer.Argument(metavar="CLASSIFIER", help="Classifier file.")],
    into: Annotated[
        Path | None,
        typer.Option(help="Checkpoint that the features came from.", show_default=False),
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="The head alone: npz, safetensors, csv or onnx.")
    ] = None,
    run: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Which run, as rho=1; may be repeated."),
    ] = None,
    trust_code: _options.TrustCode = False,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Write the corrected head back into the model's checkpoint, or alone into a file.

    Example: ltkit export feats.alphanet.h5 --into model.pt --run rho=1 --run seed=0 -o fixed.pt
    """
    from ltkit import exporting
    from ltkit.errors import InputError
    from ltkit.files import classifiers, hdf5
    from ltkit.files import features as features_file
    from ltkit.files.atomic import check_output
    from ltkit.settings import LoadSettings

    if (into is None) == (to is None):
        raise InputError(
            "export: expected either --into CHECKPOINT or --to npz|safetensors|csv|onnx"
        )
    if output is None:
        raise InputError("--output: absent, expected the name of the new file")
    if to is not None:
        _options.one_of(to, exporting.FORMS, "--to")
    inputs = (classifier,) if into is None else (classifier, into)
    check_output(output, overwrite=overwrite, inputs=inputs)
    correction, _ = classifiers.read(classifier)
    number = exporting.pick(correction, _options.settings(run or [], "--run"))
    features = _paths.features_path(str(classifier), quiet)
    if into is None:
        base = features_file.read(features).classifier()
        exporting.export_head(correction.classifier(base, number), str(to), output)
    else:
        made_from = hdf5.header(features)["inputs"].get("checkpoint", "none")
        said = features_file.read(features).settings.get("load", {})
        wanted = LoadSettings.from_json(said | {"trust_code": trust_code})
        exporting.export_into(into, correction, number, output, made_from=made_from, wanted=wanted)
    _output.wrote(output, quiet)
