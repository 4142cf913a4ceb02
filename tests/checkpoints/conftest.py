"""Fixtures that several test files use."""

import pytest
import torch
from containers import MAKERS, small
from stored_networks import network, recipe

from ltkit import datasets
from ltkit.training import checkpoint


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


@pytest.fixture(params=MAKERS)
def program(request, path):
    """Write a program in one of the containers; (its family, what writes it)."""
    return request.param, lambda *words, **named: MAKERS[request.param](
        small(*words), path, **named
    )


@pytest.fixture
def native(path):
    """Write a checkpoint as ``ltkit train`` does, with entries changed; None takes one away."""

    def write(cosine=False, scale=1.0, changes=None):
        net = network(cosine=cosine, scale=scale)
        checkpoint.save(path, recipe(cosine, scale), 1, net, datasets.load("digits_lt"))
        content = torch.load(path, weights_only=True) | (changes or {})
        if changes:
            torch.save({k: v for k, v in content.items() if v is not None}, path)
        return net

    return write
