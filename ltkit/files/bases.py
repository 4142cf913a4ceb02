"""Classifier files in the place of a head: what corrections of features without one start from."""

from collections.abc import Sequence
from pathlib import Path

from ltkit.errors import InputError, SettingError
from ltkit.files import classifiers, hdf5
from ltkit.records import Base, Classifier, Correction, FeatureSet, Head
from ltkit.records.features import MAKE_BASE

TOLD = 5
"""Files that a message lists."""

Start = Classifier | Head | Correction | str | Path
"""A classifier, a correction of every class in one run, or the classifier file that holds it."""


def read_start(features: FeatureSet, start: Start, name: str = "base") -> Base:
    """Return a classifier of every class, wherever it is from.

    Args:
        features: with or without a head of their own.
        start: the classifier; a file was made from these features, with one run.
        name: of the setting, for messages.

    Raises:
        FormatError: when a file is not a sound classifier file.
        InputError: when it does not fit the features, corrects some classes only, or has several
            runs.
    """
    if isinstance(start, str | Path):
        path = Path(start)
        correction = classifiers.read_for(path, features, whole=True)
        found = _of_correction(features, correction, str(path), hdf5.header(path)["digest"], name)
    elif isinstance(start, Correction):
        found = _of_correction(features, start, "memory", "", name)
    else:
        found = Base(name, start.fold() if isinstance(start, Head) else start)
    features.with_base(found)  # refuses one of other classes
    return found


def with_base(features: FeatureSet, base: Start | None) -> FeatureSet:
    """Return features with a classifier in the place of their head; None leaves them as they are.

    Raises:
        FormatError: when a file is not a sound classifier file.
        InputError: when it does not fit the features, corrects some classes only, or has several
            runs.

    Example:
        >>> from ltkit.face import features
        >>> import numpy as np
        >>> found = features(train=([[1.0], [2.0]], [0, 1]))
        >>> head = Head(np.float32([[1], [2]]), np.zeros(2, np.float32))
        >>> with_base(found, head).classifier().weight.tolist()
        [[1.0], [2.0]]
    """
    return features if base is None else features.with_base(read_start(features, base))


def read(path: Path, features: FeatureSet) -> FeatureSet:
    """Return features whose head is the classifier of a file.

    Args:
        path: a classifier file, made from these features, with a row of every class in one run.
        features: with or without a head of their own.

    Raises:
        FormatError: when it is not a sound classifier file.
        InputError: when it was made from other features, corrects some classes only, or has several
            runs.
    """
    return with_base(features, path)


def _of_correction(
    features: FeatureSet, correction: Correction, source: str, digest: str, name: str
) -> Base:
    if not correction.is_whole(len(features.classes)):
        raise SettingError(
            name,
            f"{source}: has rows of {len(correction.class_id)} of {len(features.classes)} classes, "
            "expected all; name the classifier that it corrects",
        )
    if len(correction.runs) > 1:
        raise SettingError(
            name,
            f"{source}: found {len(correction.runs)} runs, expected one to start from; fit it with "
            "one seed, and without a sweep",
        )
    return Base(correction.method, features.corrected(correction), source, digest)


def beside(features: Path, digest: str) -> list[Path]:
    """Return the classifier files beside a features file that were made from it."""
    found = []
    for path in sorted(features.parent.glob("*.h5")):
        header = hdf5.header(path)
        if header.get("format") == hdf5.CLASSIFIER.name and (
            header["inputs"].get("features") == digest
        ):
            found.append(path)
    return found


def only(path: Path, features: FeatureSet, corrections: Sequence[Path] = ()) -> Path:
    """Return the one classifier file beside features that can stand for their head.

    It is what the corrections say they were made from. Else it was made from the features alone,
    not from another classifier; of several, it is the one that others there were made from.

    Args:
        path: the features file.
        features: what it holds.
        corrections: classifier files that are to be used with it.

    Raises:
        InputError: when there is none, or more than one.
    """
    files = {file: hdf5.header(file) for file in beside(path, features.digest)}
    wanted = {hdf5.header(file).get("inputs", {}).get("base") for file in corrections} - {None}
    first = [
        file for file, header in files.items()
        if not {"base", "from", "fit", "onto"} & header["inputs"].keys()
    ]  # fmt: skip
    if wanted:
        first = [file for file, header in files.items() if header["digest"] in wanted]
    elif len(first) > 1:
        stated = {header["inputs"].get("base") for header in files.values()}
        first = [file for file in first if files[file]["digest"] in stated] or first
    if len(first) == 1:
        return first[0]
    if wanted and not first:
        raise InputError(
            f"{corrections[0]}: corrects another classifier, which is not beside {path}; put it "
            "there, or fit again"
        )
    if not first:
        raise SettingError(
            "base", f"absent, {path} has no head and no classifier beside it; {MAKE_BASE}"
        )
    raise SettingError("base", f"absent, found {_listed(first)} beside {path}; name one of them")


def _listed(files: Sequence[Path]) -> str:
    names = ", ".join(file.name for file in files[:TOLD])
    return names + (f" and {len(files) - TOLD} more" if len(files) > TOLD else "")
