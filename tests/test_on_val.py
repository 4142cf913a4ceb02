"""Corrections that learn from the validation split, against second forms, known answers and folds.

The data of the second forms is drawn by Bayes' rule: the right scale and offsets are known.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from ltkit import evaluation, posthoc
from ltkit.errors import InputError, SettingError
from ltkit.evaluation.metrics import calibration_error
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.posthoc import (
    _on_val,
    bias,
    fit_features,
    log_prior,
    plan,
    temperature,
    vector_scaling,
)
from ltkit.records import (
    NEVER,
    Classifier,
    ClassTable,
    FeatureSet,
    FeatureSplit,
    Head,
    stratified_folds,
)
from ltkit.sources.arrays import import_arrays

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = np.array([300, 200, 50, 40, 10, 5])
GROUPS = np.array([2, 2, 1, 1, 0, 0])
PRIOR = COUNTS / COUNTS.sum()
CENTRES = 1.2 * np.eye(6)


def drawn(each, seed=0):
    """Samples of six Gaussian classes."""
    labels = np.repeat(np.arange(6), each)
    x = CENTRES[labels] + np.random.default_rng(seed).normal(size=(len(labels), 6))
    return FeatureSplit(x.astype(np.float32), labels)


def head(sharp=1.0, prior=PRIOR):
    """The log posterior under a prior, with logits made `sharp` times too large."""
    offsets = np.log(prior) - (CENTRES**2).sum(axis=1) / 2
    return Classifier((sharp * CENTRES).astype(np.float32), (sharp * offsets).astype(np.float32))


def logits(classifier, split):
    return classifier.logits(split.features[:]).astype(np.float64)


# Temperature


def test_doubled_logits_have_temperature_two():
    val, even = drawn(4000), np.full(6, 1 / 6)
    for sharp in (0.5, 1.0, 2.0):
        fitted = temperature.fit(head(sharp, even), val, COUNTS)
        np.testing.assert_allclose(fitted.weight, CENTRES, rtol=0.02, atol=0.02)
    one, two = (temperature.fit(head(s), drawn(50), COUNTS) for s in (1.0, 2.0))
    np.testing.assert_allclose(one.weight, two.weight, rtol=1e-5)
    np.testing.assert_allclose(one.bias, two.bias, rtol=1e-5)


@pytest.mark.parametrize("weighting", ["classes", "samples"])
def test_the_temperature_is_that_of_scipy(weighting):
    val, base = drawn([9, 30, 12, 40, 20, 5]), head(3.0)
    z = logits(base, val)
    shares = 1 / np.bincount(val.labels)[val.labels] if weighting == "classes" else None

    def cost(log_t):
        return log_loss(val.labels, np.exp(log_softmax(z / np.exp(log_t), axis=1)),
                        sample_weight=shares)  # fmt: skip

    best = np.exp(minimize_scalar(cost, bounds=(-3, 5), method="bounded",
                                  options={"xatol": 1e-9}).x)  # fmt: skip
    fitted = temperature.fit(base, val, COUNTS, weighting=weighting)
    np.testing.assert_allclose(fitted.weight, base.weight / best, rtol=1e-5)
    np.testing.assert_allclose(fitted.bias, base.bias / best, rtol=1e-5)


def test_a_temperature_mends_the_calibration_error_and_no_prediction():
    val, test = drawn(100), drawn(500, 1)
    base = head(4.0, np.full(6, 1 / 6))
    errors = []
    for classifier in (base, temperature.fit(base, val, COUNTS)):
        z = logits(classifier, test)
        p = np.exp(log_softmax(z, axis=1))
        errors.append(calibration_error(p.max(axis=1), z.argmax(axis=1) == test.labels))
        assert (z.argmax(axis=1) == logits(base, test).argmax(axis=1)).all()
    assert errors[0] > 0.15
    assert errors[1] < 0.03


def test_the_ends_of_the_range():
    val = drawn(5)
    right = Classifier(np.eye(6, dtype=np.float32), np.zeros(6, np.float32))
    known = FeatureSplit(np.eye(6, dtype=np.float32), np.arange(6))
    p = np.exp(log_softmax(logits(temperature.fit(right, known, COUNTS), known), axis=1))
    assert p[np.arange(6), np.arange(6)].min() > 1 - 1e-6
    wrong = replace(right, weight=-right.weight)
    scale = 1 / _on_val.LIMIT / np.sqrt(5 / 36)  # the spread of a one and five zeros
    found = temperature.fit(wrong, known, COUNTS)
    np.testing.assert_allclose(found.weight, wrong.weight * scale, rtol=1e-5)
    flat = Classifier(np.zeros((6, 6), np.float32), np.ones(6, np.float32))
    np.testing.assert_allclose(temperature.fit(flat, val, COUNTS).bias, 1)


# Offsets and scales


def second_form(z, labels, groups, penalty, one_scale):
    """The penalised cost in numpy, its gradient by differences."""
    n, size = z.shape
    spread = np.sqrt(z.var(axis=1).mean())
    weights = n / (size * np.bincount(labels, minlength=size))[labels]
    scales = 1 if one_scale else size

    def cost(free):
        a, d = free[:scales], free[scales:]
        own = log_softmax(z * a / spread + d, axis=1)[np.arange(n), labels]
        away = d - np.array([d[groups == g].mean() for g in groups])
        return -(weights @ own) + penalty / 2 * (((a - a.mean()) ** 2).sum() + away @ away)

    begin = np.concatenate([np.full(scales, spread), np.zeros(size)])
    found = minimize(cost, begin, method="BFGS", options={"gtol": 1e-4})
    a = np.broadcast_to(found.x[:scales] / spread, size)
    return a, found.x[scales:] - found.x[scales:].mean()


@pytest.mark.parametrize(("module", "one_scale"), [(bias, True), (vector_scaling, False)])
@pytest.mark.parametrize("penalty", [0.3, 5.0])
def test_the_minimum_is_that_of_a_second_form(module, one_scale, penalty):
    val, base = drawn([40, 30, 25, 20, 15, 30]), head(1.5)
    a, d = second_form(logits(base, val), val.labels, GROUPS, penalty, one_scale)
    fitted = module.fit(base, val, COUNTS, penalty=penalty)
    np.testing.assert_allclose(fitted.weight, base.weight * a[:, None], rtol=2e-3, atol=1e-4)
    found = fitted.bias - base.bias * a
    np.testing.assert_allclose(found - found.mean(), d, atol=3e-3)


def test_bias_undoes_a_prior_without_counts():
    """What is learned is minus the log prior, once classes of a group may differ."""
    val = drawn(4000)
    fitted = bias.fit(head(2.0), val, COUNTS, penalty=0.01)
    shift = fitted.bias + (CENTRES**2).sum(axis=1) / 2
    np.testing.assert_allclose(fitted.weight, CENTRES, rtol=0.03, atol=0.02)
    np.testing.assert_allclose(shift - shift.mean(), 0, atol=0.1)


def test_a_strong_penalty_leaves_an_offset_for_each_group():
    val, base = drawn(60), head()
    fitted = bias.fit(base, val, COUNTS, penalty=1e8)
    scale = fitted.weight[0, 0] / base.weight[0, 0]
    shift = fitted.bias - scale * base.bias
    for group in range(3):
        assert np.ptp(shift[group == GROUPS]) < 1e-3
    assert shift[5] > shift[3] > shift[0]


def test_vector_scaling_without_a_penalty_is_logistic_regression_of_one_logit_each():
    """Two classes: softmax of (a z + d) is a logistic regression of z1 - z0's two parts."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    x = rng.normal(size=(400, 2)).astype(np.float32) + labels[:, None]
    base = Classifier(np.float32([[-1, 0.2], [0.3, 1]]), np.zeros(2, np.float32))
    val = FeatureSplit(x, labels)
    fitted = vector_scaling.fit(base, val, np.array([300, 3]), penalty=1e-3)
    z = logits(base, val)
    reference = LogisticRegression(C=1e9, tol=1e-8).fit(z * [-1, 1], labels)
    own = logits(fitted, val)
    np.testing.assert_allclose(
        own[:, 1] - own[:, 0], reference.decision_function(z * [-1, 1]), rtol=0.02, atol=0.02
    )


def test_classes_without_val_samples_get_their_groups_mean():
    val = drawn([30, 30, 30, 0, 0, 0])
    base = head()
    fitted = bias.fit(base, val, COUNTS, penalty=0.5)
    scale = fitted.weight[0, 0] / base.weight[0, 0]
    shift = fitted.bias - scale * base.bias
    assert shift[3] == pytest.approx(shift[2], abs=1e-5)
    assert shift[4] == pytest.approx(shift[:3].mean(), abs=1e-5)  # of its group there is none
    others = bias.fit(Classifier(base.weight[:3], base.bias[:3]), val, COUNTS[:3], penalty=0.5)
    np.testing.assert_allclose(fitted.weight[:3], others.weight, rtol=1e-4)
    np.testing.assert_allclose(fitted.bias[:3], others.bias, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("module", [temperature, bias, vector_scaling])
def test_a_class_that_is_never_predicted_stays_so(module):
    base = head()
    weight, offsets = base.weight.copy(), base.bias.copy()
    weight[2], offsets[2] = 0, NEVER
    fitted = module.fit(Classifier(weight, offsets), drawn(20), COUNTS)
    assert fitted.bias[2] == np.float32(NEVER)
    assert not fitted.weight[2].any()
    kept = np.delete(np.arange(6), 2)
    val = drawn(20)
    others = val.labels != 2
    labels = val.labels[others]
    some = FeatureSplit(val.features[others], labels - (labels > 2))
    alone = module.fit(Classifier(weight[kept], offsets[kept]), some, COUNTS[kept])
    np.testing.assert_allclose(fitted.weight[kept], alone.weight, rtol=1e-4, atol=1e-6)


def test_cosine_heads_with_experts_fold():
    rng = np.random.default_rng(0)
    base = Head(rng.normal(size=(2, 6, 3)).astype(np.float32), np.zeros((2, 6), np.float32),
                scale=9.0, normalize="cosine").fold()  # fmt: skip
    val = drawn(30)
    for module in (temperature, bias, vector_scaling):
        fitted = module.fit(base, val, COUNTS)
        z, own = logits(base, val), logits(fitted, val)
        a = np.linalg.norm(fitted.weight, axis=1) / np.linalg.norm(base.weight, axis=1)
        np.testing.assert_allclose(own, z * a + fitted.bias, rtol=1e-3, atol=1e-4)
        assert (fitted.normalize_features, fitted.experts) == (True, 2)


def test_what_is_held_does_not_matter(monkeypatch):
    val, base = drawn(200), head()
    expected = bias.fit(base, val, COUNTS)
    monkeypatch.setattr("ltkit.memory.budget", lambda: 1000)
    monkeypatch.setattr(_on_val, "BLOCK_BYTES", 100)
    found = bias.fit(base, val, COUNTS)
    np.testing.assert_allclose(found.bias, expected.bias, rtol=1e-4, atol=1e-5)


def test_what_is_refused(monkeypatch):
    val, base = drawn(3), head()
    for module in (temperature, bias, vector_scaling):
        for none in (None, val.at(np.arange(0))):
            with pytest.raises(InputError, match="no val split, whose samples"):
                module.fit(base, none, COUNTS)
        large = Classifier(base.weight * np.float32(1e9), base.bias)
        with pytest.raises(InputError, match="logits: found"):
            module.fit(large, val, COUNTS)
        offsets = base.bias.copy()
        offsets[0] = NEVER
        with pytest.raises(InputError, match="no sample of a class that the classifier ever"):
            module.fit(Classifier(base.weight, offsets), drawn([5, 0, 0, 0, 0, 0]), COUNTS)
    monkeypatch.setattr(_on_val, "ITERATIONS", 2)
    with pytest.raises(InputError, match="not at their optimum after 2 iterations"):
        bias.fit(base, val, COUNTS)


# On features


def features(**splits):
    return FeatureSet(splits, ClassTable(COUNTS), Head(head(2.0).weight, head(2.0).bias))


def test_the_penalty_is_chosen_on_samples_that_taught_nothing():
    val = drawn(12)
    every = features(val=val)
    found = fit_features(every, plan("bias"))
    fold = stratified_folds(val.labels, 5)
    scores = []
    for penalty in bias.GRID["penalty"]:
        right = np.zeros(len(val))
        for number in range(5):
            rest, held = (val.at(np.flatnonzero(w)) for w in
                          (fold != number, fold == number))  # fmt: skip
            fitted = bias.fit(head(2.0), rest, COUNTS, penalty=penalty)
            right[fold == number] = logits(fitted, held).argmax(axis=1) == held.labels
        scores.append(right.mean())
    np.testing.assert_allclose(found.scores, scores, atol=1.01 / len(val))
    assert found.by_folds
    assert found.chosen == found.tried[int(np.argmax(found.scores))]
    whole = bias.fit(head(2.0), val, COUNTS, **found.chosen)
    np.testing.assert_allclose(found.correction.bias[0], whole.bias, rtol=1e-3, atol=1e-3)


def test_the_files_own_groups_are_taken():
    val = drawn(30)
    own = replace(features(val=val), settings={"bins": [45, 60]})
    for given, bounds in ((None, (45, 60)), ([7, 20], (7, 20))):
        found = fit_features(own, plan("bias", {"penalty": 1e6}), bins=given).correction
        expected = bias.fit(head(2.0), val, COUNTS, penalty=1e6, few_below=bounds[0],
                            many_above=bounds[1])  # fmt: skip
        np.testing.assert_allclose(found.bias[0], expected.bias, rtol=1e-5)
        assert found.runs[0]["few_below"] == bounds[0]
    said = fit_features(own, plan("bias", {"penalty": 1e6, "few_below": 7})).correction
    assert (said.runs[0]["few_below"], said.runs[0]["many_above"]) == (7, 60)
    shifted = fit_features(own, plan("group-bias", {"few": 1, "medium": 0})).correction
    np.testing.assert_allclose(shifted.bias[0] - head(2.0).bias, COUNTS < 45)


def test_the_demo(tmp_path, ltkit, monkeypatch):
    """Overall accuracy and calibration on real features; margins are several standard errors."""
    monkeypatch.chdir(tmp_path)
    demo = Path(features_file.__file__).parents[1] / "data" / "demo" / "feats.h5"
    file = features_file.read(demo)
    found = {"base": None}
    for method in ("bias", "temperature", "vector-scaling"):
        code, _, said = ltkit("posthoc", method, demo, "-o", f"{method}.h5")
        assert code == 0, said
        assert ("balanced accuracy" in said) == ("on folds of val" in said) == (
            method != "temperature")  # fmt: skip
        found[method] = classifiers.read(Path(f"{method}.h5"))[0]
    test = file.split("test")
    overall, error = {}, {}
    for name, correction in found.items():
        own = file.classifier() if correction is None else file.corrected(correction)
        z = logits(own, test)
        right = z.argmax(axis=1) == test.labels
        overall[name] = right.mean()
        error[name] = calibration_error(np.exp(log_softmax(z, axis=1)).max(axis=1), right)
    assert overall["temperature"] == overall["base"]
    assert overall["bias"] > overall["base"] + 0.035
    assert overall["vector-scaling"] > overall["base"] + 0.03
    assert error["base"] > 0.3
    assert max(error[n] for n in found if n != "base") < 0.04
    code, _, said = ltkit("posthoc", "temperature", "--from", "bias.h5", demo, "-o", "b.h5", "-q")
    assert code == 0, said
    again = classifiers.read(Path("b.h5"))[0]
    assert again.method == "bias+temperature"
    np.testing.assert_allclose(again.weight, found["bias"].weight, rtol=0.05, atol=1e-3)


# The prior of a head


def test_the_mean_softmax_is_the_prior_of_what_a_head_was_trained_on():
    labels = np.repeat(np.arange(6), COUNTS)
    x = CENTRES[labels] + np.random.default_rng(0).normal(size=(len(labels), 6))
    train = FeatureSplit(x.astype(np.float32), labels)
    linear = LogisticRegression(C=1e6, tol=1e-8, max_iter=2000).fit(train.features, labels)
    base = Classifier(linear.coef_.astype(np.float32), linear.intercept_.astype(np.float32))
    found = evaluation.mean_softmax(train, base)
    np.testing.assert_allclose(found, PRIOR, atol=1e-4)
    np.testing.assert_allclose(found, linear.predict_proba(train.features).mean(axis=0), atol=1e-6)


@pytest.fixture
def uncounted(tmp_path, monkeypatch):
    """A file of one class's count more than it has samples, and the same without that."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), COUNTS)
    x = CENTRES[labels] + rng.normal(size=(len(labels), 6))
    arrays = {"train_features": x, "train_labels": labels, "val_features": x[::3],
              "val_labels": labels[::3], "weight": head().weight, "bias": head().bias}  # fmt: skip
    np.savez("a.npz", **{k: v.astype(np.float32) if v.dtype == float else v
                         for k, v in arrays.items()})  # fmt: skip
    import_arrays(Path("a.npz"), Path("f.h5"))
    return arrays


def test_an_estimated_prior(uncounted, ltkit):
    words = ("posthoc", "logit-adjust", "f.h5", "--set", "tau=1", "--counts", "estimate")
    code, _, said = ltkit(*words, "-o", "o.h5")
    assert code == 0, said
    p = np.exp(log_softmax(uncounted["train_features"] @ head().weight.T.astype(float)
                           + head().bias, axis=1)).mean(axis=0)  # fmt: skip
    found, _ = classifiers.read(Path("o.h5"))
    np.testing.assert_allclose(found.bias[0], head().bias - np.log(p), rtol=1e-4, atol=1e-4)
    assert np.abs(p - PRIOR).sum() < 0.1
    file = features_file.read(Path("f.h5"))
    called = posthoc.logit_adjust(file, tau=1.0, counts="estimate")
    np.testing.assert_allclose(called.bias, found.bias)
    blank = replace(file, classes=ClassTable(np.zeros(6, np.int64)))
    without = posthoc.logit_adjust(blank, tau=1.0, counts="estimate")
    np.testing.assert_allclose(without.bias, found.bias)
    for method in ("pc_softmax", "blend"):
        own, other = (getattr(posthoc, method)(f, counts="estimate") for f in (file, blank))
        np.testing.assert_allclose(own.bias, other.bias, atol=1e-4)


def test_an_estimate_that_cannot_be(uncounted, ltkit):
    file = features_file.read(Path("f.h5"))
    only = replace(file, splits={"val": file.split("val")})
    with pytest.raises(InputError, match="no train split to estimate the prior on"):
        posthoc.logit_adjust(only, tau=1.0, counts="estimate")
    with pytest.raises(SettingError, match="tau-norm takes no estimate of the prior; blend, lade"):
        posthoc.tau_norm(file, tau=1.0, counts="estimate")
    code, _, said = ltkit("posthoc", "ncm", "f.h5", "--counts", "estimate")
    assert code == 2
    assert "--counts: ncm takes no estimate of the prior; blend, lade, logit-adjust" in said


def test_the_log_prior_takes_shares():
    np.testing.assert_allclose(log_prior(PRIOR), log_prior(COUNTS))


# Folds


def test_folds_are_even_in_every_class():
    labels = np.random.default_rng(0).integers(0, 7, 333)
    fold = stratified_folds(labels, 5, seed=3)
    table = np.array([np.bincount(fold[labels == c], minlength=5) for c in range(7)])
    assert (np.ptp(table, axis=1) <= 1).all()
    assert np.ptp(table.sum(axis=0)) <= 1
    assert (stratified_folds(labels, 5, seed=4) != fold).any()


def test_some_samples_are_those():
    split = replace(drawn(40), ids=np.array([str(i) for i in range(240)]))
    rows = np.flatnonzero(np.arange(240) % 3 == 1)
    some = split.at(rows)
    np.testing.assert_array_equal(some.features[3:40], split.features[rows[3:40]])
    np.testing.assert_array_equal(some.labels, split.labels[rows])
    assert some.ids.tolist() == [str(i) for i in rows]


# Threads


@pytest.mark.parametrize("method", [bias, vector_scaling])
def test_neither_threads_nor_how_many_samples_are_computed_at_a_time_change_a_bit(
    method, monkeypatch
):
    val, found = drawn(40), []
    monkeypatch.setattr("ltkit.records.features.WIDE_BYTES", 16 * 24 * 50)  # of 50 samples
    for said, few in (("1", 10**6), ("1", 8 * 6 * 7), ("3", 8 * 6 * 7), ("3", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        monkeypatch.setattr(_on_val, "FEW_BYTES", few)
        found.append(method.fit(head(), val, COUNTS))
    for other in found[1:]:
        np.testing.assert_array_equal(other.weight, found[0].weight)
        np.testing.assert_array_equal(other.bias, found[0].bias)


def test_logits_that_are_not_held_are_computed_again_to_the_same(monkeypatch):
    val = drawn(40)
    held = bias.fit(head(), val, COUNTS)
    monkeypatch.setattr("ltkit.memory.budget", lambda: 1)
    again = bias.fit(head(), val, COUNTS)
    np.testing.assert_array_equal(again.weight, held.weight)
    np.testing.assert_array_equal(again.bias, held.bias)
