"""Features of four classes, long-tailed."""

import numpy as np

from ltkit.records import Classifier, FeatureSplit

COUNTS = np.array([60, 25, 9, 4])


def made(noise=1.0):
    """Return a classifier, a train split in random order, and its features in float64."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(4), COUNTS))
    centres = rng.normal(size=(4, 5)) + 1
    x = (centres[labels] + noise * rng.normal(size=(len(labels), 5))).astype(np.float32)
    base = Classifier(rng.normal(size=(4, 5)).astype(np.float32), np.float32([0.5, 0.2, -0.3, 0]))
    return base, FeatureSplit(x, labels), x.astype(np.float64)
