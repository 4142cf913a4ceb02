"""What is held and what is computed again give the same; how much is held."""

import dataclasses
import gc
import weakref

import numpy as np
import pytest
from made import refused
from six_classes import NONE, QUICK, made, neighbors_of

from ltkit import alphanet, memory
from ltkit.alphanet import fitting, reduction
from ltkit.alphanet.reduction import Reduced, Streamed, reduce
from ltkit.posthoc import _stacked
from ltkit.records import FeatureSplit
from ltkit.training.features import FeatureStore


def test_the_budget_is_what_is_said_or_half_of_what_is_free(monkeypatch):
    monkeypatch.setenv("LTKIT_MEMORY", "0.5")
    assert memory.budget() == 500_000_000
    monkeypatch.delenv("LTKIT_MEMORY")
    monkeypatch.setattr(memory, "_free", lambda: 1000)
    assert memory.budget() == 500
    monkeypatch.setattr(memory, "_free", lambda: 1 << 60)
    assert memory.budget() == memory.MOST


def test_what_is_free_is_some_of_the_machines_memory(monkeypatch):
    assert 0 < memory._free() < 1 << 60
    monkeypatch.setattr(memory.Path, "is_file", lambda path: False)
    assert memory._free() == 2 * memory.MOST


@pytest.mark.parametrize(("said", "held"), [("0.1", True), ("0.01", False)])
def test_features_and_logits_are_held_within_what_is_said(monkeypatch, said, held):
    monkeypatch.setenv("LTKIT_MEMORY", said)
    split = FeatureSplit(np.zeros((3000, 1000), np.float32), np.zeros(3000, int))  # 12 MB
    for rows in (_stacked.Inputs(split, 1000, lambda x: x)._rows, FeatureStore(split, "cpu")._rows):
        assert (rows.held is not None) == held


@pytest.mark.parametrize("said", ["much", "0", "-1", "1e99"])
def test_a_budget_that_is_none_is_refused(monkeypatch, said):
    monkeypatch.setenv("LTKIT_MEMORY", said)
    refused(memory.budget, "$LTKIT_MEMORY", "in gigabytes")


def test_alphanet_learns_the_same_from_samples_that_are_reduced_again(monkeypatch):
    base, train, val = made(0)
    near = neighbors_of(train)
    runs = [QUICK, dataclasses.replace(QUICK, seed=1)]
    monkeypatch.setattr(fitting, "SHARED_PRODUCTS", 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # a run each
    held = alphanet.fit(base, near, train, val, runs)
    assert isinstance(reduce(base, near, train, None, NONE), Reduced)
    monkeypatch.setattr(memory, "budget", lambda: 1)
    monkeypatch.setattr(reduction, "WIDE_BYTES", 1000)  # a few samples at a time
    data = reduce(base, near, train, None, NONE)
    assert isinstance(data, Streamed)
    assert sum(map(len, data.parts(7))) == len(data) == len(train)
    again = alphanet.fit(base, near, train, val, runs)
    np.testing.assert_allclose(again.weight, held.weight, atol=1e-5)
    np.testing.assert_allclose(again.extra["val_accuracy"], held.extra["val_accuracy"], atol=0.02)


@pytest.mark.parametrize("count", ["1", "3"])
def test_reduced_in_blocks_is_what_is_reduced_at_once(monkeypatch, count):
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    base, train, _ = made(0)
    near = neighbors_of(train)
    used = np.arange(0, len(train), 3)
    whole = reduce(base, near, train, used, NONE)
    monkeypatch.setattr(reduction, "WIDE_BYTES", 1000)
    before = reduction.torch.get_num_threads()
    parts = reduce(base, near, train, used, NONE)
    assert reduction.torch.get_num_threads() == before
    for field in dataclasses.fields(Reduced):
        ours, theirs = getattr(parts, field.name), getattr(whole, field.name)
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


def test_reduced_again_is_what_is_held(monkeypatch):
    base, train, _ = made(0)
    near = neighbors_of(train)
    held = reduce(base, near, train, None, NONE)
    monkeypatch.setattr(memory, "budget", lambda: 1)
    streamed = reduce(base, near, train, None, NONE)
    assert streamed.largest == pytest.approx(held.largest)
    some = reduction.torch.tensor([[5, 2, 5], [0, 9, 2]])
    found, places = streamed.at(some)
    for name in ("few", "near", "base_lse", "base_best", "base_right", "target", "base_target"):
        ours, theirs = getattr(found, name)[places], getattr(held, name)[some]
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda split: _stacked.Inputs(split, 100, np.copy), lambda s: FeatureStore(s, "cpu")]
)
def test_what_is_held_goes_with_who_asked_for_it(make):
    made = make(FeatureSplit(np.zeros((3000, 100), np.float32), np.zeros(3000, int)))
    rows = weakref.ref(made._rows)
    assert rows().held is not None
    gc.disable()
    try:
        del made
        assert rows() is None
    finally:
        gc.enable()
