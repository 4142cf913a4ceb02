"""Adapting on the features of the demo, which are real."""

from importlib import resources

import numpy as np
import pytest

import ltkit
from ltkit.errors import SettingError
from ltkit.records import class_prior

pytestmark = pytest.mark.more


@pytest.fixture(scope="module")
def features():
    return ltkit.read(resources.files("ltkit") / "data" / "demo" / "feats.h5")


def test_a_reversed_tail_is_found_and_adapted_to(features):
    test, counts = features.split("test"), features.classes.train_count
    prior = class_prior("backward:50", counts)
    rng = np.random.default_rng(0)
    each = prior[test.labels] / prior[test.labels].sum()
    rows = np.sort(rng.choice(len(test), 1000, replace=False, p=each))
    field, labels = test.at(rows).features[:], test.labels[rows]
    found = ltkit.adapt(features, field, replicates=100)
    none, made = (
        float((c.logits(field).argmax(axis=1) == labels).mean())
        for c in (features.classifier(), features.corrected(found.correction))
    )
    assert made > none + 0.15
    assert np.abs(found.correction.extra["prior"][0] - prior).sum() < 0.25


def test_images_that_the_network_was_trained_on_are_refused(features):
    with pytest.raises(SettingError, match="the confidence of samples"):
        ltkit.adapt(features, features, "train", replicates=100)
