"""Rotations, MoCo, SimSiam, BYOL: their formulas again in NumPy, and runs that start from them."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, SMALL, UNLABELLED, built, logsum, unit
from made import refused
from trained import dataset_of, fit, log, recipe, weights

from ltkit import architectures
from ltkit.losses import Moment
from ltkit.settings import TrainPlan
from ltkit.training import runs
from ltkit.training.methods import Seen
from ltkit.training.methods.ssp import turned

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]


def gradients(value, *leaves):
    return [g.numpy() for g in torch.autograd.grad(value, leaves)]


def slopes(function, values, step=1e-6):
    """The gradient of a function of an array, by central differences."""
    found = np.zeros_like(values)
    for at in np.ndindex(values.shape):
        ends = []
        for sign in (1, -1):
            moved = values.copy()
            moved[at] += sign * step
            ends.append(function(moved))
        found[at] = (ends[0] - ends[1]) / (2 * step)
    return found


def naive_moco(queries, keys, candidates, temperature):
    """Image by image; candidates: the negatives of each."""
    costs = []
    for q, own, others in zip(queries, keys, candidates, strict=True):
        terms = [float(q @ v) / temperature for v in [own, *others]]
        costs.append(logsum(terms) - terms[0])
    return np.mean(costs)


@pytest.mark.parametrize("queued", [0, 3, 6])
def test_moco_is_its_formula(queued):
    """Also while places of the queue are empty; its labels do not matter."""
    rng = np.random.default_rng(queued)
    q, k, stored = unit(rng, 5, 4), unit(rng, 5, 4), unit(rng, queued, 4)
    moco = built("moco", COUNTS, queue=6, size=4, temperature=0.2).double()
    moco.queue.put(torch.tensor(stored), torch.from_numpy(rng.integers(0, 3, queued)))
    leaf = torch.tensor(q, requires_grad=True)
    value = moco.contrast(leaf, torch.tensor(k))

    def expected(queries):
        return naive_moco(queries, k, [stored] * 5, 0.2)

    assert value.item() == pytest.approx(expected(q), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(gradients(value, leaf)[0], slopes(expected, q), atol=1e-6)


def test_moco_without_a_queue_compares_within_the_batch():
    rng = np.random.default_rng(0)
    q, k = unit(rng, 5, 4), unit(rng, 5, 4)
    moco = built("moco", COUNTS, queue=0, size=4, temperature=0.3)
    found = moco.contrast(torch.tensor(q), torch.tensor(k))
    others = [[k[j] for j in range(5) if j != i] for i in range(5)]
    assert found.item() == pytest.approx(naive_moco(q, k, others, 0.3), rel=1e-9)


def cosine(one, two):
    return float(one @ two) / (np.linalg.norm(one) * np.linalg.norm(two))


@pytest.mark.parametrize("name", ["simsiam", "byol"])
def test_predictions_are_compared_with_the_other_view(name):
    """Their gradient is that of the formula; what they are compared with has none."""
    rng = np.random.default_rng(1)
    first, second, one, two = rng.normal(size=(4, 5, 3))
    given = [torch.tensor(x, requires_grad=True) for x in (first, second, one, two)]
    value = built(name, COUNTS).agreement(tuple(given[:2]), tuple(given[2:]))

    def expected(predictions):
        near = [
            cosine(predictions[0, i], two[i]) + cosine(predictions[1, i], one[i]) for i in range(5)
        ]
        return 1 - np.mean(near) / 2 if name == "simsiam" else 4 - 2 * np.mean(near)

    both = np.stack([first, second])
    assert value.item() == pytest.approx(expected(both), rel=1e-9)
    found = np.stack(gradients(value, *given[:2]))
    np.testing.assert_allclose(found, slopes(expected, both), atol=1e-6)
    assert all(g is None for g in torch.autograd.grad(value, given[2:], allow_unused=True))


def test_the_momentum_of_byol_rises():
    byol = built("byol", COUNTS, momentum=0.9)
    byol.attach(architectures.build("digits_net", 3))
    found = []
    for epoch in (0, 5, 10):
        byol.before_epoch(Moment(epoch, 10, None, lambda: torch.zeros(3, 2)))
        found.append(byol.keys.momentum)
    assert found == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 32, 127])
def test_turns_are_balanced_in_every_batch(count):
    seen = Counter()
    for seed in range(60):
        labels = torch.arange(count) % 3
        turns = built("ssp", COUNTS, seed=seed).turns(labels)
        numbers = turns.bincount(minlength=4)
        assert numbers.max() - numbers.min() <= 1
        assert torch.equal(turns, built("ssp", COUNTS, seed=seed).turns(labels))
        seen[int(turns[0])] += 1
    assert len(seen) == 4  # any image may be given any of them


@pytest.mark.parametrize("turn", range(4))
def test_a_turn_is_numpys(turn):
    images = np.random.default_rng(0).normal(size=(3, 2, 5, 5))
    found = turned(torch.tensor(images), torch.full((3,), turn))
    np.testing.assert_array_equal(found, np.rot90(images, turn, (2, 3)))


def test_images_that_cannot_be_turned():
    message = "method ssp: found images of 4 x 5 pixels, expected square ones to turn"
    refused(lambda: turned(torch.zeros(2, 1, 4, 5), torch.tensor([0, 1])), message)


@pytest.mark.parametrize("count", [2, 9])
def test_the_head_learns_upright_images_alone(count):
    """The loss is that of the turns, and of the classes of those that were left upright."""
    torch.manual_seed(0)
    network = architectures.build("digits_net", 3).double()
    ssp = built("ssp", COUNTS)
    ssp.attach(network)
    ssp.double()
    images, labels = torch.randn(count, 1, 8, 8).double(), torch.arange(count) % 3
    given, turns = [], ssp.turns(labels)

    def encode(batch):
        given.append(batch)
        features = network.backbone(batch)
        return features, network.head(features.detach())

    value = ssp.of_batch(Seen((images,), labels, network, encode, "off"))
    (batch,) = given
    features, logits = network.eval().train().features_and_logits(batch)
    found, upright = ssp.turn(features).detach().numpy(), []
    total = 0.0
    for i in range(count):
        np.testing.assert_array_equal(batch[i], np.rot90(images[i].numpy(), int(turns[i]), (1, 2)))
        total += (logsum(found[i]) - found[i][turns[i]]) / count
        if turns[i] == 0:
            row = logits[i].detach().numpy()
            upright.append(logsum(row) - row[labels[i]])
    expected = total + (np.mean(upright) if upright else 0.0)
    assert value.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", UNLABELLED)
def test_labels_do_not_move_the_features(digits, tmp_path, name):
    """The same images with other labels end in the same backbone, but for the turns' draws."""
    other = digits.split("train")
    shuffled = np.random.default_rng(0).permutation(10)[other.labels]
    splits = {"train": replace(other, labels=shuffled)}
    counts = np.bincount(shuffled, minlength=10)
    changed = replace(digits, splits=splits, classes=replace(digits.classes, train_count=counts))
    settings = replace(RUN, epochs=1)
    found = []
    for number, data in enumerate((replace(digits, splits={"train": other}), changed)):
        method = built(name, data.classes.train_count)
        if name == "ssp":
            method.turns = lambda labels: torch.arange(len(labels)) % 4
        fit(data, tmp_path / f"{number}.pt", settings, loss=method, method=name)
        found.append(weights(tmp_path / f"{number}.pt"))
    one, two = found
    for key in one:
        assert torch.equal(one[key], two[key]) == key.startswith("backbone.")


@pytest.mark.parametrize("name", UNLABELLED)
def test_any_loss_starts_from_it(digits, tmp_path, name):
    first, output, notes = tmp_path / "pre.pt", tmp_path / "net.pt", []
    settings = replace(RUN, epochs=2)
    runs.train_networks(digits, TrainPlan(name, SMALL[name]), settings, first)
    runs.train_networks(
        digits, TrainPlan("ldam"), replace(settings, epochs=8), output, init=first,
        note=notes.append,
    )  # fmt: skip
    assert f"note: {first}: starts from digits_net, 15 tensors; its head is left out" in notes
    assert recipe(output)["init"]["head"] is False
    assert log(output)[-1]["val"]["balanced"] > 0.5


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("moco", "temperature", 0.0), ("moco", "queue", -1), ("moco", "size", 0),
        ("moco", "momentum", 2), ("moco", "second_view", "x"), ("simsiam", "size", 3),
        ("simsiam", "second_view", "x"), ("byol", "size", 0), ("byol", "momentum", -1),
        ("byol", "second_view", "x"),
    ],
)  # fmt: skip
def test_parameters_out_of_range(name, parameter, value):
    refused(lambda: built(name, COUNTS, **{parameter: value}), f"{parameter}: found ")


def test_pictures_that_are_not_square_are_refused(tmp_path):
    data = dataset_of([20, 9])
    wide = replace(data.split("train"), images=data.split("train").images[:, :, :6])
    data = replace(data, splits={"train": wide})
    message = "method ssp: found images of 8 x 6 pixels"
    refused(lambda: fit(data, tmp_path / "o.pt", RUN, loss=built("ssp", [20, 9])), message)
