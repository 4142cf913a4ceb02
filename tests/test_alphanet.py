"""AlphaNet against its naive form: per step, features times corrected weights, full softmax."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from six_classes import BINS, COUNTS, NONE, QUICK, made, neighbors_of
from torch import nn

from ltkit import alphanet, threads
from ltkit.alphanet import fitting
from ltkit.alphanet.networks import Learner, Networks
from ltkit.alphanet.reduction import Draws, reduce, sample_losses
from ltkit.errors import InputError
from ltkit.records import Classifier, FeatureSplit, Neighbors, shot_groups
from ltkit.settings import ALPHANET_VARIANTS


class Naive:
    """One run as the paper tells it, in float64: modules, full weights, full softmax."""

    def __init__(self, base, near, run):
        self.base, self.near, self.run = base, near, run
        self.weight = torch.from_numpy(base.weight).double()
        self.bias = torch.from_numpy(base.bias).double()
        rows = self.weight[near.base_class]
        if run.network_input == "own+neighbors":
            rows = torch.cat([self.weight[near.few_class][:, None], rows], dim=1)
        self.inputs = rows.flatten(1)
        sizes = [self.inputs.shape[1], *run.hidden, near.k]
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.LeakyReLU(0.01)]
        self.net = nn.Sequential(*layers[:-1]).double()
        stack = Networks(base, near, [run], "cpu")
        with torch.no_grad():
            for parameter, start in zip(self.net.parameters(), stack.parameters, strict=True):
                parameter.copy_(start[0])
        self.few_bias = nn.Parameter(self.bias[near.few_class].clone())

    def classifier(self):
        alpha = self.net(self.inputs)
        alpha = alpha / alpha.abs().sum(dim=1, keepdim=True)
        weight, bias = self.weight.clone(), self.bias.clone()
        for place, c in enumerate(self.near.few_class):
            for i, v in enumerate(self.near.base_class[place]):
                weight[c] = weight[c] + alpha[place, i] * self.weight[v]
            bias[c] = self.few_bias[place]
        return weight, bias, alpha

    def logits(self, features):
        weight, bias, _ = self.classifier()
        return torch.from_numpy(self.base.prepare(features)).double() @ weight.T + bias

    def parameters(self):
        learned = [self.few_bias] if self.run.few_biases == "learned" else []
        return [*self.net.parameters(), *learned]

    def fit(self, train, val):
        run = self.run
        draws = Draws(train.labels, self.near.few_class, len(COUNTS), run, np.arange(0))
        optimizer = torch.optim.AdamW(
            self.parameters(), run.learning_rate, weight_decay=run.weight_decay, foreach=False
        )
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, run.decay_every, run.decay_factor)
        best, kept = -1.0, None
        for epoch in range(run.epochs):
            for rows in torch.from_numpy(draws.rows[epoch]).split(run.batch_size):
                loss = nn.functional.cross_entropy(
                    self.logits(train.features[rows]), torch.from_numpy(train.labels[rows])
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            hits = self.logits(val.features).argmax(1).numpy() == val.labels
            if epoch + 1 >= run.min_epochs and hits.mean() > best:
                weight, bias, alpha = self.classifier()
                best, kept = hits.mean(), (epoch + 1, weight, bias, alpha)
        return [value if isinstance(value, int) else value.detach().numpy() for value in kept]


@pytest.mark.parametrize("variant", ["paper", "code"])
@pytest.mark.parametrize("normalize", [False, True])
def test_loss_and_gradients_equal_the_naive_form(variant, normalize):
    base, train, _ = made(normalize=normalize, experts=2)
    near = neighbors_of(train)
    run = replace(QUICK, **ALPHANET_VARIANTS[variant])
    naive, stack = Naive(base, near, run), Networks(base, near, [run], "cpu")
    used = np.array([0, 3, 5, 8, 20, 60, 90, 100])
    data = reduce(base, near, train, used, NONE)
    learner = Learner(stack, slice(0, 1))
    trained = [p.detach().requires_grad_() for p in learner.trained]
    losses = sample_losses(data, torch.arange(8)[None], *learner.alphas_and_biases(trained))
    expected = nn.functional.cross_entropy(
        naive.logits(train.features[used]), torch.from_numpy(train.labels[used]), reduction="none"
    )
    np.testing.assert_allclose(losses[0].detach(), expected.detach(), atol=1e-5)
    ours = torch.autograd.grad(losses.mean(), trained)
    theirs = torch.autograd.grad(expected.mean(), naive.parameters())
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a[0], b, atol=1e-5)


@pytest.fixture
def divided(monkeypatch, request):
    """Divide the runs of a fit among so many threads, however few their products."""
    monkeypatch.setattr(fitting, "SHARED_PRODUCTS", 0)
    monkeypatch.setattr(threads, "count", lambda: request.param)
    return request.param


def test_runs_are_divided_by_the_samples_of_their_epochs(monkeypatch):
    base, train, _ = made()
    lengths = np.array([5, 5, 5, 4, 4, 4, 3, 3, 3])  # 36
    stack = Networks(base, neighbors_of(train), [QUICK] * len(lengths), "cpu")

    def shares(count, lengths=lengths, wide=True):
        monkeypatch.setattr(threads, "count", lambda: count)
        learners = fitting._learners(stack, lengths, wide=wide)
        assert all(learner.alone == (wide and count <= len(lengths)) for learner in learners)
        return [(learner.runs.start, learner.runs.stop) for learner in learners]

    assert shares(1) == [(0, 9)]
    assert shares(2) == [(0, 4), (4, 9)]  # 19 and 17
    assert shares(3) == [(0, 2), (2, 5), (5, 9)]  # 10, 13, 13
    assert shares(10) == [(0, 9)]  # threads share each product
    assert shares(2, wide=False) == [(0, 9)]
    assert shares(2, np.array([7, 1])) == [(0, 1), (1, 2)]
    assert shares(4, np.full(4, 7)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


@pytest.mark.parametrize("divided", [1, 2, 3, 5], indirect=True)
@pytest.mark.parametrize("variant", ["paper", "code"])
def test_fit_equals_the_naive_form_for_every_run_of_a_joint_fit(variant, divided):
    base, train, val = made()
    near = neighbors_of(train)
    runs = [
        replace(QUICK, rho=rho, seed=seed, **ALPHANET_VARIANTS[variant])
        for rho in (0.5, 1.7)
        for seed in (0, 1)
    ]
    fitted = alphanet.fit(base, near, train, val, runs)
    for number, settings_ in enumerate(fitted.runs):
        run = next(r for r in runs if (r.rho, r.seed) == (settings_["rho"], settings_["seed"]))
        epoch, weight, bias, alpha = Naive(base, near, run).fit(train, val)
        assert fitted.extra["epoch"][number] == epoch
        np.testing.assert_allclose(fitted.extra["alpha"][number], alpha, atol=2e-4)
        ours = fitted.classifier(base, number)
        np.testing.assert_allclose(ours.weight, weight, atol=2e-3)
        predicted = (val.features @ weight.T + bias).argmax(axis=1)
        assert (ours.logits(val.features).argmax(axis=1) == predicted).mean() > 0.99


def test_a_run_does_not_depend_on_the_runs_beside_it():
    base, train, val = made()
    near = neighbors_of(train)
    runs = [replace(QUICK, rho=rho, seed=seed) for rho in (0.5, 2.0) for seed in (0, 1)]
    together = alphanet.fit(base, near, train, val, runs)
    for number, settings_ in enumerate(together.runs):
        alone = alphanet.fit(
            base, near, train, val,
            [replace(QUICK, rho=settings_["rho"], seed=settings_["seed"])],
        )  # fmt: skip
        np.testing.assert_allclose(
            alone.extra["alpha"][0], together.extra["alpha"][number], atol=1e-4
        )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 5), rho=st.sampled_from([0.3, 1.0, 2.5]))
def test_properties(seed, k, rho):
    """The norm bound, untouched base rows, alphas of unit absolute sum."""
    base, train, val = made(seed)
    near = neighbors_of(train, k)
    run = replace(QUICK, epochs=2, rho=rho, seed=seed)
    fitted = alphanet.fit(base, near, train, val, [run])
    corrected = fitted.classifier(base, 0)
    moved = np.linalg.norm(corrected.weight - base.weight, axis=1)[near.few_class]
    largest = np.linalg.norm(base.weight[near.base_class], axis=2).max(axis=1)
    assert (moved <= largest * (1 + 1e-5)).all()  # published bound: |w'_c - w_c| <= max |v_i|
    others = np.setdiff1d(np.arange(len(COUNTS)), near.few_class)
    assert corrected.weight[others].tobytes() == base.weight[others].tobytes()
    assert corrected.bias[others].tobytes() == base.bias[others].tobytes()
    np.testing.assert_allclose(np.abs(fitted.extra["alpha"]).sum(axis=2), 1, atol=1e-5)


def test_class_order_does_not_matter():
    base, train, _val = made()
    order = np.random.default_rng(1).permutation(len(COUNTS))  # new id -> old id
    back = np.argsort(order)
    renamed = Classifier(base.weight[order], base.bias[order])
    near = neighbors_of(train)
    places = np.argsort(back[near.few_class])
    near_renamed = Neighbors(
        back[near.few_class][places], back[near.base_class][places], near.distance[places]
    )
    frozen = replace(QUICK, few_biases="frozen", rho=1.0)
    rows = Draws(train.labels, near.few_class, len(COUNTS), frozen, NONE).rows[0][:40]
    first = reduce(base, near, train, np.unique(rows), NONE)
    moved = FeatureSplit(train.features, back[train.labels])
    second = reduce(renamed, near_renamed, moved, np.unique(rows), NONE)
    index = torch.arange(len(first.few))[None]
    alpha = torch.nn.functional.normalize(torch.randn(1, len(places), near.k), p=1, dim=2)
    bias = torch.randn(1, len(places))
    np.testing.assert_allclose(
        sample_losses(first, index, alpha, bias),
        sample_losses(second, index, alpha[:, places], bias[:, places]),
        atol=1e-5,
    )


def test_sample_order_does_not_matter():
    """Neither to the neighbours nor to what is learned from the same draws."""
    base, train, _val = made()
    order = np.random.default_rng(2).permutation(len(train))  # new place -> old place
    moved = FeatureSplit(train.features[order], train.labels[order])
    near, near_moved = neighbors_of(train), neighbors_of(moved)
    np.testing.assert_array_equal(near.base_class, near_moved.base_class)
    run = replace(QUICK, few_biases="frozen", rho=1.0)
    rows = np.unique(Draws(train.labels, near.few_class, len(COUNTS), run, NONE).rows[0])
    places = np.argsort(order)[rows]  # where the same samples lie now
    first = reduce(base, near, train, rows, NONE)
    second = reduce(base, near_moved, moved, np.sort(places), NONE)
    alpha = torch.nn.functional.normalize(torch.randn(1, len(near.few_class), near.k), p=1, dim=2)
    bias = torch.randn(1, len(near.few_class))
    losses = sample_losses(first, torch.arange(len(rows))[None], alpha, bias)
    again = sample_losses(second, torch.from_numpy(np.argsort(np.argsort(places)))[None],
                                   alpha, bias)  # fmt: skip
    np.testing.assert_allclose(losses, again, atol=1e-5)


def test_one_neighbour_gives_alpha_of_one_and_no_gradient():
    base, train, val = made()
    near = neighbors_of(train, k=1)
    fitted = alphanet.fit(base, near, train, val, [QUICK])
    assert set(np.abs(fitted.extra["alpha"]).ravel().tolist()) == {1.0}
    stack = Networks(base, near, [QUICK], "cpu")
    learner = Learner(stack, slice(0, 1))
    parameters = [p.detach().requires_grad_() for p in stack.parameters]
    gradients = torch.autograd.grad(learner.alphas_and_biases(parameters)[0].sum(), parameters)
    assert all(float(g.abs().max()) == 0 for g in gradients)


def test_a_network_that_says_zero_changes_nothing_and_gives_no_nan():
    base, train, _ = made()
    near = neighbors_of(train)
    stack = Networks(base, near, [QUICK], "cpu")
    for parameter in stack.parameters:
        parameter.zero_()
    alpha = stack.alphas()
    assert alpha.abs().max() == 0
    combined = alphanet.combine(base, near, alpha.numpy())
    np.testing.assert_array_equal(combined[0], base.weight[near.few_class])


def test_draws_hold_all_few_samples_and_balanced_base_samples():
    _, train, _ = made()
    few = shot_groups(COUNTS, BINS).few
    run = replace(QUICK, rho=50.0, epochs=3)
    rows = Draws(train.labels, few, len(COUNTS), run, NONE).rows
    number = int(np.isin(train.labels, few).sum())
    assert rows.shape == (3, number + 50 * number)
    for epoch in rows:
        labels = train.labels[epoch]
        inside = np.isin(labels, few)
        np.testing.assert_array_equal(
            np.sort(epoch[inside]), np.flatnonzero(np.isin(train.labels, few))
        )
        share = np.bincount(labels[~inside], minlength=8)[:5] / (50 * number)
        np.testing.assert_allclose(share, 0.2, atol=0.05)  # 1 / base classes, whatever n_c is


def test_without_validation_the_last_epoch_is_kept():
    base, train, _ = made()
    fitted = alphanet.fit(base, neighbors_of(train), train, None, [QUICK])
    assert fitted.extra["epoch"].tolist() == [QUICK.epochs]
    assert "val_accuracy" not in fitted.extra


def test_the_kept_epoch_is_the_first_best_from_min_epochs_on():
    base, train, val = made()
    fitted = alphanet.fit(base, neighbors_of(train), train, val, [replace(QUICK, min_epochs=3)])
    log = fitted.extra["val_accuracy"][0]
    assert fitted.extra["epoch"][0] == 3 + int(np.argmax(log[2:]))


def test_same_seed_same_bytes():
    base, train, val = made()
    near = neighbors_of(train)
    first, second = (alphanet.fit(base, near, train, val, [QUICK]) for _ in range(2))
    assert first.weight.tobytes() == second.weight.tobytes()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rho": 0.0}, "rho: found 0.0"),
        ({"rho": float("nan")}, "rho: found nan"),
        ({"rho": 0.01}, "no base sample"),
        ({"epochs": 0}, "epochs: found 0"),
        ({"learning_rate": -1.0}, "learning_rate: found -1.0"),
        ({"learning_rate": 1e30}, "learning_rate: found 1e.30"),
        ({"hidden": (65_536,) * 2}, "need about .* GiB of memory, expected at most .*smaller hid"),
        (
            {"hidden": (4096,) * 2, "epochs": 100_000, "batch_size": 1, "rho": 100.0},
            "take about .* h",
        ),
    ],
)
def test_settings_out_of_range(change, words):
    base, train, val = made()
    with pytest.raises(InputError, match=words):
        alphanet.fit(base, neighbors_of(train), train, val, [replace(QUICK, **change)])


@pytest.mark.parametrize("divided", [1, 2], indirect=True)
def test_a_loss_that_is_not_finite_is_refused(divided):
    base, train, val = made()
    fast = replace(QUICK, learning_rate=1000.0, epochs=60, hidden=(64, 64, 64, 64, 64, 64))
    with pytest.raises(InputError, match="loss: not finite in epoch"):
        alphanet.fit(base, neighbors_of(train), train, val, [fast, replace(fast, seed=1)])


def test_no_runs_and_runs_that_differ():
    base, train, val = made()
    near = neighbors_of(train)
    with pytest.raises(InputError, match="found 0 runs"):
        alphanet.fit(base, near, train, val, [])
    with pytest.raises(ValueError, match="runs differ in epochs"):
        alphanet.fit(base, near, train, val, [QUICK, replace(QUICK, epochs=3)])


def test_a_few_class_without_training_sample_is_named():
    base, train, val = made()
    near = neighbors_of(train)
    kept = np.flatnonzero(train.labels != 7)
    without = FeatureSplit(train.features[kept], train.labels[kept])
    with pytest.raises(InputError, match="class 7: no training sample"):
        alphanet.fit(base, near, without, val, [QUICK])
