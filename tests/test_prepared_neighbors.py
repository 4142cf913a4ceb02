"""Neighbours are sought among features as the head takes them; under ``raw``, as stored."""

from dataclasses import replace

import numpy as np
import pytest
from six_classes import BINS, COUNTS, QUICK, made

from ltkit import neighbors
from ltkit.alphanet.application import apply_features
from ltkit.alphanet.study import fit_features
from ltkit.evaluation.analysis.subject import Subject
from ltkit.records import ClassTable, FeatureSet, Head
from ltkit.settings import NeighborSettings

FEW = np.flatnonzero(BINS[0] > COUNTS)


def features_of(normalize):
    """Two experts, of which the first has features fifty times as long."""
    _, train, val = made()
    for split in (train, val):
        split.features[:, :6] *= 50
    weight = np.random.default_rng(1).normal(size=(2, len(COUNTS), 6)).astype(np.float32)
    head = Head(weight, np.zeros((2, len(COUNTS)), np.float32), normalize=normalize)
    classes = ClassTable(COUNTS)
    return FeatureSet({"train": train, "val": val, "test": val}, classes, head, {"bins": "8,30"})


def naive(features, experts):
    """The mean of every class, image by image, each expert's part divided by its length."""
    train = features.split("train")
    means = np.zeros((len(COUNTS), 12))
    for row, label in zip(train.features.astype(np.float64), train.labels, strict=True):
        parts = row.reshape(experts, -1) if experts else row[None]
        lengths = np.linalg.norm(parts, axis=1, keepdims=True) if experts else 1
        means[label] += (parts / lengths).ravel() / COUNTS[label]
    return means


def nearest(means, k=3):
    found = []
    for c in FEW:
        others = [b for b in range(len(COUNTS)) if COUNTS[b] >= BINS[0]]
        found.append(sorted(others, key=lambda b: np.linalg.norm(means[c] - means[b]))[:k])
    return found


@pytest.mark.parametrize(
    ("normalize", "metric", "experts"),
    [("none", "euclidean", 0), ("none", "raw", 0), ("features", "euclidean", 2),
     ("cosine", "euclidean", 2), ("cosine", "raw", 0)],
)  # fmt: skip
def test_neighbours_are_those_of_what_the_head_takes(normalize, metric, experts):
    features = features_of(normalize)
    expected = nearest(naive(features, experts))
    settings = NeighborSettings(3, metric)
    found = neighbors.nearest_of_groups(features, settings, bins=BINS)
    assert found.base_class.tolist() == expected
    subject = Subject(features, "test", BINS, features.split("test").labels, [])
    among = np.flatnonzero(BINS[0] <= COUNTS)
    assert subject.nearest(FEW, among, settings).base_class.tolist() == expected
    fitted = fit_features(features, QUICK, k=3, metric=metric, bins=BINS)
    assert fitted.extra["neighbor"][0].tolist() == expected
    again = apply_features(fitted, features, of=FEW, bins=BINS)
    assert again.extra["neighbor"][0].tolist() == expected


def test_the_two_differ():
    """Else the others would show nothing."""
    features = features_of("cosine")
    assert nearest(naive(features, 2)) != nearest(naive(features, 0))


def test_without_a_head_they_are_as_stored():
    features = replace(features_of("cosine"), head=None)
    found = neighbors.nearest_of_groups(features, NeighborSettings(3), bins=BINS)
    assert found.base_class.tolist() == nearest(naive(features, 0))
