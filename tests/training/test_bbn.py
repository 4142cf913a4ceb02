"""BBN: its formula with the branches one by one, its limits, its second batches."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from torch.nn import functional
from trained import Stop, dataset_of, fit, log, same, stop_after, weights

from ltkit import architectures, checkpoints
from ltkit.architectures.two_branch_resnet import TwoBranchResNet
from ltkit.files import features as features_file
from ltkit.losses import Moment, ce
from ltkit.settings import TrainPlan
from ltkit.training import batches, runs
from ltkit.training.methods import Seen, bbn

pytestmark = pytest.mark.usefixtures("one_thread")

ARCH, PLAN = "resnet8_two_branch", TrainPlan("bbn")
C = 3


@pytest.fixture(scope="module")
def pictures():
    return dataset_of([40, 12, 5], val=[9, 9, 9], channels=3)


def moment(epoch, epochs=200):
    return Moment(epoch, epochs, None, lambda: torch.zeros(1))


def made(epoch, strategy="parabolic", seed=0):
    torch.manual_seed(seed)
    network = architectures.build(ARCH, C).double().train()
    network.backbone.shares = network.backbone.shares.double()
    method = built("bbn", [9, 5, 2], strategy=strategy)
    method.attach(network)
    method.before_epoch(moment(epoch))
    images = torch.randn(2, 6, 3, 8, 8, dtype=torch.float64)
    labels = torch.randint(0, C, (2, 6))
    seen = Seen(
        (images[0],), labels[0], network, network.features_and_logits, "off",
        (images[1], labels[1]),
    )  # fmt: skip
    return method, network, seen


def naive(network, seen, mu):
    """Branch by branch, and sum by sum behind the features."""
    body, (others, their_labels) = network.backbone, seen.second
    first = body.cb_block(body.trunk(seen.views[0])).mean(dim=(2, 3)).tolist()
    second = body.rb_block(body.trunk(others)).mean(dim=(2, 3)).tolist()
    weight, bias, total = network.head.weight.tolist(), network.head.bias.tolist(), 0.0
    for f, g, y, u in zip(first, second, seen.labels, their_labels, strict=True):
        x = [2 * mu * value for value in f] + [2 * (1 - mu) * value for value in g]
        rows = zip(weight, bias, strict=True)
        z = [b + sum(w * v for w, v in zip(row, x, strict=True)) for row, b in rows]
        bottom = math.log(sum(math.exp(value) for value in z))
        total += mu * (bottom - z[y]) + (1 - mu) * (bottom - z[u])
    return total / len(first)


@pytest.mark.parametrize("epoch", [0, 1, 100, 199])
@pytest.mark.parametrize("strategy", bbn.STRATEGIES)
def test_it_is_its_formula(epoch, strategy):
    part = epoch / 200
    mu = {
        "parabolic": 1 - part * part, "linear": (200 - epoch) / 200, "equal": 0.5,
        "cosine": math.sin((1 - part) * math.pi / 2), "increment": part * part,
    }[strategy]  # fmt: skip
    method, network, seen = made(epoch, strategy)
    value = method.of_batch(seen)
    assert method.watched() == {"mu": pytest.approx(mu)}
    assert value.item() == pytest.approx(naive(network, seen, mu), rel=1e-12)


def test_at_mu_1_it_is_cross_entropy_of_the_first_branch():
    method, network, seen = made(0)
    value = method.of_batch(seen)
    body = network.backbone
    features = body.cb_block(body.trunk(seen.views[0])).mean(dim=(2, 3))
    logits = 2 * features @ network.head.weight[:, :64].T + network.head.bias
    expected = functional.cross_entropy(logits, seen.labels)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    names, parameters = zip(*network.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters)
    expected = torch.autograd.grad(expected, parameters, allow_unused=True)
    for name, one, other in zip(names, found, expected, strict=True):
        other = torch.zeros_like(one) if other is None else other
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, msg=name)
    assert not found[names.index("backbone.rb_block.conv1.weight")].any()


def test_the_first_epoch_is_a_run_of_cross_entropy(pictures, tmp_path, monkeypatch):
    settings = replace(RUN, epochs=1, augment="none")
    fit(pictures, tmp_path / "bbn.pt", settings, loss=built("bbn", [40, 12, 5]), arch=ARCH)

    def first_alone(self, images):
        features = 2 * self.cb_block(self.trunk(images)).mean(dim=(2, 3))
        return torch.cat([features, torch.zeros_like(features)], dim=1)

    monkeypatch.setattr(TwoBranchResNet, "forward", first_alone)
    fit(pictures, tmp_path / "ce.pt", settings, loss=ce.loss, arch=ARCH)
    found, expected = weights(tmp_path / "bbn.pt"), weights(tmp_path / "ce.pt")
    losses = [log(tmp_path / name)[0]["loss"] for name in ("bbn.pt", "ce.pt")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    learned = [n for n in found if "bn" not in n and not n.startswith("backbone.rb_block")]
    assert len(learned) > 5
    for name in learned:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_a_pair_of_equal_images_at_equal_shares_is_an_image():
    _, network, seen = made(0, "equal")
    network.eval()
    images = seen.views[0]
    pair = network.backbone(torch.stack([images, images], dim=1))
    torch.testing.assert_close(pair, network.backbone(images))
    moved = network.backbone(torch.stack([images, seen.second[0]], dim=1))
    assert torch.equal(moved[:, :64], pair[:, :64])
    assert not torch.equal(moved[:, 64:], pair[:, 64:])


def test_the_second_batches_are_drawn_in_reverse(pictures, tmp_path, monkeypatch):
    seen, original = [], batches.Batches.second

    def look(drawn, job, step):
        images, labels = original(drawn, job, step)
        assert len(labels) == len(drawn.own[step])
        seen.append(labels)
        return images, labels

    monkeypatch.setattr(batches.Batches, "second", look)
    settings = replace(RUN, epochs=20, batch_size=57)
    fit(pictures, tmp_path / "o.pt", settings, loss=built("bbn", [40, 12, 5]), arch=ARCH)
    found = torch.cat(seen).bincount(minlength=3) / (20 * 57)
    expected = np.array([1 / 40, 1 / 12, 1 / 5])
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.04)


def run(pictures, output, **more):
    fit(pictures, output, loss=built("bbn", [40, 12, 5]), arch=ARCH, method="bbn", **more)


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(pictures, tmp_path):
    whole = tmp_path / "whole.pt"
    run(pictures, whole)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            run(pictures, output, report=stop_after(epoch))
        run(pictures, output, resume=True)
        assert same(weights(output), weights(whole))
        assert log(output) == log(whole)
    assert not [name for name in weights(whole) if "shares" in name]
    mu = [line["watched"]["mu"] for line in log(whole)]
    assert mu == pytest.approx([1, 8 / 9, 5 / 9])


def test_with_fewer_images_of_frequent_classes(pictures, tmp_path):
    """The second batches are as many and as large as the first."""
    run(pictures, tmp_path / "o.pt", sampler="undersample")
    assert len(log(tmp_path / "o.pt")) == 3


def test_a_network_of_one_branch(digits, tmp_path):
    message = "arch: bbn trains two branches, found a network without; expected resnet32_two_branch"
    refused(
        lambda: runs.train_networks(digits, PLAN, RUN, tmp_path / "o.pt", arch="digits_net"),
        message,
    )
    refused(lambda: built("bbn", [5, 5], strategy="parabola"), "strategy: found 'parabola'")


def test_the_small_network_has_its_last_stage_twice():
    small = architectures.build(ARCH, 2).backbone
    assert len(small.layer3) == 0
    assert small(torch.zeros(2, 3, 16, 16)).shape == (2, 128)
    with torch.no_grad():
        small.rb_block.load_state_dict(small.cb_block.state_dict())
        plain = architectures.build("resnet8", 2).backbone
        state = {k: v for k, v in small.state_dict().items() if "b_block" not in k}
        last = {f"layer3.0.{k}": v for k, v in small.cb_block.state_dict().items()}
        plain.load_state_dict(state | last)
        images = torch.randn(2, 3, 16, 16)
        features = plain.eval()(images)
        torch.testing.assert_close(small.eval()(images), torch.cat([features] * 2, dim=1))


def test_trained_extracted_corrected(ltkit, folder):
    for name, size in (("a", 60), ("b", 25), ("c", 12)):
        place = Path("pics", name)
        place.mkdir(parents=True)
        rng = np.random.default_rng(ord(name))
        for number in range(size):
            shade = {"a": 40, "b": 130, "c": 220}[name]
            pixels = np.clip(rng.normal(shade, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
            _saved(pixels, place / f"{number:03}.png")
    words = ["--arch", ARCH, "--epochs", "6", "--batch-size", "32", "--device", "cpu"]
    code, _, said = ltkit("train", "bbn", "--data", "pics", *words, "-o", "net.pt")
    assert code == 0, said
    for command in (
        "extract net.pt --data pics -o f.h5 --device cpu",
        "posthoc tau-norm f.h5 --set tau=0.5 -o t.h5",
        "alphanet fit f.h5 --k 1 --epochs 1 --bins 15,30 --device cpu -o a.h5",
        "evaluate f.h5 --classifier t.h5 --split val",
        "export t.h5 --into net.pt -o new.pt",
    ):
        code, _, said = ltkit(*command.split())
        assert code == 0, f"{command}: {said}"
    assert features_file.read(Path("f.h5")).feature_size == 128
    assert checkpoints.load(Path("new.pt")).arch == ARCH
    code, _, said = ltkit("train", "bbn", "f.h5")
    assert code == 2
    assert "METHOD bbn: works on a whole network, found cached features" in said


def _saved(pixels, path):
    from PIL import Image

    Image.fromarray(pixels).save(path)
