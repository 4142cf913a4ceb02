"""The training loop: augmentation, schedules, what is written, going on where it stopped."""

import hashlib
import io
import itertools
import json
import math
import shutil
import sys
import types
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from ltkit import architectures, datasets
from ltkit.errors import FormatError, InputError, LtkitError
from ltkit.losses import ce
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import TrainSettings
from ltkit.training import run
from ltkit.training.augment import ImageStore
from ltkit.training.schedules import Stage, learning_rate

pytestmark = pytest.mark.usefixtures("one_thread")


# Augmentation

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.1)


def store(height=6, width=5, padding=2, flip=True, count=8):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, height, width, 3), generator=generator).byte()
    return pixels, ImageStore(pixels, MEAN, STD, padding, flip)


def normalised(pixels):
    """(B, H, W, channels) bytes to (B, channels, H, W), in double precision."""
    values = (pixels.double() / 255 - torch.tensor(MEAN).double()) / torch.tensor(STD).double()
    return values.permute(0, 3, 1, 2).float()


def test_plain_images_are_normalised():
    pixels, images = store()
    index = torch.tensor([3, 0, 3])
    torch.testing.assert_close(images.plain(index), normalised(pixels[index]), rtol=0, atol=1e-5)


def test_without_padding_and_flip_nothing_is_changed():
    _, images = store(padding=0, flip=False)
    index = torch.tensor([5, 1])
    assert torch.equal(images.augmented(index, torch.Generator()), images.plain(index))


@pytest.mark.parametrize("flip", [False, True])
def test_every_view_is_a_crop_of_the_padded_image_and_all_occur(flip):
    pixels, images = store(padding=1, flip=flip, count=1)
    padded = np.pad(pixels[0].numpy(), ((1, 1), (1, 1), (0, 0)))
    crops = [padded[top : top + 6, left : left + 5] for top in range(3) for left in range(3)]
    if flip:
        crops += [crop[:, ::-1] for crop in crops]
    expected = normalised(torch.from_numpy(np.array(crops)))
    views = images.augmented(torch.zeros(500, dtype=torch.int64), torch.Generator().manual_seed(0))
    distance = (views[:, None] - expected).abs().amax(dim=(2, 3, 4))
    assert (distance.min(dim=1).values < 1e-5).all()
    seen = torch.bincount(distance.argmin(dim=1), minlength=len(crops))
    expected_count = 500 / len(crops)
    assert ((seen - expected_count).abs() < 5 * math.sqrt(expected_count)).all()


def test_each_image_gets_its_own_view_of_itself():
    pixels = torch.arange(1, 41, dtype=torch.uint8).reshape(40, 1, 1, 1).expand(40, 4, 4, 3)
    images = ImageStore(pixels.contiguous(), (0, 0, 0), (1, 1, 1), 3, True)
    views = images.augmented(torch.arange(40), torch.Generator().manual_seed(0)) * 255
    torch.testing.assert_close(views.amax(dim=(1, 2, 3)), torch.arange(1.0, 41.0))
    assert len({tuple(view.flatten().bool().tolist()) for view in views}) > 10


def test_the_generator_alone_decides_the_views():
    _, images = store()
    index = torch.arange(8)
    generator = torch.Generator().manual_seed(5)
    state = generator.get_state()
    first = images.augmented(index, generator)
    assert not torch.equal(first, images.augmented(index, generator))
    generator.set_state(state)
    torch.manual_seed(99)
    assert torch.equal(first, images.augmented(index, generator))


# Schedules


def test_the_reference_schedule_epoch_by_epoch():
    settings = TrainSettings()
    for number in range(1, 201):  # counted from 1
        if number <= 5:
            expected = 0.1 * number / 5
        elif number > 180:
            expected = 0.1 * 0.0001
        elif number > 160:
            expected = 0.1 * 0.01
        else:
            expected = 0.1
        for step in (0.0, 0.5, 0.99):
            assert learning_rate(settings, number - 1 + step) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("epochs", [10, 30, 70, 100, 130, 400])
def test_steps_scale_with_the_number_of_epochs(epochs):
    settings = TrainSettings(epochs=epochs, warmup_epochs=0)
    rates = [learning_rate(settings, epoch) for epoch in range(epochs)]
    eighty, ninety = epochs * 8 // 10, epochs * 9 // 10
    expected = [0.1] * eighty + [1e-3] * (ninety - eighty) + [1e-5] * (epochs - ninety)
    assert rates == pytest.approx(expected)


def test_one_cycle_rises_and_falls():
    settings = TrainSettings(epochs=20, learning_rate=0.4, schedule="onecycle")
    at = partial(learning_rate, settings)
    assert [at(0), at(2), at(4)] == pytest.approx([0.04, 0.22, 0.4])
    assert [at(8), at(12), at(20)] == pytest.approx([0.2 * (1 + math.sqrt(0.5)), 0.2, 0], abs=1e-12)
    rates = [at(epoch / 10) for epoch in range(201)]
    assert np.argmax(rates) == 40
    assert (np.diff(rates[:41]) > 0).all()
    assert (np.diff(rates[40:]) < 0).all()


# Training

SETTINGS = TrainSettings(epochs=3, batch_size=32, warmup_epochs=0, learning_rate=0.05)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt:ir=5")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "net.pt"


def fit(dataset, output, settings=SETTINGS, **options):
    options = {"method": "ce", "arch": "digits_net", "loss": ce.loss} | options
    run.train(dataset, settings=settings, output=output, **options)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def log(output):
    """The lines of the log without speeds."""
    lines = output.with_name(f"{output.name}.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines
    ]


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[k], second[k]) for k in first)


def files(output):
    return sorted(p.name for p in output.parent.iterdir())


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    """A finished run, and what it reported."""
    output = tmp_path_factory.mktemp("run") / "net.pt"
    reports = []
    fit(digits, output, report=reports.append)
    return output, reports


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


def interrupt(*arguments):
    raise KeyboardInterrupt


def accuracies(monkeypatch, values):
    """Let the validation split say these accuracies, epoch after epoch."""

    def said(*given):
        return lambda epoch: torch.full((10,), values[epoch - 1])

    monkeypatch.setattr(run, "accuracy_of", said)


@pytest.mark.parametrize(
    ("values", "best"), [((0.5, 0.7, 0.7), 2), ((0.1, 0.2, 0.3), 3), ((0.0, 0.0, 0.0), 1)]
)
def test_the_best_epoch_on_val_is_kept(digits, output, monkeypatch, values, best):
    accuracies(monkeypatch, values)
    settings = replace(SETTINGS, epochs=3)
    states, saved = [], run.checkpoint.save_partial

    def save(path, recipe, epoch, network, *rest):
        states.append({k: v.clone() for k, v in network.state_dict().items()})
        saved(path, recipe, epoch, network, *rest)

    monkeypatch.setattr(run.checkpoint, "save_partial", save)
    fit(digits, output, settings, keep_best=True)
    kept = torch.load(run.best_path(output), weights_only=True)
    assert kept["epoch"] == best
    assert same(kept["state_dict"], {k: states[best - 1][k] for k in kept["state_dict"]})
    assert same(weights(output), kept["state_dict"]) == (best == 3)


def test_the_best_epoch_is_the_same_after_an_interruption(digits, output, monkeypatch, tmp_path):
    """Wherever it comes: before the best epoch's file is written, between it and the log."""
    accuracies(monkeypatch, (0.2, 0.6, 0.5, 0.7))
    settings = replace(SETTINGS, epochs=4)
    whole = tmp_path / "whole.pt"
    fit(digits, whole, settings, keep_best=True)
    for owner, name in ((run.checkpoint, "save"), (run, "write_text"),
                        (run.checkpoint, "save_partial")):  # fmt: skip
        for stop in (1, 2, 3):
            calls, was = itertools.count(1), getattr(owner, name)

            def stopping(*arguments, calls=calls, was=was, stop=stop):
                if next(calls) == stop:
                    raise KeyboardInterrupt
                was(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, stopping)
                with pytest.raises(KeyboardInterrupt):
                    fit(digits, output, settings, keep_best=True)
            fit(digits, output, settings, keep_best=True, resume=run.begun(output))
            assert run.best_path(output).read_bytes() == run.best_path(whole).read_bytes()
            assert output.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", ["", "no JSON\n", "{}\n", '{"val": {"balanced": null}}\n'])
def test_the_best_epoch_so_far_is_in_the_log(digits, output, monkeypatch, damage):
    monkeypatch.setattr(run.checkpoint, "save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fit(digits, output)
    with pytest.raises(InputError, match="--keep-best: found False, expected True"):
        fit(digits, output, keep_best=True, resume=True)
    monkeypatch.undo()
    settings = replace(SETTINGS, epochs=2)
    saved = run.checkpoint.save_partial
    with monkeypatch.context() as patch:
        patch.setattr(run.checkpoint, "save_partial", lambda *given: (saved(*given), interrupt()))
        with pytest.raises(KeyboardInterrupt):
            fit(digits, output, settings, keep_best=True)
    output.with_name("net.pt.jsonl").write_text(damage)
    with pytest.raises(FormatError, match=r"net\.pt\.jsonl: found 0 sound lines, expected 1,"):
        fit(digits, output, settings, keep_best=True, resume=True)


def test_the_best_epoch_needs_a_validation_split(output):
    dataset = datasets.load("digits_lt:ir=5,val=none")
    with pytest.raises(InputError, match=r"--keep-best: found no val split in digits_lt:ir=5"):
        fit(dataset, output, keep_best=True)


def test_the_same_seed_gives_the_same_file(finished, digits, output):
    torch.manual_seed(123)
    state = torch.get_rng_state()
    fit(digits, output)
    assert output.read_bytes() == finished[0].read_bytes()
    assert log(output) == log(finished[0])
    assert torch.equal(torch.get_rng_state(), state)  # global randomness is neither read nor moved
    fit(digits, output, replace(SETTINGS, seed=1, epochs=1))
    assert not same(weights(output), weights(finished[0]))


class Stop(Exception):
    pass


def stop_after(epoch):
    def report(progress):
        if progress.epoch == epoch:
            raise Stop

    return report


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_an_interrupted_run_ends_as_if_it_had_not_been(finished, digits, output, epoch):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(epoch))
    assert files(output) == ["net.pt.jsonl", "net.pt.partial"]
    fit(digits, output, resume=True)
    assert same(weights(output), weights(finished[0]))
    assert log(output) == log(finished[0])
    assert files(output) == ["net.pt", "net.pt.jsonl"]


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["net.pt.partial", "net.pt.jsonl"])
@pytest.mark.parametrize(
    "content", [b"mine\n", b'{"a": 1}\n', b"[1]\n", b"[" * 99999, b"\xff", "/"]
)
def test_what_is_not_of_ltkit_stays(digits, output, tmp_path, resume, name, content):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    path, beyond = output.with_name(name), tmp_path / "beyond"
    path.unlink()
    beyond.write_bytes(b"theirs\n")
    path.symlink_to(beyond) if content == "/" else path.write_bytes(content)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(LtkitError, match=r"move it away(, or| and).* choose another -o$"):
        fit(digits, output, resume=resume)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_the_log_of_another_run_is_asked_for(digits, output):
    fit(digits, output)
    other = replace(SETTINGS, epochs=1)
    message = r"net\.pt\.jsonl: exists, and is the log of another run; .* --overwrite without"
    with pytest.raises(InputError, match=message):
        fit(digits, output, other, overwrite=False)
    assert len(log(output)) == SETTINGS.epochs
    fit(digits, output, overwrite=False)  # the same run has the same log
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    fit(digits, output, other, overwrite=False)  # of a run that has not come to its end
    assert len(log(output)) == 1


def test_a_resumed_run_wants_its_own_log(digits, output):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    path = output.with_name("net.pt.jsonl")
    line = json.loads(path.read_text())
    path.write_text(json.dumps(line | {"run": "0" * 64}) + "\n")
    with pytest.raises(InputError, match="is the log of another run"):
        fit(digits, output, resume=True)
    path.write_text(json.dumps({k: v for k, v in line.items() if k != "run"}) + "\n")
    fit(digits, output, resume=True)  # an older version wrote none


@pytest.mark.parametrize("beside", [b"mine", "another recipe"])
def test_the_best_epoch_of_another_run_stays(digits, output, beside):
    with pytest.raises(Stop):
        fit(digits, output, keep_best=True, report=stop_after(1))
    best = run.best_path(output)
    if isinstance(beside, str):
        torch.save(torch.load(best) | {"recipe": {}}, best)
    else:
        best.write_bytes(beside)
    before = best.read_bytes()
    with pytest.raises(LtkitError, match=r"net\.best\.pt: "):
        fit(digits, output, keep_best=True, resume=True)
    assert best.read_bytes() == before


def test_a_compiler_that_fails_is_one_line(digits, output, monkeypatch):
    class CompilerError(RuntimeError):
        __module__ = "torch._inductor.exc"

    for error, expected in (
        (CompilerError("C++ compile error\n\nCommand: ..."), InputError),
        (CompilerError(), InputError), (RuntimeError("another"), RuntimeError),
    ):  # fmt: skip

        def fail(*given, error=error):
            raise error

        monkeypatch.setattr(run, "_epoch", fail)
        monkeypatch.setattr(run, "COMPILERS", ("sh",))
        message = "--compile: the network" if expected is InputError else "another"
        with pytest.raises(expected, match=message):
            fit(digits, output, replace(SETTINGS, compile=True))


def test_a_line_beyond_the_saved_state_is_written_again(finished, digits, output):
    """Killed between the log and the state."""
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    with output.with_name("net.pt.jsonl").open("a") as file:
        file.write('{"epoch": 2, "loss": 1e9}\n{"epo')
    fit(digits, output, resume=True)
    assert log(output) == log(finished[0])


def test_a_full_disk_leaves_the_state_before(digits, output, monkeypatch):
    saved = run.checkpoint.save_partial

    def fail(path, recipe, epoch, *rest):
        if epoch == 2:
            raise InputError("net.pt.partial: cannot be written")
        saved(path, recipe, epoch, *rest)

    monkeypatch.setattr(run.checkpoint, "save_partial", fail)
    with pytest.raises(InputError, match="cannot be written"):
        fit(digits, output)
    partial_file = output.with_name("net.pt.partial")
    assert torch.load(partial_file, weights_only=True)["epoch"] == 1


def test_a_new_run_forgets_an_old_state(digits, output):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))

    def fail(*arguments):
        raise Stop

    with pytest.raises(Stop):
        fit(digits, output, loss=fail)
    with pytest.raises(InputError, match=r"net\.pt\.partial: not found, nothing to resume"):
        fit(digits, output, resume=True)
    fit(digits, output, replace(SETTINGS, epochs=1))
    assert len(log(output)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": replace(SETTINGS, learning_rate=0.1)}, "--lr: found 0.05, exp"),
        ({"settings": replace(SETTINGS, epochs=9)}, "--epochs: found 3, expected 9"),
        ({"method": "ldam"}, "METHOD: found ce, expected ldam"),
        ({"parameters": {"gamma": 2.0}}, "--set: found {}, expected {'gamma': 2.0}"),
        ({"cosine": True, "scale": 16.0}, "--cosine: found False, expected True"),
        ({"dataset": "digits_lt:ir=5,seed=1"}, "--data: found"),
    ],
)  # fmt: skip
def test_a_run_is_not_resumed_with_other_settings(digits, output, change, message):
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    if "dataset" in change:
        change = {"dataset": datasets.load(change["dataset"])}
    with pytest.raises(InputError, match=rf"net\.pt\.partial: {message}.*; resume with the sett"):
        fit(**({"dataset": digits, "output": output, "resume": True} | change))
    fit(digits, output, resume=True)  # it was left alone


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99, b"<html>", "list", "other", b"PK"])
def test_a_state_that_cannot_be_read(digits, output, keep):
    """Damaged, or with a sound digest and yet no state of this network."""
    with pytest.raises(Stop):
        fit(digits, output, report=stop_after(1))
    partial_file = output.with_name("net.pt.partial")
    content, message = partial_file.read_bytes(), "is damaged, or not ltkit's; move it away and"
    made = {"list": [1], "other": torch.load(partial_file) | {"network": {}}}
    if isinstance(keep, str):
        buffer = io.BytesIO()
        torch.save(made[keep], buffer)
        content = buffer.getvalue()
        partial_file.write_bytes(content + hashlib.sha256(content).digest())
        message = r"not a checkpoint of an interrupted run \((Type|Key|Runtime)Error\); start again"
    elif isinstance(keep, bytes):
        partial_file.write_bytes(keep)
    else:
        partial_file.write_bytes(content[: int(keep if keep >= 1 else keep * len(content))])
    with pytest.raises(FormatError, match=rf"net\.pt\.partial: {message}"):
        fit(digits, output, resume=True)


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


def dataset_of(counts, val=(), channels=1):
    """Random 8x8 pictures; counts and val: images a class."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, sizes in (("train", counts), ("val", val)):
        if sizes:
            labels = np.repeat(np.arange(len(sizes)), sizes)
            images = rng.integers(0, 256, (len(labels), 8, 8, channels), dtype=np.uint8)
            splits[name] = ImageSplit(images, labels, labels.astype(str))
    table = ClassTable(np.array(counts))
    return Dataset(splits, table, (0.5,), (0.5,), 1, False, {"spec": "made up"})


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
        InputError, match=r"--arch resnet32: takes 3 channels, .* have 1; expected dig"
    ):
        fit(digits, output, arch="resnet32")
    with pytest.raises(
        InputError, match=r"digits_net: takes 1 channels, .* have 3; expected resnet20"
    ):
        fit(dataset_of([3, 2], channels=3), output)
    with pytest.raises(InputError, match="have 2; expected another dataset"):
        fit(dataset_of([3, 2], channels=2), output)
    with pytest.raises(
        InputError, match="digit_net: unknown architecture; did you mean digits_net"
    ):
        fit(digits, output, arch="digit_net")
    assert files(output) == []


def test_images_that_do_not_fit_in_memory(digits, output, monkeypatch):
    size = digits.split("train").images.nbytes
    monkeypatch.setattr(run, "MAX_RESIDENT", size - 1)
    with pytest.raises(
        InputError, match=r"digits_lt.* images of \(8, 8, 1\) need .* expected at m"
    ):
        fit(digits, output)
    monkeypatch.setattr(run, "MAX_RESIDENT", size)
    fit(digits, output, replace(SETTINGS, epochs=1))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("epochs", 0, "--epochs: found 0, expected at least 1"),
        ("batch_size", 0, "--batch-size: found 0, expected at least 1"),
        ("batch_size", 1, "--batch-size: found 1, expected at least 2"),  # for batch norm
        ("warmup_epochs", -1, "--warmup-epochs: found -1, expected at least 0"),
        ("momentum", -0.1, r"momentum: found -0\.1, expected at least 0"),
        ("weight_decay", -1e-4, r"--weight-decay: found -0\.0001, expected at least 0"),
        ("weight_decay", float("nan"), "--weight-decay: found nan"),
        ("learning_rate", 0, "--lr: found 0, expected above 0"),
        ("learning_rate", -0.1, "--lr: found -0.1"),
        ("learning_rate", float("nan"), "--lr: found nan"),
        ("learning_rate", float("inf"), "--lr: found inf"),
    ],
)
def test_settings_out_of_range(digits, output, name, value, message):
    with pytest.raises(InputError, match=message):
        fit(digits, output, replace(SETTINGS, **{name: value}))
    assert files(output) == []


# Several seeds

WORDS = (
    "train", "gcl", "--data", "digits_lt:ir=5", "--arch", "digits_net", "--epochs", "2",
    "--batch-size", "128", "--device", "cpu", "-q",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder):
    return sorted(p.name for p in folder.iterdir() if p.suffix != ".jsonl")


def test_seeds_are_networks_of_their_own(ltkit, folder, monkeypatch):
    stores, made = [], run.resident
    monkeypatch.setattr(run, "resident", lambda *x: stores.append(x) or made(*x))
    code, out, error = ltkit(*WORDS, "--seeds", "2", "--seed", "3")
    assert code == 0, error
    assert out == "gcl.seed3.pt\ngcl.seed4.pt\n"
    assert names(folder) == ["gcl.seed3.pt", "gcl.seed4.pt"]
    assert len(stores) == 1
    for seed in (3, 4):
        assert ltkit(*WORDS, "--seed", seed, "-o", f"{seed}.pt")[0] == 0
        assert (folder / f"{seed}.pt").read_bytes() == (folder / f"gcl.seed{seed}.pt").read_bytes()
        recipe = torch.load(folder / f"{seed}.pt")["recipe"]
        assert (recipe["seed"], recipe["parameters"]["seed"]) == (seed, seed)  # the loss's draws
    assert not same(weights(folder / "3.pt"), weights(folder / "4.pt"))


@pytest.mark.parametrize("stop", [1, 2, 3, 4])
def test_interrupted_seeds_are_gone_on_with(ltkit, folder, monkeypatch, stop):
    """After an epoch of the first, between both, after an epoch of the second, at its end."""
    words, saved, calls = (*WORDS, "--seeds", "2"), run.checkpoint.save_partial, []

    def save(*arguments):
        calls.append(arguments)
        saved(*arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt

    assert ltkit(*words, "-o", "whole.pt")[0] == 0
    monkeypatch.setattr(run.checkpoint, "save_partial", save)
    assert ltkit(*words)[0] == 130
    assert ltkit(*words, "--resume")[0] == 0
    assert len(calls) == 4  # no epoch twice
    assert len(names(folder)) == 4
    for seed in (0, 1):
        done, whole = (folder / f"{name}.seed{seed}.pt" for name in ("gcl", "whole"))
        assert done.read_bytes() == whole.read_bytes()


def test_a_seed_of_other_settings_is_not_taken_for_finished(ltkit, folder):
    words = (*WORDS, "--seeds", "2")
    assert ltkit(*words)[0] == 0
    (folder / "gcl.seed1.pt").unlink()
    before = names(folder)
    code, _, error = ltkit(*words, "--resume", "--lr", "0.05")
    assert code == 2
    assert "gcl.seed0.pt: --lr: found 0.1, expected 0.05; resume with the settings of" in error
    code, _, error = ltkit(*words)
    assert code == 2
    assert "gcl.seed0.pt: exists; pass --overwrite" in error
    assert names(folder) == before
    (folder / "gcl.seed0.pt").write_bytes(b"?")
    code, _, error = ltkit(*words, "--resume")
    assert code == 2
    assert "gcl.seed0.pt: not a checkpoint of ltkit" in error
    (folder / "gcl.seed0.pt").unlink()
    code, _, error = ltkit(*words, "--resume")
    assert "gcl.seed0.pt.partial: not found, nothing to resume" in error


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
@pytest.mark.skipif(not any(map(shutil.which, run.COMPILERS)), reason="no C++ compiler")
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
    with pytest.raises(InputError, match=r"--compile: found no C\+\+ compiler, expected g"):
        fit(digits, output, replace(SETTINGS, compile=True))
