"""PaCo and GPaCo: their formulas again in NumPy, their limits, and what they refuse."""

import numpy as np
import pytest
import torch
from contrastive import built, naive_parametric, unit
from made import refused

from ltkit.losses import balanced_softmax

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400, 1]
VALUES = [
    {},
    {"alpha": 0.5, "beta": 2.0, "gamma": 0.3, "temperature": 0.2},
    {"alpha": 0.0},
    {"alpha": 1.0, "gamma": 0.0, "temperature": 1.0},
]


def batch(seed, size=6, width=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    return 2 * rng.normal(size=(size, 4)), labels, unit(rng, size, width), unit(rng, size, width)


def filled(method, seed, size):
    """Put keys into its queue; return those that are there."""
    rng = np.random.default_rng(seed + 100)
    keys, of = unit(rng, size, 5), rng.integers(0, 4, size)
    method.queue.put(torch.tensor(keys), torch.tensor(of))
    return keys, of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parameters", VALUES)
@pytest.mark.parametrize("queued", [0, 4, 9])
def test_paco_is_its_formula(seed, parameters, queued):
    """With an empty queue, one with room, and a full one."""
    logits, labels, queries, keys = batch(seed)
    paco = built("paco", COUNTS, **{"queue": 9, "size": 5} | parameters).double()
    there, of = filled(paco, seed, queued)
    given = (torch.tensor(logits), torch.tensor(labels), torch.tensor(queries), torch.tensor(keys))
    defaults = {"alpha": 0.01, "beta": 1.0, "gamma": 1.0, "temperature": 0.05}
    expected = naive_parametric(
        logits, COUNTS, labels, queries, np.concatenate([queries, keys, there]),
        np.concatenate([labels, labels, of]), **defaults | parameters,
    )  # fmt: skip
    assert paco.contrast(*given).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parameters", [*VALUES, {"smoothing": 0.2}, {"smoothing": 1.0}])
def test_gpaco_is_its_formula(seed, parameters):
    logits, labels, first, _ = batch(seed)
    gpaco = built("gpaco", COUNTS, **{"queue": 9, "size": 5, "smoothing": 0.0} | parameters)
    there, of = filled(gpaco.double(), seed, 4)
    given = (torch.tensor(logits), torch.tensor(labels), torch.tensor(first))
    defaults = {"alpha": 0.01, "beta": 1.0, "gamma": 1.0, "temperature": 0.07}
    expected = naive_parametric(
        logits, COUNTS, labels, first, np.concatenate([first, there]),
        np.concatenate([labels, of]), **defaults | parameters,
    )  # fmt: skip
    assert gpaco.contrast(*given).item() == pytest.approx(expected, rel=1e-6)


def test_without_candidates_both_are_balanced_softmax():
    logits, labels, queries, keys = (torch.tensor(x) for x in batch(0))
    expected = balanced_softmax.loss(logits, labels, torch.tensor(COUNTS))
    off = {"alpha": 0.0, "gamma": 0.0, "queue": 9, "size": 5}
    for beta in (0.5, 1.0, 3.0):
        paco = built("paco", COUNTS, **off, beta=beta).double()
        filled(paco, 0, 9)
        torch.testing.assert_close(paco.contrast(logits, labels, queries, keys), expected)
        gpaco = built("gpaco", COUNTS, **off, beta=beta, smoothing=0.0).double()
        filled(gpaco, 0, 9)
        torch.testing.assert_close(gpaco.contrast(logits, labels, queries), expected)


@pytest.mark.parametrize("name", ["paco", "gpaco"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_have_finite_gradients(name, size):
    _, labels, queries, keys = (torch.tensor(x) for x in batch(0))
    logits = (size * torch.eye(4).double()[labels]).requires_grad_()
    queries.requires_grad_()
    more = (keys,) if name == "paco" else ()
    value = built(name, COUNTS, size=5).double().contrast(logits, labels, queries, *more)
    for gradient in torch.autograd.grad(value, [logits, queries]):
        assert torch.isfinite(gradient).all()
    assert torch.isfinite(value)


@pytest.mark.parametrize("name", ["paco", "gpaco"])
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("alpha", -1.0), ("beta", 0.0), ("gamma", -0.1), ("temperature", 0.0), ("queue", -1),
        ("size", 0), ("second_view", "blur"), ("alpha", float("nan")),
    ],
)  # fmt: skip
def test_parameters_out_of_range(name, parameter, value):
    refused(lambda: built(name, COUNTS, **{parameter: value}), f"{parameter}: found ")


def test_a_class_without_images():
    for name in ("paco", "gpaco"):
        refused(lambda name=name: built(name, [5, 0]), "class 1: found no training image")
