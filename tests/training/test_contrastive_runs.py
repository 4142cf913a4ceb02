"""Runs of contrastive methods: stopped, resumed, extracted from, refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from contrastive import CONTRASTIVE, RUN, SMALL, UNLABELLED, built, plain_views
from made import refused
from trained import Stop, dataset_of, fit, log, same, stop_after, weights

from ltkit.files import features
from ltkit.losses import ce
from ltkit.settings import TrainPlan
from ltkit.training import checkpoint, job, runs
from ltkit.training.deferred import Deferred
from ltkit.training.mixing.mixup import Mixup
from ltkit.training.schedules import Stage

pytestmark = pytest.mark.usefixtures("one_thread")


def run(digits, output, name, settings=RUN, loss=None, **options):
    made = loss or built(name, digits.classes.train_count, **options.pop("set", {}))
    fit(digits, output, settings, loss=made, method=name, **options)


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(digits, tmp_path, name):
    whole = tmp_path / "whole.pt"
    run(digits, whole, name)
    for epoch in (1, 2):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            run(digits, output, name, report=stop_after(epoch))
        run(digits, output, name, resume=True)
        assert same(weights(output), weights(whole))
        assert log(output) == log(whole)
    assert {key.partition(".")[0] for key in weights(whole)} == {"backbone", "head"}


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_it_learns(digits, tmp_path, name):
    """The head of each finds what is in the features, also where these are the contrast's."""
    settings = replace(RUN, epochs=12, schedule="cosine")
    run(digits, tmp_path / "o.pt", name, settings, set=plain_views(name))
    lines = log(tmp_path / "o.pt")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["val"]["balanced"] > (0.3 if name in UNLABELLED else 0.5)


def test_a_queue_of_another_size_is_not_restored(digits, tmp_path, monkeypatch):
    output = tmp_path / "net.pt"
    plan, other = (TrainPlan("paco", {"queue": n, "size": 8}) for n in (64, 96))
    with pytest.raises(Stop):
        runs.train_networks(digits, plan, RUN, output, report=lambda path: stop_after(1))
    message = (
        "parameters: found {'queue': 64, 'size': 8}, expected {'queue': 96, 'size': 8}; resume"
    )
    refused(lambda: runs.train_networks(digits, other, RUN, output, resume=True), message)
    monkeypatch.setattr(checkpoint, "_check_same", lambda *given: None)  # a state that says another
    message = "not a checkpoint of an interrupted run (RuntimeError)"
    refused(lambda: runs.train_networks(digits, other, RUN, output, resume=True), message)


@pytest.mark.parametrize(
    ("size", "batch"), [(31, 32), (10_000, 32), (64, 65)], ids=["batch", "data", "larger batch"]
)
@pytest.mark.parametrize("name", ["paco", "gpaco", "kcl", "moco", "tsc", "instance-contrast"])
def test_a_queue_that_does_not_fit(digits, tmp_path, name, size, batch):
    settings = replace(RUN, batch_size=batch)
    message = f"parameters queue: found {size}, expected from {batch}, the batch size, to "
    refused(lambda: run(digits, tmp_path / "o.pt", name, settings, set={"queue": size}), message)


def test_a_queue_of_exactly_the_data(digits, tmp_path):
    size = len(digits.split("train"))
    run(digits, tmp_path / "o.pt", "paco", replace(RUN, epochs=1), set={"queue": size})


def test_images_are_not_mixed(digits, tmp_path):
    message = "mixing: this loss counts the labels"
    refused(lambda: run(digits, tmp_path / "o.pt", "paco", mixing=Mixup()), message)


def test_colours_of_images_that_have_none(tmp_path):
    pictures = dataset_of([40, 40], channels=4)
    message = "augment simclr: found images of 4 channels, expected 1 or 3"
    refused(
        lambda: run(pictures, tmp_path / "o.pt", "paco", set={"queue": 0}, arch="made up"), message
    )


def test_the_head_of_a_second_stage(digits, tmp_path):
    """The contrast's features are held, and a head is trained on them."""
    first, output = tmp_path / "first.pt", tmp_path / "net.pt"
    run(digits, first, "supcon", replace(RUN, epochs=2, schedule="cosine"))
    counts = torch.from_numpy(digits.classes.train_count)

    def stages(**options):
        then = Stage(2, "ce", {}, "class-balanced", 0.1, "backbone")
        loss = Deferred(counts, built("supcon", counts), ce.loss, 2)
        settings = replace(RUN, epochs=4, schedule="cosine")
        run(digits, output, "supcon", settings, loss=loss, then=then, **options)

    stages()
    found, expected = weights(output), weights(first)
    for key in expected:
        assert torch.equal(found[key], expected[key]) == key.startswith("backbone.")
    whole = output.read_bytes()
    for epoch in (1, 2, 3):
        with pytest.raises(Stop):
            stages(report=stop_after(epoch))
        stages(resume=True)
        assert output.read_bytes() == whole


def test_a_loss_among_the_stages_is_found():
    counts = torch.tensor([40, 40])
    method = built("paco", counts)
    assert job.methods_in(Deferred(counts, ce.loss, method, 1)) == [method]
    assert job.methods_in(Deferred(counts, method, method, 1)) == [method]
    assert job.methods_in(ce.loss) == []


@pytest.mark.parametrize("name", CONTRASTIVE)
def test_on_the_command_line(ltkit, folder, name):
    """Trained, extracted with the head proven, corrected, evaluated."""
    given = [w for k, v in SMALL.get(name, {}).items() for w in ("--set", f"{k}={v}")]
    words = ["--data", "digits_lt", "--epochs", "4", "--batch-size", "64", "--device", "cpu"]
    code, _, said = ltkit("train", name, *words, *given, "-o", "net.pt", "-q")
    assert code == 0, said
    code, _, said = ltkit(
        "extract", "net.pt", "--data", "digits_lt", "-o", "f.h5", "--device", "cpu"
    )
    assert code == 0, said
    assert "accuracy of the model's own head" in said
    assert features.read(Path("f.h5")).head is not None
    for command in ("posthoc tau-norm f.h5 -o t.h5", "evaluate f.h5 --classifier t.h5"):
        code, output, said = ltkit(*command.split())
        assert code == 0, said
    assert "tau-norm" in output
    code, _, said = ltkit("train", name, "f.h5", *given)
    assert code == 2
    assert f"METHOD {name}: " in said
    assert "found cached features; train it on images" in said


def test_the_list_has_them(ltkit):
    _, output, _ = ltkit("train", "--list")
    lines = {line.split()[0]: line for line in output.splitlines()}
    assert set(CONTRASTIVE) <= {*lines}
    assert "[alpha=0.01, beta=1.0, gamma=1.0, temperature=0.05, queue=1024" in lines["paco"]
    assert all("arXiv" in lines[name] or "Kim, Ke, Yu" in lines[name] for name in CONTRASTIVE)
