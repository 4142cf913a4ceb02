"""SupCon and KCL: their formulas again in NumPy, and their limits."""

import numpy as np
import pytest
import torch
from contrastive import built, logsum, unit
from made import refused

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]


def naive(similarity, positives, others):
    """Anchor by anchor: lists of the candidates that are near, and of all."""
    costs = []
    for row, near, every in zip(similarity, positives, others, strict=True):
        bottom = logsum([row[a] for a in every])
        costs.append(-sum(row[p] - bottom for p in near) / len(near) if near else 0.0)
    return np.mean(costs)


@pytest.mark.parametrize("seed", range(3))
def test_supcon_is_its_formula(seed):
    rng = np.random.default_rng(seed)
    labels = np.tile(rng.integers(0, 3, 5), 2)
    z = unit(rng, 10, 4)
    others = [[a for a in range(10) if a != i] for i in range(10)]
    positives = [[a for a in others[i] if labels[a] == labels[i]] for i in range(10)]
    expected = naive(z @ z.T / 0.1, positives, others)
    found = built("supcon", COUNTS).contrast(torch.tensor(labels), torch.tensor(z))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def kcl_batch(seed, queued):
    rng = np.random.default_rng(seed)
    labels, of = rng.integers(0, 3, 5), rng.integers(0, 3, queued)
    q, k, stored = unit(rng, 5, 4), unit(rng, 5, 4), unit(rng, queued, 4)
    return labels, of, q, k, stored


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("queued", [0, 7, 12])
@pytest.mark.parametrize("positives", [0, 12, 99])
def test_kcl_of_all_positives_is_supervised_contrast(seed, queued, positives):
    labels, of, q, k, stored = kcl_batch(seed, queued)
    kcl = built("kcl", COUNTS, positives=positives, queue=12, size=4).double()
    kcl.queue.put(torch.tensor(stored), torch.tensor(of))
    similarity = np.column_stack([(q * k).sum(axis=1), q @ stored.T]) / 0.07
    others = [range(1 + queued)] * 5
    near = [[0] + [1 + a for a in range(queued) if of[a] == label] for label in labels]
    expected = naive(similarity, near, others)
    found = kcl.contrast(torch.tensor(labels), torch.tensor(q), torch.tensor(k))
    assert found.item() == pytest.approx(expected, rel=1e-9)


def test_kcl_draws_as_many_as_it_says():
    kcl = built("kcl", COUNTS, positives=3, queue=40, size=4)
    labels = torch.tensor([0, 1, 2])
    same = torch.zeros(3, 40, dtype=torch.bool)
    same[0, 5:25], same[1, 30:32] = True, True  # twenty, two and none
    drawn = kcl.drawn(same, labels)
    assert (drawn & ~same).sum() == 0
    assert drawn.sum(dim=1).tolist() == [3, 2, 0]
    assert torch.equal(drawn, kcl.drawn(same, labels))  # the same batch has the same draws
    seen = torch.zeros(40)
    for seed in range(400):
        kcl.seed = seed
        seen += kcl.drawn(same, labels)[0]
    assert (seen[5:25] - 60).abs().max() < 5 * 60**0.5  # all are as likely


def test_an_anchor_alone_costs_nothing():
    from ltkit.training.methods._supervised import supervised

    similarity = torch.zeros(2, 2, requires_grad=True)
    no = torch.zeros(2, 2, dtype=torch.bool)
    value = supervised(similarity, no, no).sum()
    (gradient,) = torch.autograd.grad(value, similarity)
    assert value.item() == 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("supcon", "temperature", 0.0), ("supcon", "size", 0), ("supcon", "second_view", "x"),
        ("kcl", "positives", -1), ("kcl", "queue", 0), ("kcl", "momentum", 1.1),
        ("kcl", "temperature", float("inf")), ("kcl", "second_view", "x"),
    ],
)  # fmt: skip
def test_parameters_out_of_range(name, parameter, value):
    refused(lambda: built(name, COUNTS, **{parameter: value}), f"{parameter}: found ")
