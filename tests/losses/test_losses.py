"""The questions that every loss is asked: a new file in ltkit/losses is tested at once.

A module may say ``NEUTRAL``: the parameters with which, at equal class counts, it is cross-entropy.
A stateful loss is asked late in a run, as it is when it is new. What it knows of the
run then follows from the class counts, so that it is renamed and reordered with them.
"""

import inspect
import re
from itertools import pairwise

import pytest
import torch
from asked import BATCH, CLASSES, EXCEPTIONS, counts, labels, ready
from torch.nn import functional

from ltkit import losses, registry


def test_it_is_a_finite_scalar_with_a_finite_gradient(loss, logits):
    value = loss(logits, labels, counts)
    assert value.shape == ()
    assert torch.isfinite(value)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_the_gradient_is_that_of_the_value(loss, logits):
    assert torch.autograd.gradcheck(
        lambda z: loss(z, labels, counts), logits.detach().double().requires_grad_()
    )


def test_neutral_parameters_and_equal_counts_give_cross_entropy(case, logits):
    name, parameters = case
    equal = torch.full((CLASSES,), 70)
    parameters = parameters | getattr(registry.load(losses, name), "NEUTRAL", {})
    value = ready(name, **parameters)(logits, labels, equal)
    torch.testing.assert_close(value, functional.cross_entropy(logits, labels))


def test_renaming_the_classes_changes_nothing(loss, logits):
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.argsort(order)[labels]
    value = loss(logits[:, order], renamed, counts[order])
    torch.testing.assert_close(value, loss(logits, labels, counts))


def test_the_order_of_the_batch_changes_nothing(loss, logits):
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    value = loss(logits[order], labels[order], counts)
    torch.testing.assert_close(value, loss(logits, labels, counts))


def test_a_batch_twice_costs_the_same(loss, logits):
    twice = loss(logits.repeat(2, 1), labels.repeat(2), counts)
    torch.testing.assert_close(twice, loss(logits, labels, counts))


def test_a_rare_class_never_costs_less_at_equal_logits(loss):
    zeros = torch.zeros(1000, CLASSES)  # copies, so that draws come to their mean
    costs = [loss(zeros, torch.full((1000,), c), counts).item() for c in range(CLASSES)]
    assert all(rarer >= commoner - 1e-5 for commoner, rarer in pairwise(costs))


def test_a_step_downhill_raises_the_true_logit(loss, logits):
    for sample in range(BATCH):
        one = logits[sample : sample + 1].detach().requires_grad_()
        label = labels[sample : sample + 1]
        (gradient,) = torch.autograd.grad(loss(one, label, counts), one)
        assert gradient[0, label] < 0


@pytest.mark.parametrize("shift", [0, 1], ids=["right", "wrong"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_and_unequal_counts_stay_finite(loss, size, shift):
    logits = (size * torch.eye(CLASSES)[(labels + shift) % CLASSES]).requires_grad_()
    value = loss(logits, labels, counts)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_it_leaves_its_inputs_and_the_global_generator_alone(loss, logits):
    state = torch.get_rng_state()
    inputs = (logits.detach(), labels, counts)
    before = [x.clone() for x in inputs]
    values = [loss(*inputs) for _ in range(2)]
    assert values[0] == values[1]
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_signature_is_like_the_others(module):
    found = list(inspect.signature(module.loss).parameters.values())
    inputs = ["logits", "labels", "class_counts"]
    if isinstance(module.loss, type):
        inputs = ["class_counts"]
        assert issubclass(module.loss, (losses.Stateful, torch.nn.Module))
        called = inspect.signature(module.loss.forward).parameters
        assert list(called) == ["self", "logits", "labels", "features"]
    assert [p.name for p in found[: len(inputs)]] == inputs
    for parameter in found[len(inputs) :]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        assert type(parameter.default) in (str, float, int)  # what --set can read


def test_the_docstring_has_an_example_and_a_source(module):
    doc = inspect.getdoc(module.loss)
    assert re.search(r">>> .*\bloss\(", doc)
    for section in ("Args:", "Example:", "Source:"):
        assert section in doc
    for name in inspect.signature(module.loss).parameters:
        assert f"{name}:" in doc


def test_the_exceptions_are_of_losses_and_questions_there_are():
    for question, name in EXCEPTIONS:
        assert question in globals()
        assert name in registry.names(losses)
