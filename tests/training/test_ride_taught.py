"""RIDE that learns from another checkpoint, and runs of experts on the command line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import built, logsum
from experts import COUNTS, RUN, batch, network, pictures, train
from made import refused
from trained import Stop, log, recipe, stop_after, weights

from ltkit import checkpoints
from ltkit.files import features
from ltkit.settings import TrainPlan

pytestmark = pytest.mark.usefixtures("one_thread")

DRW = TrainPlan("ride", drw=1)


@pytest.fixture(scope="module", name="pictures")
def _pictures():
    return pictures()


@pytest.fixture(scope="module")
def teacher(pictures, tmp_path_factory):
    """A network of six experts."""
    path = tmp_path_factory.mktemp("teacher") / "six.pt"
    train(pictures, DRW, path, replace(RUN, epochs=4), arch="resnet8_6experts_reduced")
    return path


def softmax(z):
    return np.exp(z - logsum(z))


@pytest.mark.parametrize(("weight", "t"), [(1.0, 1.5), (0.3, 4.0)])
def test_the_whole_is_added_once_an_expert(weight, t):
    net, said = network(), torch.randn(6, 3)
    seen = batch(net)
    ride = built("ride", COUNTS, distill=weight, distill_temperature=t)
    z = seen.encode(seen.views[0])[1]
    alone = ride.of_batch(seen).item()
    ride.teacher = lambda images, amp: said
    apart = 0.0
    for own, v in zip(z.mean(dim=1).detach().double().numpy(), said.double().numpy(), strict=True):
        p, q = softmax(v / t), softmax(own / t)
        apart += float(p @ (np.log(p) - np.log(q))) / 6
    assert ride.of_batch(seen).item() == pytest.approx(
        3 * (alone + weight * t**2 * apart), rel=1e-4
    )


def test_a_teacher_of_no_weight_is_three_times_the_loss(pictures, teacher, tmp_path):
    plain, taught = tmp_path / "plain.pt", tmp_path / "taught.pt"
    settings = replace(RUN, epochs=1)
    train(pictures, TrainPlan("ride"), plain, settings)
    plan, third = TrainPlan("ride", {"distill": 0}), replace(settings, learning_rate=0.05 / 3)
    train(pictures, plan, taught, replace(third, weight_decay=3 * 5e-4), teacher=teacher)
    for key, value in weights(plain).items():
        torch.testing.assert_close(weights(taught)[key], value, rtol=1e-3, atol=1e-5)


def test_experts_come_to_say_what_their_teacher_says(pictures, teacher, tmp_path):
    """Closer to the teacher than without it."""
    apart = {}
    for name, more in (("alone", {}), ("taught", {"teacher": teacher})):
        output = tmp_path / f"{name}.pt"
        settings = replace(RUN, epochs=10, augment="none")
        notes = train(pictures, TrainPlan("ride", {"distill": 5} if more else {}), output,
                      settings, **more)  # fmt: skip
        assert any("teaches, resnet8_6experts_reduced" in note for note in notes) == bool(more)
        nets = [checkpoints.load(path).network.eval() for path in (output, teacher)]
        images = torch.from_numpy(pictures.split("train").images).permute(0, 3, 1, 2) / 127.5 - 1
        with torch.no_grad():
            said = [net(images).softmax(dim=1) for net in nets]
        apart[name] = float((said[0] - said[1]).abs().sum(dim=1).mean())
    assert apart["taught"] < 0.8 * apart["alone"]
    assert recipe(tmp_path / "taught.pt")["teacher"] == checkpoints.load(teacher).digest


def test_a_taught_run_that_was_stopped(pictures, teacher, tmp_path):
    whole = tmp_path / "whole.pt"
    train(pictures, DRW, whole, teacher=teacher)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(pictures, DRW, output, teacher=teacher,
                  report=lambda path, at=epoch: stop_after(at))  # fmt: skip
        refused(lambda: train(pictures, DRW, output, resume=True), "teacher: found ")  # noqa: B023
        train(pictures, DRW, output, teacher=teacher, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


WORDS = ["--data", "digits_lt:ir=20", "--batch-size", "64", "--device", "cpu", "-q"]


def said(ltkit, *words):
    code, output, error = ltkit(*words)
    assert code == 0, error
    return output + error


@pytest.mark.parametrize(
    ("name", "more"), [("ride", ["--drw", "6", "--nesterov"]), ("sade", ["--experts", "3"])]
)
def test_on_the_command_line(ltkit, folder, name, more):
    """Trained without a named network, extracted with the head proven, corrected, evaluated."""
    said(ltkit, "train", name, *WORDS, *more, "--epochs", "8", "-o", "net.pt")
    assert recipe(Path("net.pt"))["arch"] == "digits_net_3experts_reduced"
    assert log(Path("net.pt"))[-1]["val"]["balanced"] > 0.5
    found = said(ltkit, "extract", "net.pt", "--data", "digits_lt:ir=20", "-o", "f.h5")
    assert "accuracy of the model's own head" in found
    assert features.read(Path("f.h5")).head.experts == 3
    said(ltkit, "posthoc", "logit-adjust", "f.h5", "-o", "p.h5")
    fit = "alphanet fit f.h5 --k 3 --rho 1 --seeds 1 --epochs 3 --device cpu -o a.h5"
    said(ltkit, *fit.split())
    found = said(ltkit, *["evaluate", "f.h5", "--classifier", "p.h5", "--classifier", "a.h5"])
    assert "logit-adjust" in found
    assert "alphanet" in found
    held = ["--init", "net.pt", "--keep-head", "--cosine", "--epochs", "2"]
    for method, head in (("router", "router"), ("expert-weights", "weighted")):
        arch = ["--arch", "digits_net_3experts_reduced"]
        said(ltkit, "train", method, *WORDS, *arch, *held, "-o", f"{method}.pt")
        words = ["extract", f"{method}.pt", "--data", "digits_lt:ir=20", "--head", head]
        found = said(ltkit, *words, "-o", f"{method}.h5")
        assert "accuracy of the model's own head" in found
        said(ltkit, "posthoc", "tau-norm", f"{method}.h5", "-o", f"{method}-tau.h5")
    code, _, error = ltkit("train", name, "f.h5")
    assert code == 2
    assert f"METHOD {name}: works on a whole network, found cached features" in error


def test_a_teacher_on_the_command_line(ltkit, folder):
    said(ltkit, "train", "ride", *WORDS, "--experts", "6", "--epochs", "2", "-o", "six.pt")
    assert recipe(Path("six.pt"))["arch"] == "digits_net_6experts_reduced"
    more = ["--teacher", "six.pt", "--epochs", "2", "-o", "net.pt"]
    said(ltkit, "train", "ride", *WORDS, *more)
    assert recipe(Path("net.pt"))["teacher"] == checkpoints.load(Path("six.pt")).digest
