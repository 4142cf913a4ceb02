"""Problems whose posteriors are known, and the best that any rejector does on them."""

import numpy as np

from ltkit.abstention.posteriors import Groups, Posteriors
from ltkit.abstention.risks import Sample
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

GROUPS = Groups(("few", "many"), np.array([1, 0]))
COUNTS = np.array([15.0, 285.0])
"""Training counts of the rare class's group, and of the other's."""


def drawn(size, seed, rare=0.05, apart=2.0, balanced=False):
    """Two Gaussian classes on a line, and their posteriors under their frequencies.

    Args:
        size: samples.
        seed: of the draws.
        rare: frequency of the second class, by which posteriors go.
        apart: distance of the means.
        balanced: whether both classes are drawn alike often none the less.
    """
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < (0.5 if balanced else rare)).astype(np.int64)
    x = rng.normal(size=size) + apart * labels
    second = 1 / (1 + (1 - rare) / rare * np.exp(apart**2 / 2 - apart * x))
    p = np.stack([second, 1 - second], axis=1)  # by group: few, many
    found = Posteriors(p, p, np.tile(np.int32([1, 0]), (size, 1)))
    return found, Sample.of(labels, GROUPS)


def least_error(found, sample, handed):
    """The least balanced error of all rules that hand over so many samples.

    What is handed over at best lies between two posteriors, and what is answered on either side is
    the class of that side: the score is concave in the posterior. All such stretches are tried.
    """
    rare = sample.labels[np.argsort(found.mass[:, 0], kind="stable")] == 1  # (N,)
    size = len(rare)
    below = np.append(0, np.cumsum(rare))  # rare ones among the first k
    starts = np.arange(size - handed + 1)
    ends = starts + handed
    lost_rare, kept_rare = below[starts], below[starts] + below[-1] - below[ends]
    lost_other = (size - ends) - (below[-1] - below[ends])
    kept_other = (starts - below[starts]) + lost_other
    some = (kept_rare > 0) & (kept_other > 0)
    return float(
        (lost_rare[some] / kept_rare[some] + lost_other[some] / kept_other[some]).min() / 2
    )


def blobs(seed=0, val=20, test=50, size=8):
    """A long-tailed problem of Gaussian classes, and the head that its training counts ask for."""
    rng = np.random.default_rng(seed)
    counts = np.array([500, 300, 200, 90, 60, 30, 15, 8])[:size]
    means = 1.8 * np.eye(size)
    bias = np.log(counts / counts.sum()) - (means**2).sum(axis=1) / 2

    def some(each):
        labels = np.repeat(np.arange(size), each)
        rows = means[labels] + rng.normal(size=(len(labels), size))
        return FeatureSplit(np.float32(rows), labels)

    splits = {"train": some(counts), "val": some([val] * size), "test": some([test] * size)}
    return FeatureSet(splits, ClassTable(counts), Head(np.float32(means), np.float32(bias)))
