"""Heads that are trained, against plain float64 loops, scikit-learn and SciPy."""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from four_classes import COUNTS, made
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import class_balanced
from ltkit.posthoc import _balanced, _stacked, crt, logistic, lws, marc, ridge, weight_balancing
from ltkit.posthoc._balanced import BalancedLogistic
from ltkit.records import FeatureSplit
from ltkit.row_cache import RowCache

SETTINGS = {"learning_rate": 0.3, "epochs": 3, "batch_size": 16, "weight_decay": 0.01, "seed": 1}

TRAINED = (crt, lws, marc, weight_balancing)


def settings_for(module, **changes):
    extra = {"beta": 0.99, "threshold": 0.25} if module is weight_balancing else {}
    return SETTINGS | extra | changes


class Stored:
    """Rows that are read in slices only; keeps count of the rows read."""

    def __init__(self, values):
        self.values, self.read = values, 0

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.read += rows.stop - rows.start
        return self.values[rows]


def plain_sgd(parameters, cost, train, settings, *, balanced, after_epoch=None):
    """Train float64 torch parameters step by step, one run, gradients by autograd."""
    draw = _stacked._balanced if balanced else _stacked._shuffled
    if "epoch_length" in settings:
        draw = partial(draw, length=settings["epoch_length"])
    generator = np.random.default_rng(settings["seed"])
    optimizer = torch.optim.SGD(
        parameters, settings["learning_rate"], 0.9, weight_decay=settings["weight_decay"]
    )
    orders = [draw(train.labels, generator) for _ in range(settings["epochs"])]
    steps = -(-len(orders[0]) // settings["batch_size"])
    for epoch, order in enumerate(orders):
        for step in range(steps):
            part = (epoch * steps + step) / (settings["epochs"] * steps)
            for group in optimizer.param_groups:
                group["lr"] = settings["learning_rate"] * (1 + np.cos(np.pi * part)) / 2
            rows = order[step * settings["batch_size"] :][: settings["batch_size"]]
            optimizer.zero_grad()
            cost(rows).backward()
            optimizer.step()
        if after_epoch is not None:
            after_epoch()


@pytest.mark.parametrize("length", _stacked.EPOCH_LENGTHS)
def test_crt_is_plain_sgd_on_balanced_samples(length):
    settings = SETTINGS | {"epoch_length": length}
    base, train, x = made()
    x, y = torch.from_numpy(x), torch.from_numpy(train.labels)
    weight = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    plain_sgd(
        [weight, bias], lambda r: functional.cross_entropy(x[r] @ weight.T + bias, y[r]),
        train, settings, balanced=True,
    )  # fmt: skip
    fitted = crt.fit(base, train, COUNTS, **settings)
    np.testing.assert_allclose(fitted.weight, weight.detach(), atol=1e-5)
    np.testing.assert_allclose(fitted.bias, bias.detach(), atol=1e-5)


@pytest.mark.parametrize("length", _stacked.EPOCH_LENGTHS)
def test_lws_is_plain_sgd_of_scales_folded_into_weight_and_bias(length):
    settings = SETTINGS | {"epoch_length": length}
    base, train, x = made()
    y = torch.from_numpy(train.labels)
    logits = torch.from_numpy(x @ base.weight.T + base.bias)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    plain_sgd(
        [scale], lambda r: functional.cross_entropy(scale * logits[r], y[r]),
        train, settings, balanced=True,
    )  # fmt: skip
    fitted = lws.fit(base, train, COUNTS, **settings)
    scale = scale.detach().numpy()
    assert np.abs(scale - 1).min() > 0.01
    np.testing.assert_allclose(fitted.weight, scale[:, None] * base.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted.bias, scale * base.bias, rtol=1e-4, atol=1e-5)


def test_marc_is_plain_sgd_of_scales_and_shifts_by_balanced_softmax():
    base, train, x = made()
    y, norms = torch.from_numpy(train.labels), np.linalg.norm(base.weight, axis=1)
    logits = torch.from_numpy(x @ base.weight.T + base.bias)
    scale = torch.ones(4, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(4, dtype=torch.float64, requires_grad=True)

    def cost(r):
        changed = scale * logits[r] + shift * torch.from_numpy(norms)
        return functional.cross_entropy(changed + torch.from_numpy(np.log(COUNTS)), y[r])

    plain_sgd([scale, shift], cost, train, SETTINGS, balanced=False)
    fitted = marc.fit(base, train, COUNTS, **SETTINGS)
    scale, shift = scale.detach().numpy(), shift.detach().numpy()
    np.testing.assert_allclose(fitted.weight, scale[:, None] * base.weight, atol=1e-5)
    np.testing.assert_allclose(fitted.bias, scale * base.bias + shift * norms, atol=1e-5)


def test_weight_balancing_is_plain_sgd_with_projected_rows():
    base, train, x = made()
    settings = settings_for(weight_balancing)
    x, y = torch.from_numpy(x), torch.from_numpy(train.labels)
    weight = torch.from_numpy(base.weight.astype(np.float64)).requires_grad_()
    bias = torch.from_numpy(base.bias.astype(np.float64)).requires_grad_()
    norms = np.linalg.norm(base.weight, axis=1)
    longest = norms.min() + 0.25 * (norms.max() - norms.min())
    counts = torch.from_numpy(COUNTS)

    def cost(r):
        return class_balanced.loss(x[r] @ weight.T + bias, y[r], counts, form="binary", beta=0.99)

    def project():
        with torch.no_grad():
            weight.mul_((longest / weight.norm(dim=1, keepdim=True)).clamp(max=1))

    plain_sgd([weight, bias], cost, train, settings, balanced=False, after_epoch=project)
    fitted = weight_balancing.fit(base, train, COUNTS, **settings)
    np.testing.assert_allclose(fitted.weight, weight.detach(), atol=1e-5)
    np.testing.assert_allclose(fitted.bias, bias.detach(), atol=1e-5)
    assert np.linalg.norm(fitted.weight, axis=1).max() <= longest * (1 + 1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.999, 1.0])
def test_class_weights_of_weight_balancing(beta):
    weights = weight_balancing._class_weights(np.array([1_000_000, 100, 3, 1]), beta)
    effective = [sum(beta**i for i in range(n)) for n in (1_000_000, 100, 3, 1)]
    expected = 4 / np.array(effective) / sum(1 / e for e in effective)
    np.testing.assert_allclose(weights, np.ones(4) if beta == 0 else expected, rtol=1e-9)


def test_gradients_of_a_hopeless_sample_are_finite():
    logits = np.float32([[[80, -80, 0]], [[0, 500, -500]]])
    gradients = weight_balancing._binary(logits, np.array([1, 1]), np.ones(3, np.float32))
    assert np.isfinite(gradients).all()
    np.testing.assert_allclose(gradients.sum(axis=2), 0, atol=1e-6)


@pytest.mark.parametrize("module", TRAINED)
def test_runs_do_not_know_of_each_other(module):
    base, train, _ = made()
    tried = [
        settings_for(module, learning_rate=rate, seed=seed)
        for rate, seed in itertools.product((0.03, 0.3), (0, 1, 2))
    ]
    together = module.fit_many(base, train, COUNTS, tried)
    for settings, found in zip(tried, together, strict=True):
        alone = module.fit(base, train, COUNTS, **settings)
        np.testing.assert_allclose(found.weight, alone.weight, atol=2e-6)
        np.testing.assert_allclose(found.bias, alone.bias, atol=2e-6)
    assert len({found.weight.tobytes() for found in together}) == 6


def test_runs_that_differ_in_more_than_rate_and_seed():
    base, train, _ = made()
    with pytest.raises(ValueError, match="differ in more than"):
        crt.fit_many(base, train, COUNTS, [SETTINGS, SETTINGS | {"epochs": 4}])


@pytest.mark.parametrize("module", [*TRAINED, logistic])
def test_same_seed_same_bytes(module):
    base, train, _ = made()
    settings = {} if module is logistic else settings_for(module)
    first, second = (module.fit(base, train, COUNTS, **settings) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()
    assert first.bias.tobytes() == second.bias.tobytes()


@pytest.mark.parametrize("module", [*TRAINED, logistic])
def test_the_budget_decides_how_often_rows_are_read_not_what_is_learned(module, monkeypatch):
    base, train, _ = made()
    penalties = [{"inverse_penalty": 1.0, "tolerance": 1e-8, "iterations": 99}]
    tried = penalties if module is logistic else [settings_for(module, seed=n) for n in (0, 1)]
    rows = Stored(train.features)
    held = module.fit_many(base, FeatureSplit(rows, train.labels), COUNTS, tried)
    assert rows.read == len(train)
    monkeypatch.setattr(
        "ltkit.memory.budget", lambda: 4 * 6 * 64
    )  # 64 rows of 6 columns: 16 draws a seed
    sizes, read = [], RowCache._read
    monkeypatch.setattr(
        RowCache, "_read", lambda self, used: sizes.append(len(used)) or read(self, used)
    )
    monkeypatch.setattr("ltkit.records.features.STREAM_BLOCKS", 1)
    monkeypatch.setattr("ltkit.records.arrays.BLOCK_BYTES", 4 * 5 * 7)  # 7 rows
    streamed = module.fit_many(base, FeatureSplit(rows, train.labels), COUNTS, tried)
    for first, second in zip(held, streamed, strict=True):
        close = {"atol": 1e-3} if module is logistic else {"rtol": 0, "atol": 1e-6}
        np.testing.assert_allclose(first.weight, second.weight, **close)
    assert rows.read > 3 * len(train)
    assert all(size <= 32 for size in sizes)


@pytest.mark.parametrize("budget", [1, 1 << 20])
def test_inputs_come_in_blocks_that_what_is_computed_of_them_fits(monkeypatch, budget):
    monkeypatch.setattr("ltkit.memory.budget", lambda: budget)
    monkeypatch.setattr("ltkit.records.features.WIDE_BYTES", 4 * 70)
    x = np.arange(60, dtype=np.float32).reshape(20, 3)
    inputs = _stacked.Inputs(FeatureSplit(x, np.arange(20)), 3, lambda features: 2 * features)
    for width, sizes in ((10, [7, 7, 6]), (1, [20])):  # 3 numbers of each are the inputs
        parts = list(inputs.blocks(width))
        assert [len(labels) for _, labels in parts] == sizes
        np.testing.assert_array_equal(np.concatenate([rows for rows, _ in parts]), 2 * x)
        np.testing.assert_array_equal(np.concatenate([of for _, of in parts]), np.arange(20))


def test_half_precision_rows_are_read_as_they_are():
    base, train, x = made()
    half = FeatureSplit(x.astype(np.float16), train.labels)
    single = FeatureSplit(x.astype(np.float16).astype(np.float32), train.labels)
    for module in (*TRAINED, logistic, ridge):
        first, second = module.fit(base, half, COUNTS), module.fit(base, single, COUNTS)
        np.testing.assert_array_equal(first.weight, second.weight)


def test_balanced_draws_have_as_many_of_each_class_and_use_samples_equally():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(4), COUNTS))
    drawn = _stacked._balanced(labels, np.random.default_rng(0))
    each = -(-len(labels) // 4)
    assert np.bincount(labels[drawn]).tolist() == [each] * 4
    times = np.bincount(drawn, minlength=len(labels))
    for c in range(4):
        assert np.ptp(times[labels == c]) <= 1
    renamed = _stacked._balanced(np.array([2, 0, 3, 1])[labels], np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, renamed)
    even = _stacked._balanced(np.arange(40) % 4, np.random.default_rng(0))
    assert np.sort(even).tolist() == list(range(40))
    assert even.tolist() != list(range(40))
    first, second = np.random.default_rng(0), np.random.default_rng(0)
    again = [_stacked._balanced(labels, first) for _ in range(2)]
    assert (again[0] != again[1]).any()
    assert (again[0] == _stacked._balanced(labels, second)).all()


def test_an_epoch_of_the_released_length_has_each_class_as_often_as_the_largest_is_large():
    labels = np.random.default_rng(3).permutation(np.repeat(np.arange(4), COUNTS))
    drawn = _stacked._balanced(labels, np.random.default_rng(0), "released")
    assert np.bincount(labels[drawn]).tolist() == [max(COUNTS)] * 4
    times = np.bincount(drawn, minlength=len(labels))
    assert (times[labels == np.argmax(COUNTS)] == 1).all()
    for c in range(4):
        assert np.ptp(times[labels == c]) <= 1


def test_an_unknown_length_of_an_epoch_is_refused():
    base, train, _ = made()
    with pytest.raises(InputError, match="epoch_length: found 'epoch', unknown; there are: data"):
        crt.fit(base, train, COUNTS, epoch_length="epoch")


def test_every_head_sample_is_drawn_in_some_epoch():
    generator, labels = np.random.default_rng(0), np.repeat(np.arange(4), COUNTS)
    drawn = np.concatenate([_stacked._balanced(labels, generator) for _ in range(20)])
    assert len(np.unique(drawn)) == len(labels)


def balanced_cost(train, x, weight, bias):
    """Return the class-balanced mean cross-entropy, in float64."""
    logits = x @ weight.T + bias
    top = logits.max(axis=1, keepdims=True)
    costs = np.log(np.exp(logits - top).sum(axis=1)) + top[:, 0]
    costs -= logits[np.arange(len(x)), train.labels]
    return np.mean([costs[train.labels == c].mean() for c in range(4)])


def test_crt_nears_the_optimum_of_its_convex_problem():
    base, train, x = made()
    decay = 0.01
    fitted = crt.fit(
        base, train, COUNTS, epochs=200, batch_size=100, learning_rate=0.2, weight_decay=decay
    )
    share = len(x) / (4 * COUNTS[train.labels])
    with_one = np.hstack([x, np.ones((len(x), 1))])  # scikit-learn leaves the bias unpenalised
    model = LogisticRegression(
        C=1 / (decay * len(x)), fit_intercept=False, tol=1e-10, max_iter=9999
    ).fit(with_one, train.labels, share)

    def cost(rows):
        rows = rows.astype(np.float64)
        return balanced_cost(train, x, rows[:, :-1], rows[:, -1]) + decay / 2 * (rows**2).sum()

    best = cost(model.coef_)
    reached = cost(np.hstack([fitted.weight, fitted.bias[:, None]]))
    assert best - 1e-9 <= reached <= best * (1 + 1e-3)


def test_lws_nears_the_optimum_of_its_convex_problem():
    base, train, x = made()
    weight, bias = base.weight.astype(np.float64), base.bias.astype(np.float64)
    fitted = lws.fit(
        base, train, COUNTS, epochs=100, batch_size=50, learning_rate=0.2, weight_decay=0.0
    )
    best = minimize(
        lambda s: balanced_cost(train, x, s[:, None] * weight, s * bias), np.ones(4), tol=1e-10
    ).fun
    reached = balanced_cost(train, x, fitted.weight.astype(np.float64), fitted.bias)
    assert best - 1e-9 <= reached <= best * (1 + 1e-3)
    assert balanced_cost(train, x, weight, bias) > best * 1.01


def test_neither_threads_nor_how_many_logits_are_read_at_a_time_change_a_bit(monkeypatch):
    base, train, _ = made()
    monkeypatch.setattr("ltkit.records.features.WIDE_BYTES", 20 * 4 * _balanced.WIDER * 4)
    found, row = [], 4 * 4  # bytes of a sample's logits
    for threads, few in (("1", 10**6), ("1", 7 * row), ("3", 7 * row), ("3", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        monkeypatch.setattr(_balanced, "FEW_BYTES", few)
        found.append(logistic.fit(base, train, COUNTS))
    for other in found[1:]:
        np.testing.assert_array_equal(other.weight, found[0].weight)
        np.testing.assert_array_equal(other.bias, found[0].bias)


@pytest.mark.parametrize("inverse_penalty", [1e-3, 0.1, 1.0, 10.0])
def test_logistic_is_scikit_learns_optimum(inverse_penalty):
    base, train, x = made()
    found = logistic.fit(base, train, COUNTS, inverse_penalty=inverse_penalty, tolerance=1e-12)
    model = LogisticRegression(
        C=inverse_penalty, class_weight="balanced", tol=1e-9, max_iter=9999
    ).fit(x, train.labels)
    scale = np.abs(model.coef_).max()
    np.testing.assert_allclose(found.weight, model.coef_, atol=5e-3 * scale)

    def cost(weight, bias):
        total = len(x) * balanced_cost(train, x, weight.astype(np.float64), bias)
        return inverse_penalty * total + (weight.astype(np.float64) ** 2).sum() / 2

    best = cost(model.coef_, model.intercept_)
    assert abs(cost(found.weight, found.bias) - best) < 1e-5 * best


def test_logistic_path_is_each_penalty_alone():
    base, train, _ = made()
    tried = [
        {"inverse_penalty": v, "tolerance": 1e-10, "iterations": 1000} for v in (1.0, 0.01, 0.1)
    ]
    for settings, found in zip(tried, logistic.fit_many(base, train, COUNTS, tried), strict=True):
        alone = logistic.fit(base, train, COUNTS, **settings)
        np.testing.assert_allclose(found.weight, alone.weight, atol=1e-3)


def test_logistic_gradient_is_that_of_its_cost():
    base, train, x = made()
    problem = BalancedLogistic(base, train)
    rows = np.random.default_rng(0).normal(size=(4, 6))
    value, gradient = problem._cost(rows, 0.3)
    expected = balanced_cost(train, x, rows[:, :-1], rows[:, -1])
    assert value == pytest.approx(expected + 0.15 * (rows[:, :-1] ** 2).sum(), rel=1e-5)
    for c, d in itertools.product(range(4), range(6)):
        step = np.zeros((4, 6))
        step[c, d] = 1e-2
        slope = (problem._cost(rows + step, 0.3)[0] - problem._cost(rows - step, 0.3)[0]) / 2e-2
        assert gradient[c, d] == pytest.approx(slope, abs=2e-4)


def test_logistic_coordinates_make_the_curvature_at_zero_the_identity():
    base, train, x = made()
    problem = BalancedLogistic(base, train)
    to_rows = problem._coordinates(0.2)
    share = 1 / (4 * COUNTS[train.labels])
    with_one = np.hstack([x, np.ones((len(x), 1))])
    curvature = (share[:, None] * with_one).T @ with_one / 4 + 0.2 * np.diag([1] * 5 + [0])
    np.testing.assert_allclose(to_rows @ curvature @ to_rows.T, np.eye(6), atol=1e-5)


def test_logistic_of_collinear_or_constant_features():
    base, train, _ = made()
    train = FeatureSplit(np.repeat(train.features[:, :1], 5, axis=1), train.labels)
    found = logistic.fit(base, train, COUNTS)
    np.testing.assert_allclose(found.weight, found.weight[:, :1].repeat(5, axis=1), atol=1e-3)
    still = FeatureSplit(np.ones_like(train.features), train.labels)
    found = logistic.fit(base, still, COUNTS)
    np.testing.assert_allclose(found.weight, 0, atol=1e-6)
    found = ridge.fit(base, still, COUNTS)
    np.testing.assert_allclose(found.weight, 0, atol=1e-6)
    np.testing.assert_allclose(found.bias, 0.25, atol=1e-6)


def test_logistic_that_does_not_reach_its_optimum():
    base, train, _ = made()
    with pytest.raises(InputError, match=r"with decay 0\.\d+ is not at its optimum after 2"):
        logistic.fit(base, train, COUNTS, inverse_penalty=10.0, iterations=2)


@pytest.mark.parametrize("penalty", [1e-4, 0.1, 3.0])
def test_ridge_is_scikit_learns(penalty):
    base, train, x = made()
    share = len(x) / (4 * COUNTS[train.labels])
    centre = np.average(x, axis=0, weights=share)
    size = np.average(((x - centre) ** 2).mean(axis=1), weights=share)
    alpha = penalty * size * len(x)
    model = Ridge(alpha).fit(x, np.eye(4)[train.labels], share)
    found = ridge.fit(base, train, COUNTS, penalty=penalty)
    np.testing.assert_allclose(found.weight, model.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.bias, model.intercept_, rtol=1e-4, atol=1e-6)
    predicted = RidgeClassifier(alpha, class_weight="balanced").fit(x, train.labels).predict(x)
    np.testing.assert_array_equal(found.logits(train.features).argmax(axis=1), predicted)
    np.testing.assert_allclose(found.logits(train.features).sum(axis=1), 1, rtol=1e-5)


def test_ridge_reads_the_features_once():
    base, train, _ = made()
    rows = Stored(train.features)
    tried = [{"penalty": p} for p in ridge.GRID["penalty"]]
    several = ridge.fit_many(base, FeatureSplit(rows, train.labels), COUNTS, tried)
    assert rows.read == len(train)
    alone = ridge.fit(base, train, COUNTS, **tried[2])
    np.testing.assert_allclose(several[2].weight, alone.weight, rtol=1e-6)
