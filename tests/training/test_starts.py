"""Networks that start from a checkpoint's weights: what fits, what is said, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made import refused
from trained import Stop, dataset_of, files, log, recipe, stop_after, weights

from ltkit import architectures
from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training import runs, starts

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = TrainSettings(epochs=2, batch_size=64, warmup_epochs=0, learning_rate=0.05)
STILL = replace(SHORT, epochs=1, learning_rate=1e-12, weight_decay=0.0)
"""A rate at which the start is what comes out."""


@pytest.fixture(scope="module")
def first(digits, tmp_path_factory):
    """A trained checkpoint."""
    path = tmp_path_factory.mktemp("first") / "first.pt"
    runs.train_networks(digits, TrainPlan("ce"), SHORT, path)
    return path


def train(digits, output, settings=STILL, plan=("ce",), **more):
    notes = []
    runs.train_networks(
        digits, TrainPlan(*plan[:1], **(plan[1] if plan[1:] else {})), settings, output,
        note=notes.append, **more,
    )  # fmt: skip
    return weights(output), notes


def pictures(counts):
    """Random pictures in colour."""
    made = dataset_of(counts, channels=3)
    return replace(made, mean=(0.5,) * 3, std=(0.5,) * 3)


def parts(state):
    """Parameters, which a still run leaves as they are, of the backbone and of the head."""
    kept = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    head = {k for k in kept if k.startswith("head.")}
    return {k: kept[k] for k in kept.keys() - head}, {k: kept[k] for k in head}


def close(one, two):
    return all(torch.allclose(one[k], two[k], rtol=1e-4, atol=1e-6) for k in two)


@pytest.mark.parametrize("keep_head", [False, True])
def test_the_weights_are_those_of_the_checkpoint(digits, first, output, keep_head):
    found, notes = train(digits, output, init=first, keep_head=keep_head)
    backbone, head = parts(found)
    expected, its_head = parts(weights(first))
    assert close(backbone, expected)
    assert close(head, its_head) == keep_head
    kept = "its head is kept" if keep_head else "its head is left out"
    assert f"note: {first}: starts from digits_net, 15 tensors; {kept}" in notes
    assert recipe(output)["init"]["head"] == keep_head
    torch.manual_seed(0)
    drawn = architectures.build("digits_net", 10).state_dict()
    assert close(head, parts(drawn)[1]) != keep_head  # a new head is drawn from the seed


def test_a_run_goes_on_without_naming_the_start_again(digits, first, tmp_path):
    whole, output = tmp_path / "whole.pt", tmp_path / "net.pt"
    train(digits, whole, SHORT, init=first)
    with pytest.raises(Stop):
        train(digits, output, SHORT, init=first, report=lambda path: stop_after(1))
    train(digits, output, SHORT, resume=True)
    assert output.read_bytes() == whole.read_bytes()
    assert log(output) == log(whole)
    train(digits, output, SHORT, resume=True, overwrite=True)  # finished: left alone
    assert output.read_bytes() == whole.read_bytes()


def test_a_run_is_not_resumed_from_another_start(digits, first, tmp_path):
    output, other = tmp_path / "net.pt", tmp_path / "other.pt"
    train(digits, other)
    with pytest.raises(Stop):
        train(digits, output, SHORT, init=first, report=lambda path: stop_after(1))
    again = {"resume": True, "init": other}
    refused(lambda: train(digits, output, SHORT, **again), "init: found {'digest': ")
    again = {"resume": True, "init": first, "keep_head": True}
    refused(lambda: train(digits, output, SHORT, **again), "init: found {'digest': ")
    with pytest.raises(Stop):
        train(digits, output, SHORT, overwrite=True, report=lambda path: stop_after(1))
    again = {"resume": True, "init": first}
    refused(lambda: train(digits, output, SHORT, **again), "init: found None, expected")


def test_seeds_not_yet_begun_want_their_start(digits, first, tmp_path):
    output = tmp_path / "net.pt"
    with pytest.raises(Stop):
        train(digits, output, SHORT, init=first, seeds=2, report=lambda path: stop_after(1))
    message = "init: found seeds not yet begun, and no checkpoint that they start from"
    refused(lambda: train(digits, output, SHORT, seeds=2, resume=True), message)
    runs.train_networks(digits, TrainPlan("ce"), SHORT, output, seeds=2, resume=True, init=first)
    assert recipe(tmp_path / "net.seed1.pt")["init"] == recipe(tmp_path / "net.seed0.pt")["init"]


def test_what_does_not_fit_is_refused(digits, first, tmp_path):
    output = tmp_path / "net.pt"
    renamed = tmp_path / "other.pt"
    network = architectures.build("resnet20", 10)
    torch.save(network.state_dict(), renamed)
    message = "init: found resnet20, expected the weights of digits_net; "
    refused(lambda: train(digits, output, init=renamed, arch="digits_net"), message)
    deeper = tmp_path / "deeper.pt"
    torch.save(architectures.build("resnet32", 10).state_dict(), deeper)
    colours = pictures([9, 9])
    message = "init: found resnet32, expected the weights of resnet20; "
    refused(lambda: train(colours, output, init=deeper, arch="resnet20"), message)
    torch.save({k: v for k, v in network.backbone.state_dict().items()}, renamed)
    message = "keep_head: "
    refused(lambda: train(colours, output, init=renamed, keep_head=True), message)
    message = "keep_head: found no checkpoint to start from"
    refused(lambda: train(digits, output, keep_head=True), message)
    refused(lambda: train(digits, output, init=tmp_path / "absent.pt"), "absent.pt: ")
    assert files(output) == ["deeper.pt", "other.pt"]


def test_a_head_of_other_classes_is_refused(digits, first, tmp_path):
    output = tmp_path / "net.pt"
    fewer = dataset_of([9, 9])
    message = "keep_head: found a head of 10 classes, expected 2; leave it out"
    refused(lambda: train(fewer, output, init=first, keep_head=True), message)
    train(fewer, output, init=first)
    named = replace(digits, classes=replace(digits.classes, names=tuple("jihgfedcba")))
    train(named, tmp_path / "named.pt")
    again = {"init": tmp_path / "named.pt", "keep_head": True}
    train(named, tmp_path / "same.pt", **again)
    other = replace(digits, classes=replace(digits.classes, names=tuple("abcdefghij")))
    message = "keep_head: found other classes, or another order of them"
    refused(lambda: train(other, tmp_path / "o.pt", **again), message)
    message = "keep_head: "
    cosine = ("ce", {"cosine": True})
    refused(lambda: train(named, tmp_path / "o.pt", plan=cosine, **again), message)


def test_the_last_block_alone_is_trained(tmp_path):
    colours, start, output = pictures([20, 20]), tmp_path / "start.pt", tmp_path / "net.pt"
    torch.save(architectures.build("resnet20", 5).state_dict(), start)
    plan = ("ce", {"train": "last-block"})
    settings = replace(SHORT, batch_size=8)
    found, _ = train(colours, output, settings, plan, init=start)
    expected = torch.load(start)
    moved = {k for k, v in found.items() if k in expected and not k.startswith("head.")
             and not torch.equal(v, expected[k])}  # fmt: skip
    last = {k for k in expected if k.startswith("backbone.layer3.2.")}
    assert moved == last  # batch norm's statistics and counters, too
    whole = output.read_bytes()
    with pytest.raises(Stop):
        train(colours, output, settings, plan, init=start, overwrite=True,
              report=lambda path: stop_after(1))  # fmt: skip
    train(colours, output, settings, plan, resume=True, overwrite=True)
    assert output.read_bytes() == whole


def test_the_last_block_of_nothing(digits, first, tmp_path):
    plan = ("ce", {"train": "last-block"})
    message = "train: last-block: found no checkpoint to start from"
    refused(lambda: train(digits, tmp_path / "o.pt", plan=plan), message)
    message = "train: last-block: digits_net has no residual blocks"
    refused(lambda: train(digits, tmp_path / "o.pt", plan=plan, init=first), message)


@pytest.mark.parametrize(
    ("arch", "count"),
    [
        ("resnet32_3experts", 3),
        ("resnet10_oltr", 2),
        ("resnet10", 1),
        ("resnet32_l2t", 1),
        ("resnet32_two_branch", 2),
    ],
)
def test_which_blocks_are_the_last(arch, count):
    backbone = architectures.build(arch, 2).backbone
    found = starts.last_block(backbone, arch)
    assert len(found) == count
    starts.train_only(backbone, found)
    trained = {id(p) for module in found for p in module.parameters()}
    assert {id(p) for p in backbone.parameters() if p.requires_grad} == trained


def test_images_that_were_normalised_otherwise_are_told(digits, first, output):
    _, notes = train(digits, output, init=first)
    assert not any("normalised" in note for note in notes)
    other = replace(digits, mean=(0.5,))
    _, notes = train(other, output, init=first, overwrite=True)
    mean = f"{digits.mean[0]:.3g}"
    assert f"note: {first}: its images had the mean {mean}; these are normalised with 0.5" in notes


def test_another_librarys_file(tmp_path):
    """A plain state dict of the field, with wrappers' prefixes; the network is the file's."""
    colours, start = pictures([9, 9]), tmp_path / "s.pt"
    network = architectures.build("resnet20", 5)
    state = {f"module.{k}": v for k, v in network.backbone.state_dict().items()}
    head = {f"module.linear.{k}": v for k, v in network.head.state_dict().items()}
    torch.save({"state_dict": state | head}, start)
    output = tmp_path / "net.pt"
    found, notes = train(colours, output, replace(STILL, batch_size=9), init=start)
    assert "its head is left out" in notes[0]
    assert recipe(output)["arch"] == "resnet20"
    assert close(parts(found)[0], parts(network.state_dict())[0])


def test_on_the_command_line(digits, first, ltkit, folder):
    words = ["train", "ce", "--data", "digits_lt:ir=5", "--epochs", "1", "--device", "cpu"]
    code, _, said = ltkit(*words, "--init", str(first), "--keep-head", "-o", "n.pt")
    assert code == 0, said
    assert "starts from digits_net, 15 tensors; its head is kept" in said
    assert recipe(Path("n.pt"))["init"]["head"]
    code, _, said = ltkit(*words, "--init", "absent.pt", "-o", "o.pt")
    assert code == 2
    assert said.startswith("absent.pt: ") or "absent.pt: " in said
    code, _, said = ltkit("train", "ce", "f.h5", "--keep-head")
    assert code == 2
    assert "--keep-head: found a features file, expected --data with it" in said
