"""A long-tailed problem whose posteriors are known: Gaussian classes, the head is Bayes' rule."""

import numpy as np

from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

COUNTS = np.array([400, 250, 150, 90, 60, 40, 25, 15, 9, 6])
CLASSES = len(COUNTS)
MEANS = np.random.default_rng(7).normal(size=(CLASSES, 12))
TRAINED = COUNTS / COUNTS.sum()


def tail(slope):
    """Shares in proportion to a power of the counts."""
    shares = COUNTS**slope
    return shares / shares.sum()


def drawn(labels, rng):
    rows = MEANS[labels] + rng.normal(size=(len(labels), MEANS.shape[1]))
    return FeatureSplit(rows.astype(np.float32), np.asarray(labels))


def sample(prior, size, seed):
    """Samples under a prior, as features of the same model."""
    rng = np.random.default_rng(seed)
    return drawn(rng.choice(CLASSES, size, p=prior), rng)


def problem(seed=0, val=40, **targets):
    """Features with a balanced val, and further splits; the head is 2 times the log posterior."""
    rng = np.random.default_rng(seed)
    splits = {
        "train": drawn(np.repeat(np.arange(CLASSES), COUNTS), rng),
        "val": drawn(np.repeat(np.arange(CLASSES), val), rng),
    }
    bias = np.log(TRAINED) - (MEANS**2).sum(axis=1) / 2
    head = Head(np.float32(2 * MEANS), np.float32(2 * bias))
    return FeatureSet(splits | targets, ClassTable(COUNTS), head, settings={"bins": [20, 100]})
