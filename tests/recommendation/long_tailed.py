"""A small long-tailed problem whose right answer is known: Gaussian classes."""

import numpy as np

from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

COUNTS = np.array([400, 200, 60, 30, 10, 5])
DISTANCE = 2.0


def head_of(counts):
    """Bayes' rule under the training frequencies: classes at `DISTANCE` along their own axes."""
    prior = np.log(counts / counts.sum())
    return Head(np.float32(DISTANCE * np.eye(len(counts))), np.float32(prior))


def split_of(counts, rng):
    """Samples of every class, `counts` of each."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = rng.normal(size=(len(labels), len(counts))) + DISTANCE * np.eye(len(counts))[labels]
    return FeatureSplit(np.float32(rows), labels)


class Unopened(FeatureSplit):
    """A split that nobody may read."""

    def __getattribute__(self, name):
        if name in ("features", "labels", "ids"):
            raise AssertionError(f"{name} of test was read")
        return super().__getattribute__(name)

    def __init__(self):
        """Hold nothing."""


def problem(seed=0, val=40, counts=COUNTS, splits=("train", "val")):
    """Features with a head that is right for training and wrong for balanced use."""
    rng = np.random.default_rng(seed)
    made = {"train": split_of(counts, rng), "val": split_of(np.full(len(counts), val), rng)}
    kept = {name: made[name] for name in splits}
    return FeatureSet(kept, ClassTable(counts), head_of(counts), settings={"bins": [20, 100]})
