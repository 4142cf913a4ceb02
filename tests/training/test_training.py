"""The training loop: what is learned and written; small and unsuitable datasets."""

import math
import shutil
import sys
import types
from dataclasses import replace

import pytest
import torch
from trained import SETTINGS, dataset_of, files, fit, log, same, weights

from ltkit import architectures
from ltkit.errors import InputError
from ltkit.losses import ce
from ltkit.training import checks, images, loop
from ltkit.training.schedules import Stage

pytestmark = pytest.mark.usefixtures("one_thread")


def test_it_learns(finished, digits):
    output, reports = finished
    lines = log(output)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[0]["loss"] > lines[1]["loss"] > lines[2]["loss"]
    assert lines[2]["val"]["balanced"] > 0.5
    assert files(output) == ["net.pt", "net.pt.jsonl"]
    assert [p.epoch for p in reports] == [1, 2, 3]
    assert [p.loss for p in reports] == [line["loss"] for line in lines]
    assert [p.accuracy for p in reports] == [line["val"]["balanced"] for line in lines]
    assert reports[2].seconds_left == 0 < reports[0].seconds_left


def test_the_log_says_what_the_written_network_does(finished, digits):
    output, _ = finished
    content = torch.load(output, weights_only=True)
    network = architectures.build("digits_net", 10)
    network.load_state_dict(content["state_dict"])
    split = digits.split("val")
    pixels = torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        predicted = network.eval()((pixels - content["mean"][0]) / content["std"][0]).argmax(dim=1)
    right = (predicted.numpy() == split.labels).reshape(10, 20)  # 20 a class, class by class
    said = log(output)[-1]["val"]
    assert said.pop("balanced") == pytest.approx(right.mean())
    counts = digits.classes.train_count
    groups = {"many": counts > 100, "medium": (counts >= 20) & (counts <= 100), "few": counts < 20}
    groups = {name: chosen for name, chosen in groups.items() if chosen.any()}
    assert said == pytest.approx({name: right[chosen].mean() for name, chosen in groups.items()})


def test_the_checkpoint_names_the_network_and_the_data(finished, digits):
    content = torch.load(finished[0], weights_only=True)
    assert set(content) == {
        "format", "format_version", "arch", "num_classes", "cosine", "scale", "state_dict", "mean",
        "std", "classes", "train_ids", "epoch", "recipe", "versions",
    }  # fmt: skip
    assert content["epoch"] == SETTINGS.epochs
    assert (content["format"], content["format_version"]) == ("ltkit-checkpoint", 1)
    assert (content["arch"], content["num_classes"], content["cosine"]) == ("digits_net", 10, False)
    assert content["classes"]["train_count"] == digits.classes.train_count.tolist()
    assert content["train_ids"] == digits.split("train").ids.tolist()
    assert content["recipe"]["dataset"] == digits.record
    assert content["recipe"]["method"] == "ce"
    assert {k.split(".")[0] for k in content["state_dict"]} == {"backbone", "head"}


def test_the_same_seed_gives_the_same_file(finished, digits, output):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    fit(digits, output)
    assert output.read_bytes() == finished[0].read_bytes()
    assert log(output) == log(finished[0])
    assert torch.equal(torch.get_rng_state(), state)  # global randomness is neither read nor moved
    fit(digits, output, replace(SETTINGS, seed=1, epochs=1))
    assert not same(weights(output), weights(finished[0]))


def test_a_compiler_that_fails_is_one_line(digits, output, monkeypatch):
    class CompilerError(RuntimeError):
        __module__ = "torch._inductor.exc"

    for error, expected in (
        (CompilerError("C++ compile error\n\nCommand: ..."), InputError),
        (CompilerError(), InputError), (RuntimeError("another"), RuntimeError),
    ):  # fmt: skip

        def fail(*given, error=error):
            raise error

        monkeypatch.setattr(loop, "_epoch", fail)
        monkeypatch.setattr(checks, "COMPILERS", ("sh",))
        message = "compile: the network" if expected is InputError else "another"
        with pytest.raises(expected, match=message):
            fit(digits, output, replace(SETTINGS, compile=True))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_state_before(finished, digits, output, bad):
    calls, steps = [], len(digits.split("train")) // 32 + 1

    def loss(logits, labels, counts):
        calls.append(len(labels))
        return ce.loss(logits, labels, counts) * (bad if len(calls) == steps + 4 else 1.0)

    said = (
        rf"loss: found {bad} at step 4 of {steps} of epoch 2, learning rate 0\.05, expected a fin"
    )
    kept = r".*net\.pt\.partial has the state after epoch 1"
    with pytest.raises(InputError, match=f"{said}{kept}"):
        fit(digits, output, loss=loss)
    assert files(output) == ["net.pt.jsonl", "net.pt.partial"]
    fit(digits, output, resume=True)
    assert same(weights(output), weights(finished[0]))


def test_a_loss_that_is_not_finite_at_first_names_the_rate_of_the_step(output):
    """The second step of 8 of one cycle: 0.1 + 0.9 * 0.5 / 0.8 of the rate."""
    settings = replace(SETTINGS, epochs=4, batch_size=4, schedule="onecycle", learning_rate=0.32)

    def loss(logits, labels, counts):
        calls.append(1)
        return ce.loss(logits, labels, counts) + (math.inf if len(calls) == 2 else 0)

    calls = []
    with pytest.raises(
        InputError, match=r"inf at step 2 of 2 of epoch 1, learning rate 0\.212,"
    ) as e:
        fit(dataset_of([5, 3]), output, settings, loss=loss)
    assert "partial" not in str(e.value)
    assert files(output) == []


def test_each_loss_sees_every_image_once_an_epoch_and_the_training_counts(digits, output):
    seen = []

    def loss(logits, labels, counts):
        assert logits.dtype == torch.float32
        assert counts.tolist() == digits.classes.train_count.tolist()
        seen.append(labels.clone())
        return ce.loss(logits, labels, counts)

    fit(digits, output, replace(SETTINGS, epochs=1, amp="bf16"), loss=loss)
    labels = torch.cat(seen)
    assert torch.bincount(labels).tolist() == digits.classes.train_count.tolist()
    assert not torch.equal(labels, labels.sort().values)


def test_the_loss_of_an_epoch_is_the_mean_over_images(output):
    def loss(logits, labels, counts):
        return 0 * logits.sum() + (3.0 if len(labels) == 6 else 1.0)  # batches of 6 and 2

    fit(dataset_of([5, 3]), output, replace(SETTINGS, epochs=1, batch_size=6), loss=loss)
    assert log(output)[0]["loss"] == pytest.approx((6 * 3 + 2 * 1) / 8)


def test_a_cosine_head_is_trained(digits, output):
    fit(digits, output, cosine=True, scale=16.0)
    content = torch.load(output, weights_only=True)
    assert (content["cosine"], content["scale"]) == (True, 16.0)
    assert [k for k in content["state_dict"] if k.startswith("head.")] == ["head.weight"]
    assert log(output)[-1]["val"]["balanced"] > 0.5


# Small and unsuitable datasets


def test_a_dataset_smaller_than_a_batch_and_without_validation(output):
    reports = []
    fit(dataset_of([3, 2]), output, replace(SETTINGS, epochs=1), report=reports.append)
    assert reports[0].accuracy is None
    assert "val" not in log(output)[0]


def test_a_last_batch_of_one_is_left_out(output):
    sizes = []

    def loss(logits, labels, counts):
        sizes.append(len(labels))
        return ce.loss(logits, labels, counts)

    fit(dataset_of([5, 4]), output, replace(SETTINGS, epochs=2, batch_size=4), loss=loss)
    assert sizes == [4, 4, 4, 4]


def test_groups_and_classes_without_validation_images_are_left_out(output):
    dataset = dataset_of([101, 30, 2], val=[6, 6, 0])
    fit(dataset, output, replace(SETTINGS, epochs=1))
    assert set(log(output)[0]["val"]) == {"balanced", "many", "medium"}


def test_one_training_image(output):
    with pytest.raises(InputError, match="made up: found one training image, expected two"):
        fit(dataset_of([1]), output)


def test_images_that_do_not_suit_the_network(digits, output):
    with pytest.raises(
        InputError, match=r"arch resnet32: takes 3 channels, .* have 1; expected dig"
    ):
        fit(digits, output, arch="resnet32")
    with pytest.raises(
        InputError, match=r"digits_net: takes 1 channels, .* have 3; expected resnet8"
    ) as shown:
        fit(dataset_of([3, 2], channels=3), output)
    assert len(f"{shown.value}") < 300
    with pytest.raises(InputError, match="have 2; expected another dataset"):
        fit(dataset_of([3, 2], channels=2), output)
    with pytest.raises(
        InputError, match="digit_net: unknown architecture; did you mean digits_net"
    ):
        fit(digits, output, arch="digit_net")
    assert files(output) == []


def test_images_that_do_not_fit_in_memory(digits, output, monkeypatch):
    size = digits.split("train").images.nbytes
    monkeypatch.setattr(images, "MAX_RESIDENT", size - 1)
    with pytest.raises(
        InputError, match=r"digits_lt.* images of \(8, 8, 1\) need .* expected at m"
    ):
        fit(digits, output)
    monkeypatch.setattr(images, "MAX_RESIDENT", size)
    fit(digits, output, replace(SETTINGS, epochs=1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "epochs: found 0, expected a whole number from 1"),
        ("batch_size", 0, "batch_size: found 0, expected a whole number from 1"),
        ("batch_size", 1, "batch_size: found 1, expected at least 2"),  # for batch norm
        ("warmup_epochs", -1, "warmup_epochs: found -1, expected a whole number from 0"),
        ("momentum", -0.1, r"momentum: found -0\.1, expected a number from 0"),
        ("weight_decay", -1e-4, r"weight_decay: found -0\.0001, expected a number from 0"),
        ("weight_decay", float("nan"), "weight_decay: found nan"),
        ("learning_rate", 0, "learning_rate: found 0, expected a number above 0"),
        ("learning_rate", -0.1, "learning_rate: found -0.1"),
        ("learning_rate", float("nan"), "learning_rate: found nan"),
        ("learning_rate", float("inf"), "learning_rate: found inf"),
    ],
)
def test_settings_out_of_range(digits, output, name, value, message):
    with pytest.raises(InputError, match=message):
        fit(digits, output, replace(SETTINGS, **{name: value}))
    assert files(output) == []


def test_the_steps_are_those_of_plain_sgd(output):
    """Momentum 0.9 and decay of the weights, without images in between."""
    dataset, settings = dataset_of([9, 7]), replace(SETTINGS, batch_size=16, steps=())
    settings = replace(settings, augment="none", weight_decay=0.01)
    torch.manual_seed(settings.seed)
    network = architectures.build("digits_net", 2).train()
    optimizer = torch.optim.SGD(
        network.parameters(), 0.05, 0.9, weight_decay=0.01, foreach=False, fused=False
    )
    split = dataset.split("train")
    pixels = (torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    expected = []
    for _ in range(3):
        logits = network(pixels)
        value = torch.nn.functional.cross_entropy(logits, torch.from_numpy(split.labels))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        expected.append(value.item())
    fit(dataset, output, settings)
    assert [line["loss"] for line in log(output)] == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(weights(output), network.state_dict(), rtol=1e-3, atol=1e-4)


def test_tensorboard_is_asked_for_in_vain(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    words = ("train", "ce", "--data", "digits_lt", "--arch", "digits_net", "--quiet")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "torch.utils.tensorboard", None)
        code, _, error = ltkit(*words, "--tensorboard", "board")
    assert code == 2
    assert "tensorboard is not installed" in error
    assert "pip install 'ltkit[tensorboard]'" in error
    (tmp_path / "ce").write_text("")
    patched = types.ModuleType("tensorboard")
    patched.SummaryWriter = None
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", patched)
    code, _, error = ltkit(*words, "--tensorboard", ".")
    assert code == 2
    assert "--tensorboard ce: is a file, expected a folder" in error
    assert {path.name for path in tmp_path.iterdir()} == {"ce"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of torch.jit
@pytest.mark.skipif(not any(map(shutil.which, checks.COMPILERS)), reason="no C++ compiler")
def test_a_compiled_network_learns_the_same(digits, tmp_path):
    """Up to rounding, also where a second stage freezes the backbone."""
    stage = Stage(1, "ce", {}, "class-balanced", None, "backbone")
    settings, found = replace(SETTINGS, epochs=2), {}
    for name in (False, True):
        output = tmp_path / f"{name}.pt"
        fit(digits, output, replace(settings, compile=name), then=stage, keep_best=True)
        found[name] = weights(output)
        assert found[name].keys() == found[False].keys()
    for key, value in found[True].items():
        torch.testing.assert_close(value, found[False][key], rtol=1e-3, atol=1e-3)


def test_compiling_needs_a_compiler(digits, output, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match=r"compile: found no C\+\+ compiler, expected g"):
        fit(digits, output, replace(SETTINGS, compile=True))
