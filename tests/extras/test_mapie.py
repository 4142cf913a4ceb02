"""Conformal sets beside those of MAPIE, where it is installed."""

import naive_sets
import numpy as np
import pytest

import ltkit

pytestmark = pytest.mark.extras


class Known:
    """A classifier whose probabilities are the rows it is given."""

    classes_ = np.arange(8)
    n_features_in_ = 8

    def fit(self, x, y):
        return self

    def predict_proba(self, x):
        return np.asarray(x)

    def predict(self, x):
        return np.asarray(x).argmax(axis=1)

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_sets_are_those_of_mapie(coverage):
    """Of the probability itself: its APS draws at random."""
    classification = pytest.importorskip("mapie.classification")
    features = naive_sets.features()
    val, test = (
        naive_sets.probabilities(features.split(split), features.classifier())
        for split in ("val", "test")
    )
    other = classification.SplitConformalClassifier(
        Known(), confidence_level=coverage, conformity_score="lac", prefit=True
    ).conformalize(val, features.split("val").labels)
    _, members = other.predict_set(test)
    found = ltkit.conformal(features, score="softmax", threshold="marginal", coverage=coverage)
    sets = ltkit.predict_sets(features, found)
    theirs = [np.flatnonzero(row).tolist() for row in members[:, :, 0]]
    differing = sum(sorted(a.tolist()) != b for a, b in zip(sets, theirs, strict=True))
    assert differing <= 1  # an image at the threshold, by the last digit
    assert sum(map(len, sets)) > len(sets) / 2
