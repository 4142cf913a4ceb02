"""Losses that need more than a batch, one by one: worked by hand, at their bounds and edges."""

import math

import numpy as np
import pytest
import torch
from stateful import ACCURACY, CLASSES, COUNTS, FEATURES, batch, build, call, cost, moment, softmax
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import (
    cdb,
    cfl,
    elm,
    ghm_cwap,
    seesaw,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# Seesaw


def test_seesaw_counts_what_it_meets_and_nothing_it_does_not():
    made = build("seesaw")
    for seed in range(3):
        call(made, *batch(seed))
    met = np.concatenate([batch(seed)[1] for seed in range(3)])
    assert made.seen.tolist() == np.bincount(met, minlength=CLASSES).tolist()
    fixed = build("seesaw", counts="dataset")
    call(fixed, *batch())
    assert fixed.seen.tolist() == COUNTS.tolist()


def test_seesaw_factors_by_hand():
    seen, z = torch.tensor([100, 1, 0]), torch.tensor([[0.0, 0, 0], [2, 0, 0]])
    factors = seesaw.log_factors(z, torch.tensor([0, 1]), seen, 0.5, 1.0, 0.01).exp()
    # frequent 0 against rare 1, 2: (1/100)^(1/2); rare 1 against 0, which scores e^2 above it
    torch.testing.assert_close(factors, torch.tensor([[1, 0.1, 0.1], [math.exp(2), 1, 1]]))


def test_seesaw_compensates_up_to_the_least_probability():
    z = torch.tensor([[0.0, 20.0]])  # p of the label is 2e-9, taken as eps
    (factors,) = seesaw.log_factors(z, torch.tensor([0]), torch.ones(2), 0.0, 2.0, 0.1)
    assert factors[1].exp().item() == pytest.approx(100, rel=1e-5)


def test_no_gradient_flows_through_the_factors_of_seesaw():
    z, y, f = batch()
    logits, labels = torch.tensor(z).requires_grad_(), torch.tensor(y)
    made = build("seesaw", counts="dataset")
    (gradient,) = torch.autograd.grad(made(logits, labels, torch.tensor(f)), logits)
    factors = seesaw.log_factors(logits, labels, made.seen, 0.8, 2.0, 0.01)
    assert not factors.requires_grad
    expected = (softmax(z + factors.numpy()) - np.eye(CLASSES)[y]) / len(y)
    np.testing.assert_allclose(gradient, expected, atol=1e-12)


# ELM


def test_elm_holds_rare_classes_further_from_frequent_ones():
    features = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    prior = torch.tensor([0.9, 0.1]).log()
    frequent, _, rare, _ = elm.embedding_costs(
        features, torch.tensor([0, 0, 1, 1]), prior, 1.0, 0.5
    )
    # one partner at cosine 1, two others at 0; the rare class sees them 3 = 9^0.5 times as near
    assert frequent.item() == pytest.approx(math.log(1 + 2 / math.e))
    assert rare.item() == pytest.approx(math.log(1 + 6 / math.e))


@pytest.mark.parametrize("y", [[0, 0, 0], [0, 1, 2]], ids=["one class", "no partners"])
def test_elm_of_a_batch_without_pairs_or_without_others(y):
    made = build("elm")
    features = torch.randn(3, FEATURES, requires_grad=True)
    value = made(torch.zeros(3, CLASSES), torch.tensor(y), features)
    value.backward()
    plain = functional.cross_entropy(
        torch.tensor(COUNTS).log().expand(3, -1), torch.tensor(y)
    )  # the embedding has no part in it
    torch.testing.assert_close(value.detach(), plain)
    assert not features.grad.any()


# IB


def test_a_constant_influence_is_a_constant_factor():
    z = np.zeros((4, CLASSES))
    y, f = np.array([0, 1, 2, 3]), np.full((4, FEATURES), 0.5)
    found = call(build("ib", alpha=7.0, eps=1.0, beta=0.0), z, y, f)
    expected = math.log(CLASSES) * 7 / (2 * (1 - 1 / CLASSES) * 2 + 1)
    assert found.item() == pytest.approx(expected)


def test_a_detached_factor_has_the_same_value_and_the_gradient_of_a_weight():
    z, y, f = batch()
    logits = torch.tensor(z).requires_grad_()
    values = [
        build("ib", factor=factor)(logits, torch.tensor(y), torch.tensor(f))
        for factor in ("attached", "detached")
    ]
    assert values[0] == values[1]
    p = softmax(z)
    wrong = p - np.eye(CLASSES)[y]
    influence = np.abs(wrong).sum(axis=1) * np.abs(f).sum(axis=1)
    weights = CLASSES * (1 / COUNTS)[y] / (1 / COUNTS).sum() * 1000 / (influence + 1e-3)
    (gradient,) = torch.autograd.grad(values[1], logits)
    np.testing.assert_allclose(gradient, weights[:, None] * wrong / len(y), rtol=1e-9)


# GHM-CWAP


def test_every_bin_in_use_has_the_same_weight_within_its_class():
    made = build("ghm-cwap", kappa=10.0)
    rng = np.random.default_rng(1)
    z, y = 3 * rng.normal(size=(4000, CLASSES)), rng.integers(0, CLASSES, 4000)
    wrong = 1 - softmax(z)[np.arange(4000), y]
    call(made, z, y, np.zeros((4000, 1)))
    factors = ghm_cwap.harmony(made.density, 0.0025).numpy()
    for c in range(CLASSES):
        at = np.minimum((wrong[y == c] * int(made.bins[c])).astype(int), int(made.bins[c]) - 1)
        v = factors[c][at]
        assert v.mean() == pytest.approx(1, rel=1e-5)
        totals = np.bincount(at, v)
        np.testing.assert_allclose(totals[totals > 0], totals.max(), rtol=1e-5)


def test_bins_of_a_class_grow_with_the_root_of_its_count_up_to_the_most():
    assert build("ghm-cwap").bins.tolist() == [7, 2, 20, 1, 4, 3]
    assert build("ghm-cwap", max_bins=5).bins.tolist() == [5, 2, 5, 1, 4, 3]
    assert build("ghm-cwap", kappa=2.0).bins.tolist() == [14, 3, 30, 2, 9, 6]


def test_running_counts_of_absent_classes_stay_and_those_of_others_are_forgotten():
    one = torch.tensor([1])
    start = torch.tensor([[8.0, 0.0], [8.0, 0.0]])
    density = ghm_cwap.updated(start, one, one, 0.75)
    assert density.tolist() == [[8, 0], [6, 0.25]]
    for _ in range(40):
        density = ghm_cwap.updated(density, one, one, 0.75)
    factors = ghm_cwap.harmony(density, 0.0025)
    assert factors[1, 1].item() == pytest.approx(1, rel=1e-3)  # its old bin is out of use


def test_the_rare_outcome_of_a_class_weighs_more():
    z = np.zeros((10, CLASSES))
    z[0, 2] = -4.0  # one hard sample among ten of a class
    z[1:, 2] = 4.0
    made = build("ghm-cwap")
    call(made, z, np.full(10, 2), np.zeros((10, 1)))
    factors = ghm_cwap.harmony(made.density, 0.0025)[2]
    assert factors[19].item() == pytest.approx(5)  # 10 / (2 * 1)
    assert factors[1].item() == pytest.approx(10 / 18)


# CFL


@pytest.mark.parametrize("factor", [1.5, 2.0, 4.0])
@pytest.mark.parametrize("epochs", [2, 7, 30, 200])
def test_the_cycle_is_that_of_the_published_branches(factor, epochs):
    for e in range(epochs):
        if factor * e < epochs:
            expected = 1 - factor * e / (epochs - 1)
        else:
            expected = (factor * e / (epochs - 1) - 1) / (factor - 1)
        # where the two differ, k e is between E - 1 and E, the published xi is below 0
        found = cfl.confidence(e, epochs, factor)
        assert 0 <= found <= 1
        assert found == pytest.approx(expected, abs=1e-12) or expected < 0
    assert cfl.confidence(0, epochs, factor) == 1
    assert cfl.confidence(epochs - 1, epochs, factor) == pytest.approx(1)


def test_a_run_of_one_epoch_has_confidence_1():
    assert cfl.confidence(0, 1, 4.0) == 1


def test_cfl_moves_along_the_cycle_and_says_so():
    made, (z, y, f) = build("cfl", moment(epoch=0)), batch()
    first = call(made, z, y, f)
    assert made.watched() == {"xi": 1.0}
    made.before_epoch(moment(epoch=3, epochs=13))
    assert made.watched() == {"xi": 0.0}
    assert call(made, z, y, f) < first


# CDB


def test_cdb_starts_without_weights_and_takes_them_from_the_last_epoch():
    made, (z, y, f) = build("cdb", moment(epoch=0)), batch()
    assert call(made, z, y, f).item() == pytest.approx(cost(z, y).mean())
    assert made.watched() == {"tau": 0.0, "weight_min": 1.0, "weight_max": 1.0}
    made.before_epoch(moment(epoch=1))
    assert made.weights.argmax() == ACCURACY.argmin()
    assert made.weights.sum().item() == pytest.approx(CLASSES)
    made.before_epoch(moment(epoch=2, accuracy=1 - ACCURACY))
    assert made.weights.argmin() == ACCURACY.argmin()


def test_cdb_needs_validation_images_of_every_class():
    for epoch in (0, 1):
        with pytest.raises(InputError, match="cdb: found no val split, expected one"):
            build("cdb", moment(epoch=epoch, accuracy=None))
    missing = np.where(ACCURACY == 0.5, np.nan, ACCURACY)
    with pytest.raises(InputError, match=r"cdb: class 4: found no val image.*; 1 such"):
        build("cdb", moment(accuracy=missing))


def test_cdb_where_nothing_is_difficult():
    assert cdb.difficulty_weights(torch.ones(3), 1.5).tolist() == [1, 1, 1]


@pytest.mark.parametrize(("rule", "least", "most"), [("paper", 1, 2), ("code", 0.5, 1)])
def test_dynamic_exponents_stay_in_their_range(rule, least, most):
    for worst in np.linspace(0, 0.99, 12):
        tau = cdb.exponent(torch.tensor([0.99, worst]), rule, 9.0)
        assert least - 0.01 <= tau <= most
