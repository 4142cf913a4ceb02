"""Features, and corrections of them to compare."""

import numpy as np

from ltkit.evaluation import Entry
from ltkit.records import (
    ClassTable,
    Correction,
    FeatureSet,
    FeatureSplit,
    Head,
)

COUNTS = np.array([300, 120, 60, 30, 10, 5])
"""Two classes in each shot group."""


def noisy(seed=0, per_class=40, **head):
    """Features of six classes around their centres, in all splits."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 8))
    splits = {}
    for name in ("val", "test"):
        labels = rng.permutation(np.repeat(np.arange(6), per_class))
        noise = rng.normal(size=(len(labels), 8))
        splits[name] = FeatureSplit((centres[labels] + noise).astype(np.float32), labels)
    weight = (centres + 0.3 * rng.normal(size=(6, 8))).astype(np.float32)
    return FeatureSet(
        splits, ClassTable(COUNTS), Head(weight, np.log(COUNTS).astype(np.float32), **head)
    )


def some_rows(features, runs=3, seed=0):
    """A correction of classes 2, 4 and 5, in a few runs."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(runs, 3, features.feature_size)).astype(np.float32)
    bias = rng.normal(size=(runs, 3)).astype(np.float32)
    settings = tuple({"rho": 1.0, "seed": s} for s in range(runs))
    return Correction("made", np.array([2, 4, 5]), weight, bias, settings)


def told(labels, own, **methods):
    """Features, and corrections that predict what they are told to.

    Every sample is an axis of its own, so a row of weights says on which samples its class wins.

    Args:
        labels: split -> (N,) true classes.
        own: what the file's own head predicts, over all splits in order.
        methods: name -> [(settings of a run, predictions over all splits in order), ...].
    """
    size = sum(map(len, labels.values()))
    axes, start, splits = np.eye(size, dtype=np.float32), 0, {}
    for name, true in labels.items():
        splits[name] = FeatureSplit(axes[start : start + len(true)], np.array(true))
        start += len(true)

    def weight(predicted):
        return (np.arange(6)[:, None] == np.array(predicted)).astype(np.float32)

    zeros = np.zeros(6, np.float32)
    features = FeatureSet(splits, ClassTable(COUNTS), Head(weight(own), zeros))
    entries = [
        Entry(
            name,
            f"{name}.h5",
            Correction(
                name,
                np.arange(6),
                np.stack([weight(predicted) for _, predicted in runs]),
                np.tile(zeros, (len(runs), 1)),
                tuple(settings for settings, _ in runs),
            ),
        )
        for name, runs in methods.items()
    ]
    return features, entries


def hits(labels, right):
    """Predictions of which those of the (N,) `right` are, the others the next class."""
    return np.where(right, labels, (np.array(labels) + 1) % 6)
