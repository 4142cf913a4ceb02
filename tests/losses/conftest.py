"""Each loss, and a batch for it."""

import pytest
import torch
from asked import BATCH, CASES, CLASSES, EXCEPTIONS, called, ready

from ltkit import losses, registry


@pytest.fixture(params=registry.names(losses))
def module(request):
    return registry.load(losses, request.param)


@pytest.fixture(params=CASES, ids=called)
def case(request):
    """A loss's name and its parameters, those of its exception included."""
    name, parameters = request.param
    instead, _ = EXCEPTIONS.get((request.function.__name__, name), ({}, ""))
    return name, parameters | instead


@pytest.fixture
def loss(case):
    name, parameters = case
    return ready(name, **parameters)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, CLASSES, generator=generator, requires_grad=True)
