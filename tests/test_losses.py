"""The questions that every loss is asked: a new file in ltkit/losses is tested at once.

A module may say ``NEUTRAL``: the parameters with which, at equal class counts, it is cross-entropy.
"""

import inspect
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from ltkit import losses, registry

CLASSES, BATCH = 5, 12


@pytest.fixture(params=registry.names(losses))
def module(request):
    return registry.load(losses, request.param)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, CLASSES, generator=generator, requires_grad=True)


labels = torch.arange(BATCH) % CLASSES
counts = torch.tensor([1_000_000, 500, 100, 20, 1])


def test_it_is_a_finite_scalar_with_a_finite_gradient(module, logits):
    value = module.loss(logits, labels, counts)
    assert value.shape == ()
    assert torch.isfinite(value)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_neutral_parameters_and_equal_counts_give_cross_entropy(module, logits):
    equal = torch.full((CLASSES,), 70)
    value = module.loss(logits, labels, equal, **getattr(module, "NEUTRAL", {}))
    torch.testing.assert_close(value, functional.cross_entropy(logits, labels))


def test_renaming_the_classes_changes_nothing(module, logits):
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.argsort(order)[labels]
    value = module.loss(logits[:, order], renamed, counts[order])
    torch.testing.assert_close(value, module.loss(logits, labels, counts))


def test_the_order_of_the_batch_changes_nothing(module, logits):
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    value = module.loss(logits[order], labels[order], counts)
    torch.testing.assert_close(value, module.loss(logits, labels, counts))


def test_a_rare_class_never_costs_less_at_equal_logits(module):
    zeros = torch.zeros(1, CLASSES)
    costs = [module.loss(zeros, torch.tensor([c]), counts).item() for c in range(CLASSES)]
    assert all(rarer >= commoner - 1e-6 for commoner, rarer in pairwise(costs))


def test_a_step_downhill_raises_the_true_logit(module, logits):
    for sample in range(BATCH):
        one = logits[sample : sample + 1].detach().requires_grad_()
        label = labels[sample : sample + 1]
        (gradient,) = torch.autograd.grad(module.loss(one, label, counts), one)
        assert gradient[0, label] < 0


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_and_unequal_counts_stay_finite(module, size):
    logits = (size * torch.eye(CLASSES)[labels]).requires_grad_()
    value = module.loss(logits, labels, counts)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_the_signature_is_like_the_others(module):
    first, *rest = inspect.signature(module.loss).parameters.values()
    names = [first.name, *(p.name for p in rest)]
    assert names[:3] == ["logits", "labels", "class_counts"]
    for parameter in rest[2:]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty


def test_the_docstring_has_an_example_and_a_source(module):
    doc = inspect.getdoc(module.loss)
    assert ">>> loss(" in doc
    for section in ("Args:", "Example:", "Source:"):
        assert section in doc
    for name in inspect.signature(module.loss).parameters:
        assert f"{name}:" in doc
