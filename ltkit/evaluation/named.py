"""The one classifier of features that a caller names: the head, a correction's run, or a file."""

from collections.abc import Mapping
from pathlib import Path

from ltkit.evaluation.entries import one_run
from ltkit.files import classifiers
from ltkit.files.bases import Start, read_start
from ltkit.records import Classifier, Correction, FeatureSet
from ltkit.settings import Heads


def classifier_of(
    features: FeatureSet,
    named: Start | None,
    run: Mapping[str, float] | None = None,
    how: Heads | None = None,
) -> tuple[Classifier, list[str]]:
    """Return a classifier of features, and what is to be said of it.

    Args:
        features: with a head, or a base in its place, where a correction has some rows only.
        named: a classifier, a correction or its file; None: the head.
        run: of several runs, the settings of the one that is meant.
        how: as of `one_run`.

    Returns:
        The second is a note where it was chosen on val, so that its errors there look too low.

    Raises:
        FormatError: when a file is not a sound classifier file.
        InputError: when it does not fit the features, or several runs are meant.
    """
    notes = list[str]()
    if isinstance(named, str | Path):
        path, named = Path(named), classifiers.read_for(Path(named), features)
        if "tried" in classifiers.settings_of(path):
            notes.append(f"{path} was chosen on val: errors there look lower than they are")
    if isinstance(named, Correction):
        return features.corrected(one_run(named, run or {}, how, features)), notes
    if named is None:
        return features.classifier(), notes
    return read_start(features, named, "classifier").classifier, notes
