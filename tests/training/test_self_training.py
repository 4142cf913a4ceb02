"""Self-training: which images are taken, which labels they get, and what is trained on them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import RUN
from made import refused
from PIL import Image
from trained import Stop, dataset_of, fit, log, recipe, same, stop_after, weights

from ltkit import checkpoints, datasets
from ltkit.datasets.unlabelled import UNLABELLED, with_unlabelled
from ltkit.losses import balanced_softmax
from ltkit.records import ImageSplit
from ltkit.settings import TrainPlan
from ltkit.training import checkpoint, distributed, runs
from ltkit.training.images import store_of
from ltkit.training.self_training import self_trained
from ltkit.training.teachers import teacher_of

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = "digits_lt:ir=1"
"""All digits but those for validation and test; those of ir=5 are among them."""


@pytest.fixture(scope="module")
def both(digits):
    return with_unlabelled(digits, SPEC)


@pytest.fixture(scope="module")
def base(digits, tmp_path_factory):
    """A network of the labelled images."""
    path = tmp_path_factory.mktemp("base") / "base.pt"
    fit(digits, path, replace(RUN, epochs=8))
    return path


def train(data, output, settings=RUN, plan=None, **more):
    said = []
    plan = plan or TrainPlan("balanced-softmax")
    runs.train_networks(data, plan, settings, output, arch="digits_net", note=said.append, **more)
    return said


def pixels_of(split):
    return {split.images[row : row + 1].tobytes() for row in range(len(split))}


# The images


def test_a_datasets_own_images_are_left_out(digits, both):
    found, whole = both.split(UNLABELLED), datasets.load(SPEC).split("train")
    own = set.union(*(pixels_of(split) for split in digits.splits.values()))
    expected = [row for row in range(len(whole)) if not {whole.images[row].tobytes()} & own]
    assert 0 < len(found) == len(expected) < len(whole)
    assert pixels_of(found) == {whole.images[row].tobytes() for row in expected}
    assert found.ids.tolist() == whole.ids[expected].tolist()
    assert {*found.labels.tolist()} == {-1}
    left = len(whole) - len(found)
    note = f"{SPEC}: {left} of {len(whole)} images are the dataset's own, and left out"
    assert note in both.notes
    assert both.record[UNLABELLED]["spec"] == SPEC
    np.testing.assert_array_equal(found.images[3:9], whole.images[expected[3:9]])


def test_a_dataset_beside_itself(digits):
    size = len(digits.split("train"))
    message = f"unlabelled: digits_lt:ir=5: found {size} images, {size} of them of the dataset"
    refused(lambda: with_unlabelled(digits, "digits_lt:ir=5"), message)


def pictures(folder, names, side=8, seed=0):
    rng = np.random.default_rng(seed)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(path)


def test_a_folder_is_read_wherever_its_images_lie(tmp_path):
    folder = tmp_path / "more"
    pictures(folder, ["b.png", "a.png", "deep/er/c.png"], side=12)
    (folder / "notes.txt").write_text("no image")
    data = dataset_of([9, 9], channels=3)
    found = with_unlabelled(data, str(folder))
    assert found.split(UNLABELLED).ids.tolist() == ["a.png", "b.png", "deep/er/c.png"]
    assert found.split(UNLABELLED).images[:2].shape == (2, 8, 8, 3)  # as the others are stored
    assert found.notes == ("ignored 1 file that is no image (.txt 1)",)
    other = with_unlabelled(data, str(folder))
    assert other.record == found.record
    pictures(folder, ["a.png"], side=12, seed=9)
    assert with_unlabelled(data, str(folder)).record != found.record


def test_stored_pictures_of_another_size_are_brought_to_it(monkeypatch):
    data, large = dataset_of([9, 9], channels=3), dataset_of([4], channels=3)
    images = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8)
    split = ImageSplit(images, np.zeros(4, np.int64), np.arange(4).astype(str))
    other = replace(large, splits={"train": split})
    monkeypatch.setattr("ltkit.datasets.unlabelled.load", lambda *given, **named: other)
    found = with_unlabelled(data, "other")
    assert found.split(UNLABELLED).images[1:3].shape == (2, 8, 8, 3)


def test_an_empty_folder(tmp_path):
    (tmp_path / "more").mkdir()
    message = "found 0 images, 0 of them of the dataset itself; expected others"
    refused(lambda: with_unlabelled(dataset_of([9, 9]), str(tmp_path / "more")), message)


def test_a_link_out_of_the_folder(tmp_path):
    pictures(tmp_path, ["own/a.png", "elsewhere/b.png"])
    (tmp_path / "own" / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    data, folder = dataset_of([9, 9], channels=3), str(tmp_path / "own")
    refused(lambda: with_unlabelled(data, folder), "a link leads out of")
    found = with_unlabelled(data, folder, follow_links=True)
    assert len(found.split(UNLABELLED)) == 2


# The labels


def test_labels_are_the_teachers_predictions(digits, both, base):
    teacher = teacher_of(base, digits)
    found, said = self_trained(both, teacher, "cpu")
    network, others = checkpoints.load(base).network.eval(), both.split(UNLABELLED)
    x = torch.from_numpy(np.concatenate([others.images[:7], others.images[7:]]))
    x = (x.permute(0, 3, 1, 2) / 255 - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        expected = network(x).argmax(dim=1).numpy()
    train, own = found.split("train"), digits.split("train")
    size = len(own)
    np.testing.assert_array_equal(train.labels, np.concatenate([own.labels, expected]))
    assert train.ids.tolist() == [*own.ids.tolist(), *others.ids.tolist()]
    np.testing.assert_array_equal(train.images[:size], own.images[:])
    np.testing.assert_array_equal(train.images[size:], others.images[:])
    cut = slice(size - 3, size + 4)
    edges = np.concatenate([own.images[size - 3 :], others.images[:4]])
    np.testing.assert_array_equal(train.images[cut], edges)
    counts = np.bincount(expected, minlength=10)
    np.testing.assert_array_equal(found.classes.train_count - digits.classes.train_count, counts)
    assert found.labelled == size
    assert {*found.splits} == {*digits.splits}
    assert said == (
        f"{base}: gives labels to {len(others)} images, {counts.min()} to {counts.max()} a class; "
        "training counts are those of all labels"
    )
    assert found.record[UNLABELLED]["teacher"] == teacher.digest


def test_the_first_processs_labels_are_those_of_all(monkeypatch):
    values, said = torch.arange(3), []
    monkeypatch.setattr(distributed, "processes", lambda: 2)
    broadcast = "torch.distributed.broadcast"
    monkeypatch.setattr(broadcast, lambda tensor, src: said.append(src))
    assert distributed.shared(values) is values
    assert said == [0]


def test_without_a_teacher(both, base, tmp_path):
    message = "teacher: absent; unlabelled images take their labels from a checkpoint"
    refused(lambda: train(both, tmp_path / "o.pt"), message)


def test_images_of_other_channels(digits, base, tmp_path):
    pictures(tmp_path, ["more/a.png"])
    data = with_unlabelled(digits, str(tmp_path / "more"))
    message = (
        "unlabelled: found images of 8 x 8 pixels in 3 channels, expected 8 x 8 pixels in 1 channel"
    )
    refused(lambda: train(data, tmp_path / "o.pt", teacher=base), message)


# Runs


def test_a_run_is_one_on_all_labels(both, digits, base, tmp_path):
    """As of a dataset that had them from the beginning; the loss has all counts."""
    said = train(both, tmp_path / "o.pt", teacher=base)
    assert any("gives labels to" in line for line in said)
    union, _ = self_trained(both, teacher_of(base, digits), "cpu")
    given = union.split("train")
    plain = ImageSplit(given.images[:], given.labels, given.ids)
    whole = replace(union, splits=union.splits | {"train": plain}, labelled=None)
    fit(whole, tmp_path / "plain.pt", RUN, loss=balanced_softmax.loss)
    assert same(weights(tmp_path / "o.pt"), weights(tmp_path / "plain.pt"))
    kept = recipe(tmp_path / "o.pt")["dataset"][UNLABELLED]
    assert kept["teacher"] == checkpoints.load(base).digest
    assert "teacher" not in recipe(tmp_path / "o.pt")  # the loss has none
    counts = torch.load(tmp_path / "o.pt", weights_only=True)["classes"]["train_count"]
    assert counts == union.classes.train_count.tolist()


def test_shot_groups_stay_those_of_the_labels_that_were_given(tmp_path):
    data = dataset_of([101, 30, 5], val=[3, 3, 3])
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (300, 8, 8, 1), dtype=np.uint8)
    split = ImageSplit(images, np.full(300, -1), np.arange(300).astype(str))
    fit(data, tmp_path / "base.pt", replace(RUN, epochs=1))
    record = {**data.record, UNLABELLED: {"spec": "made"}}
    both = replace(data, splits=data.splits | {UNLABELLED: split}, record=record)
    train(both, tmp_path / "o.pt", teacher=tmp_path / "base.pt")
    assert {*log(tmp_path / "o.pt")[0]["val"]} == {"balanced", "many", "medium", "few"}


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(both, base, tmp_path):
    whole = tmp_path / "whole.pt"
    train(both, whole, teacher=base)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(both, output, teacher=base, report=lambda path, at=epoch: stop_after(at))
        train(both, output, teacher=base, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def test_a_run_is_resumed_with_the_same_labels(both, digits, base, tmp_path):
    output, other = tmp_path / "o.pt", tmp_path / "other.pt"
    fit(digits, other, replace(RUN, epochs=1))
    with pytest.raises(Stop):
        train(both, output, teacher=base, report=lambda path: stop_after(1))
    refused(lambda: train(both, output, teacher=other, resume=True), "dataset: found ")


def test_distillation_learns_from_the_same_teacher(both, base, tmp_path):
    train(both, tmp_path / "o.pt", plan=TrainPlan("distill"), teacher=base)
    assert recipe(tmp_path / "o.pt")["teacher"] == checkpoints.load(base).digest


def test_it_helps_where_there_are_many(digits, both, base, tmp_path):
    """More than the same run without them; the digits' labels are easily guessed."""
    settings = replace(RUN, epochs=10, schedule="cosine")
    fit(digits, tmp_path / "a.pt", settings, loss=balanced_softmax.loss)
    train(both, tmp_path / "b.pt", settings, teacher=base)
    plain, self_trained_ = (log(tmp_path / f"{n}.pt")[-1]["val"]["balanced"] for n in "ab")
    assert self_trained_ > plain - 0.02


def test_a_checkpoint_knows_its_images(both, base, tmp_path):
    train(both, tmp_path / "o.pt", replace(RUN, epochs=1), teacher=base)
    ids = torch.load(tmp_path / "o.pt", weights_only=True)["train_ids"]
    assert {*both.split(UNLABELLED).ids.tolist()} < {*ids}
    assert checkpoint.started(tmp_path / "o.pt") is None


def test_many_images_are_read_in_blocks(both, digits, base):
    """The store has the pixels of all, in their order."""
    found, _ = self_trained(both, teacher_of(base, digits), "cpu")
    store = store_of(found.split("train"), found, "cpu")
    assert len(store) == len(digits.split("train")) + len(both.split(UNLABELLED))


def test_on_the_command_line(ltkit, folder):
    words = ["--data", "digits_lt", "--epochs", "4", "--batch-size", "64", "--device", "cpu"]
    code, _, said = ltkit("train", "ce", *words, "-o", "base.pt")
    assert code == 0, said
    more = ["--unlabelled", SPEC, "--teacher", "base.pt"]
    code, _, said = ltkit("train", "logit-adjusted", *words, *more, "-o", "net.pt")
    assert code == 0, said
    assert "unlabelled " in said
    assert "note: base.pt: gives labels to " in said
    assert f"note: {SPEC}: " in said
    code, _, said = ltkit("extract", "net.pt", "--data", "digits_lt", "-o", "f.h5")
    assert code == 0, said
    code, out, said = ltkit("evaluate", "f.h5", "--json")
    assert code == 0, said
    assert json.loads(out)
    code, _, said = ltkit("train", "ce", "f.h5", "--unlabelled", SPEC)
    assert code == 2
    assert "--unlabelled: found a features file, expected --data with it" in said
    assert Path("net.pt").is_file()
