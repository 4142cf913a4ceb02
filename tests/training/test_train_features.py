"""Heads trained on cached features."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from cached_heads import COUNTS, SETTINGS, fit, made
from made import refused
from trained import Stop, stop_after

from ltkit import losses, registry
from ltkit.architectures.network import make_head
from ltkit.losses import balanced_softmax, ce, swrm
from ltkit.records import ClassTable, FeatureSplit
from ltkit.row_cache import RowCache
from ltkit.training import beside
from ltkit.training import features as cached
from ltkit.training.schedules import Stage

pytestmark = pytest.mark.usefixtures("one_thread")

EMPTY_CLASSES = {"cdb", "ce", "cfl", "focal", "label-aware-smoothing", "seesaw", "seql"}
"""Losses that may have a class without a sample."""


@pytest.fixture
def output(tmp_path):
    return tmp_path / "f.ce.h5"


def log(output):
    lines = output.with_name(f"{output.name}.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "samples_per_second"} for line in lines
    ]


def same(first, second):
    return np.array_equal(first.weight, second.weight) and np.array_equal(first.bias, second.bias)


def accuracy(head, split):
    right = head.logits(split.features[:]).argmax(axis=1) == split.labels
    return np.mean([right[split.labels == c].mean() for c in np.unique(split.labels)])


# What is learned


def by_hand(features, settings, start, loss):
    """The whole run in double precision with NumPy and autograd of the loss alone."""
    x, labels = (
        features.split("train").features.values.astype(np.float64),
        features.split("train").labels,
    )
    weight, bias = (t.double().numpy().copy() for t in start)
    velocity = [np.zeros_like(weight), np.zeros_like(bias)]
    generator, values = torch.Generator().manual_seed(settings.seed), []
    steps = -(-len(x) // settings.batch_size)
    for epoch in range(settings.epochs):
        order, total = torch.randperm(len(x), generator=generator).numpy(), 0.0
        for step in range(steps):
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            logits = torch.from_numpy(x[rows] @ weight.T + bias).requires_grad_()
            value = loss(logits, torch.from_numpy(labels[rows]), torch.tensor(COUNTS))
            value.backward()
            total += value.item() * len(rows)
            d = logits.grad.numpy()
            gradients = [d.T @ x[rows], d.sum(axis=0)]
            rate = (
                settings.learning_rate
                * 0.5
                * (1 + np.cos(np.pi * (epoch + step / steps) / settings.epochs))
            )
            for n, values_ in enumerate((weight, bias)):
                velocity[n] = 0.9 * velocity[n] + gradients[n] + settings.weight_decay * values_
                values_ -= rate * velocity[n]
        values.append(total / len(x))
    return weight, bias, values


@pytest.mark.parametrize("module", [ce, balanced_softmax])
def test_a_linear_head_is_what_sgd_gives(output, module):
    data = made()
    torch.manual_seed(SETTINGS.seed)
    start = make_head(8, 4, cosine=False, scale=1.0)
    with torch.no_grad():
        weight, bias, values = by_hand_with_gradients(data, start, module)
    head = fit(data, output, loss=module.loss)
    np.testing.assert_allclose(head.weight, weight, atol=1e-5)
    np.testing.assert_allclose(head.bias, bias, atol=1e-5)
    assert [line["loss"] for line in log(output)] == pytest.approx(values, rel=1e-5)


def by_hand_with_gradients(data, start, module):
    with torch.enable_grad():
        return by_hand(data, SETTINGS, [p.detach() for p in start.parameters()], module.loss)


def test_it_learns_and_watches_the_validation_split(output):
    data, reports = made(), []
    head = fit(data, output, replace(SETTINGS, epochs=30), report=reports.append)
    lines = log(output)
    assert lines[-1]["val"]["balanced"] == pytest.approx(accuracy(head, data.split("val")))
    assert lines[-1]["val"]["balanced"] > 0.9
    assert lines[0]["loss"] > 2 * lines[-1]["loss"]
    assert [p.epoch for p in reports] == list(range(1, 31))
    assert set(lines[0]["val"]) == {"balanced", "few", "medium"}


def test_without_a_validation_split(output):
    reports = []
    fit(made(val=False), output, report=reports.append)
    assert "val" not in log(output)[0]
    assert reports[0].accuracy is None


@pytest.mark.parametrize("experts", [1, 2])
def test_a_cosine_head_in_its_linear_form(output, experts):
    """Rows of one length, no bias, features normalised expert by expert."""
    data = made(experts=experts)
    head = fit(data, output, replace(SETTINGS, epochs=30), cosine=True, scale=16.0)
    assert head.normalize_features
    assert head.experts == experts
    parts = head.weight.reshape(4, experts, -1)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 16 / experts, rtol=1e-5)
    assert not head.bias.any()
    assert accuracy(head, data.split("val")) == pytest.approx(log(output)[-1]["val"]["balanced"])
    assert accuracy(head, data.split("val")) > 0.9


@pytest.mark.parametrize("name", registry.names(losses))
def test_every_loss_trains_a_head(output, name):
    """Those of features, of class means, of the validation split, and with state among them."""
    module, data = registry.load(losses, name), made()
    counts = torch.tensor(COUNTS)
    settings = {"window": 3} if "swrm" in name else {}
    loss = (
        module.loss(counts, **settings)
        if isinstance(module.loss, type)
        else partial(module.loss, **settings)
    )
    head = fit(data, output, replace(SETTINGS, epochs=12), loss=loss, cosine=True, scale=16.0)
    assert np.isfinite(head.weight).all()
    assert accuracy(head, data.split("val")) > 0.5


def test_samplers_and_stages(output):
    seen = []

    def loss(logits, labels, counts):
        assert counts.tolist() == COUNTS
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    then = Stage(2, "ce", {}, "class-balanced", learning_rate=0.05)
    fit(made(), output, loss=loss, then=then, sampler="instance")
    steps = len(seen) // 4
    first, second = torch.cat(seen[: 2 * steps]), torch.cat(seen[2 * steps :])
    assert first.bincount().tolist() == [2 * c for c in COUNTS]
    assert second.bincount().min() > 30
    assert [line["learning_rate"] for line in log(output)] == pytest.approx(
        [0.1, 0.05, 0.05, 0.025]
    )


def test_a_sampler_goes_by_the_samples_that_are_there(output):
    """A file may have a training count for a class without a sample."""
    data = replace(made([40, 0, 20]), classes=ClassTable(np.array([40, 7, 20])))
    seen = []

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    fit(data, output, loss=loss, sampler="class-balanced")
    drawn = torch.cat(seen).bincount(minlength=3).tolist()
    assert drawn[1] == 0
    assert abs(drawn[0] - 120) < 5 * np.sqrt(60)


def test_the_class_means_are_those_of_the_features(output):
    data, given = made(), []

    class Watch(swrm.loss):
        def before_epoch(self, moment):
            given.append(moment.class_means())
            super().before_epoch(moment)

    make = partial(Watch, torch.tensor(COUNTS), window=3)
    fit(data, output, loss=make())
    train = data.split("train")
    means = [train.features.values[train.labels == c].mean(axis=0) for c in range(4)]
    np.testing.assert_allclose(given[0], means, rtol=1e-6)
    other = torch.ones(4, 3, dtype=torch.float64).cumsum(0)
    fit(data, output, loss=make(), class_means=("digest", other))
    assert given[-1] is other


# Reading


@pytest.mark.parametrize("sampler", ["instance", "class-balanced"])
@pytest.mark.parametrize("room", [1, 17, 50, 99])
def test_the_budget_changes_nothing(monkeypatch, output, sampler, room):
    held = fit(made(), output, sampler=sampler)
    monkeypatch.setattr("ltkit.memory.budget", lambda: room * 8 * 4)
    data = made()
    assert same(held, fit(data, output, sampler=sampler))


def test_what_is_held_is_read_once_and_what_is_not_stays_within_the_budget(monkeypatch, output):
    monkeypatch.setattr(
        FeatureSplit,
        "slices",
        lambda self, width=1: iter([slice(a, a + 10) for a in range(0, len(self), 10)]),
    )
    data = made()
    fit(data, output)
    assert len(data.split("train").features.read) == 10
    monkeypatch.setattr("ltkit.memory.budget", lambda: 40 * 8 * 4)
    sizes, read = [], RowCache._read
    monkeypatch.setattr(
        RowCache, "_read", lambda self, used: sizes.append(len(used)) or read(self, used)
    )
    fit(data, output)
    assert max(sizes) == 40
    assert len(sizes) == 4 * 3  # two batches of 16 a window, and what is left


def test_half_precision_is_held_as_it_is_stored(output):
    data = made(dtype=np.float16)
    store = cached.FeatureStore(data.split("train"), "cpu")
    assert store._rows.held.dtype == torch.float16
    assert store.block(slice(0, 2)).dtype == torch.float32
    assert store.augmented(torch.tensor([3]), torch.Generator()).dtype == torch.float32
    assert fit(data, output).weight.dtype == np.float32


def test_runs_share_what_is_held(output):
    data = made()
    held = cached.stores(data, "cpu")
    first = fit(data, output, held=lambda: held)
    reads = len(data.split("train").features.read)
    assert same(first, fit(data, output, held=lambda: held))
    assert len(data.split("train").features.read) == reads


# Going on


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("room", [33, 1000])
def test_an_interrupted_run_ends_as_if_it_had_not_been(monkeypatch, output, epoch, room):
    monkeypatch.setattr("ltkit.memory.budget", lambda: room * 8 * 4)
    whole = fit(made(), output)
    expected = log(output)
    with pytest.raises(Stop):
        fit(made(), output, report=stop_after(epoch))
    assert same(whole, fit(made(), output, resume=True))
    assert log(output) == expected
    assert beside.begun(output)
    beside.forget(output)
    assert not beside.begun(output)
    refused(partial(fit, made(), output, resume=True), "not found, nothing to resume")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"settings": replace(SETTINGS, learning_rate=0.2)},
            "learning_rate: found 0.1, expected 0.2",
        ),
        ({"settings": replace(SETTINGS, weight_decay=0.0)}, "weight_decay: found 0.0005"),
        ({"features": replace(made(), digest="b")}, "features: found , expected b"),
        ({"sampler": "reversed"}, "sampler: found instance, expected reversed"),
        ({"cosine": True}, "cosine: found False, expected True"),
        ({"class_means": ("m", torch.zeros(4, 8))}, "class_means: found None, expected m"),
        ({"then": Stage(1, "ce", {}, "reversed")}, "then: found None"),
        ({"method": "focal"}, "method: found ce, expected focal"),
        ({"parameters": {"gamma": 1.0}}, "parameters: found {}"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(output, change, message):
    with pytest.raises(Stop):
        fit(made(), output, report=stop_after(1))
    refused(
        partial(fit, **({"features": made(), "output": output, "resume": True} | change)), message
    )


# Bad input


def test_batches_of_one(output):
    """There is no batch norm in a head."""
    sizes = []

    def loss(logits, labels, counts):
        sizes.append(len(labels))
        return ce.loss(logits, labels, counts)

    fit(made([3, 2]), output, replace(SETTINGS, epochs=1, batch_size=2), loss=loss)
    assert sizes == [2, 2, 1]
    head = fit(made([1, 0]), output, replace(SETTINGS, epochs=1, batch_size=1))
    assert np.isfinite(head.weight).all()


def test_fewer_samples_than_a_batch_or_none(output):
    fit(made([3, 2]), output, replace(SETTINGS, batch_size=1000))
    refused(partial(fit, made([0, 0]), output), "training samples: found 0, expected at least 1")
    data = made()
    del data.splits["train"]
    refused(partial(fit, data, output), "no split train; there are: val")


@pytest.mark.parametrize("name", registry.names(losses))
def test_a_class_without_a_sample_is_trained_or_refused_in_a_line(output, name):
    module, counts = registry.load(losses, name), [40, 0, 10]
    settings = {"window": 3} if "swrm" in name else {}

    def trained():
        stateful = isinstance(module.loss, type)
        loss = module.loss(torch.tensor(counts), **settings) if stateful else module.loss
        return fit(made(counts), output, loss=loss)

    if name in EMPTY_CLASSES:
        assert np.isfinite(trained().weight).all()
    else:
        refused(trained, "class 1: found no training image, expected at least 1 in every class")


def test_a_loss_that_is_not_finite_keeps_the_state_before(output):
    calls = []

    def loss(logits, labels, counts):
        calls.append(1)
        return ce.loss(logits, labels, counts) * (np.nan if len(calls) == 9 else 1)

    rate = 0.05 * (1 + np.cos(np.pi * (1 + 1 / 7) / 4))
    said = f"nan at step 2 of 7 of epoch 2, learning rate {rate:g}, expected a finite number"
    refused(
        partial(fit, made(), output, loss=loss), said, "f.ce.h5.partial has the state after epoch 1"
    )
    assert same(fit(made(), output, resume=True), fit(made(), output))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0, expected a whole number from 1"),
        ({"epochs": 0}, "epochs: found 0, expected a whole number from 1"),
        ({"learning_rate": -1.0}, "learning_rate: found -1.0, expected a number above 0"),
        ({"weight_decay": -1.0}, "weight_decay: found -1.0"),
    ],
)
def test_settings_out_of_range(output, change, message):
    refused(partial(fit, made(), output, replace(SETTINGS, **change)), message)
    assert not list(output.parent.iterdir())
