"""Every post-hoc method is asked the same questions; each then has its own."""

import inspect

import numpy as np
import pytest

from ltkit import posthoc, registry
from ltkit.errors import InputError
from ltkit.evaluation import as_correction, choose, objective
from ltkit.posthoc import logit_adjust, ncm, tau_norm
from ltkit.records import Classifier, FeatureSplit, shot_groups

COUNTS = np.array([50, 30, 10, 4])


@pytest.fixture(params=registry.names(posthoc))
def method(request):
    return registry.load(posthoc, request.param)


def made():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), COUNTS)
    centres = 2 * rng.normal(size=(4, 6))
    features = (centres[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32)
    weight = rng.normal(size=(4, 6)).astype(np.float32)
    base = Classifier(weight, rng.normal(size=4).astype(np.float32))
    return base, FeatureSplit(features, labels)


def test_inputs_are_left_alone(method):
    base, train = made()
    before = (base.weight.copy(), base.bias.copy(), train.features[:].copy())
    method.fit(base, train, COUNTS)
    for old, new in zip(before, (base.weight, base.bias, train.features[:]), strict=True):
        np.testing.assert_array_equal(old, new)


def test_class_order_does_not_matter(method):
    base, train = made()
    order = np.array([2, 0, 3, 1])
    renamed = Classifier(base.weight[order], base.bias[order])
    moved = FeatureSplit(train.features, np.argsort(order)[train.labels])
    first, second = method.fit(base, train, COUNTS), method.fit(renamed, moved, COUNTS[order])
    np.testing.assert_allclose(first.weight[order], second.weight, rtol=1e-5)
    np.testing.assert_allclose(first.bias[order], second.bias, rtol=1e-5)


def test_shape_type_and_finiteness(method):
    base, train = made()
    fitted = method.fit(base, train, COUNTS)
    assert fitted.weight.shape == base.weight.shape
    assert fitted.weight.dtype == fitted.bias.dtype == np.float32
    assert np.isfinite(fitted.weight).all()
    assert np.isfinite(fitted.bias).all()


def test_signature_and_docstring(method):
    assert list(inspect.signature(method.fit).parameters)[:3] == ["base", "train", "class_counts"]
    doc = inspect.getdoc(method.fit)
    for part in ("Args:", "Raises:", "Example:", "Source:", "arXiv:"):
        assert part in doc


def test_a_grid_names_parameters(method):
    parameters = inspect.signature(method.fit).parameters
    assert all(name in parameters for name in getattr(method, "GRID", {}))


def test_logit_adjustment_shifts_logits_by_the_log_prior():
    base, train = made()
    fitted = logit_adjust.fit(base, train, COUNTS, tau=0.7)
    prior = COUNTS / COUNTS.sum()
    x = train.features[:5]
    expected = base.logits(x).astype(np.float64) - 0.7 * np.log(prior)
    np.testing.assert_allclose(fitted.logits(x), expected, atol=1e-5)
    np.testing.assert_array_equal(logit_adjust.fit(base, train, COUNTS, tau=0).bias, base.bias)


def test_equal_counts_leave_predictions_alone():
    base, train = made()
    fitted = logit_adjust.fit(base, train, np.full(4, 7))
    x = train.features[:]
    np.testing.assert_array_equal(fitted.logits(x).argmax(1), base.logits(x).argmax(1))


def test_tau_norm_limits():
    base, train = made()
    np.testing.assert_array_equal(tau_norm.fit(base, train, COUNTS, tau=0).weight, base.weight)
    rows = tau_norm.fit(base, train, COUNTS, tau=1).weight
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    rows = tau_norm.fit(base, train, COUNTS, tau=2).weight
    np.testing.assert_allclose(
        np.linalg.norm(rows, axis=1), 1 / np.linalg.norm(base.weight, axis=1), rtol=1e-5
    )
    assert not tau_norm.fit(base, train, COUNTS).bias.any()


def test_ncm_predicts_the_nearest_mean():
    base, train = made()
    x = train.features[:].astype(np.float64)
    means = np.stack([x[train.labels == c].mean(axis=0) for c in range(4)])
    nearest = np.linalg.norm(x[:, None] - means, axis=2).argmin(axis=1)
    predicted = ncm.fit(base, train, COUNTS).logits(train.features[:]).argmax(axis=1)
    np.testing.assert_array_equal(predicted, nearest)


@pytest.mark.parametrize("fit", [tau_norm.fit, logit_adjust.fit])
def test_tau_that_is_no_number(fit):
    base, train = made()
    with pytest.raises(InputError, match="tau: found nan"):
        fit(base, train, COUNTS, tau=float("nan"))


def test_classes_without_images():
    base, train = made()
    with pytest.raises(InputError, match="class 2: no training image"):
        logit_adjust.fit(base, train, np.array([5, 5, 0, 5]))
    with pytest.raises(InputError, match="class 3: no training sample"):
        ncm.fit(base, FeatureSplit(train.features, train.labels % 3), COUNTS)
    with pytest.raises(InputError, match="no train split"):
        ncm.fit(base, None, COUNTS)


def test_choose_takes_the_best_on_validation_and_the_first_of_equals():
    base, val = made()
    groups = shot_groups(COUNTS, (5, 20))

    def score(predicted):
        return objective(predicted, val.labels, 4, groups, "balanced")

    candidates = [({"tau": t}, logit_adjust.fit(base, val, COUNTS, tau=t)) for t in (0, 1, 1, 9)]
    best, scores = choose(candidates, val, score)
    by_hand = []
    for _, classifier in candidates:
        right = classifier.logits(val.features[:]).argmax(1) == val.labels
        by_hand.append(np.mean([right[val.labels == c].mean() for c in range(4)]))
    np.testing.assert_allclose(scores, by_hand)
    assert best == int(np.argmax(by_hand))


def test_objectives_by_hand():
    labels = np.array([0, 0, 0, 0, 1, 1, 2, 3])
    predicted = np.array([0, 0, 0, 1, 1, 0, 2, 0])  # class accuracies 3/4, 1/2, 1, 0
    groups = shot_groups(COUNTS, (5, 40))  # many 0, medium 1 and 2, few 3
    values = {
        s: objective(predicted, labels, 4, groups, s)
        for s in ("all", "balanced", "few", "harmonic")
    }
    assert values == {"all": 5 / 8, "balanced": 2.25 / 4, "few": 0.0, "harmonic": 0.0}
    predicted[-1] = 3
    assert objective(predicted, labels, 4, groups, "harmonic") == pytest.approx(
        3 / (1 / 1 + 1 / 0.75 + 1 / 0.75)
    )
    with pytest.raises(InputError, match="--select few"):
        objective(predicted[:7], labels[:7], 4, groups, "few")


def test_a_whole_classifier_as_correction_gives_it_back():
    base, train = made()
    fitted = ncm.fit(base, train, COUNTS)
    back = as_correction("ncm", fitted, [{}]).classifier(base, 0)
    np.testing.assert_array_equal(back.weight, fitted.weight)
    np.testing.assert_array_equal(back.bias, fitted.bias)
