"""Runs with losses that need more than a batch: what these are told, stopped and resumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from stateful import SMALL, STATEFUL, WINDOWED, fit
from torch.nn import functional
from trained import Stop, log, recipe, stop_after, weights

from ltkit import architectures, datasets, losses, registry
from ltkit.errors import InputError
from ltkit.losses import (
    ce,
)
from ltkit.training import methods, mixing, recipes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt")


def made_for(digits, name, **parameters):
    if name in WINDOWED:
        parameters = {"window": 5} | parameters
    counts = torch.from_numpy(digits.classes.train_count)
    return registry.load(losses, name).loss(counts, **parameters)


PARTS = {
    "ib": {"start": 0.5, "alpha": 10.0},
    "ghm-cwap": {"start": 0.5},
    "swrm": {"start": 0.5},
    "dyswrm": {"start": 0.5},
}


@pytest.mark.parametrize("name", STATEFUL)
def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(digits, tmp_path, name):
    parameters = PARTS.get(name, {})
    whole = tmp_path / "whole.pt"
    fit(digits, whole, made_for(digits, name, **parameters))
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            fit(digits, output, made_for(digits, name, **parameters), report=stop_after(epoch))
        fit(digits, output, made_for(digits, name, **parameters), resume=True)
        found, expected = weights(output), weights(whole)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert log(output) == log(whole)
    assert not any(key.startswith("loss") for key in expected)


@pytest.mark.parametrize("name", sorted(PARTS))
def test_a_run_differs_from_cross_entropy_once_its_loss_starts(digits, tmp_path, name):
    fit(digits, tmp_path / "ce.pt", ce.loss)
    fit(digits, tmp_path / "it.pt", made_for(digits, name, **PARTS[name]))
    plain, found = log(tmp_path / "ce.pt"), log(tmp_path / "it.pt")
    assert [a["loss"] == b["loss"] for a, b in zip(plain, found, strict=True)] == [
        True, True, False, False,
    ]  # fmt: skip


class Asking(losses.Stateful, torch.nn.Module):
    """Writes down what a loss is told."""

    def __init__(self):
        super().__init__()
        self.moments, self.accuracies, self.means, self.features = [], [], [], []

    def before_epoch(self, moment):
        self.moments.append((moment.epoch, moment.epochs))
        self.accuracies.append(moment.accuracy() if moment.accuracy else None)
        self.means.append(moment.class_means())

    def forward(self, logits, labels, features):
        self.features.append(features.detach())
        return functional.cross_entropy(logits, labels)


def test_what_a_run_tells_its_loss(digits, tmp_path):
    asking, output = Asking(), tmp_path / "m.pt"
    fit(digits, output, asking, replace(SMALL, amp="bf16"))
    assert asking.moments == [(epoch, 4) for epoch in range(4)]
    balanced = [line["val"]["balanced"] for line in log(output)]
    assert [float(a.mean()) for a in asking.accuracies[1:]] == pytest.approx(balanced[:3])
    assert {(f.dtype, f.shape[1]) for f in asking.features} == {(torch.float32, 64)}
    # asking changes nothing
    fit(digits, tmp_path / "ce.pt", ce.loss, replace(SMALL, amp="bf16"))
    found, expected = weights(output), weights(tmp_path / "ce.pt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_class_means_are_of_training_images_as_they_are(digits, tmp_path):
    class Last(Asking):
        def before_epoch(self, moment):
            if moment.epoch == 1:
                self.means = moment.class_means()
                raise Stop

    asking, output = Last(), tmp_path / "m.pt"
    with pytest.raises(Stop):
        fit(digits, output, asking)
    saved = torch.load(tmp_path / "m.pt.partial", weights_only=True)["network"]
    network = architectures.build("digits_net", 10)
    network.load_state_dict(saved)
    split = digits.split("train")
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        features, _ = network.eval().features_and_logits((pixels - digits.mean[0]) / digits.std[0])
    for c in range(10):
        expected = features[torch.from_numpy(split.labels == c)].double().mean(dim=0)
        torch.testing.assert_close(asking.means[c], expected, rtol=1e-4, atol=1e-5)


def test_class_means_of_another_model_take_the_place_of_the_networks_own(digits, tmp_path):
    asking, means = Asking(), torch.rand(10, 3)
    fit(digits, tmp_path / "m.pt", asking, replace(SMALL, epochs=1), class_means=("abc", means))
    assert torch.equal(asking.means[0], means)
    recipe = torch.load(tmp_path / "m.pt", weights_only=True)["recipe"]
    assert (recipe["class_means"], recipe["sampler"]) == ("abc", "instance")


def test_without_validation_there_is_no_accuracy(tmp_path):
    asking = Asking()
    dataset = datasets.load("digits_lt:val=none")
    fit(dataset, tmp_path / "m.pt", asking, replace(SMALL, epochs=1))
    assert asking.accuracies == [None]
    with pytest.raises(InputError, match="cdb: found no val split"):
        fit(dataset, tmp_path / "n.pt", made_for(dataset, "cdb"))


def test_learned_positions_have_no_weight_decay(digits, tmp_path):
    made = made_for(digits, "dyswrm", start=0.0, beta=0.0)  # their gradient is 0
    first = made.positions.detach().clone()
    fit(digits, tmp_path / "m.pt", made, replace(SMALL, weight_decay=0.1))
    assert torch.equal(made.positions.detach(), first)
    assert made.positions.grad is not None


def test_learned_positions_move_while_the_loss_is_active(digits, tmp_path):
    made = made_for(digits, "dyswrm", start=0.5)
    first = made.positions.detach().clone()
    moved = []

    def report(progress):
        moved.append(not torch.equal(made.positions, first))

    fit(digits, tmp_path / "m.pt", made, report=report)
    assert moved == [False, False, True, True]


# The command line

TRAIN = ("--data", "digits_lt", "--arch", "digits_net", "--epochs", "2", "--device", "cpu", "-q")


@pytest.mark.parametrize("name", STATEFUL)
def test_it_trains_from_the_command_line(ltkit, folder, name):
    given = ("--set", "window=5") if name in WINDOWED else ()
    assert ltkit("train", name, *TRAIN, *given)[0] == 0
    assert recipe(f"{name}.pt")["method"] == name
    drawn = {"seed": 0} if name in WINDOWED else {}
    assert recipe(f"{name}.pt")["parameters"] == drawn | ({"window": 5} if given else {})


def test_the_list_says_what_the_stateful_losses_are(ltkit):
    _, output, _ = ltkit("train", "--list")
    losses_, _, mixings = output.partition("--mix ")
    lines = {line.split()[0]: line for line in losses_.splitlines()}
    every = [name for package in (losses, methods, recipes) for name in registry.names(package)]
    assert sorted(lines) == sorted(every)
    found = [line.split()[0] for line in mixings.replace("--mix ", "").splitlines()]
    assert found == registry.names(mixing)
    assert "[p=0.8, q=2.0, eps=0.01, counts=online]" in lines["seesaw"]
    for name in STATEFUL:
        assert "arXiv" in lines[name] or "doi:" in lines[name]


def test_ldam_drw(ltkit, folder):
    words = ("train", "ldam", *TRAIN, "--drw", "1")
    assert ltkit(*words, "-o", "a.pt")[0] == 0
    assert recipe("a.pt")["parameters"] == {"scale": 30.0, "drw": 1}
    assert ltkit(*words, "-o", "b.pt", "--set", "beta=0.9999")[0] == 0
    assert ltkit(*words, "-o", "c.pt", "--set", "beta=0")[0] == 0
    losses_of = [[line["loss"] for line in log(folder / f"{name}.pt")] for name in "abc"]
    assert losses_of[0] == losses_of[1]
    assert losses_of[0][0] == losses_of[2][0]
    assert losses_of[0][1] != losses_of[2][1]
    same = [torch.equal(weights("a.pt")[k], weights("b.pt")[k]) for k in weights("a.pt")]
    assert all(same)


def test_class_means_from_a_features_file(ltkit, folder):
    assert ltkit("train", "ce", *TRAIN)[0] == 0
    assert ltkit("extract", "ce.pt", "--data", "digits_lt", "-o", "ce.h5", "-q")[0] == 0
    words = ("train", "swrm", *TRAIN, "--set", "window=5", "--set", "start=0")
    assert ltkit(*words, "--class-means", "ce.h5")[0] == 0
    assert len(recipe("swrm.pt")["class_means"]) > 20
    assert ltkit(*words, "-o", "own.pt")[0] == 0
    assert recipe("own.pt")["class_means"] is None
    assert log(folder / "own.pt") != log(folder / "swrm.pt")


def eight_classes(folder):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(8), 5)
    np.savez(
        folder / "x.npz", train_features=rng.normal(size=(40, 4)).astype(np.float32),
        train_labels=labels, weight=np.ones((8, 4), np.float32), bias=np.zeros(8, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["swrm"], "window: found 15, expected from 1 to the number of classes, 10"),
        (["seesaw", "--drw", "1"], "--drw: seesaw has no class weights to defer; weighted, c"),
        (["ce", "--drw", "1"], "--drw: ce has no class weights to defer"),
        (["ce", "--class-means", "x.h5"], "--class-means: ce takes none; swrm does"),
        (["ib", "--class-means", "x.h5"], "--class-means: ib takes none; swrm does"),
        (["swrm", "--set", "window=5", "--class-means", "x.h5"],
         "--class-means: x.h5: found 8 classes, expected 10"),
        (["ib", "--set", "beta=2"], "beta: found 2.0, expected a finite number from 0 to 1"),
        (["ib", "--set", "gamma=-1"], "gamma: found -1.0"),
        (["elm", "--set", "tau=nan"], "tau: found nan"),
        (["cfl", "--set", "factr=2"], "--set factr: cfl has no parameter of that name; did you"),
        (["ghm-cwap", "--set", "max-bins=x"], "--set max_bins: found x, expected a whole number"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    eight_classes(folder)
    ltkit("import", "x.npz", "-q")
    before = sorted(Path().iterdir())
    code, _, error = ltkit("train", *words, *TRAIN)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert sorted(Path().iterdir()) == before
