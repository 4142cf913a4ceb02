"""Long-tailed problems whose rare classes fail for a known cause: Gaussian classes.

Ten frequent and five rare classes, each around a mean of its own; the head is Bayes' rule for equal
frequencies, but for the cause.
"""

import numpy as np

from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

COUNTS = np.array([500, 400, 300, 250, 200, 180, 160, 140, 120, 110, 15, 12, 10, 8, 6])
RARE = np.flatnonzero(COUNTS < 20)
SIZE, DISTANCE = len(COUNTS), 5.0


def problem(cause, seed=0, val=30):
    """Features whose rare classes fail for a cause, one of `MADE`, more or less badly."""
    rng = np.random.default_rng(seed)
    badly = rng.random()
    means = DISTANCE * np.eye(SIZE)
    weight, bias, spread = means.copy(), -(DISTANCE**2) / 2 * np.ones(SIZE), np.zeros(SIZE)
    log_prior = np.log(COUNTS / COUNTS.sum())
    if cause == "prior":
        bias += (5 + 3 * badly) * log_prior  # beyond what its frequencies ask for
    elif cause == "rows":
        other = np.roll(np.eye(SIZE)[RARE], 1, axis=0)  # another's row, by half or by all of it
        weight[RARE] += DISTANCE * (0.5 + badly / 2) * (other - np.eye(SIZE)[RARE])
    elif cause.startswith("overlap"):
        means[RARE] = means[: len(RARE)]  # each where a frequent class is
        means[RARE, RARE] = 1 - badly
        weight = means.copy()
        if cause == "overlap under a prior":
            bias += log_prior
    elif cause.startswith("separation"):
        spread[RARE] = 0.7 + 0.3 * badly  # most samples are wherever those of others are
        bias += log_prior * (cause == "separation under a prior")

    def drawn(counts):
        labels = np.repeat(np.arange(SIZE), counts)
        at = np.where(
            rng.random(len(labels)) < spread[labels], rng.integers(0, 10, len(labels)), labels
        )
        rows = means[at] + rng.normal(size=(len(labels), SIZE))
        return FeatureSplit(np.float32(rows), labels)

    splits = {"train": drawn(COUNTS), "val": drawn(np.full(SIZE, val))}
    head = Head(np.float32(weight), np.float32(bias))
    return FeatureSet(splits, ClassTable(COUNTS), head, settings={"bins": [20, 100]})


MADE = {
    "prior": "prior", "rows": "rows", "overlap": "confusion", "overlap under a prior": "confusion",
    "separation": "separation", "separation under a prior": "separation",
}  # fmt: skip
"""Problems, and what they are to be called."""
