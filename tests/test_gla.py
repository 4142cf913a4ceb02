"""Generalised logit adjustment, against a second formulation in float64 and a known answer."""

from pathlib import Path

import made
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import log_softmax

from ltkit.errors import InputError
from ltkit.files import classifiers
from ltkit.posthoc import gla, logistic
from ltkit.posthoc.gla import estimated_log_prior
from ltkit.records import Classifier, FeatureSplit

COUNTS = np.array([60, 30, 12, 6])


def drawn():
    rng = np.random.default_rng(3)
    labels = np.repeat(np.arange(4), COUNTS)
    x = (1.5 * rng.normal(size=(4, 6))[labels] + rng.normal(size=(108, 6))).astype(np.float32)
    zero = Classifier(rng.normal(size=(4, 6)).astype(np.float32), np.float32([2, 0, 0, -1]))
    tuned = Classifier(rng.normal(size=(4, 6)).astype(np.float32), np.float32([1, 0.5, 0, 0]))
    return FeatureSplit(x, labels), zero, tuned


def second_form(train, zero):
    """The estimate as the natural risk of logits less log q, plus the log training prior."""
    weights = 1 / (4 * COUNTS[train.labels])
    logits = train.features.astype(np.float64) @ zero.weight.T.astype(np.float64) + zero.bias

    def risk(free):
        shifted = log_softmax(logits - np.append(free, 0), axis=1)
        return -(weights * shifted[np.arange(108), train.labels]).sum()

    found = minimize(risk, np.zeros(3), method="Nelder-Mead",
                     options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 20_000})  # fmt: skip
    return log_softmax(np.append(found.x, 0))


def test_the_prior_is_the_best_there_is():
    train, zero, _ = drawn()
    found = estimated_log_prior(zero, train)
    assert np.exp(found).sum() == pytest.approx(1)
    np.testing.assert_allclose(found, second_form(train, zero), atol=1e-4)


def test_what_a_head_was_shifted_by_is_found():
    """Logits of Bayes' rule under equal classes, and a prior on top of them."""
    rng = np.random.default_rng(0)
    centres, prior = 2 * np.eye(4), np.array([0.6, 0.25, 0.1, 0.05])
    labels = np.repeat(np.arange(4), 20_000)
    x = (centres[labels] + rng.normal(size=(80_000, 4))).astype(np.float32)
    bias = np.log(prior) - (centres**2).sum(axis=1) / 2
    zero = Classifier(centres.astype(np.float32), bias.astype(np.float32))
    found = np.exp(estimated_log_prior(zero, FeatureSplit(x, labels)))
    np.testing.assert_allclose(found, prior, rtol=0.03)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_the_sum(tau):
    train, zero, tuned = drawn()
    found = gla.fit(zero, train, COUNTS, tuned, tau=tau)
    np.testing.assert_allclose(found.weight, zero.weight + tuned.weight, rtol=1e-6)
    expected = zero.bias + tuned.bias - second_form(train, zero)
    expected = expected - tau * np.log(COUNTS / COUNTS.sum())
    np.testing.assert_allclose(found.bias, expected, atol=1e-4)


def test_without_a_fine_tuned_head_it_is_fitted():
    train, zero, _ = drawn()
    found = gla.fit(zero, train, COUNTS, penalty=0.02)
    x = train.features.astype(np.float64)
    weights = 1 / (4 * COUNTS[train.labels])
    centre = (weights[:, None] * x).sum(axis=0)
    variance = (weights[:, None] * (x - centre) ** 2).sum(axis=0).mean()
    ridge = logistic.fit(zero, train, COUNTS, inverse_penalty=1 / (0.02 * variance * 108))
    expected = zero.bias + ridge.bias - second_form(train, zero)
    np.testing.assert_allclose(found.weight, zero.weight + ridge.weight, atol=2e-3)
    np.testing.assert_allclose(found.bias, expected, atol=5e-3)


def test_settings_that_are_fitted_together():
    train, zero, tuned = drawn()
    tried = [{"tau": 0.0, "penalty": 0.2}, {"tau": 1.0, "penalty": 0.02}]
    for other in (None, tuned):
        said = []
        found = gla.fit_many(
            zero, train, COUNTS, tried, other, lambda what, *_, said=said: said.append(what)
        )
        for one, settings in zip(found, tried, strict=True):
            alone = gla.fit(zero, train, COUNTS, other, **settings)
            np.testing.assert_allclose(one.weight, alone.weight, atol=2e-3)
            np.testing.assert_allclose(one.bias, alone.bias, atol=5e-3)
        searched = {"pass over train for the prior"}
        assert set(said) == searched | ({"pass over train"} if other is None else set())
        assert said.count("pass over train for the prior") < 40  # of one search


def test_a_prior_that_is_not_found_in_time(monkeypatch):
    train, zero, tuned = drawn()
    monkeypatch.setattr(gla, "ITERATIONS", 2)
    with pytest.raises(InputError, match="no prior of the zero-shot head is found in 2 iterations"):
        gla.fit(zero, train, COUNTS, tuned)


def test_heads_of_two_forms_have_no_sum():
    train, zero, tuned = drawn()
    cosine = Classifier(zero.weight, np.zeros(4, np.float32), normalize_features=True)
    for base, other, word in ((cosine, tuned, "with"), (tuned, cosine, "without")):
        with pytest.raises(InputError, match=f"no linear head; train it {word} --cosine"):
            gla.fit(base, train, COUNTS, other)


def test_on_the_command_line(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    train, _, _ = drawn()
    np.savez("a.npz", train_features=train.features, train_labels=train.labels,
             val_features=train.features, val_labels=train.labels)  # fmt: skip
    np.save("t.npy", np.random.default_rng(1).normal(size=(4, 6)))
    for words in (
        ("import", "a.npz", "--text-features", "t.npy", "-o", "f.h5"),
        ("train", "ce", "f.h5", "--cosine", "--init", "text", "--epochs", 2, "--device", "cpu"),
        ("posthoc", "gla", "f.h5"),
        ("posthoc", "gla", "f.h5", "--from", "f.ce.h5"),
        ("import", "a.npz", "-o", "b.h5"),
    ):
        code, _, said = ltkit(*words, "-q")
        assert code == 0, said
    found, inputs = classifiers.read(Path("f.ce.gla.h5"))
    assert (found.method, found.normalize_features) == ("ce+gla", True)
    assert {"features", "from"} <= inputs.keys()
    tuned, _ = classifiers.read(Path("f.ce.h5"))
    texts = np.load("t.npy")
    rows = 100 * texts / np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(found.weight[0], rows + tuned.weight[0], rtol=1e-4, atol=1e-4)
    code, _, said = ltkit("posthoc", "gla", "b.h5")
    assert code == 2
    assert "--base: absent, b.h5 has no head" in said
    assert made.beside(Path("b.h5").resolve()).count("b.gla.h5") == 0
