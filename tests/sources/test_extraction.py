"""Images to features: what is written is what the network computes, whatever happens on the way."""

import json
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import pytest
import torch
from PIL import Image
from shared_data import cifar10_root, shared
from torch import nn
from trained import fit

from ltkit import architectures, checkpoints, datasets, records
from ltkit.architectures.network import Network
from ltkit.checkpoints import Recognised
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, SettingError
from ltkit.files import features, hdf5
from ltkit.records import ClassTable, Dataset, Head, ImageSplit, ImageView
from ltkit.settings import ExtractSettings, TrainSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    """A checkpoint of one epoch on the digits."""
    path = tmp_path_factory.mktemp("trained") / "m.pt"
    settings = TrainSettings(epochs=1, batch_size=64, warmup_epochs=0)
    fit(digits, path, settings)
    return path


@pytest.fixture
def output(tmp_path):
    return tmp_path / "f.h5"


def extract(path, dataset, output, splits=("train", "val", "test"), resume=False, **settings):
    model = checkpoints.load(path) if isinstance(path, Path) else path
    options = ExtractSettings(**{"batch_size": 100} | settings)
    extraction.extract(model, dataset, splits, output, options, resume=resume)
    return features.read(output)


def naive_logits(path, images, dataset):
    """The network's logits in float64, one image at a time."""
    model = checkpoints.load(path)
    network = model.network.double().eval()
    logits = []
    for pixels in images:
        values = (pixels.astype(np.float64) / 255 - dataset.mean) / dataset.std  # (H, W, channels)
        with torch.no_grad():
            logits.append(network(torch.from_numpy(values).permute(2, 0, 1)[None])[0])
    return torch.stack(logits).numpy()


def test_features_times_head_are_the_models_logits(trained, digits, output):
    found = extract(trained, digits, output)
    assert list(found.splits) == ["train", "val", "test"]
    for name, split in found.splits.items():
        given = digits.split(name)
        np.testing.assert_array_equal(split.labels, given.labels)
        np.testing.assert_array_equal(split.ids, given.ids)
        rows = slice(0, 40)
        expected = naive_logits(trained, given.images[rows], digits)
        logits = found.classifier().logits(split.features[rows])
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    assert found.classes.names == digits.classes.names
    np.testing.assert_array_equal(found.classes.train_count, digits.classes.train_count)
    assert found.settings["dataset"] == json.loads(json.dumps(dict(digits.record)))
    assert (found.settings["arch"], found.settings["family"]) == ("digits_net", "native")


def test_half_precision_is_the_rounded_features(trained, digits, output, tmp_path):
    whole = extract(trained, digits, output, ("test",))
    half = extract(trained, digits, tmp_path / "half.h5", ("test",), dtype="float16")
    stored = half.split("test").features
    assert stored.dtype == np.float16
    expected = whole.split("test").features[:].astype(np.float16)
    np.testing.assert_array_equal(stored[:], expected)


def test_only_the_splits_that_are_asked_for(trained, digits, output):
    assert list(extract(trained, digits, output, ("test",)).splits) == ["test"]


@pytest.mark.parametrize("batch_size", [1, 37, 1000])
def test_the_batch_size_does_not_matter(trained, digits, output, tmp_path, batch_size):
    whole = extract(trained, digits, output, ("val",)).split("val").features[:]
    other = extract(trained, digits, tmp_path / "o.h5", ("val",), batch_size=batch_size)
    np.testing.assert_allclose(other.split("val").features[:], whole, rtol=0, atol=1e-5)


def test_a_model_left_in_training_mode_is_evaluated(trained, digits, output, tmp_path):
    expected = extract(trained, digits, output, ("val",)).split("val").features[:]
    model = checkpoints.load(trained)
    model.network.train()
    found = extract(model, digits, tmp_path / "o.h5", ("val",)).split("val").features[:]
    np.testing.assert_array_equal(found, expected)


def test_mixed_precision_is_close(trained, digits, output, tmp_path):
    expected = extract(trained, digits, output, ("val",)).split("val").features[:]
    found = extract(trained, digits, tmp_path / "o.h5", ("val",), amp="bf16")
    np.testing.assert_allclose(found.split("val").features[:], expected, rtol=0.1, atol=0.1)
    assert not np.array_equal(found.split("val").features[:], expected)


def test_the_same_inputs_give_the_same_bytes(trained, digits, output, tmp_path):
    extract(trained, digits, output)
    extract(trained, digits, tmp_path / "again.h5", workers=7)
    assert output.read_bytes() == (tmp_path / "again.h5").read_bytes()


# Interruptions


class Stopping:
    """Images whose reading is interrupted at a row."""

    def __init__(self, images, stop):
        self.images, self.stop = images, stop

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        if rows.stop > self.stop:
            raise KeyboardInterrupt
        return self.images[rows]


class CentredOnBatch(nn.Module):
    """A backbone whose features depend on the batch, so that other batches are seen."""

    def forward(self, images):
        flat = images.flatten(1)
        return flat - flat.mean(dim=0)


@pytest.mark.parametrize("stop", [100, 250])
@pytest.mark.parametrize("batch_dependent", [False, True])
def test_a_resumed_extraction_has_the_same_bytes(
    trained, digits, output, tmp_path, monkeypatch, stop, batch_dependent
):
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 64 * 4 * 30)  # 30 rows, batches have 100
    model = checkpoints.load(trained)
    if batch_dependent:
        model = replace(model, network=Network(CentredOnBatch(), model.network.head))
    extract(model, digits, tmp_path / "whole.h5")
    train = digits.split("train")
    stopped = replace(train, images=Stopping(train.images, stop))
    broken = replace(digits, splits={**digits.splits, "train": stopped})
    with pytest.raises(KeyboardInterrupt):
        extract(model, broken, output)
    assert not output.exists()
    assert made.beside(output) == ["f.h5.journal", "f.h5.partial", "whole.h5"]
    read = []
    monkeypatch.setattr(
        Stopping, "__getitem__", lambda self, rows: read.append(rows) or self.images[rows]
    )
    extract(model, broken, output, resume=True)
    assert output.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert min(rows.start for rows in [r for r in read if r.stop > 1][1:]) == (
        0 if stop == 100 else 100
    )


def test_another_model_is_not_resumed(trained, digits, output, tmp_path):
    train = digits.split("train")
    stopped = replace(train, images=Stopping(train.images, 200))
    with pytest.raises(KeyboardInterrupt):
        extract(trained, replace(digits, splits={**digits.splits, "train": stopped}), output)
    other = replace(checkpoints.load(trained), digest="other")
    made.refused(lambda: extract(other, digits, output, resume=True), "another model")
    relabelled = replace(digits.split("test"), labels=digits.split("test").labels[::-1])
    changed = replace(digits, splits={**digits.splits, "test": relabelled})
    made.refused(lambda: extract(trained, changed, output, resume=True), "another model, dataset")


# What is refused


def test_a_head_that_does_not_give_the_logits(trained, digits, output, monkeypatch):
    right = checkpoints.load(trained).head
    wrong = Head(right.weight, right.bias + np.float32(0.01))
    monkeypatch.setattr(Recognised, "head", wrong)
    words = ("features times head differ", "of the largest, expected below 0.0001")
    made.refused(lambda: extract(trained, digits, output), *words, error=InputError)
    assert made.beside(output) == []


def test_logits_that_are_not_finite(trained, digits, output):
    model = checkpoints.load(trained)
    nn.init.constant_(model.network.head.bias, float("nan"))
    made.refused(lambda: extract(model, digits, output), "differ from the model's logits by nan")


def test_another_number_of_classes(trained, digits, output):
    fewer = replace(digits, classes=ClassTable(np.ones(9, np.int64)))
    made.refused(
        lambda: extract(trained, fewer, output), "head: found 10 classes, expected 9 of digits_lt"
    )


def test_an_absent_split(trained, digits, output):
    made.refused(lambda: extract(trained, digits, output, ("best",)), "no split best")


def test_features_that_do_not_fit_half_precision(trained, digits, output):
    model = checkpoints.load(trained)
    with torch.no_grad():
        model.network.get_submodule("backbone")[7].weight.mul_(1e6)
    made.refused(
        lambda: extract(model, digits, output, dtype="float16"), "train: row ", "--dtype float32"
    )


class Pooled(nn.Module):
    """A network that takes 16 x 16 images alone, or whose head sees a map."""

    def __init__(self, size=None, flat=True):
        super().__init__()
        self.size, self.flat = size, flat

    def forward(self, images):
        if self.size and images.shape[2] != self.size:
            raise AssertionError(f"Input height ({images.shape[2]}) doesn't match ({self.size})")
        features = images.mean(dim=1).flatten(1)
        return features if self.flat else features[:, None]


def test_images_of_a_size_that_the_network_does_not_take(trained, digits, output):
    model = checkpoints.load(trained)
    model = replace(model, network=Network(Pooled(16), model.network.head))
    words = ("does not take a batch of (100, 1, 8, 8)", "Input height (8) doesn't match (16)")
    made.refused(lambda: extract(model, digits, output), *words, error=InputError)


def test_images_of_other_channels_than_the_network_takes(trained, digits, output):
    model = checkpoints.load(trained)
    convolution = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.Flatten())
    model = replace(model, network=Network(convolution, model.network.head))
    words = ("(100, 1, 8, 8)", "to have 3 channels", "and the channels", "by a transform")
    made.refused(lambda: extract(model, digits, output), *words, error=InputError)


def test_a_head_that_sees_a_map(trained, digits, output):
    model = checkpoints.load(trained)
    model = replace(model, network=Network(Pooled(flat=False), model.network.head))
    words = ("head: found an input of shape (100, 1, 64)", "name another")
    made.refused(lambda: extract(model, digits, output), *words, error=SettingError)


# Image files


@pytest.fixture
def pictures(tmp_path):
    """Forty pictures of 10 classes, and a model for them."""
    rng = np.random.default_rng(0)
    paths, labels = [], np.arange(40) % 10
    (tmp_path / "pics").mkdir()
    for i in range(40):
        paths.append(tmp_path / "pics" / f"é{i}.png")
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(paths[-1])
    ids = np.array([path.name for path in paths])
    split = ImageSplit(ImageFiles(paths, ImageView(32, 32)), labels, ids)
    dataset = Dataset(
        {"train": split}, ClassTable(np.full(10, 4)), (0.5,) * 3, (0.25,) * 3, 0, False,
        {"spec": "pictures", "index_digest": "x"},
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build("resnet20", 10).eval()
    model = Recognised(tmp_path / "m.pt", "d", "test", "resnet20", network, (0.5,) * 3,
                       (0.25,) * 3, {}, view=ImageView(32, 32))  # fmt: skip
    return dataset, model, paths


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_models_own_view_of_an_image_comes_first(pictures, output, tmp_path, interpolation):
    dataset, model, paths = pictures
    seen = replace(model, view=ImageView(40, 36, interpolation))
    found = extract(seen, dataset, output, ("train",))
    view = found.settings["view"]
    assert (view["resize"], view["crop"], view["interpolation"]) == (40, 36, interpolation)
    assert {*view["from"].values()} == {"architecture", "pictures"}
    method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    pixels = [
        np.asarray(Image.open(p).resize((40, 40), method[interpolation]))[2:38, 2:38] for p in paths
    ]
    images = (torch.tensor(np.stack(pixels)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.no_grad():
        expected = model.network.backbone(images)
    np.testing.assert_allclose(found.split("train").features[:], expected, atol=1e-4)


def test_a_broken_image_ends_the_run_and_is_named(pictures, output):
    dataset, model, paths = pictures
    paths[33].write_bytes(paths[33].read_bytes()[:60])
    message = made.refused(
        lambda: extract(model, dataset, output, ("train",), batch_size=10), "é33.png: image 33",
        "--on-error skip", error=InputError,
    )  # fmt: skip
    assert "cannot be decoded" in message
    assert not output.exists()


def test_broken_images_are_skipped_and_noted(pictures, output, tmp_path):
    dataset, model, paths = pictures
    options = {"splits": ("train",), "batch_size": 8}
    whole = extract(model, dataset, tmp_path / "whole.h5", on_error="skip", **options)
    fail = extract(model, dataset, tmp_path / "fail.h5", **options)
    paths[3].unlink()
    paths[33].write_bytes(b"hello")
    found = extract(model, dataset, output, on_error="skip", **options)
    kept = [i for i in range(40) if i not in (3, 33)]
    split, before = found.split("train"), whole.split("train")
    np.testing.assert_array_equal(split.labels, before.labels[kept])
    np.testing.assert_array_equal(split.ids, before.ids[kept])
    np.testing.assert_allclose(
        split.features[:], before.features[:][kept], rtol=0, atol=1e-5
    )  # other batches
    np.testing.assert_array_equal(before.features[:], fail.split("train").features[:])
    contents = hdf5.read(output, hdf5.FEATURES)
    assert contents.strings("train/skipped", 2).tolist() == ["é3.png", "é33.png"]
    assert "train/skipped" not in hdf5.read(
        tmp_path / "whole.h5", hdf5.FEATURES
    ).datasets  # fmt: skip


def test_no_image_left(pictures, output):
    dataset, model, paths = pictures
    for path in paths:
        path.unlink()
    made.refused(
        lambda: extract(model, dataset, output, ("train",), on_error="skip"),
        "pictures: found no image in train", error=InputError,
    )  # fmt: skip


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_the_asked_number_of_threads_decodes(pictures, output, monkeypatch, on_error):
    dataset, model, _ = pictures
    workers = set()
    decode = ImageFiles.decode
    monkeypatch.setattr(
        ImageFiles, "decode", lambda self, i: workers.add(self.workers) or decode(self, i)
    )
    extract(model, dataset, output, ("train",), workers=5, on_error=on_error)
    assert workers == {5}


# The command


def test_the_command(trained, output, ltkit, monkeypatch):
    monkeypatch.chdir(output.parent)
    code, out, err = ltkit(
        "extract", trained, "--data", "digits_lt", "--splits", "val,test",
        "--dtype", "float16", "--device", "cpu", "-o", output.name,
    )  # fmt: skip
    assert (code, out) == (0, "f.h5\n"), err
    found = features.read(output)
    assert list(found.splits) == ["val", "test"]
    assert found.settings["dtype"] == "float16"
    assert "workers" not in found.settings


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "accuracy"), [("cifar10_resnet20.th", 0.9173), ("cifar10_resnet32.th", 0.9263)]
)
def test_published_networks_reach_their_published_accuracy(
    tmp_path, monkeypatch, ltkit, file, accuracy
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    code, _, err = ltkit(
        "extract", shared("checkpoints", file), "--data", "cifar10_lt:val=none",
        "--root", cifar10_root(), "--splits", "test",
    )  # fmt: skip
    assert code == 0, err
    document = json.loads(ltkit("evaluate", "--json")[1])
    assert document["n"] == 10_000
    assert document["rows"][0]["accuracy"]["all"] == pytest.approx(accuracy, abs=1e-9)
