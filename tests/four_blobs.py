"""Four classes with 50 to 4 samples around random centres, and a random head."""

import numpy as np

from ltkit.records import Classifier, FeatureSplit

COUNTS = np.array([50, 30, 10, 4])


def made():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), COUNTS)
    centres = 2 * rng.normal(size=(4, 6))
    features = (centres[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32)
    weight = rng.normal(size=(4, 6)).astype(np.float32)
    base = Classifier(weight, rng.normal(size=4).astype(np.float32))
    return base, FeatureSplit(features, labels)
