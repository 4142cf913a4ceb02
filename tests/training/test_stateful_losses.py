"""Losses that need more than a batch: their formulas again in NumPy, their state, their runs."""

import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from ltkit import architectures, datasets, losses, registry
from ltkit.errors import InputError
from ltkit.losses import (
    Moment,
    cdb,
    ce,
    cfl,
    class_balanced,
    elm,
    ghm_cwap,
    ldam,
    seesaw,
    similarity_window,
    swrm,
)
from ltkit.settings import TrainSettings
from ltkit.training import mixing, run
from ltkit.training.schedules import class_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")

STATEFUL = [n for n in registry.names(losses) if isinstance(registry.load(losses, n).loss, type)]
COUNTS = np.array([50, 3, 400, 1, 20, 8])
CLASSES, FEATURES = len(COUNTS), 4
MEANS = np.array([[0.0, 1.0], [5.0, 5.0], [0.2, 1.1], [5.5, 5.0], [9.0, 0.0], [5.2, 4.7]])
ACCURACY = np.array([0.9, 0.45, 0.95, 0.3, 0.5, 0.35])
WINDOWED = {"swrm", "dyswrm"}


def moment(epoch=9, epochs=11, accuracy=ACCURACY, means=MEANS):
    known = None if accuracy is None else lambda: torch.tensor(accuracy)
    return Moment(epoch, epochs, known, lambda: torch.tensor(means))


def batch(seed=0, size=16):
    rng = np.random.default_rng(seed)
    z, f = 2 * rng.normal(size=(size, CLASSES)), rng.normal(size=(size, FEATURES))
    return z, rng.integers(0, CLASSES, size), f


def build(name, at=None, **parameters):
    if name in WINDOWED:
        parameters = {"window": 3} | parameters
    made = registry.load(losses, name).loss(torch.tensor(COUNTS), **parameters)
    made.before_epoch(at or moment())
    return made


def call(made, z, y, f):
    return made(torch.tensor(z), torch.tensor(y), torch.tensor(f))


# Each loss again, in NumPy: z logits, y labels, f features, for one batch or several in turn


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cost(z, y):
    return -np.log(softmax(z)[np.arange(len(y)), y])


def effective(beta):
    inverse = np.array([1 / sum(beta**i for i in range(n)) for n in COUNTS])
    return CLASSES * inverse / inverse.sum()


def numpy_seesaw(batches, p=0.8, q=2.0, eps=0.01, counts="online"):
    seen = np.zeros(CLASSES) if counts == "online" else COUNTS.astype(float)
    for z, y, _ in batches:
        if counts == "online":
            for label in y:
                seen[label] += 1
        total = 0.0
        for zi, yi, pi in zip(z, y, softmax(z), strict=True):
            denominator = 0.0
            for j in range(CLASSES):
                ratio = max(seen[j], 1) / max(seen[yi], 1)
                mitigation = ratio**p if ratio < 1 else 1.0
                over = pi[j] / max(pi[yi], eps)
                compensation = over**q if over > 1 else 1.0
                factor = 1.0 if j == yi else mitigation * compensation
                denominator += factor * np.exp(zi[j])
            total -= np.log(np.exp(zi[yi]) / denominator)
    return total / len(y)


def numpy_elm(batches, tau=1.0, weight=0.1, temperature=0.1, kappa=0.1):
    z, y, f = batches[-1]
    prior = COUNTS / COUNTS.sum()
    size, total, rarity = len(y), 0.0, -np.log(prior)
    cosine = np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in f] for a in f])
    for i in range(size):
        partners = [j for j in range(size) if j != i and y[j] == y[i]]
        apart = sum(
            math.exp((cosine[i, k] + kappa * max(0, rarity[y[i]] - rarity[y[k]])) / temperature)
            for k in range(size) if y[k] != y[i]
        )  # fmt: skip
        for j in partners:
            near = math.exp(cosine[i, j] / temperature)
            total -= math.log(near / (near + apart)) / len(partners)
    return cost(z + tau * np.log(prior), y).mean() + weight * total / size


def numpy_ib(batches, alpha=1000.0, eps=1e-3, gamma=0.0, beta=1.0, start=0.5, factor="attached"):
    z, y, f = batches[-1]
    p = softmax(z)
    weights = effective(beta)[y] if beta < 1 else CLASSES * (1 / COUNTS)[y] / (1 / COUNTS).sum()
    influence = np.abs(p - np.eye(CLASSES)[y]).sum(axis=1) * np.abs(f).sum(axis=1)
    hard = (1 - p[np.arange(len(y)), y]) ** gamma
    return (weights * hard * cost(z, y) * alpha / (influence + eps)).mean()


def numpy_ghm_cwap(batches, max_bins=30, kappa=1.0, momentum=0.75, beta=0.9999, start=0.8):
    bins = [min(max_bins, max(1, round(kappa * math.sqrt(n)))) for n in COUNTS]
    density = {c: np.zeros(bins[c]) for c in range(CLASSES)}
    for z, y, _ in batches:
        p = softmax(z)[np.arange(len(y)), y]
        at = [min(int((1 - pi) * bins[c]), bins[c] - 1) for pi, c in zip(p, y, strict=True)]
        for c in set(y):
            new = np.zeros(bins[c])
            for b in (b for b, label in zip(at, y, strict=True) if label == c):
                new[b] += 1
            density[c] = momentum * density[c] + (1 - momentum) * new
        factor = []
        for c, b in zip(y, at, strict=True):
            used = (density[c] > 0.01 * (1 - momentum)).sum()
            factor.append(density[c].sum() / used / density[c][b])
    return (effective(beta)[y] * factor * cost(z, y)).mean()


def numpy_cfl(batches, gamma_hc=3.0, gamma_pos=2.0, gamma_neg=2.0, factor=4.0, smoothing=0.1):
    z, y, _ = batches[-1]
    e, epochs, total = 9, 11, 0.0
    if factor * e < epochs:
        xi = 1 - factor * e / (epochs - 1)
    else:
        xi = (factor * e / (epochs - 1) - 1) / (factor - 1)
    for yi, p in zip(y, softmax(z), strict=True):
        for j in range(CLASSES):
            focal = (1 - p[j]) ** gamma_pos if j == yi else p[j] ** gamma_neg
            confident = (1 + p[j]) ** gamma_hc if j == yi else 1.0
            target = (1 - smoothing) * (j == yi) + smoothing / CLASSES
            total -= target * ((1 - xi) * focal + xi * confident) * math.log(p[j])
    return total / len(y)


def numpy_cdb(batches, rule="paper", tau=1.5):
    z, y, _ = batches[-1]
    bias = max(ACCURACY) / (min(ACCURACY) + 0.01)
    if rule != "fixed":
        shift, top = (1, 2) if rule == "paper" else (0, 1)
        tau = top / (1 + math.exp(-(bias - shift)))
    difficulty = (1 - ACCURACY) ** tau
    return (CLASSES * difficulty[y] / difficulty.sum() * cost(z, y)).mean()


def numpy_window(
    positions, window=3, beta=1.0, similarity="one-plus-distance", index="rank", borders="clip",
    own="in", unit="gap",
):  # fmt: skip
    """Weights and margins, class by class, from the lists of classes in the windows."""
    line = sorted(range(CLASSES), key=lambda c: positions[c])
    gap = np.median(np.diff(np.sort(positions))) if unit == "gap" else 1.0
    places = line if index == "rank" else list(range(CLASSES))
    weights, margins = np.zeros(CLASSES), np.zeros(CLASSES)
    for rank, c in enumerate(places):
        half = window // 2
        first, last = rank - half, rank + half
        if borders == "shift":
            move = max(0, -first) - max(0, last - CLASSES + 1)
            first, last = first + move, last + move
        members = places[max(0, first) : last + 1]
        members = [i for i in members if own == "in" or i != c]
        ratios = [COUNTS[i] / COUNTS[c] for i in members]
        weights[c] = np.log(1 + COUNTS.max() / COUNTS[c] * np.mean(ratios))
        distance = [abs(positions[i] - positions[c]) / gap for i in members]
        sim = {
            "one-plus-distance": lambda d: 1 + d,
            "inverse": lambda d: 1 / (1 + d),
            "exponential": lambda d: math.exp(-d),
        }[similarity]
        margins[c] = np.log(np.mean([1 / sim(d) ** beta for d in distance]))
    return weights, margins


def numpy_windowed(batches, positions, sign=1, weights="raw", reduction="batch", **options):
    z, y, _ = batches[-1]
    w, m = numpy_window(positions, **options)
    w = w * CLASSES / w.sum() if weights == "sum" else w
    z = z.copy()
    z[np.arange(len(y)), y] += sign * m[y]
    return (w[y] * cost(z, y)).sum() / (len(y) if reduction == "batch" else w[y].sum())


def numpy_swrm(batches, start=0.7, seed=0, **options):
    return numpy_windowed(batches, swrm.project(MEANS, seed), **options)


def numpy_dyswrm(batches, start=0.7, seed=0, **options):
    drawn = torch.randn(CLASSES, generator=torch.Generator().manual_seed(seed))
    return numpy_windowed(batches, drawn.double().numpy(), **options)


SETTINGS = {
    "cdb": [{"rule": "code"}, {"rule": "fixed"}, {"rule": "fixed", "tau": 5.0}],
    "cfl": [
        {"gamma_hc": 2.0, "gamma_pos": 1.0, "gamma_neg": 4.0, "factor": 2.0},
        {"smoothing": 0.0, "gamma_pos": 0.5},
        {"factor": 1.0},
    ],
    "dyswrm": [
        {"beta": 10.0, "seed": 3, "window": 5},
        {"sign": -1, "borders": "shift"},
        {"weights": "sum", "reduction": "weights"},
    ],
    "elm": [{"tau": 0.5, "weight": 2.0, "temperature": 0.5, "kappa": 1.0}, {"kappa": 0.0}],
    "ghm-cwap": [{"max_bins": 5, "momentum": 0.0}, {"kappa": 0.5, "beta": 0.9}],
    "ib": [{"alpha": 10.0, "eps": 0.1, "gamma": 1.0}, {"beta": 0.0}, {"beta": 0.99}],
    "seesaw": [{"p": 0.3, "q": 1.0, "eps": 0.2}, {"counts": "dataset"}, {"p": 0.0}, {"q": 0.0}],
    "swrm": [
        {"beta": 10.0, "window": 6}, {"window": 4}, {"sign": -1}, {"borders": "shift"},
        {"own": "out"}, {"index": "label"}, {"unit": "raw"}, {"similarity": "inverse"},
        {"similarity": "exponential", "beta": 2.0}, {"weights": "sum"}, {"reduction": "weights"},
        {"borders": "shift", "window": 6}, {"seed": 7},
    ],
}  # fmt: skip
"""Beside the defaults, what each loss is compared with its NumPy form at."""


def test_every_stateful_loss_has_a_second_derivation():
    assert sorted(SETTINGS) == STATEFUL


@pytest.mark.parametrize(
    ("name", "parameters"), [(k, s) for k, v in SETTINGS.items() for s in [{}, *v]]
)
@pytest.mark.parametrize("steps", [1, 3])
def test_it_equals_its_numpy_form_after_some_batches(name, parameters, steps):
    made, batches = build(name, **parameters), [batch(seed) for seed in range(steps)]
    with torch.no_grad():
        found = [call(made, *each) for each in batches][-1]
    expected = globals()[f"numpy_{name.replace('-', '_')}"](batches, **parameters)
    assert found.item() == pytest.approx(expected, rel=2e-6)  # some buffers have single precision


@pytest.mark.parametrize(
    ("name", "parameters"), [("elm", {"temperature": 0.5}), ("ib", {}), ("ib", {"gamma": 1.0})]
)
def test_the_gradient_in_the_features_is_that_of_the_value(name, parameters):
    made, (z, y, f) = build(name, **parameters), batch()
    feature = torch.tensor(f).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: made(torch.tensor(z), torch.tensor(y), x), feature)


@pytest.mark.parametrize("name", STATEFUL)
def test_the_features_get_a_gradient_from_the_losses_that_use_them(name):
    made, (z, y, f) = build(name), batch()
    feature = torch.tensor(f).requires_grad_()
    logits = torch.tensor(z).requires_grad_()
    made(logits, torch.tensor(y), feature).backward()
    assert (feature.grad is not None) == (name in {"elm", "ib"})


# State


@pytest.mark.parametrize("name", STATEFUL)
def test_state_saved_and_loaded_goes_on_as_if_nothing_had_been(name):
    made = build(name)
    for seed in range(3):
        call(made, *batch(seed))
    saved = {k: v.clone() for k, v in made.state_dict().items()}
    new = build(name, moment(epoch=0))
    new.load_state_dict(saved)
    new.before_epoch(moment(means=MEANS[::-1].copy()))  # those of a later network
    assert call(new, *batch(3)) == call(made, *batch(3))
    assert call(new, *batch(4)) == call(made, *batch(4))


def test_what_is_saved():
    found = {name: sorted(build(name).state_dict()) for name in STATEFUL}
    assert found == {
        "cdb": ["weights"], "cfl": [], "dyswrm": ["positions"], "elm": [], "ghm-cwap": ["density"],
        "ib": [], "seesaw": ["seen"], "swrm": ["positions"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "first"), [("ib", 100), ("ghm-cwap", 160), ("swrm", 140), ("dyswrm", 140)]
)
def test_until_it_starts_it_is_cross_entropy(name, first):
    z, y, f = batch()
    made = build(name, moment(epoch=first - 1, epochs=200))
    assert call(made, z, y, f).item() == pytest.approx(cost(z, y).mean(), rel=1e-12)
    made.before_epoch(moment(epoch=first, epochs=200))
    assert call(made, z, y, f).item() != pytest.approx(cost(z, y).mean(), rel=1e-3)


def test_part_of_a_run():
    reached = [moment(epoch, 10).reached(0.7) for epoch in range(10)]
    assert reached == [False] * 7 + [True] * 3
    assert moment(0, 3).reached(0.0)
    assert not moment(2, 3).reached(1.0)


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


# SWRM


def test_positions_keep_clusters_together():
    rng = np.random.default_rng(0)
    group = np.arange(30) % 3
    means = np.eye(3, 8)[group] * 20 + rng.normal(size=(30, 8))
    line = swrm.project(means, 0)
    assert (np.diff(group[np.argsort(line)]) != 0).sum() == 2  # three runs
    np.testing.assert_array_equal(line, swrm.project(means, 0))
    order = rng.permutation(30)
    np.testing.assert_array_equal(swrm.project(means[order], 0), line[order])


@pytest.mark.parametrize("classes", [2, 3, 4, 5, 100])
def test_positions_of_any_number_of_classes_are_finite(classes):
    means = np.random.default_rng(0).normal(size=(classes, 3))
    assert np.ptp(swrm.project(means, 0)) > 0
    assert swrm.project(np.ones((classes, 3)), 0).tolist() == [0] * classes


def test_few_classes_have_their_principal_component():
    means = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, -8.0]])
    line = swrm.project(means, 0)
    assert np.abs(np.diff(line)).tolist() == pytest.approx([5, 10])


def test_positions_are_found_once_where_the_loss_starts():
    made = build("swrm", moment(epoch=6, epochs=10))
    assert made.positions.isnan().all()
    assert made.watched() == {}
    made.before_epoch(moment(epoch=7, epochs=10))
    found = made.positions.clone()
    np.testing.assert_array_equal(found, swrm.project(MEANS, 0))
    made.before_epoch(moment(epoch=8, epochs=10, means=MEANS[::-1].copy()))
    assert torch.equal(made.positions, found)
    margins = numpy_window(found.numpy())[1]
    assert made.watched() == pytest.approx({"margin_min": min(margins), "margin_max": max(margins)})


def test_a_class_without_a_mean_is_refused():
    means = np.where(np.arange(CLASSES)[:, None] == 2, np.nan, MEANS)
    with pytest.raises(InputError, match="swrm: found a class without a finite mean feature"):
        build("swrm", moment(means=means))


def test_windows_by_hand():
    counts = torch.tensor([8.0, 4, 2, 1])
    line = torch.tensor([3.0, 0.0, 1.0, 2.0])  # the order 1, 2, 3, 0
    at = partial(similarity_window, counts, line, window=3)
    weights, margins = at(beta=2.0)
    # class 1 is at the left end: window 1, 2; (8/4)(4 + 2)/2/4; (1 + 1/2^2)/2
    assert weights[1].item() == pytest.approx(math.log(1 + 2 * 3 / 4))
    assert margins[1].item() == pytest.approx(math.log((1 + 1 / 4) / 2))
    weights, margins = at(beta=2.0, borders="shift")  # now 1, 2, 3
    assert weights[1].item() == pytest.approx(math.log(1 + 2 * (7 / 3) / 4))
    assert margins[1].item() == pytest.approx(math.log((1 + 1 / 4 + 1 / 9) / 3))
    weights, _ = at(beta=2.0, by_rank=False)  # classes 0, 1, 2
    assert weights[1].item() == pytest.approx(math.log(1 + 2 * (14 / 3) / 4))
    weights, margins = at(beta=2.0, own=False)  # 2 alone
    assert weights[1].item() == pytest.approx(math.log(1 + 2 * 2 / 4))
    assert margins[1].item() == pytest.approx(math.log(1 / 4))
    assert similarity_window(counts, 7 * line + 1, window=3, beta=1.0, unit="raw")[1][1].item() == (
        pytest.approx(math.log((1 + 1 / 8) / 2))
    )


@pytest.mark.parametrize("beta", [0.0, 1.0, 10.0])
def test_margins_are_bounded_as_stated(beta):
    line = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.arange(1, 41).double()
    window = partial(similarity_window, counts, line, window=9, beta=beta)
    margins = window()[1]
    assert (margins >= -math.log(9) - 1e-9).all()
    assert (margins <= 1e-12).all()
    for similarity in ("inverse", "exponential"):
        assert (window(similarity=similarity)[1] >= -1e-12).all()
    if beta == 10:
        assert window(similarity="exponential")[1].max() > 30  # the loss is as good as removed


def test_the_weights_of_cifar_100_have_the_stated_size():
    """Imbalance 100, window 15, random order: about 0.2 to 8, mean 3.4, mean of samples 1.15."""
    counts = np.floor(500 * 100 ** (-np.arange(100) / 99))
    found = []
    for seed in range(5):
        line = torch.tensor(np.random.default_rng(seed).permutation(100) * 1.0)
        weights, _ = similarity_window(torch.tensor(counts), line, window=15, beta=1.0)
        w = weights.numpy()
        found.append([w.min(), w.max(), w.mean(), (w * counts).sum() / counts.sum()])
    np.testing.assert_allclose(np.mean(found, axis=0), [0.19, 7.9, 3.4, 1.15], rtol=0.1)


@pytest.mark.parametrize("unit", ["gap", "raw"])
def test_classes_at_one_position_are_finite_with_finite_gradients(unit):
    counts = torch.tensor([8.0, 4, 2, 1])
    for line in ([0.0, 0, 0, 5], [1.0, 1, 1, 1]):
        positions = torch.tensor(line, requires_grad=True)
        weights, margins = similarity_window(counts, positions, window=3, beta=10.0, unit=unit)
        margins.sum().backward()
        assert weights.isfinite().all()
        assert margins.isfinite().all()
        assert positions.grad.isfinite().all()


# DySWRM


def test_learned_margins_do_not_depend_on_the_scale_or_place_of_the_positions():
    counts = torch.tensor(COUNTS).double()
    line = torch.randn(CLASSES, dtype=torch.float64, requires_grad=True)
    window = partial(similarity_window, counts, window=3, beta=1.0)
    weights, margins = window(line)
    torch.testing.assert_close(window(10 * line + 3)[1], margins)
    (gradient,) = torch.autograd.grad(margins.sum(), line)
    assert abs(float(gradient.sum())) < 1e-9
    assert abs(float(gradient @ line.detach())) < 1e-9  # Euler: homogeneous of degree 0
    assert not weights.requires_grad


def test_the_gradient_of_learned_positions_is_that_of_the_value():
    line = torch.tensor([0.3, -1.2, 2.0, 0.9, -0.1, 1.1], dtype=torch.float64, requires_grad=True)
    counts = torch.tensor(COUNTS).double()
    assert torch.autograd.gradcheck(
        lambda v: similarity_window(counts, v, window=3, beta=1.5)[1], line
    )


def test_learning_raises_the_margins_towards_their_bound_and_stays_finite():
    """A higher margin always costs less, so the positions attract each other."""
    made, (z, y, f) = build("dyswrm"), batch(size=200)
    optimizer = torch.optim.SGD(made.parameters(), 0.1)
    values, margins = [], [made.terms()[1].mean().item()]
    for _ in range(200):
        value = call(made, z, y, f)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
        margins.append(made.terms()[1].mean().item())
    assert values[-1] < values[0]
    assert margins[0] < margins[-1] <= 0
    floor = numpy_windowed([(z, y, f)], made.positions.detach().double().numpy(), beta=0.0)
    # margins of 0 are as low as it can get with these weights
    assert floor <= values[-1] * (1 + 1e-6)
    assert made.watched()["spread"] == pytest.approx(float(made.positions.detach().std()))


@pytest.mark.parametrize("similarity", ["inverse", "exponential"])
def test_with_the_other_similarities_learned_positions_remove_the_loss(similarity):
    """Why dyswrm does not offer them: the logits stay, and the loss goes all the same."""
    z, y, _ = batch(size=200)
    z, y = torch.tensor(z), torch.tensor(y)
    counts = torch.tensor(COUNTS).double()
    line = torch.randn(CLASSES, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    line.requires_grad_()
    optimizer = torch.optim.SGD([line], 0.1, momentum=0.9)
    window = partial(similarity_window, counts, line, window=3, beta=10.0, similarity=similarity)
    first = window()[1].detach().mean()
    for _ in range(200):
        weights, margins = window()
        value = losses.window_loss(z, y, weights, margins, "batch")
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    without = losses.window_loss(z, y, weights, 0 * margins, "batch")
    assert value.item() < 0.02 * without.item()
    assert margins.detach().mean() > first + 1


# Runs

SMALL = TrainSettings(epochs=4, batch_size=64, warmup_epochs=0, learning_rate=0.05)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt")


def made_for(digits, name, **parameters):
    if name in WINDOWED:
        parameters = {"window": 5} | parameters
    counts = torch.from_numpy(digits.classes.train_count)
    return registry.load(losses, name).loss(counts, **parameters)


def fit(digits, output, loss, settings=SMALL, **options):
    options = {"method": "made up"} | options
    run.train(digits, "digits_net", loss, settings, output, **options)


def weights_of(path):
    return torch.load(path, weights_only=True)["state_dict"]


def log(output):
    lines = output.with_name(f"{output.name}.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines
    ]


class Stop(Exception):
    pass


def stop_after(epoch):
    def report(progress):
        if progress.epoch == epoch:
            raise Stop

    return report


PARTS = {
    "ib": {"start": 0.5, "alpha": 10.0},
    "ghm-cwap": {"start": 0.5},
    "swrm": {"start": 0.5},
    "dyswrm": {"start": 0.5},
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(digits, tmp_path, name):
    parameters = PARTS.get(name, {})
    whole = tmp_path / "whole.pt"
    fit(digits, whole, made_for(digits, name, **parameters))
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            fit(digits, output, made_for(digits, name, **parameters), report=stop_after(epoch))
        fit(digits, output, made_for(digits, name, **parameters), resume=True)
        found, expected = weights_of(output), weights_of(whole)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert log(output) == log(whole)
    assert not any(key.startswith("loss") for key in expected)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_run_differs_from_cross_entropy_once_its_loss_starts(digits, tmp_path, name):
    fit(digits, tmp_path / "ce.pt", ce.loss)
    fit(digits, tmp_path / "it.pt", made_for(digits, name, **PARTS[name]))
    plain, found = log(tmp_path / "ce.pt"), log(tmp_path / "it.pt")
    assert [a["loss"] == b["loss"] for a, b in zip(plain, found, strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip


class Asking(losses.Stateful, torch.nn.Module):
    """Writes down what a loss is told."""

    def __init__(self):
        super().__init__()
        self.moments, self.accuracies, self.means, self.features = [], [], [], []

    def before_epoch(self, moment):
        self.moments.append((moment.epoch, moment.epochs))
        self.accuracies.append(moment.accuracy() if moment.accuracy else None)
        self.means.append(moment.class_means())

    def forward(self, logits, labels, features):
        self.features.append(features.detach())
        return functional.cross_entropy(logits, labels)


def test_what_a_run_tells_its_loss(digits, tmp_path):
    asking, output = Asking(), tmp_path / "m.pt"
    fit(digits, output, asking, replace(SMALL, amp="bf16"))
    assert asking.moments == [(epoch, 4) for epoch in range(4)]
    balanced = [line["val"]["balanced"] for line in log(output)]
    assert [float(a.mean()) for a in asking.accuracies[1:]] == pytest.approx(balanced[:3])
    assert {(f.dtype, f.shape[1]) for f in asking.features} == {(torch.float32, 64)}
    # asking changes nothing
    fit(digits, tmp_path / "ce.pt", ce.loss, replace(SMALL, amp="bf16"))
    found, expected = weights_of(output), weights_of(tmp_path / "ce.pt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_class_means_are_of_training_images_as_they_are(digits, tmp_path):
    class Last(Asking):
        def before_epoch(self, moment):
            if moment.epoch == 1:
                self.means = moment.class_means()
                raise Stop

    asking, output = Last(), tmp_path / "m.pt"
    with pytest.raises(Stop):
        fit(digits, output, asking)
    saved = torch.load(tmp_path / "m.pt.partial", weights_only=True)["network"]
    network = architectures.build("digits_net", 10)
    network.load_state_dict(saved)
    split = digits.split("train")
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        features, _ = network.eval().features_and_logits((pixels - digits.mean[0]) / digits.std[0])
    for c in range(10):
        expected = features[torch.from_numpy(split.labels == c)].double().mean(dim=0)
        torch.testing.assert_close(asking.means[c], expected, rtol=1e-4, atol=1e-5)


def test_class_means_of_another_model_take_the_place_of_the_networks_own(digits, tmp_path):
    asking, means = Asking(), torch.rand(10, 3)
    fit(digits, tmp_path / "m.pt", asking, replace(SMALL, epochs=1), class_means=("abc", means))
    assert torch.equal(asking.means[0], means)
    recipe = torch.load(tmp_path / "m.pt", weights_only=True)["recipe"]
    assert (recipe["class_means"], recipe["sampler"]) == ("abc", "instance")


def test_without_validation_there_is_no_accuracy(tmp_path):
    asking = Asking()
    dataset = datasets.load("digits_lt:val=none")
    fit(dataset, tmp_path / "m.pt", asking, replace(SMALL, epochs=1))
    assert asking.accuracies == [None]
    with pytest.raises(InputError, match="cdb: found no val split"):
        fit(dataset, tmp_path / "n.pt", made_for(dataset, "cdb"))


def test_learned_positions_have_no_weight_decay(digits, tmp_path):
    made = made_for(digits, "dyswrm", start=0.0, beta=0.0)  # their gradient is 0
    first = made.positions.detach().clone()
    fit(digits, tmp_path / "m.pt", made, replace(SMALL, weight_decay=0.1))
    assert torch.equal(made.positions.detach(), first)
    assert made.positions.grad is not None


def test_learned_positions_move_while_the_loss_is_active(digits, tmp_path):
    made = made_for(digits, "dyswrm", start=0.5)
    first = made.positions.detach().clone()
    moved = []

    def report(progress):
        moved.append(not torch.equal(made.positions, first))

    fit(digits, tmp_path / "m.pt", made, report=report)
    assert moved == [False, False, True, True]


# Deferred re-weighting and samplers


def test_deferred_weights_start_at_their_epoch(digits, tmp_path):
    counts = torch.from_numpy(digits.classes.train_count)
    weighted = partial(class_balanced.loss, beta=0.99)
    loss = run.Deferred(counts, partial(class_balanced.loss, beta=0.0), weighted, 2)
    fit(digits, tmp_path / "drw.pt", loss)
    fit(digits, tmp_path / "ce.pt", ce.loss)
    plain, found = log(tmp_path / "ce.pt"), log(tmp_path / "drw.pt")
    near = [
        a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in zip(plain, found, strict=True)
    ]
    assert near == [True, True, False, False]
    z, y, f = torch.randn(4, 10), torch.arange(4), torch.zeros(4, 1)
    assert loss(z, y, f) == weighted(z, y, counts)
    loss.before_epoch(moment(epoch=1))
    torch.testing.assert_close(loss(z, y, f), functional.cross_entropy(z, y))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_deferred_run_is_resumed(digits, tmp_path, stop):
    counts = torch.from_numpy(digits.classes.train_count)
    made = partial(
        run.Deferred, counts, partial(ldam.loss, beta=0.0), partial(ldam.loss, beta=0.9999), 2
    )
    cosine = {"cosine": True, "scale": 30.0}
    fit(digits, tmp_path / "whole.pt", made(), **cosine)
    with pytest.raises(Stop):
        fit(digits, tmp_path / "m.pt", made(), report=stop_after(stop), **cosine)
    fit(digits, tmp_path / "m.pt", made(), resume=True, **cosine)
    found, expected = weights_of(tmp_path / "m.pt"), weights_of(tmp_path / "whole.pt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("instance", [0.64, 0.32, 0.04, 0.0]),
        ("class-balanced", [1 / 3, 1 / 3, 1 / 3, 0.0]),
        ("square-root", [0.8, math.sqrt(0.32), 0.2, 0.0]),
        ("reversed", [1 / 64, 1 / 32, 1 / 4, 0.0]),
        ("progressive", [0.64 * 0.7 + 0.1, 0.32 * 0.7 + 0.1, 0.04 * 0.7 + 0.1, 0.0]),
    ],
)
def test_class_probabilities(sampler, expected):
    found = class_probabilities(sampler, torch.tensor([64, 32, 4, 0]), 3, 10)
    np.testing.assert_allclose(found, np.array(expected) / np.sum(expected), rtol=1e-12)


def test_progressive_goes_from_instances_to_classes():
    counts = torch.tensor([90, 10])
    at = partial(class_probabilities, "progressive", counts, epochs=8)
    assert at(epoch=0).tolist() == pytest.approx([0.9, 0.1])
    assert at(epoch=8).tolist() == pytest.approx([0.5, 0.5])


def test_draws_have_the_class_chances_and_are_even_within_a_class():
    labels = torch.tensor([2, 0, 2, 0, 0, 2, 3] * 5000)
    chances = torch.tensor([0.2, 0.0, 0.3, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = run.draws(labels, chances, generator)
    assert drawn.shape == labels.shape
    frequency = labels[drawn].bincount(minlength=4) / len(labels)
    torch.testing.assert_close(frequency.double(), chances, atol=0.01, rtol=0)
    seven = (drawn % 7).bincount(minlength=7) / len(labels)
    expected = torch.tensor([0.1, 0.2 / 3, 0.1, 0.2 / 3, 0.2 / 3, 0.1, 0.5])
    torch.testing.assert_close(seven, expected, atol=0.01, rtol=0)
    assert drawn.min() < 100
    assert drawn.max() > len(labels) - 100


@pytest.mark.parametrize("sampler", ["class-balanced", "reversed"])
def test_a_sampler_decides_what_the_loss_sees_and_is_resumed(digits, tmp_path, sampler):
    seen = []

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    whole, output = tmp_path / "whole.pt", tmp_path / "m.pt"
    fit(digits, whole, loss, sampler=sampler)
    size, train_count = len(digits.split("train")), digits.classes.train_count
    found = torch.cat(seen).bincount(minlength=10) / (4 * size)
    expected = train_count ** (0.0 if sampler == "class-balanced" else -1.0)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.04)
    with pytest.raises(Stop):
        fit(digits, output, ce.loss, sampler=sampler, report=stop_after(2))
    with pytest.raises(InputError, match=f"sampler: found {sampler}, expected instance"):
        fit(digits, output, ce.loss, resume=True)
    fit(digits, output, ce.loss, sampler=sampler, resume=True)
    same, expected = weights_of(output), weights_of(whole)
    assert all(torch.equal(same[key], expected[key]) for key in expected)


# The command line

TRAIN = ("--data", "digits_lt", "--arch", "digits_net", "--epochs", "2", "--device", "cpu", "-q")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def recipe(path):
    return torch.load(path, weights_only=True)["recipe"]


@pytest.mark.parametrize("name", STATEFUL)
def test_it_trains_from_the_command_line(ltkit, folder, name):
    given = ("--set", "window=5") if name in WINDOWED else ()
    assert ltkit("train", name, *TRAIN, *given)[0] == 0
    assert recipe(f"{name}.pt")["method"] == name
    drawn = {"seed": 0} if name in WINDOWED else {}
    assert recipe(f"{name}.pt")["parameters"] == drawn | ({"window": 5} if given else {})


def test_the_list_says_what_the_stateful_losses_are(ltkit):
    _, output, _ = ltkit("train", "--list")
    losses_, _, mixings = output.partition("--mix ")
    lines = {line.split()[0]: line for line in losses_.splitlines()}
    assert sorted(lines) == registry.names(losses)
    found = [line.split()[0] for line in mixings.replace("--mix ", "").splitlines()]
    assert found == registry.names(mixing)
    assert "[p=0.8, q=2.0, eps=0.01, counts=online]" in lines["seesaw"]
    for name in STATEFUL:
        assert "arXiv" in lines[name] or "doi:" in lines[name]


def test_ldam_drw(ltkit, folder):
    words = ("train", "ldam", *TRAIN, "--drw", "1")
    assert ltkit(*words, "-o", "a.pt")[0] == 0
    assert recipe("a.pt")["parameters"] == {"scale": 30.0, "drw": 1}
    assert ltkit(*words, "-o", "b.pt", "--set", "beta=0.9999")[0] == 0
    assert ltkit(*words, "-o", "c.pt", "--set", "beta=0")[0] == 0
    losses_of = [[line["loss"] for line in log(folder / f"{name}.pt")] for name in "abc"]
    assert losses_of[0] == losses_of[1]
    assert losses_of[0][0] == losses_of[2][0]
    assert losses_of[0][1] != losses_of[2][1]
    same = [torch.equal(weights_of("a.pt")[k], weights_of("b.pt")[k]) for k in weights_of("a.pt")]
    assert all(same)


def test_class_means_from_a_features_file(ltkit, folder):
    assert ltkit("train", "ce", *TRAIN)[0] == 0
    assert ltkit("extract", "ce.pt", "--data", "digits_lt", "-o", "ce.h5", "-q")[0] == 0
    words = ("train", "swrm", *TRAIN, "--set", "window=5", "--set", "start=0")
    assert ltkit(*words, "--class-means", "ce.h5")[0] == 0
    assert len(recipe("swrm.pt")["class_means"]) > 20
    assert ltkit(*words, "-o", "own.pt")[0] == 0
    assert recipe("own.pt")["class_means"] is None
    assert log(folder / "own.pt") != log(folder / "swrm.pt")


def eight_classes(folder):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    np.savez(
        folder / "x.npz", train_features=rng.normal(size=(40, 4)).astype(np.float32),
        train_labels=labels, weight=np.ones((8, 4), np.float32), bias=np.zeros(8, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swrm"], "window: found 15, expected from 1 to the number of classes, 10"),
        (["seesaw", "--drw", "1"], "--drw: seesaw has no class weights to defer; weighted, c"),
        (["ce", "--drw", "1"], "--drw: ce has no class weights to defer"),
        (["ce", "--class-means", "x.h5"], "--class-means: ce takes none; swrm does"),
        (["ib", "--class-means", "x.h5"], "--class-means: ib takes none; swrm does"),
        (["swrm", "--set", "window=5", "--class-means", "x.h5"],
         "--class-means: x.h5: found 8 classes, expected 10"),
        (["ib", "--set", "beta=2"], "beta: found 2.0, expected a finite number from 0 to 1"),
        (["ib", "--set", "gamma=-1"], "gamma: found -1.0"),
        (["elm", "--set", "tau=nan"], "tau: found nan"),
        (["cfl", "--set", "factr=2"], "--set factr=2: cfl has no parameter factr; did you mean"),
        (["ghm-cwap", "--set", "max-bins=x"], "found 'x', expected a int"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    eight_classes(folder)
    ltkit("import", "x.npz", "-q")
    before = sorted(Path().iterdir())
    code, _, error = ltkit("train", *words, *TRAIN)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert sorted(Path().iterdir()) == before
