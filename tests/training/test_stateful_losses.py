"""Losses that need more than a batch: their formulas again in NumPy, and their state."""

import math

import numpy as np
import pytest
import torch
from stateful import (
    ACCURACY,
    CLASSES,
    COUNTS,
    MEANS,
    STATEFUL,
    batch,
    build,
    call,
    cost,
    moment,
    numpy_windowed,
    softmax,
)

from ltkit.losses import (
    swrm,
)

pytestmark = pytest.mark.usefixtures("one_thread")


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


def numpy_ib(
    batches, alpha=1000.0, eps=1e-3, gamma=0.0, beta=1.0, start=0.5, focal="weighted",
    factor="attached",
):  # fmt: skip
    z, y, f = batches[-1]
    p = softmax(z)
    weights = effective(beta)[y] if beta < 1 else CLASSES * (1 / COUNTS)[y] / (1 / COUNTS).sum()
    influence = np.abs(p - np.eye(CLASSES)[y]).sum(axis=1) * np.abs(f).sum(axis=1)
    right = p[np.arange(len(y)), y] ** (weights if focal == "weighted" else 1)
    hard = (1 - right) ** gamma
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


def numpy_swrm(batches, start=0.7, seed=0, init="random", **options):
    return numpy_windowed(batches, swrm.project(MEANS, seed, init), **options)


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
        {"sign": 1, "borders": "shift"}, {"window": 4},
        {"weights": "sum", "reduction": "weights"},
    ],
    "elm": [{"tau": 0.5, "weight": 2.0, "temperature": 0.5, "kappa": 1.0}, {"kappa": 0.0}],
    "ghm-cwap": [{"max_bins": 5, "momentum": 0.0}, {"kappa": 0.5, "beta": 0.9}],
    "ib": [
        {"alpha": 10.0, "eps": 0.1, "gamma": 1.0}, {"gamma": 2.0, "focal": "plain"}, {"beta": 0.0},
        {"beta": 0.99},
    ],
    "seesaw": [{"p": 0.3, "q": 1.0, "eps": 0.2}, {"counts": "dataset"}, {"p": 0.0}, {"q": 0.0}],
    "swrm": [
        {"beta": 10.0, "window": 6}, {"window": 4}, {"sign": 1}, {"borders": "shift"},
        {"own": "out"}, {"own": "out", "window": 4}, {"form": "swr"}, {"form": "swm"},
        {"sign": -1, "similarity": "inverse"}, {"init": "pca"}, {"index": "label"},
        {"unit": "raw"}, {"similarity": "inverse"},
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
    ("name", "parameters"),
    [
        ("elm", {"temperature": 0.5}),
        ("ib", {}),
        ("ib", {"gamma": 1.0}),
        ("ib", {"gamma": 1.0, "focal": "plain"}),
    ],
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
