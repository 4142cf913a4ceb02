"""TSC: its targets, which class has which, its formula again in NumPy, and KCL as its limit."""

import itertools
import math

import numpy as np
import pytest
import torch
from contrastive import RUN, SMALL, built, logsum, unit
from made import refused
from trained import fit, log, same, weights

from ltkit import architectures
from ltkit.losses import Moment
from ltkit.training.job import seeded
from ltkit.training.methods._sphere import apart, drawn, matched, nearness
from ltkit.training.methods.tsc import SPREAD

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]


def solved(count, size, seed=0):
    return apart(seeded(lambda: drawn(count, size), seed), 0.07).double()


@pytest.mark.parametrize(("count", "size"), [(2, 1), (3, 2), (5, 8), (11, 10), (40, 64)])
def test_few_targets_are_a_simplex(count, size):
    found = solved(count, size)
    expected = torch.full((count, count), -1 / (count - 1), dtype=torch.float64)
    torch.testing.assert_close(found @ found.T, expected.fill_diagonal_(1), rtol=0, atol=1e-3)


def test_many_targets_are_as_far_apart_as_can_be():
    """In the plane they are the corners of a regular polygon; in space, of an octahedron."""
    angles = torch.atan2(*solved(7, 2).T).sort().values
    steps = torch.cat([angles.diff(), angles[:1] + 2 * math.pi - angles[-1:]])
    torch.testing.assert_close(steps, torch.full_like(steps, 2 * math.pi / 7), atol=1e-3, rtol=0)
    cosines = solved(6, 3) @ solved(6, 3).T
    found = cosines.flatten().sort().values
    expected = torch.tensor([-1.0] * 6 + [0.0] * 24 + [1.0] * 6).double()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_the_solver_beats_the_source_s(seed):
    """Its mean of log-sums, left to a usual descent from the same kind of start."""
    found = solved(12, 4, seed)

    def source(directions):
        return (directions @ directions.T / 0.07).exp().sum(dim=1).log().mean()

    free = torch.randn(12, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], lr=1e-2)
    for _ in range(1500):
        value = source(torch.nn.functional.normalize(free))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert source(found).item() <= value.item() + 1e-6
    assert nearness(found, 0.07).exp().item() + 1 / 0.07 == pytest.approx(source(found).item())


def test_a_single_class_has_a_target():
    assert solved(1, 3).norm().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    centroids, targets = unit(rng, 5, 3), unit(rng, 5, 3)
    best = max(
        itertools.permutations(range(5)),
        key=lambda order: sum(centroids[c] @ targets[order[c]] for c in range(5)),
    )
    assert matched(torch.tensor(centroids), torch.tensor(targets)).tolist() == list(best)


def tsc_batch(seed, queued=7, **parameters):
    rng = np.random.default_rng(seed)
    labels, of = rng.integers(0, 3, 5), rng.integers(0, 3, queued)
    q, k, stored, targets = (unit(rng, n, 4) for n in (5, 5, queued, 3))
    parameters = {"positives": 0, "queue": 12, "size": 4} | parameters
    tsc = built("tsc", COUNTS, **parameters).double()
    tsc.queue.put(torch.tensor(stored), torch.tensor(of))
    tsc.targets, tsc.targeted = torch.tensor(targets), True
    tsc.own = torch.tensor([2, 0, 1])
    return tsc, labels, of, q, k, stored, targets


def naive(labels, of, queries, keys, stored, targets, own, weight, temperature):
    """Image by image: the own key, the queue, then the targets are the candidates."""
    costs = []
    for i, q in enumerate(queries):
        near = [float(q @ v) / temperature for v in [keys[i], *stored, *targets]]
        bottom = logsum(near)
        pairs = [0] + [1 + j for j in range(len(stored)) if of[j] == labels[i]]
        cost = -sum(near[p] - bottom for p in pairs) / len(pairs)
        costs.append(cost - weight * (near[1 + len(stored) + own[labels[i]]] - bottom))
    return np.mean(costs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("queued", [0, 7, 12])
def test_tsc_is_its_formula(seed, queued):
    tsc, labels, of, q, k, stored, targets = tsc_batch(seed, queued, weight=0.7, temperature=0.2)

    def expected(queries):
        return naive(labels, of, queries, k, stored, targets, [2, 0, 1], 0.7, 0.2)

    leaf = torch.tensor(q, requires_grad=True)
    value = tsc.contrast(torch.tensor(labels), leaf, torch.tensor(k))
    assert value.item() == pytest.approx(expected(q), rel=1e-9)
    (gradient,) = torch.autograd.grad(value, leaf)
    slopes = np.zeros_like(q)
    for at in np.ndindex(q.shape):
        step = np.zeros_like(q)
        step[at] = 1e-6
        slopes[at] = (expected(q + step) - expected(q - step)) / 2e-6
    np.testing.assert_allclose(gradient, slopes, atol=1e-6)


def test_centroids_follow_the_directions_of_their_classes():
    rng, tsc = np.random.default_rng(0), built("tsc", COUNTS, size=4).double()
    expected = {}
    for _ in range(6):
        labels, q = rng.integers(0, 2, 5), unit(rng, 5, 4)
        tsc.follow(torch.tensor(labels), torch.tensor(q))
        for label in {*labels}:
            mean = q[labels == label].mean(axis=0)
            mean /= np.linalg.norm(mean)
            moved = 0.9 * expected[label] + 0.1 * mean if label in expected else mean
            expected[label] = moved / np.linalg.norm(moved)
    for label, centroid in expected.items():
        np.testing.assert_allclose(tsc.centroids[label], centroid, rtol=1e-9)
    assert not tsc.centroids[2].any()


def test_targets_come_when_it_is_their_time():
    tsc = built("tsc", COUNTS, size=4, start=0.5)
    tsc.attach(architectures.build("digits_net", 3))
    tsc.centroids = apart(tsc.origin, SPREAD)[[2, 0, 1]]
    found = []
    for epoch in range(4):
        assert tsc.targets.any() == (epoch > 2)
        tsc.before_epoch(Moment(epoch, 4, None, lambda: torch.zeros(3, 2)))
        found.append(tsc.targeted)
    assert found == [False, False, True, True]
    assert tsc.own.tolist() == [2, 0, 1]


def test_targets_of_a_resumed_run_are_those_of_its_state(monkeypatch):
    tsc, again = (built("tsc", COUNTS, size=4, start=0.0) for _ in range(2))
    moment = Moment(0, 4, None, lambda: torch.zeros(3, 2))
    for method in (tsc, again):
        method.attach(architectures.build("digits_net", 3))
    tsc.before_epoch(moment)
    again.load_state_dict(tsc.state_dict())
    monkeypatch.setattr("ltkit.training.methods.tsc.apart", None)
    again.before_epoch(moment)
    assert torch.equal(again.targets, tsc.targets)


@pytest.mark.parametrize("options", [{"weight": 0.0, "start": 0.0}, {"start": 1.0}])
def test_without_targets_it_is_kcl(digits, tmp_path, options):
    paths = [tmp_path / f"{name}.pt" for name in ("kcl", "tsc")]
    for path, more in zip(paths, ({}, options), strict=True):
        method = built(path.stem, digits.classes.train_count, **SMALL[path.stem], **more)
        fit(digits, path, RUN, loss=method, method=path.stem)
    assert same(*map(weights, paths))
    assert [line["loss"] for line in log(paths[0])] == [line["loss"] for line in log(paths[1])]


def test_targets_change_the_features(digits, tmp_path):
    """And draw the classes' centroids to them."""
    found = []
    for weight in (0.0, 2.0):
        parameters = SMALL["tsc"] | {"weight": weight, "start": 0.3}
        method = built("tsc", digits.classes.train_count, **parameters)
        fit(digits, tmp_path / f"{weight}.pt", RUN, loss=method, method="tsc")
        targets = apart(method.origin, SPREAD)
        own = matched(method.centroids, targets)
        found.append((method.centroids * targets[own]).sum(dim=1).mean().item())
    assert found[1] > found[0] + 0.05


@pytest.mark.parametrize(
    ("parameter", "value"), [("weight", -1), ("start", 1.5), ("positives", -1), ("size", 0)]
)
def test_parameters_out_of_range(parameter, value):
    refused(lambda: built("tsc", COUNTS, **{parameter: value}), f"{parameter}: found ")
