"""Features and neighbours for small fits of AlphaNet."""

import numpy as np

from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSplit, Neighbors, shot_groups
from ltkit.settings import AlphaNetSettings, NeighborSettings

NONE = np.arange(0)

BINS = (8, 30)

COUNTS = np.array([40, 35, 20, 12, 9, 6, 4, 3])

QUICK = AlphaNetSettings(epochs=6, min_epochs=2, batch_size=8, learning_rate=5e-3, decay_every=4)


def made(seed: int = 0, normalize: bool = False, experts: int = 1):
    """A small long-tailed problem whose classes overlap, and a classifier for it."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(len(COUNTS), 12))

    def split(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        features = centres[labels] + rng.normal(size=(len(labels), 12))
        order = rng.permutation(len(labels))
        return FeatureSplit(features[order].astype(np.float32), labels[order])

    weight = (centres + 0.5 * rng.normal(size=centres.shape)).astype(np.float32)
    bias = rng.normal(size=len(COUNTS)).astype(np.float32)
    return Classifier(weight, bias, normalize, experts), split(COUNTS), split(np.full(8, 15))


def neighbors_of(train: FeatureSplit, k: int = 3) -> Neighbors:
    groups = shot_groups(COUNTS, BINS)
    means, _ = class_means(train, len(COUNTS))
    return nearest(means, groups.few, groups.base, NeighborSettings(k))
