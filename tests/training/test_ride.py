"""RIDE: its formula again in NumPy, its limits, its runs, and what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import built, logsum
from experts import ARCH, COUNTS, RUN, batch, network, pictures, train
from made import refused
from trained import Stop, log, recipe, same, stop_after, weights

from ltkit.losses import ldam
from ltkit.settings import TrainPlan

pytestmark = pytest.mark.usefixtures("one_thread")

DRW = TrainPlan("ride", drw=1)


@pytest.fixture(scope="module", name="pictures")
def _pictures():
    return pictures()


def softmax(z):
    top = logsum(z)
    return [math.exp(x - top) for x in z]


def effective(counts, beta):
    weights = [(1 - beta) / (1 - beta**n) if beta else 1.0 for n in counts]
    return [w * len(counts) / sum(weights) for w in weights]


def naive(
    z, labels, counts, diversity=0.45, base=1.0, spread=0.0, margin=0.5, scale=30.0, beta=0.0
):
    """Expert by expert and image by image, of (B, E, C) logits."""
    size, experts, classes = z.shape
    weights = effective(counts, beta)
    margins = [margin * (min(counts) / n) ** 0.25 for n in counts]
    factors = [classes * n / sum(counts) * spread + 1 - spread for n in counts]
    t = np.array([base * f / max(factors) for f in factors])
    total = 0.0
    for i in range(experts):
        costs = apart = 0.0
        for b in range(size):
            own = z[b, i].copy()
            own[labels[b]] -= scale * margins[labels[b]]
            costs += weights[labels[b]] * (logsum(own) - own[labels[b]])
            p, q = softmax(z[b].mean(axis=0) / t), softmax(z[b, i] / t)
            apart += sum(a * math.log(a / c) for a, c in zip(p, q, strict=True))
        total += costs / sum(weights[y] for y in labels)
        total -= diversity * t.mean() ** 2 * apart / size
    return total


CASES = [
    {}, {"diversity": 0.2, "diversity_temperature": 2.0}, {"spread": 0.05, "beta": 0.9999},
    {"spread": 0.9, "beta": 0.9, "max_margin": 0.2, "scale": 10.0},
]  # fmt: skip


@pytest.mark.parametrize("given", CASES)
@pytest.mark.parametrize("experts", [1, 2, 6])
def test_it_is_its_formula(given, experts):
    rng = np.random.default_rng(0)
    z, labels = 2 * rng.normal(size=(5, experts, 3)), [0, 2, 1, 0, 0]
    names = {"diversity_temperature": "base", "max_margin": "margin"}
    more = {names.get(name, name): value for name, value in given.items()}
    leaf = torch.tensor(z, requires_grad=True)
    value = built("ride", COUNTS, **given).of_experts(leaf, torch.tensor(labels))
    assert value.item() == pytest.approx(naive(z, labels, COUNTS, **more), rel=1e-9)
    value.backward()
    assert leaf.grad.isfinite().all()


def test_the_mean_that_experts_differ_from_has_no_gradient():
    """Expert by expert: nothing that one gives moves another."""
    z = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels, ride = torch.tensor([0, 1, 2, 0]), built("ride", COUNTS)
    whole = z.clone().requires_grad_()
    ride.of_experts(whole, labels).backward()
    mean = z.mean(dim=1)
    for i in range(3):
        own = z[:, i].clone().requires_grad_()
        p, q = mean.softmax(dim=1), own.log_softmax(dim=1)
        apart = (p * (p.log() - q)).sum(dim=1).mean()
        (ldam.loss(own, labels, torch.tensor(COUNTS)) - 0.45 * apart).backward()
        torch.testing.assert_close(whole.grad[:, i], own.grad)


@pytest.mark.parametrize("beta", [0.0, 0.9999])
def test_one_expert_without_diversity_is_ldam_bit_for_bit(beta):
    net = network("resnet8").double()
    seen = batch(net)
    ride = built("ride", COUNTS, diversity=0.0, beta=beta, spread=0.05)
    ride.attach(net)
    value, parameters = ride.of_batch(seen), [*net.parameters()]
    logits = net(seen.views[0])
    expected = ldam.loss(logits, seen.labels, torch.tensor(COUNTS), beta=beta)
    assert value.dtype == torch.float64
    assert torch.equal(value, expected)
    found = torch.autograd.grad(value, parameters, retain_graph=True)
    for one, other in zip(found, torch.autograd.grad(expected, parameters), strict=True):
        assert torch.equal(one, other)


def test_a_run_of_one_expert_without_diversity_is_ldam_drw(pictures, tmp_path):
    found, expected = tmp_path / "ride.pt", tmp_path / "ldam.pt"
    plan = TrainPlan("ride", {"diversity": 0}, drw=1)
    train(pictures, plan, found, arch="resnet8")
    train(pictures, TrainPlan("ldam", drw=1), expected, arch="resnet8")
    assert same(weights(found), weights(expected))
    assert [line["loss"] for line in log(found)] == [line["loss"] for line in log(expected)]


def test_weights_and_temperatures_are_deferred(pictures, tmp_path):
    """Until then the run is the one without; then it is not."""
    plain, drw = tmp_path / "plain.pt", tmp_path / "drw.pt"
    train(pictures, TrainPlan("ride"), plain)
    train(pictures, DRW, drw)
    costs = [[line["loss"] for line in log(path)] for path in (plain, drw)]
    assert costs[0][0] == costs[1][0]
    assert costs[0][1] != costs[1][1]
    assert recipe(drw)["parameters"] == {"scale": 30.0, "drw": 1}


def test_experts_that_differ_are_rewarded():
    """More of the term, more apart: expert by expert, the same mean."""
    labels, logits = torch.tensor([0]), torch.tensor([[[2.0, 0.0, 1.0]] * 2])
    apart = logits + torch.tensor([[[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]])
    none, some = (built("ride", COUNTS, diversity=d) for d in (0.0, 0.45))
    gain = [float(none.of_experts(z, labels) - some.of_experts(z, labels)) for z in (logits, apart)]
    assert gain[0] == pytest.approx(0, abs=1e-7)
    assert gain[1] > 0.1


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(pictures, tmp_path):
    whole, settings = tmp_path / "whole.pt", replace(RUN, augment="rotation", nesterov=True)
    train(pictures, DRW, whole, settings)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(pictures, DRW, output, settings, report=lambda path, at=epoch: stop_after(at))
        train(pictures, DRW, output, settings, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def test_it_learns(pictures, tmp_path):
    output = tmp_path / "net.pt"
    train(pictures, TrainPlan("ride"), output, replace(RUN, epochs=20, augment="none"))
    assert log(output)[-1]["loss"] < 0.5 * log(output)[0]["loss"]
    heads = [key for key in weights(output) if key.startswith("head.")]
    assert heads == [f"head.experts.{i}.weight" for i in range(3)]


def test_the_network_that_nobody_names(pictures, tmp_path):
    settings = replace(RUN, epochs=1)
    for experts, name in ((None, "resnet32_3experts_reduced"), (4, "resnet32_4experts_reduced")):
        output = tmp_path / f"{experts}.pt"
        notes = train(pictures, TrainPlan("ride"), output, settings, arch=None, experts=experts)
        assert f"network: {name}, which fits the pictures; --arch names another" in notes
        assert recipe(output)["arch"] == name
    output = tmp_path / "small.pt"
    train(pictures, TrainPlan("ride"), output, settings, arch="resnet8", experts=3)
    assert recipe(output)["arch"] == ARCH


def test_networks_that_are_refused(pictures, tmp_path):
    output = tmp_path / "net.pt"
    message = "experts: found a network of one, which has nobody to differ from"
    refused(lambda: train(pictures, TrainPlan("ride"), output, arch="resnet8"), message)
    for arch, experts, has in (("resnet20", 3, 1), ("resnet8_3experts", 4, 3), ("resnet8", 5, 1)):
        message = f"experts: {arch} has {has}, and no form with {experts}; expected 2, 3, 4 or 6 of"
        refused(lambda: train(pictures, DRW, output, arch=arch, experts=experts), message)  # noqa: B023
    message = "experts: resnet32 has 1, and no form with 5"
    refused(lambda: train(pictures, DRW, output, arch=None, experts=5), message)


@pytest.mark.parametrize(
    "name", ["diversity", "max_margin", "scale", "distill", "spread", "beta",
             "diversity_temperature", "distill_temperature"],
)  # fmt: skip
def test_parameters_out_of_range(name):
    refused(lambda: built("ride", COUNTS, **{name: -0.5}), f"{name}: found -0.5, expected a finite")


def test_a_class_without_images():
    refused(lambda: built("ride", [5, 0]), "class 1: found no training image")


def test_nesterov_needs_a_momentum(pictures, tmp_path):
    settings = replace(RUN, momentum=0.0, nesterov=True)
    message = "nesterov: found a momentum of 0"
    refused(lambda: train(pictures, DRW, tmp_path / "net.pt", settings), message)
