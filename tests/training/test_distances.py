"""Lifted and Range: their formulas again in loops, another library's, their limits and refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import LiftedStructureLoss
from trained import fit

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400, 9]


def distance(a, b):
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def naive_lifted(features, labels, weight=1.0, margin=1.0):
    """Pair by pair."""
    size, costs = len(labels), []
    for i in range(size):
        for j in range(i + 1, size):
            if labels[i] == labels[j]:
                bottom = 0.0
                for k in range(size):
                    if labels[k] != labels[i]:
                        bottom += math.exp(margin - distance(features[i], features[k]))
                        bottom += math.exp(margin - distance(features[j], features[k]))
                over = distance(features[i], features[j]) + math.log(bottom)
                costs.append(max(0.0, over) ** 2)
    return weight * sum(costs) / (2 * len(costs))


def naive_range(features, labels, weight=0.01, within=0.5, between=0.5, margin=0.1, k=2):
    """Class by class."""
    ranges, centres = 0.0, []
    for c in sorted(set(labels)):
        own = [f for f, label in zip(features, labels, strict=True) if label == c]
        pairs = [distance(a, b) for n, a in enumerate(own) for b in own[:n]]
        largest = sorted(pairs)[-k:]
        if largest:
            ranges += len(largest) / sum(1 / d for d in largest)
        centres.append([sum(column) / len(own) for column in zip(*own, strict=True)])
    nearest = min(distance(a, b) for n, a in enumerate(centres) for b in centres[:n])
    return weight * (within * ranges + between * max(0.0, margin - nearest))


def slopes(function, features, step=1e-6):
    """The gradient of a function of (B, D) features, by small steps."""
    found = np.zeros_like(features)
    for at in np.ndindex(features.shape):
        ends = []
        for sign in (1, -1):
            moved = features.copy()
            moved[at] += sign * step
            ends.append(function(moved))
        found[at] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "naive", "parameters"),
    [
        ("lifted", naive_lifted, {}), ("lifted", naive_lifted, {"weight": 0.3, "margin": 2.0}),
        ("range", naive_range, {"weight": 1.0}),
        ("range", naive_range, {"margin": 9.0, "within": 0.1, "between": 2.0, "k": 3}),
    ],
)  # fmt: skip
def test_each_is_its_formula(name, naive, parameters, seed):
    """The last class has one image: no pair, a centre nonetheless."""
    rng = np.random.default_rng(seed)
    labels = [0, 0, 0, 1, 1, 2, 2, 2, 3]
    features = (0.3 + seed) * rng.normal(size=(len(labels), 4))
    given = torch.tensor(features, requires_grad=True)
    value = built(name, COUNTS, **parameters).apart(given, torch.tensor(labels))
    (gradient,) = torch.autograd.grad(value, given)
    assert value.item() == pytest.approx(naive(features, labels, **parameters), rel=1e-9)
    expected = slopes(lambda moved: naive(moved, labels, **parameters), features)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-6 * (1 + value.item()))


@pytest.mark.parametrize("seed", range(3))
def test_lifted_is_another_librarys(seed):
    """Of raw features; theirs counts each pair twice, and halves it."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(12, 5, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(4, (12,), generator=generator)
    theirs = LiftedStructureLoss(
        neg_margin=1, pos_margin=0, distance=LpDistance(normalize_embeddings=False)
    )
    expected, found = theirs(features, labels), built("lifted", COUNTS).apart(features, labels)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(value, features)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_distances_have_themselves_as_range(size, k):
    """The corners of a simplex, 2.5 apart."""
    ranged = built("range", COUNTS, k=k)
    features = 2.5 / 2**0.5 * torch.eye(size, dtype=torch.float64)
    found = ranged.ranges(features, torch.zeros(size, dtype=torch.int64), 1)
    torch.testing.assert_close(found, torch.tensor([2.5], dtype=torch.float64))


def test_one_class_has_no_other_to_part_from():
    features, labels = torch.randn(4, 3, requires_grad=True), torch.zeros(4, dtype=torch.int64)
    assert built("lifted", COUNTS).apart(features, labels).item() == 0
    ranged = built("range", COUNTS, within=0.0, margin=5.0)
    assert ranged.apart(features, labels).item() == 0


def test_without_pairs_lifted_costs_nothing():
    features = torch.randn(3, 2, requires_grad=True)
    value = built("lifted", COUNTS).apart(features, torch.tensor([0, 1, 2]))
    (gradient,) = torch.autograd.grad(value, features)
    assert value.item() == 0
    assert gradient.abs().max() == 0


@pytest.mark.parametrize("name", ["lifted", "range"])
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e4])
def test_the_same_features_have_finite_gradients(name, size):
    """Copies of an image, whose distance is 0, or all features the same."""
    features = (size * torch.eye(4)[[0, 0, 0, 1, 1, 2]]).requires_grad_()
    value = built(name, COUNTS, margin=1.0).apart(features, torch.tensor([0, 0, 0, 1, 1, 2]))
    (gradient,) = torch.autograd.grad(value, features)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("lifted", "weight", -1.0), ("lifted", "margin", float("nan")), ("lifted", "per_class", 1),
        ("range", "weight", -1.0), ("range", "within", -1.0), ("range", "between", float("inf")),
        ("range", "margin", -0.1), ("range", "k", 0), ("range", "per_class", 0),
    ],
)  # fmt: skip
def test_parameters_out_of_range(name, parameter, value):
    refused(lambda: built(name, COUNTS, **{parameter: value}), f"{parameter}: found ")


def test_classes_of_one_image():
    for name in ("lifted", "range"):
        refused(lambda name=name: built(name, [1, 1, 1]), "training images: found no class with ")


def test_more_distances_than_there_are(digits, tmp_path):
    made = built("range", digits.classes.train_count, k=4, per_class=3)
    message = "parameters k: found 4, expected at most 3, the pairs of 3 images of a class"
    settings = replace(RUN, batch_size=30)
    refused(lambda: fit(digits, tmp_path / "o.pt", settings, loss=made), message)
