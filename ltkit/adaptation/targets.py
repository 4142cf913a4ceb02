"""The features that a classifier is adapted to: of the same model, and of the same classes."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ltkit.errors import InputError
from ltkit.files import hdf5
from ltkit.records import FeatureSet, FeatureSplit, Floats, classifier_digest

IN_MEMORY = "memory"
"""Source of features that are arrays alone."""

OWN_TEST = (
    "the features' own test split is adapted to, without its labels: accuracy on it is that of "
    "images which the prior was learned from"
)
"""Where no other features are named."""


def of_array(features: FeatureSet, rows: Floats) -> FeatureSet:
    """Return (N, D) features without labels as features of the same model.

    Raises:
        InputError: when they are not rows as long as the model's.
    """
    if rows.ndim != 2 or rows.shape[1] != features.feature_size:
        raise InputError(
            f"to: found numbers of shape {rows.shape}, expected (N, {features.feature_size})"
        )
    split = FeatureSplit(rows, np.zeros(len(rows), np.int64))
    return replace(features, splits={"test": split}, digest="", source=IN_MEMORY)


def split_of(target: FeatureSet, wanted: str | None) -> str:
    """Return the name of the split to adapt to: the wanted one, test, or the only one.

    Raises:
        InputError: when it is absent or empty, or there are several and no test.
    """
    only = next(iter(target.splits), "test") if len(target.splits) == 1 else "test"
    name = wanted or ("test" if "test" in target.splits else only)
    if not len(target.split(name)):
        raise InputError(f"{target.source}: {name}: found no sample to adapt to; name another")
    return name


def check(features: FeatureSet, target: FeatureSet, split: str) -> list[str]:
    """Refuse features of another model; return notes on what could not be checked.

    Args:
        features: whose classifier is adapted.
        target: what it is adapted to.
        split: of the target.

    Raises:
        InputError: when classes, width, head or checkpoint are others, or the samples are those
            that the classifier is calibrated on.
    """
    where = target.source
    if split == "val" and target.digest == features.digest and target.source == features.source:
        raise InputError(
            f"{where}: val: is what the classifier is calibrated on; name features from the field"
        )
    first, second = _checkpoint(features), _checkpoint(target)
    if target.head is None and first is not None and first == second:
        _check_width(features, target)  # of images without labels its classes say nothing
    else:
        _check_classes(features, target)
    notes = [OWN_TEST] if split == "test" and target.digest == features.digest != "" else []
    if where != IN_MEMORY and features.head is not None and target.head is not None:
        own, other = (classifier_digest(f.head.fold()) for f in (features, target) if f.head)
        if own != other:
            raise InputError(
                f"{where}: head: found {other[:12]}, expected {own[:12]}, that of "
                f"{features.source}: these are another model's features; extract them with it"
            )
        return notes
    if where == IN_MEMORY:
        return ["that the rows are the same model's features is not known"]
    if first and second and first != second:
        raise InputError(
            f"{where}: checkpoint: found {second[:12]}, expected {first[:12]}, that of "
            f"{features.source}: these are another model's features; extract them with it"
        )
    if not (first and second) and not notes:
        notes.append(f"that {where} has the same model's features is not known")
    return notes


def _check_width(features: FeatureSet, target: FeatureSet) -> None:
    """Refuse another width.

    Raises:
        InputError: when it differs.
    """
    if target.feature_size != features.feature_size:
        raise InputError(
            f"{target.source}: found {target.feature_size} features, expected the "
            f"{features.feature_size} of {features.source}; extract them from the same layer"
        )


def _check_classes(features: FeatureSet, target: FeatureSet) -> None:
    """Refuse other classes or another width.

    Raises:
        InputError: when they differ.
    """
    found, expected = ((len(f.classes), f.feature_size) for f in (target, features))
    if found != expected:
        raise InputError(
            f"{target.source}: found {found[0]} classes of {found[1]} features, expected the "
            f"{expected[0]} classes of {expected[1]} features of {features.source}; extract them "
            "with the same model and classes"
        )
    names, own = target.classes.names, features.classes.names
    if names and own and names != own:
        shared = len(set(names) & set(own))
        raise InputError(
            f"{target.source}: class names: found {shared} of the {len(own)} of "
            f"{features.source}, or in another order, expected the same classes; extract them "
            "with --classes of the model"
        )


def _checkpoint(features: FeatureSet) -> str | None:
    """Return the digest of the checkpoint that a features file was extracted from, if any."""
    path = Path(features.source)
    if not features.digest or not path.is_file():
        return None
    found = hdf5.header(path)["inputs"].get("checkpoint")
    return None if found is None else str(found)
