"""SSD: the methods of its stages, and its stages as one recipe that goes on where it stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built, logsum, unit
from made import refused
from trained import Stop, dataset_of, files, fit, log, recipe, same, weights

from ltkit import checkpoints
from ltkit.architectures import COUNTER
from ltkit.settings import TrainPlan
from ltkit.training import runs
from ltkit.training.in_stages import stage_path, train_in_stages
from ltkit.training.starts import start_of

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400]
SMALL = {"queue": 64, "size": 8, "second_view": "standard"}
SHORT = replace(RUN, epochs=2)


@pytest.fixture(scope="module")
def first(digits, tmp_path_factory):
    """A trained checkpoint."""
    path = tmp_path_factory.mktemp("first") / "first.pt"
    fit(digits, path, replace(RUN, epochs=4))
    return path


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """The recipe, trained without a break."""
    path = tmp_path_factory.mktemp("whole") / "ssd.pt"
    train(digits, path)
    return path


def train(digits, output, settings=SHORT, **more):
    return train_in_stages(digits, "ssd", SMALL, settings, output, **more)


def three(output):
    return [stage_path(output, 1), stage_path(output, 2), output]


def naive(labels, of, queries, keys, stored, temperature):
    """Image by image; the negatives are keys of other classes."""
    costs = []
    for i, q in enumerate(queries):
        others = [stored[j] for j in range(len(stored)) if of[j] != labels[i]]
        near = [float(q @ v) / temperature for v in [keys[i], *others]]
        costs.append(logsum(near) - near[0])
    return np.mean(costs)


@pytest.mark.parametrize("queued", [0, 4, 9])
def test_instance_contrast_is_its_formula(queued):
    rng = np.random.default_rng(queued)
    labels, of = rng.integers(0, 3, 5), rng.integers(0, 3, queued)
    q, k, stored = unit(rng, 5, 4), unit(rng, 5, 4), unit(rng, queued, 4)
    method = built("instance-contrast", COUNTS, queue=9, size=4, temperature=0.3).double()
    method.queue.put(torch.tensor(stored), torch.tensor(of))
    leaf = torch.tensor(q, requires_grad=True)
    value = method.contrast(torch.tensor(labels), leaf, torch.tensor(k))

    def expected(queries):
        return naive(labels, of, queries, k, stored, 0.3)

    assert value.item() == pytest.approx(expected(q), rel=1e-9, abs=1e-12)
    (gradient,) = torch.autograd.grad(value, leaf)
    slopes = np.zeros_like(q)
    for at in np.ndindex(q.shape):
        step = np.zeros_like(q)
        step[at] = 1e-6
        slopes[at] = (expected(q + step) - expected(q - step)) / 2e-6
    np.testing.assert_allclose(gradient, slopes, atol=1e-6)


def test_with_keys_of_other_classes_alone_it_is_moco():
    rng = np.random.default_rng(0)
    q, k, stored = (torch.tensor(unit(rng, n, 4)) for n in (5, 5, 6))
    one = built("instance-contrast", COUNTS, queue=6, size=4, temperature=0.3).double()
    two = built("moco", COUNTS, queue=6, size=4, temperature=0.3).double()
    for method in (one, two):
        method.queue.put(stored, torch.full((6,), 2))
    labels = torch.tensor([0, 1, 0, 1, 0])
    torch.testing.assert_close(one.contrast(labels, q, k), two.contrast(q, k))


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("instance-contrast", "weight", -1), ("instance-contrast", "temperature", 0),
        ("instance-contrast", "queue", 0), ("instance-contrast", "size", 0),
        ("instance-contrast", "momentum", 2), ("instance-contrast", "second_view", "x"),
        ("learned-scales", "per_class", -1),
    ],
)  # fmt: skip
def test_parameters_out_of_range(name, parameter, value):
    refused(lambda: built(name, COUNTS, **{parameter: value}), f"{parameter}: found ")


def scale(digits, output, first, **more):
    settings = replace(RUN, epochs=3)
    made = built("learned-scales", digits.classes.train_count)
    start = start_of(first, keep_head=True)
    fit(digits, output, settings, loss=made, method="learned-scales", start=start, **more)
    return made


def test_only_the_factors_are_learned(digits, first, output):
    made = scale(digits, output, first)
    before, after = weights(first), weights(output)
    for name, value in before.items():
        if name.startswith("backbone.") and not name.endswith(COUNTER):
            assert torch.equal(after[name], value)  # batch norm's statistics, too
    factors = made.scales.detach()
    assert (factors - 1).abs().max() > 1e-3
    torch.testing.assert_close(after["head.weight"], factors[:, None] * before["head.weight"])
    torch.testing.assert_close(after["head.bias"], factors * before["head.bias"])


def test_its_gradient_is_that_of_the_factors():
    """Of one image: the error of each class times its logit."""
    method, logits = built("learned-scales", COUNTS), torch.tensor([[1.0, 2.0, -1.0]])
    value = torch.nn.functional.cross_entropy(method.scaled(logits), torch.tensor([1]))
    (found,) = torch.autograd.grad(value, method.scales)
    expected = (logits.softmax(1) - torch.tensor([[0.0, 1.0, 0.0]]))[0] * logits[0]
    torch.testing.assert_close(found, expected)


def test_a_run_of_scales_goes_on(digits, first, tmp_path):
    whole, output = tmp_path / "whole.pt", tmp_path / "net.pt"
    scale(digits, whole, first)
    for epoch in (1, 2):
        with pytest.raises(Stop):
            scale(digits, output, first, report=stopping(epoch))
        scale(digits, output, first, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def stopping(epoch):
    def report(progress):
        if progress.epoch == epoch:
            raise Stop

    return report


def test_scales_of_the_same_run(digits, output):
    """The head is taken when the second stage begins, and trained until then."""
    plan = TrainPlan("ce", from_epoch=3, then="learned-scales")
    runs.train_networks(digits, plan, replace(RUN, epochs=5), output)
    found = log(output)
    assert found[2]["val"]["balanced"] > 0.4
    assert found[4]["val"]["balanced"] > found[2]["val"]["balanced"] - 0.15


def test_scales_want_a_trained_linear_head(digits, first, output):
    plan = TrainPlan("learned-scales")
    message = "keep_head: absent; learned-scales needs a trained network and its head"
    refused(lambda: runs.train_networks(digits, plan, RUN, output), message)
    refused(lambda: runs.train_networks(digits, plan, RUN, output, init=first), message)
    cosine = output.with_name("cosine.pt")
    fit(digits, cosine, replace(RUN, epochs=1), cosine=True, scale=10.0)
    plan = TrainPlan("learned-scales", cosine=True, scale=10.0)
    message = "method learned-scales: found a head whose logits have no rows of their own"
    refused(
        lambda: runs.train_networks(digits, plan, RUN, output, init=cosine, keep_head=True), message
    )


def test_each_stage_has_what_came_before(digits, whole):
    one, two, last = three(whole)
    assert files(whole) == sorted(
        name for path in (one, two, last) for name in (path.name, f"{path.name}.jsonl")
    )
    methods = [recipe(path)["method"] for path in (one, two, last)]
    assert methods == ["instance-contrast", "learned-scales", "distill"]
    assert recipe(two)["init"] == {"digest": checkpoints.load(one).digest, "head": True}
    assert recipe(last)["teacher"] == checkpoints.load(two).digest
    assert "init" not in recipe(last)
    sizes = [(recipe(p)["epochs"], recipe(p)["batch_size"]) for p in (one, two, last)]
    assert sizes == [(2, 32), (1, 64), (2, 32)]
    assert {key.partition(".")[0] for key in weights(last)} == {"backbone", "head"}


def stop_in(stage, epoch):
    """What reports of runs raise in one of them."""

    def report(path):
        return stopping(epoch) if path == stage else lambda progress: None

    return report


@pytest.mark.parametrize(("number", "epoch"), [(0, 1), (0, 2), (1, 1), (2, 1), (2, 2)])
def test_it_goes_on_with_the_stage_that_was_stopped(digits, whole, output, number, epoch):
    with pytest.raises(Stop):
        train(digits, output, report=stop_in(three(output)[number], epoch))
    train(digits, output, resume=True)
    for found, expected in zip(three(output), three(whole), strict=True):
        assert found.read_bytes() == expected.read_bytes()
        assert log(found) == log(expected)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_it_goes_on_between_stages(digits, whole, output, number):
    """A stage's checkpoint is there, and nothing of the next."""

    def wrote(path):
        if path == three(output)[number]:
            raise Stop

    with pytest.raises(Stop):
        train(digits, output, wrote=wrote)
    notes = []
    train(digits, output, resume=True, note=notes.append)
    assert sum(line.startswith("stage ") for line in notes) == 3
    assert output.read_bytes() == whole.read_bytes()
    train(digits, output, resume=True)  # finished: left alone
    assert output.read_bytes() == whole.read_bytes()


def test_it_is_not_resumed_with_other_settings(digits, output):
    with pytest.raises(Stop):
        train(digits, output, report=stop_in(stage_path(output, 2), 1))
    other = replace(SHORT, learning_rate=0.01)
    refused(lambda: train(digits, output, other, resume=True), "learning_rate: found 0.05")
    state = {path.name: path.read_bytes() for path in output.parent.iterdir()}
    refused(lambda: train(digits, output), f"{stage_path(output, 1)}: exists; pass --overwrite")
    assert {path.name: path.read_bytes() for path in output.parent.iterdir()} == state
    train(digits, output, overwrite=True)


def test_what_is_refused_is_refused_before_the_first_stage(digits, output):
    output.write_text("another file")
    refused(lambda: train(digits, output), "net.pt: exists; pass --overwrite")
    output.unlink()
    refused(lambda: train(digits, output, seeds=0), "seeds: found 0")
    refused(lambda: train(digits, output, resume=True), "not found, nothing to resume")
    broken = {"temperature": 0.0} | SMALL
    refused(lambda: train_in_stages(digits, "ssd", broken, SHORT, output), "temperature: found 0.0")
    refused(lambda: train(digits, output, replace(SHORT, batch_size=100)), "queue: found 64")
    refused(lambda: train_in_stages(digits, "ssb", {}, SHORT, output), "unknown name in recipes")
    refused(lambda: train(dataset_of([20, 9]), output), "queue: found 64, expected from 32")
    assert files(output) == []


def test_several_seeds(digits, whole, output):
    second = output.with_name("net.seed1.stage2.pt")
    with pytest.raises(Stop):
        train(digits, output, seeds=2, report=stop_in(second, 1))
    found = train(digits, output, seeds=2, resume=True)
    assert [path.name for path in found] == ["net.seed0.pt", "net.seed1.pt"]
    assert found[0].read_bytes() == whole.read_bytes()
    assert not same(*map(weights, found))
    assert recipe(stage_path(found[1], 1))["seed"] == 1


def test_on_the_command_line(ltkit, folder):
    """A recipe is a method's equal, or has an option of its own; the soft head is extracted."""
    words = "--data digits_lt --epochs 2 --batch-size 32 --set queue=64 --set size=8 --device cpu"
    for words_first, output in ((["ssd"], "a.pt"), (["--recipe", "ssd"], "b.pt")):
        code, _, said = ltkit("train", *words_first, *words.split(), "-o", output, "--keep-best")
        assert code == 0, said
        assert "stage 2 of 3, learned-scales, 1 epochs: " in said
        assert said.count(".best.pt") == 1
    assert (folder / "a.pt").read_bytes() == (folder / "b.pt").read_bytes()
    code, _, said = ltkit("extract", "a.pt", "--data", "digits_lt", "-o", "f.h5")
    assert code == 0, said
    assert "accuracy of the model's own head" in said
    lines = (folder / "a.pt.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["epoch"] == 2
    _, listed, _ = ltkit("train", "--list")
    assert any(line.startswith("ssd ") for line in listed.splitlines())
