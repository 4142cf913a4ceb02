"""Every post-hoc method is asked the same questions; each then has its own."""

import functools
import inspect
import types

import numpy as np
import pytest
from four_blobs import COUNTS, made

from ltkit import posthoc, registry
from ltkit.errors import InputError
from ltkit.evaluation import best, objective, predict_classes
from ltkit.posthoc import (
    group_bias,
    lade,
    log_target,
    logit_adjust,
    ncm,
    pc_softmax,
    tau_norm,
)
from ltkit.records import Classifier, Correction, FeatureSplit, joined, shot_groups

NAMES = registry.names(posthoc)
LEARNERS = [
    "alphanet-plus", "blend", "crt", "gla", "logistic", "lws", "marc", "ncm", "ridge",
    "weight-balancing",
]  # fmt: skip
"""Need samples of every class."""

PRIORS = [
    "alphanet-plus", "blend", "gla", "lade", "logit-adjust", "marc", "pc-softmax",
    "weight-balancing",
]  # fmt: skip
"""Need a training count of every class."""

ON_VAL = ["bias", "temperature", "vector-scaling"]
"""Learn from the validation split, which these tests give them in the place of train."""

CLOSED = ["group-bias", "lade", "logit-adjust", "ncm", "pc-softmax", "ridge", "tau-norm", "tde"]

NEUTRAL = {
    "alphanet-plus": {"share": 0.0, "tau": 0.0},
    "blend": {"share": 0.0, "tau": 0.0},
    "group-bias": {"few": 0.0, "medium": 0.0},
    "lade": {"target": "uniform"},
    "logit-adjust": {"tau": 0.0},
    "lws": {"epochs": 0},
    "marc": {"epochs": 0},
    "pc-softmax": {"target": "train"},
    "tde": {"alpha": 0.0},
    "weight-balancing": {"epochs": 0},
}
NOT_NEUTRAL = {
    "bias": "learns a temperature",
    "crt": "starts anew",
    "gla": "adds a second classifier",
    "logistic": "starts anew",
    "ncm": "does not use the classifier",
    "ridge": "starts anew",
    "tau-norm": "drops the bias, as in the source",
    "temperature": "learns a temperature",
    "vector-scaling": "learns a scale",
}

SGD = {"learning_rate": -1.0, "batch_size": 0, "weight_decay": float("nan"), "seed": -1}
LEARNED = {"penalty": 0.0, "weighting": "sample", "few_below": 0}
BAD = {
    "alphanet-plus": {
        "part": -0.1,
        "tau": float("nan"),
        "nearest": 0,
        "metric": "random",
        "share": 1.1,
        "penalty": 0.0,
        "few_below": 0,
    },
    "bias": LEARNED,
    "blend": {"share": 1.1, "tau": float("nan"), "penalty": 0.0},
    "crt": SGD | {"epochs": 0},
    "gla": {"tau": float("nan"), "penalty": 0.0},
    "group-bias": {"few": float("nan"), "medium": float("inf"), "few_below": 0},
    "lade": {"target": "1,2,3"},
    "logistic": {"inverse_penalty": 0.0, "tolerance": -1.0, "iterations": 0},
    "logit-adjust": {"tau": float("nan")},
    "lws": SGD | {"epochs": -1},
    "marc": SGD | {"epochs": -1},
    "ncm": {"variant": "manhattan"},
    "pc-softmax": {"target": "1,2,3,0"},
    "ridge": {"penalty": 0.0},
    "tau-norm": {"tau": float("inf")},
    "tde": {"alpha": -0.1},
    "temperature": {"weighting": "sample"},
    "vector-scaling": LEARNED,
    "weight-balancing": SGD | {"epochs": -1, "beta": 1.5, "threshold": -0.1},
}


@pytest.fixture(params=NAMES)
def method(request):
    module = registry.load(posthoc, request.param)
    if hasattr(module, "fit_folds"):  # without a validation split; of confusions it has own tests
        near = functools.partial(module.fit, metric="euclidean")
        fit = functools.update_wrapper(near, module.fit)
        return types.SimpleNamespace(**{"__name__": module.__name__, "fit": fit})
    return module


def name_of(method):
    return method.__name__.rsplit(".", 1)[1].replace("_", "-")


def test_inputs_are_left_alone_though_read_only(method):
    base, train = made()
    arrays = (base.weight, base.bias, train.features, train.labels, COUNTS.copy())
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.setflags(write=False)
    method.fit(base, train, arrays[-1])
    for old, new in zip(before, arrays, strict=True):
        np.testing.assert_array_equal(old, new)


def test_class_order_does_not_matter(method):
    base, train = made()
    order = np.array([2, 0, 3, 1])
    renamed = Classifier(base.weight[order], base.bias[order])
    moved = FeatureSplit(train.features, np.argsort(order)[train.labels])
    first, second = method.fit(base, train, COUNTS), method.fit(renamed, moved, COUNTS[order])
    # Where an optimum is searched for, rounding decides where in its flat surrounding it stops.
    searched = name_of(method) in ("alphanet-plus", "blend", "gla", "logistic", *ON_VAL)
    close = {"atol": 1e-3} if searched else {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(first.weight[order], second.weight, **close)
    np.testing.assert_allclose(first.bias[order], second.bias, **close)


@pytest.mark.parametrize("name", CLOSED)
def test_sample_order_does_not_matter_to_a_closed_form(name):
    base, train = made()
    order = np.random.default_rng(1).permutation(len(train))
    moved = FeatureSplit(train.features[order], train.labels[order])
    fit = registry.load(posthoc, name).fit
    first, second = fit(base, train, COUNTS), fit(base, moved, COUNTS)
    np.testing.assert_allclose(first.weight, second.weight, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(first.bias, second.bias, rtol=1e-6, atol=1e-7)


def test_every_method_has_a_neutral_setting_or_a_reason_against_it(method):
    name = name_of(method)
    assert (name in NEUTRAL) != (name in NOT_NEUTRAL)
    if name in NEUTRAL:
        base, train = made()
        fitted = method.fit(base, train, COUNTS, **NEUTRAL[name])
        np.testing.assert_array_equal(fitted.weight, base.weight)
        np.testing.assert_array_equal(fitted.bias, base.bias)


def test_what_evaluation_keeps_of_a_multi_expert_head_is_what_was_fitted(method):
    plain, train = made()
    base = Classifier(plain.weight, plain.bias, normalize_features=True, experts=2)
    fitted = method.fit(base, train, COUNTS)
    kept = Correction.whole("", fitted).classifier(base, 0)
    x = train.features[:20]
    np.testing.assert_array_equal(kept.logits(x), fitted.logits(x))


@pytest.mark.parametrize(
    "name", sorted({*NAMES} - {"alphanet-plus", "ncm", "tde"})
)  # means of features as they are
def test_a_method_sees_features_as_the_classifier_does(name):
    method = registry.load(posthoc, name)
    plain, train = made()
    base = Classifier(plain.weight, plain.bias, normalize_features=True, experts=2)
    done = FeatureSplit(base.prepare(train.features), train.labels)
    first, second = method.fit(base, train, COUNTS), method.fit(plain, done, COUNTS)
    np.testing.assert_allclose(first.weight, second.weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.bias, second.bias, rtol=1e-5, atol=1e-6)
    assert first.normalize_features


def test_extreme_counts_give_finite_numbers(method):
    base, train = made()
    fitted = method.fit(base, train, np.array([1_000_000, 1000, 30, 1]))
    Correction.whole("", fitted)


def test_extreme_samples_give_finite_numbers(method):
    base, _ = made()
    labels = np.repeat(np.arange(4), (997, 1, 1, 1))
    features = 100 * np.random.default_rng(0).normal(size=(1000, 6)).astype(np.float16)
    fitted = method.fit(base, FeatureSplit(features, labels), np.bincount(labels))
    Correction.whole("", fitted)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_class_without_samples_or_no_train_split(name):
    base, train = made()
    fit = registry.load(posthoc, name).fit
    with pytest.raises(InputError, match="class 3: no training sample; 1 such classes"):
        fit(base, FeatureSplit(train.features, train.labels % 3), COUNTS)
    with pytest.raises(InputError, match="no train split"):
        fit(base, None, COUNTS)


@pytest.mark.parametrize("name", PRIORS)
def test_a_class_without_a_training_image(name):
    base, train = made()
    parameters = {"target": "train"} if name in ("lade", "pc-softmax") else {}
    with pytest.raises(InputError, match="class 2: no training image"):
        registry.load(posthoc, name).fit(base, train, np.array([5, 5, 0, 5]), **parameters)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {*LEARNERS, *ON_VAL, "tde"}))  # takes a mean
def test_methods_that_need_no_samples(name):
    base, train = made()
    fit = registry.load(posthoc, name).fit
    np.testing.assert_array_equal(fit(base, None, COUNTS).bias, fit(base, train, COUNTS).bias)


@pytest.mark.parametrize(("name", "parameter"), [(n, p) for n in NAMES for p in BAD[n]])
def test_bad_parameters(name, parameter):
    base, train = made()
    value = BAD[name][parameter]
    with pytest.raises(InputError, match=f"^{parameter}: found ") as caught:
        registry.load(posthoc, name).fit(base, train, COUNTS, **{parameter: value})
    assert "\n" not in str(caught.value)


def test_a_target_that_is_no_number():
    with pytest.raises(
        InputError, match=r"target: found 'unifrm', expected numbers, as 3,1,2, or one of uniform"
    ):
        log_target("unifrm", COUNTS)


def test_shape_type_and_finiteness(method):
    base, train = made()
    fitted = method.fit(base, train, COUNTS)
    assert fitted.weight.shape == base.weight.shape
    assert fitted.weight.dtype == fitted.bias.dtype == np.float32
    assert np.isfinite(fitted.weight).all()
    assert np.isfinite(fitted.bias).all()


def test_signature_and_docstring(method):
    split = "val" if name_of(method) in ON_VAL else "train"
    assert list(inspect.signature(method.fit).parameters)[:3] == ["base", split, "class_counts"]
    doc = inspect.getdoc(method.fit)
    for part in ("Args:", "Raises:", "Example:", "Source:"):
        assert part in doc
    assert "arXiv:" in doc or "doi:" in doc


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


def test_ncm_cosine_predicts_the_nearest_angle():
    base, train = made()
    x = train.features.astype(np.float64)
    means = np.stack([x[train.labels == c].mean(axis=0) for c in range(4)])
    cosines = x @ means.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(means, axis=1))
    predicted = ncm.fit(base, train, COUNTS, variant="cosine").logits(train.features).argmax(axis=1)
    np.testing.assert_array_equal(predicted, cosines.argmax(axis=1))


def cl2n(train):
    """Mean feature, its distances (N, 1), and the (N, 4) squared distances of the definition."""
    x = train.features.astype(np.float64)
    centre = x.mean(axis=0)
    radius = np.linalg.norm(x - centre, axis=1, keepdims=True)
    unit = (x - centre) / radius
    means = np.stack([unit[train.labels == c].mean(axis=0) for c in range(4)])
    return centre, radius, ((unit[:, None] - means) ** 2).sum(axis=2), means


def test_ncm_cl2n_is_its_definition_where_features_are_equally_far_from_the_mean():
    base, train = made()
    x = train.features - train.features.mean(axis=0)
    x = np.concatenate([x, -x]) / np.linalg.norm(np.concatenate([x, x]), axis=1, keepdims=True)
    train = FeatureSplit((3 + 2 * x).astype(np.float32), np.tile(train.labels, 2))
    _, radius, squared, _ = cl2n(train)
    np.testing.assert_allclose(radius, 2, rtol=1e-5)
    logits = ncm.fit(base, train, COUNTS, variant="cl2n").logits(train.features)
    np.testing.assert_allclose(logits - logits[:, :1], -2 * (squared - squared[:, :1]), atol=1e-4)


def test_ncm_cl2n_elsewhere_takes_the_mean_distance():
    base, train = made()
    centre, radius, squared, means = cl2n(train)
    expected = 2 * (train.features - centre) @ means.T - radius.mean() * (means**2).sum(axis=1)
    logits = ncm.fit(base, train, COUNTS, variant="cl2n").logits(train.features)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert (logits.argmax(axis=1) == squared.argmin(axis=1)).mean() > 0.9


def test_pc_softmax_replaces_the_prior_in_the_probabilities():
    base, train = made()
    target = np.array([0.1, 0.2, 0.3, 0.4])
    fitted = pc_softmax.fit(base, train, COUNTS, target="1,2,3,4")
    old, new = (np.exp(c.logits(train.features[:9]).astype(np.float64)) for c in (base, fitted))
    expected = old / old.sum(axis=1, keepdims=True) * target / (COUNTS / COUNTS.sum())
    np.testing.assert_allclose(
        new / new.sum(axis=1, keepdims=True), expected / expected.sum(axis=1, keepdims=True),
        rtol=1e-5,
    )  # fmt: skip


def test_pc_softmax_to_a_uniform_prior_predicts_as_logit_adjustment():
    base, train = made()
    uniform, adjusted = pc_softmax.fit(base, train, COUNTS), logit_adjust.fit(base, train, COUNTS)
    np.testing.assert_allclose(adjusted.bias - uniform.bias, np.log(4), rtol=1e-6)


def test_lade_after_pc_softmax_is_pc_softmax_to_that_target():
    base, train = made()
    free = pc_softmax.fit(base, train, COUNTS)
    first = lade.fit(free, train, COUNTS, target="inverse")
    second = pc_softmax.fit(base, train, COUNTS, target="inverse")
    np.testing.assert_allclose(first.bias, second.bias, rtol=1e-5)
    shift = np.exp(first.bias - free.bias)
    np.testing.assert_allclose(shift, 4 / COUNTS / (1 / COUNTS).sum(), rtol=1e-5)


def test_group_bias_shifts_groups_by_training_count():
    base, train = made()
    fitted = group_bias.fit(base, train, COUNTS, few=3, medium=1, few_below=10, many_above=30)
    np.testing.assert_allclose(fitted.bias - base.bias, [0, 1, 1, 3], rtol=1e-6)


def test_lade_to_a_uniform_prior_needs_no_counts():
    base, _ = made()
    assert lade.fit(base, None, np.array([5, 5, 0, 5])).bias.tolist() == base.bias.tolist()


def test_choose_takes_the_best_on_validation_and_the_first_of_equals():
    base, val = made()
    groups = shot_groups(COUNTS, (5, 20))

    candidates = [logit_adjust.fit(base, val, COUNTS, tau=t) for t in (0, 1, 1, 9)]
    tried = joined([Correction.whole("logit-adjust", classifier) for classifier in candidates])
    (predicted,) = predict_classes(val, base, [tried])
    every = [objective(p, val.labels, 4, groups, "balanced") for p in predicted]
    chosen, scores = best(every, [[0], [1], [2], [3]])
    by_hand = []
    for classifier in candidates:
        right = classifier.logits(val.features[:]).argmax(1) == val.labels
        by_hand.append(np.mean([right[val.labels == c].mean() for c in range(4)]))
    np.testing.assert_allclose(scores, by_hand)
    assert chosen == int(np.argmax(by_hand))


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
    with pytest.raises(InputError, match="select: few"):
        objective(predicted[:7], labels[:7], 4, groups, "few")


def test_a_whole_classifier_as_correction_gives_it_back():
    base, train = made()
    fitted = ncm.fit(base, train, COUNTS)
    back = Correction.whole("ncm", fitted).classifier(base, 0)
    np.testing.assert_array_equal(back.weight, fitted.weight)
    np.testing.assert_array_equal(back.bias, fitted.bias)
