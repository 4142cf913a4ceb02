"""Accuracy where classes occur more or less often than in the split that is judged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import FeatureSet, Ints, class_prior

Floats = NDArray[np.float64]

RATIOS = (50, 25, 10, 5, 2)
SHIFTS = (
    *(f"forward:{ratio}" for ratio in RATIOS),
    "uniform",
    *(f"backward:{ratio}" for ratio in reversed(RATIOS)),
)
"""The priors of the tables of LADE and SADE, from the training tail to its reverse."""


def prior_of(features: FeatureSet, split: str, said: str) -> Floats:
    """Return the (C,) share of each class under a prior, of classes that the split has.

    Args:
        features: the judged features.
        split: the judged split, of which ``test`` takes the shares.
        said: as `ltkit.records.class_prior` has it.

    Raises:
        InputError: for what is no prior of these classes, or one under which no class occurs that
            the split has samples of.
    """
    table, labels = features.classes, features.split(split).labels
    counts = np.bincount(labels, minlength=len(table))
    shares = class_prior(said, table.train_count, test_counts=counts, class_names=table.names)
    if not shares[counts > 0].any():
        raise InputError(
            f"prior {said}: found no class with a share that has a sample in {split}; name others"
        )
    return shares


def described(said: str, prior: Floats, labels: Ints) -> dict[str, Any]:
    """Return what documents say of a prior.

    Returns:
        prior: as it was said; untested: the share of classes without a sample, which are left out.

    Example:
        >>> described("7,2,1", np.array([0.7, 0.2, 0.1]), np.array([0, 1]))
        {'prior': '7,2,1', 'untested': 0.1}
    """
    there = np.bincount(labels, minlength=len(prior)) > 0
    return {"prior": said, "untested": round(float(prior[~there].sum()), 12)}


def sample_weights(labels: Ints, prior: Floats | None, num_classes: int) -> Floats:
    """Return (N,) weights of samples with which classes occur as in a prior; their mean is 1.

    Args:
        labels: (N,) true classes.
        prior: (C,) shares; None: every sample counts 1.
        num_classes: C.

    Example:
        >>> sample_weights(np.array([0, 0, 0, 1]), np.array([0.5, 0.5]), 2).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    if prior is None:
        return np.ones(len(labels))
    counts = np.bincount(labels, minlength=num_classes)
    weights: Floats = (prior / np.maximum(counts, 1))[labels]
    weights /= weights.mean()
    return weights


def shifted_accuracies(
    by_class: Mapping[str, Floats] | Sequence[Floats], priors: Mapping[str, Floats]
) -> list[dict[str, float]]:
    """Return the accuracy under each prior, of each row of class accuracies.

    Args:
        by_class: rows of (C,) class accuracies, NaN where there is no sample.
        priors: (C,) shares by name.

    Example:
        >>> shifted_accuracies([np.array([0.9, 0.5, np.nan])], {"x": np.array([0.5, 0.3, 0.2])})
        [{'x': 0.75}]
    """
    rows = by_class.values() if isinstance(by_class, Mapping) else by_class
    found = []
    for row in rows:
        there, known = ~np.isnan(row), np.nan_to_num(row)
        found.append(
            {
                name: round(float(known @ prior / prior[there].sum()), 12)
                for name, prior in priors.items()
            }
        )
    return found


def shifts(features: FeatureSet, split: str) -> dict[str, Floats]:
    """Return the (C,) shares of the priors of `SHIFTS` by name.

    Raises:
        InputError: when training counts are all alike, so that there is no tail to follow.
    """
    return {said: prior_of(features, split, said) for said in SHIFTS}
