"""SWRM and DySWRM: positions, windows and margins, by hand and within their bounds."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from stateful import (
    CLASSES,
    COUNTS,
    MEANS,
    batch,
    build,
    call,
    cost,
    moment,
    numpy_window,
)

from ltkit import losses, registry
from ltkit.errors import InputError
from ltkit.losses import (
    similarity_window,
    swrm,
)

pytestmark = pytest.mark.usefixtures("one_thread")


# SWRM


def test_positions_keep_clusters_together():
    rng = np.random.default_rng(0)
    group = np.arange(30) % 3
    means = np.eye(3, 8)[group] * 20 + rng.normal(size=(30, 8))
    order = rng.permutation(30)
    for init in swrm.INITS:
        line = swrm.project(means, 0, init)
        assert (np.diff(group[np.argsort(line)]) != 0).sum() == 2  # three runs
        np.testing.assert_array_equal(line, swrm.project(means, 0, init))
        np.testing.assert_array_equal(swrm.project(means[order], 0, init), line[order])


def test_another_seed_is_another_projection_and_the_principal_component_has_none():
    means = np.random.default_rng(0).normal(size=(30, 8))
    found = [swrm.project(means, seed) for seed in range(3)]
    ranks = [tuple(np.argsort(line)) for line in found]
    assert len({*ranks, *(order[::-1] for order in ranks)}) == 6
    first, second = (swrm.project(means, seed, "pca") for seed in range(2))
    np.testing.assert_array_equal(first, second)
    one, other = (build("swrm", seed=seed).positions for seed in range(2))
    assert not torch.equal(one, other)


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
    margins = -numpy_window(found.numpy())[1]
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


def test_an_even_window_sums_one_class_more_than_it_divides_by():
    """As printed: W + 1 terms, over W; at the ends the same multiple of their mean."""
    counts, line = torch.tensor([8.0, 4, 2, 1]), torch.arange(4.0)
    weights, margins = similarity_window(counts, line, window=2, beta=1.0)
    odd, plain = similarity_window(counts, line, window=3, beta=1.0)
    assert weights[1].item() == pytest.approx(math.log(1 + 2 * (8 + 4 + 2) / 2 / 4))
    assert margins[1].item() == pytest.approx(math.log((1 / 2 + 1 + 1 / 2) / 2))
    torch.testing.assert_close(weights.expm1(), 1.5 * odd.expm1())
    torch.testing.assert_close(margins, plain + math.log(1.5))


def line_of_forty():
    return torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def costs_of_a_crowd(name, **options):
    """Costs at equal logits of ten classes close to each other, and of twenty far apart."""
    steps = np.where(np.arange(40) < 10, 0.1, 1.0) * np.linspace(1, 1.05, 40)
    line = np.cumsum(steps)
    made = registry.load(losses, name).loss(torch.full((40,), 9), window=5, start=0.0, **options)
    made.positions.data.copy_(torch.tensor(line))
    made.before_epoch(moment(means=line[:, None]))
    costs = [call(made, np.zeros((1, 40)), [c], [[0.0]]).item() for c in range(40)]
    return np.array(costs[:8]), np.array(costs[12:])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("swrm", {}),
        ("dyswrm", {}),
        ("swrm", {"beta": 10.0}),
        ("swrm", {"similarity": "inverse"}),
        ("swrm", {"similarity": "exponential"}),
        ("swrm", {"form": "swm"}),
    ],
)
def test_errors_on_classes_with_close_neighbours_cost_more(name, options):
    close, apart = costs_of_a_crowd(name, **options)
    assert close.min() > 1.05 * apart.max()


@pytest.mark.parametrize("name", ["swrm", "dyswrm"])
def test_with_the_printed_sign_a_distance_makes_them_cost_less(name):
    close, apart = costs_of_a_crowd(name, sign=1)
    assert close.max() < apart.min()


def test_the_bounded_margins_and_those_of_the_inverse_agree_to_the_first_order_in_beta():
    """Both are beta mean log(1 + d), of a harmonic and of an arithmetic kind."""
    counts, line = torch.ones(40).double(), line_of_forty()
    window = partial(similarity_window, counts, line, window=9)
    for beta, apart in ((1e-2, 2e-2), (1e-3, 2e-3)):
        bounded = -window(beta=beta)[1]
        torch.testing.assert_close(
            bounded, window(beta=beta, similarity="inverse")[1], rtol=apart, atol=0
        )
    bounded, inverse = -window(beta=1.0)[1], window(beta=1.0, similarity="inverse")[1]
    assert (bounded <= inverse).all()  # a mean of reciprocals against one of values


@pytest.mark.parametrize("beta", [0.0, 1.0, 10.0])
def test_margins_are_bounded_as_stated(beta):
    line, counts = line_of_forty(), torch.arange(1, 41).double()
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


@pytest.mark.parametrize("sign", [1, -1])
def test_learning_raises_the_margins_towards_their_bound_and_stays_finite(sign):
    """A higher margin always costs less: positions attract each other with sign 1, else part."""
    made, (z, y, f) = build("dyswrm", sign=sign), batch(size=200)
    bound = 0.0 if sign == 1 else math.log(3)
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
    assert margins[0] < margins[-1] <= bound
    w, _ = numpy_window(made.positions.detach().double().numpy())
    z[np.arange(len(y)), y] += bound
    floor = (w[y] * cost(z, y)).mean()  # as low as it can get with these weights
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
