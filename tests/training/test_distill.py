"""Distillation: its formula again in NumPy, its limits, its teacher, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built, logsum
from made import refused
from trained import Stop, dataset_of, files, fit, log, recipe, same, stop_after, weights

from ltkit import architectures, checkpoints
from ltkit.architectures.network import Network
from ltkit.settings import TrainPlan
from ltkit.training import runs
from ltkit.training.methods import Seen
from ltkit.training.teachers import Teacher, teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]
PLAN = TrainPlan("distill")


@pytest.fixture(scope="module")
def taught(digits, tmp_path_factory):
    """A trained teacher."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    fit(digits, path, replace(RUN, epochs=8))
    return path


def train(digits, output, settings=RUN, plan=PLAN, **more):
    notes = []
    runs.train_networks(digits, plan, settings, output, note=notes.append, **more)
    return notes


def naive(logits, teacher, temperature):
    """Image by image, the square of the temperature times the divergence."""
    costs = []
    for z, v in zip(logits / temperature, teacher / temperature, strict=True):
        p = [np.exp(x - logsum(v)) for x in v]
        costs.append(sum(p[c] * (v[c] - logsum(v) - z[c] + logsum(z)) for c in range(len(z))))
    return temperature**2 * np.mean(costs)


@pytest.mark.parametrize("temperature", [0.5, 2.0, 10.0])
def test_it_is_its_formula(temperature):
    rng = np.random.default_rng(0)
    z, v = 3 * rng.normal(size=(2, 6, 4))
    leaf = torch.tensor(z, requires_grad=True)
    value = built("distill", COUNTS, temperature=temperature).taught(leaf, torch.tensor(v))
    assert value.item() == pytest.approx(naive(z, v, temperature), rel=1e-9)
    (gradient,) = torch.autograd.grad(value, leaf)
    slopes = np.zeros_like(z)
    for at in np.ndindex(z.shape):
        step = np.zeros_like(z)
        step[at] = 1e-6
        slopes[at] = naive(z + step, v, temperature) - naive(z - step, v, temperature)
    np.testing.assert_allclose(gradient, slopes / 2e-6, atol=1e-6)


def test_at_a_high_temperature_logits_are_matched():
    """Sec. 2.1 of the source: half the variance of their differences over the classes."""
    z, v = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0)).double()
    value = built("distill", COUNTS, temperature=1e4).taught(z, v)
    expected = (z - v).var(dim=1, correction=0).mean() / 2
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)
    assert built("distill", COUNTS).taught(v + 5, v).item() == pytest.approx(0, abs=1e-12)


def test_the_parts_are_weighed():
    torch.manual_seed(0)
    network = architectures.build("digits_net", 3)
    images, labels = torch.randn(5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    features, logits = network.features_and_logits(images)
    method = built("distill", COUNTS, soft=0.3, labels=0.5, hard=0.7, temperature=2.0)
    method.attach(network)
    said = torch.randn(5, 3)
    method.teacher = lambda images, amp: said
    seen = Seen((images,), labels, network, lambda images: (features, logits), "off")
    ce = torch.nn.functional.cross_entropy
    expected = 0.3 * naive(logits.detach().double().numpy(), said.double().numpy(), 2.0)
    expected += 0.5 * ce(logits, labels).item()
    expected += 0.7 * ce(method.beside(features), labels).item()
    assert method.of_batch(seen).item() == pytest.approx(expected, rel=1e-5)


def test_labels_alone_are_cross_entropy(digits, taught, tmp_path):
    plain, output = tmp_path / "ce.pt", tmp_path / "net.pt"
    fit(digits, plain, RUN)
    plan = TrainPlan("distill", {"soft": 0, "labels": 1, "hard": 0})
    train(digits, output, plan=plan, teacher=taught)
    assert same(weights(output), weights(plain))


def test_a_student_comes_to_say_what_its_teacher_says(digits, taught, tmp_path):
    output = tmp_path / "net.pt"
    settings = replace(RUN, epochs=8, augment="none")
    notes = train(digits, output, settings, TrainPlan("distill", {"hard": 0}), teacher=taught)
    assert f"note: {taught}: teaches, digits_net; it sees the same views of the images" in notes
    assert log(output)[-1]["val"]["balanced"] > 0.5
    assert {key.partition(".")[0] for key in weights(output)} == {"backbone", "head"}
    assert log(output)[-1]["loss"] < 0.3 * log(output)[0]["loss"]
    assert recipe(output)["teacher"] == checkpoints.load(taught).digest


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(digits, taught, tmp_path):
    whole = tmp_path / "whole.pt"
    train(digits, whole, teacher=taught)
    for epoch in (1, 2):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(digits, output, teacher=taught, report=lambda path, at=epoch: stop_after(at))
        train(digits, output, teacher=taught, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def test_a_run_is_resumed_with_its_teacher(digits, taught, tmp_path):
    output, other = tmp_path / "net.pt", tmp_path / "other.pt"
    fit(digits, other, replace(RUN, epochs=1))
    with pytest.raises(Stop):
        train(digits, output, teacher=taught, report=lambda path: stop_after(1))
    refused(lambda: train(digits, output, resume=True), "teacher: absent; distill learns from")
    refused(lambda: train(digits, output, resume=True, teacher=other), "teacher: found ")


def test_it_says_the_same_however_the_images_are_normalised(digits, taught):
    found = checkpoints.load(taught)
    pixels = torch.rand(7, 1, 8, 8)

    def normalised(mean, std):
        return (pixels - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]

    expected = found.network.eval()(normalised(found.mean, found.std))
    for mean, std in ((found.mean, found.std), ((0.5,), (0.25,)), ((0.1,), (0.9,))):
        said = Teacher(found, mean, std)(normalised(mean, std))
        torch.testing.assert_close(said, expected, rtol=1e-4, atol=1e-4)
        assert not said.requires_grad


def test_checkpoints_that_cannot_teach(digits, taught, tmp_path):
    output, path = tmp_path / "net.pt", tmp_path / "bad.pt"
    torch.save(architectures.build("resnet20", 10).backbone.state_dict(), path)
    message = f"{path}: teacher: found a backbone without a head"
    refused(lambda: train(digits, output, teacher=path), message)
    torch.save(architectures.build("resnet20", 10).state_dict(), path)
    message = f"{path}: teacher: found a network of 3 channels, the images have 1"
    refused(lambda: train(digits, output, teacher=path), message)
    message = "teacher: found a head of 10 classes, expected 2; name a checkpoint of this"
    refused(lambda: train(dataset_of([9, 9]), output, teacher=taught), message)
    named = replace(digits, classes=replace(digits.classes, names=tuple("abcdefghij")))
    turned = replace(digits, classes=replace(digits.classes, names=tuple("jihgfedcba")))
    fit(named, path, replace(RUN, epochs=1))
    assert teacher_of(path, named).digest
    message = "teacher: found other classes, or another order of them"
    refused(lambda: train(turned, output, teacher=path), message)
    assert not [name for name in files(output) if name.startswith("net")]


def test_a_network_that_wants_pictures_of_its_own_size(digits, taught, monkeypatch):
    def wants_others(network, images):
        raise RuntimeError(f"found {images.shape[2]} pixels\nin a layer")

    monkeypatch.setattr(Network, "forward", wants_others)
    message = "teacher: digits_net cannot take images of 8 x 8 pixels (found 8 pixels)"
    refused(lambda: teacher_of(taught, digits), message)


def test_a_teacher_of_nothing(digits, taught, output):
    refused(lambda: train(digits, output), "teacher: absent; distill learns from a checkpoint")
    message = "teacher: ce takes none; distill and ride do"
    refused(lambda: train(digits, output, plan=TrainPlan("ce"), teacher=taught), message)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"temperature": 0}, "temperature: found 0"), ({"soft": -1}, "soft: found -1"),
        ({"labels": -1}, "labels: found -1"), ({"hard": -1}, "hard: found -1"),
        ({"soft": 0}, "soft: found 0, and labels 0, too"),
    ],
)  # fmt: skip
def test_parameters_out_of_range(parameters, message):
    refused(lambda: built("distill", COUNTS, **parameters), message)


def test_on_the_command_line(ltkit, folder, digits, taught):
    fit(digits, folder / "t.pt", replace(RUN, epochs=1))
    words = ["--data", "digits_lt:ir=5", "--epochs", "2", "--device", "cpu", "--augment", "none"]
    code, _, said = ltkit("train", "distill", *words, "--teacher", "t.pt", "-o", "net.pt")
    assert code == 0, said
    assert "note: t.pt: teaches, digits_net" in said
    code, _, said = ltkit("extract", "net.pt", "--data", "digits_lt", "-o", "f.h5")
    assert code == 0, said
    assert "accuracy of the model's own head" in said
    code, _, said = ltkit("train", "ce", "f.h5", "--teacher", "t.pt")
    assert code == 2
    assert "--teacher: found a features file, expected --data with it" in said
