"""``ltkit alphanet apply``."""

from pathlib import Path
from typing import Annotated

import typer

from ltkit.cli import _inputs, _options, _output, _paths
from ltkit.cli.alphanet._settings import Onto
from ltkit.errors import FormatError


def apply(
    fitted: Annotated[Path, typer.Argument(metavar="FIT", help="File written by alphanet fit.")],
    feats: Annotated[
        str, typer.Argument(metavar="FEATS", help="Features file with the classes to correct.")
    ],
    base: _options.Base = None,
    onto: Onto = None,
    of: Annotated[
        str | None,
        typer.Option(
            help="Ids of the classes to correct; default: the rare classes that the fit left out.",
            show_default=False,
        ),
    ] = None,
    output: _options.Output = None,
    overwrite: _options.Overwrite = False,
    quiet: _options.Quiet = False,
) -> None:
    """Correct classes unseen at fit time, with the fit's networks.

    A new class needs its mean feature (training samples in FEATS) and its row of the head. What was
    fitted --onto another head needs that head again; the new classes get the same part of their
    correction, and every class the same prior offset.

    Example: ltkit alphanet apply feats.alphanet.h5 feats.h5
    """
    from ltkit import alphanet
    from ltkit.files import classifiers, hdf5
    from ltkit.files.atomic import check_output

    path = _paths.features_path(feats, quiet)
    target = _paths.output_path(output, path, "alphanet-applied")
    check_output(target, overwrite=overwrite, inputs=(path, fitted, *([onto] if onto else [])))
    correction, _ = classifiers.read(fitted)
    features, settings = (
        _inputs.read_features(path, base, quiet),
        hdf5.read(fitted, hdf5.CLASSIFIER).settings,
    )
    bins = settings.get("bins")
    if not isinstance(bins, str | None):
        raise FormatError(f"{fitted}: settings: bins: found {bins!r:.60}, expected text; fit again")
    ids = None if of is None else _options.class_ids(of, "--of", len(features.classes))
    applied = alphanet.apply_features(
        correction,
        features,
        of=ids,
        bins=_options.bins(bins),
        onto=onto,
        source=str(fitted),
        note=_output.note(quiet),
    )
    classifiers.write(
        target, applied, settings={"of": applied.class_id.tolist()},
        inputs=alphanet.inputs_of(applied, features) | {"fit": hdf5.header(fitted)["digest"]},
        command=_output.command_line(),
    )  # fmt: skip
    _output.wrote(target, quiet)
