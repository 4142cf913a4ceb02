"""Conformal sets in their plainest form, image by image and class by class, and made features."""

import math

import numpy as np

from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

COUNTS = np.array([400, 200, 120, 60, 30, 12, 8, 5])


def features(seed=0, val=20, test=40, counts=COUNTS):
    """Gaussian classes of a long tail, and a head with too strong a prior."""
    rng = np.random.default_rng(seed)
    size = len(counts)

    def drawn(each):
        labels = rng.permutation(np.repeat(np.arange(size), each))
        rows = 2 * np.eye(size)[labels] + rng.normal(size=(len(labels), size))
        return FeatureSplit(np.float32(rows), labels)

    head = Head(np.float32(2 * np.eye(size)), np.float32(np.log(np.maximum(counts, 1))))
    splits = {"train": drawn(counts), "val": drawn(val), "test": drawn(test)}
    return FeatureSet(splits, ClassTable(counts), head, settings={"bins": [20, 100]})


def probabilities(split, classifier):
    """(N, C) in float64."""
    z = classifier.logits(np.asarray(split.features)).astype(np.float64)
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def score(name, p, y, counts, penalty=0.01, free=5):
    """The score of class y, of one image's probabilities."""
    if name == "softmax":
        return 1 - p[y]
    if name == "pas":
        return -p[y] / (counts[y] / sum(counts))
    likelier = [q for q in p if q >= p[y]]
    beyond = max(0, len(likelier) - free) if name == "raps" else 0
    return min(math.fsum(likelier), 1.0) + penalty * beyond


def quantile(scores, coverage):
    """The ceil((n + 1) coverage)-th of scores in order."""
    place = math.ceil((len(scores) + 1) * coverage - 1e-9)
    return sorted(scores)[place - 1] if place <= len(scores) else math.inf


def class_wise(scores, labels, classes, coverage):
    """A threshold for each class."""
    return [
        quantile([s for s, y in zip(scores, labels, strict=True) if y == c], coverage)
        for c in range(classes)
    ]


def fuzzy(scores, labels, counts, first, coverage, bandwidth):
    """Thresholds by the definition: a level of each held-out image, and its quantile."""

    def level(s, c):
        w = [math.exp(-0.5 * (math.log(counts[y] / counts[c]) / bandwidth) ** 2) for y in labels]
        part = [w[i] for i in range(len(labels)) if first[i]]
        below = [w[i] for i in range(len(labels)) if first[i] and scores[i] < s]
        return sum(below) / (sum(part) + 1)

    held = [i for i in range(len(labels)) if not first[i]]
    most = quantile([level(scores[i], labels[i]) for i in held], coverage)
    tried = [s for s, one in zip(scores, first, strict=True) if one]
    found = []
    for c in range(len(counts)):
        inside = [s for s in tried if level(s, c) <= most + 1e-12]
        found.append(math.inf if level(math.inf, c) <= most + 1e-12 else max(inside))
    return found
