"""The blend: against the two heads that it is made of."""

import numpy as np
from four_blobs import COUNTS, made

from ltkit.posthoc import blend, logistic, logit_adjust
from ltkit.records import Classifier, FeatureSplit


def test_the_blend_is_the_mean_of_two_heads_adjusted():
    base, train = made()
    variance = _class_balanced_variance(train)
    other = logistic.fit(base, train, COUNTS, inverse_penalty=1 / (0.3 * variance * len(train)))
    adjusted = logit_adjust.fit(base, train, COUNTS, tau=1.4)
    found = blend.fit(base, train, COUNTS, share=0.25, tau=1.05, penalty=0.3)
    x = train.features[:9]
    expected = 0.75 * adjusted.logits(x) + 0.25 * other.logits(x)
    whole = blend.fit(base, train, COUNTS, share=1.0, tau=0.0, penalty=0.3)
    np.testing.assert_allclose(whole.logits(x), other.logits(x), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.logits(x), expected, rtol=1e-3, atol=1e-3)


def _class_balanced_variance(train):
    """The mean over features of the variance of a sample of a class drawn first."""
    x = train.features.astype(np.float64)
    groups = [x[train.labels == c] for c in range(4)]
    mean = np.mean([g.mean(axis=0) for g in groups], axis=0)
    return np.mean([((g - mean) ** 2).mean(axis=0) for g in groups])


def test_the_blend_does_not_depend_on_the_unit_of_the_features():
    base, train = made()
    larger = FeatureSplit(50 * train.features, train.labels)
    smaller_head = Classifier(base.weight / np.float32(50), base.bias)
    x = train.features[:9]
    np.testing.assert_allclose(
        blend.fit(smaller_head, larger, COUNTS).logits(50 * x),
        blend.fit(base, train, COUNTS).logits(x), rtol=1e-3, atol=1e-3,
    )  # fmt: skip


def test_blends_of_many_settings_are_those_of_each():
    base, train = made()
    tried = [
        {"share": s, "tau": t, "penalty": p} for s in (0, 1.0) for t in (0, 1) for p in (0.1, 1)
    ]
    for settings, found in zip(tried, blend.fit_many(base, train, COUNTS, tried), strict=True):
        expected = blend.fit(base, train, COUNTS, **settings)
        np.testing.assert_allclose(found.weight, expected.weight, atol=2e-3)
        np.testing.assert_allclose(found.bias, expected.bias, atol=2e-3)
