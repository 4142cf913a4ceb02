"""Corrections written to files."""

from pathlib import Path
from typing import TYPE_CHECKING

from ltkit.errors import InputError
from ltkit.face.arrays import COMMAND
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSet,
)

if TYPE_CHECKING:
    pass


def save(features: FeatureSet, correction: Correction, output: str | Path, *,
         overwrite: bool = False) -> Path:  # fmt: skip
    """Write a correction to a classifier file, which every command can read.

    Raises:
        InputError: when the features were not read from a file, or the output exists.
    """
    from ltkit.files import classifiers
    from ltkit.files.atomic import check_output

    if not features.digest:
        raise InputError(
            "features: are in memory alone, expected those of a file; write them with ltkit import"
        )
    path = Path(output)
    check_output(path, overwrite=overwrite)
    classifiers.write(
        path, correction, settings={}, inputs=_inputs(features, correction), command=COMMAND
    )
    return path


def _inputs(features: FeatureSet, correction: Correction) -> dict[str, str]:
    """Return what a correction was made from: a whole one stands without a base."""
    onto = correction.runs[0].get("onto") if correction.composed else None
    others = {"onto": onto} if onto else {}
    if features.base is None or features.base.digest:
        return features.inputs | others
    if not correction.is_whole(len(features.classes)):
        raise InputError(
            "base: is in memory alone, and the correction has some of its rows; save the base, and "
            "name its file"
        )
    return {"features": features.digest} | others


def export(correction: Correction | Classifier, output: str | Path, *,
           base: FeatureSet | None = None, to: str = "npz", run: int = 0,
           overwrite: bool = False) -> Path:  # fmt: skip
    """Write a corrected head to a file of its own, as ``ltkit export --to`` does.

    To replace the head in a checkpoint, leaving every other byte as it is, `save` a classifier file
    and run ``ltkit export FILE --into CHECKPOINT``.

    Args:
        correction: a run of it, or a whole classifier.
        output: the file.
        base: the features whose head a correction changes, or, without a head, all rows of which it
            has.
        to: npz, safetensors, csv or onnx.
        run: settings of the run to export.
        overwrite: whether the output may be replaced.

    Raises:
        InputError: without the base of a correction, for another form, or an output that exists.
    """
    from ltkit.exports import checkpoint
    from ltkit.files.atomic import check_output

    if to not in checkpoint.FORMS:
        raise InputError(f"to: found {to}, expected {', '.join(checkpoint.FORMS)}")
    if isinstance(correction, Correction):
        if base is None:
            raise InputError("base: absent, expected the features whose head is corrected")
        correction = base.corrected(correction, run)
    path = Path(output)
    check_output(path, overwrite=overwrite)
    checkpoint.export_head(correction, to, path)
    return path
