"""Shares in prototypes of local vectors, extracted beside the features."""

from dataclasses import replace

import h5py
import made
import numpy as np
import pytest
import torch
from trained import fit

from ltkit import architectures, checkpoints, datasets, records
from ltkit.architectures.network import Network
from ltkit.attributes import prototypes
from ltkit.attributes.maps import feature_map
from ltkit.errors import FormatError
from ltkit.files import features
from ltkit.files.features_writer import FeaturesWriter
from ltkit.settings import ExtractSettings, TrainSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, digits):
    path = tmp_path_factory.mktemp("trained") / "m.pt"
    fit(digits, path, TrainSettings(epochs=1, batch_size=64, warmup_epochs=0))
    return path


@pytest.fixture
def model(trained):
    return checkpoints.load(trained)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "f.h5"


def extract(model, dataset, output, local=6, splits=("train", "val", "test"), **options):
    settings = ExtractSettings(batch_size=100, local=local)
    extraction.extract(model, dataset, splits, output, settings, **options)
    return features.read(output)


def maps_of(model, split):
    pixels = torch.from_numpy(split.images).float() / 255
    inputs = (pixels - torch.tensor(model.mean)) / torch.tensor(model.std)
    with torch.no_grad():
        return feature_map(model.network.eval().backbone, inputs.permute(0, 3, 1, 2))


def test_they_are_those_of_the_maps(model, digits, output):
    """Prototypes of the train split; each image's positions by the nearest."""
    found = extract(model, digits, output)
    train = digits.split("train")
    counts = np.bincount(train.labels)
    given = [(maps_of(model, train), torch.from_numpy(train.labels))]
    centres = prototypes.fit(given, counts, 6)
    np.testing.assert_allclose(found.prototypes, centres, atol=1e-4)
    for name, split in found.splits.items():
        vectors = prototypes.local_vectors(maps_of(model, digits.split(name))).numpy()
        distance = ((vectors[:, :, None] - found.prototypes) ** 2).sum(axis=3)
        expected = np.eye(6)[distance.argmin(axis=2)].mean(axis=1)
        shares = split.local[:]
        assert shares.shape == (len(split), 6)
        assert np.mean(np.abs(shares - expected).max(axis=1) > 1e-3) < 0.01  # but for ties
    assert found.settings["local"] == {"prototypes": 6, "of": "train", "sample": 256, "seed": 0}


def test_the_rest_of_the_file_is_what_it_was(model, digits, output, tmp_path):
    plain = extract(model, digits, tmp_path / "plain.h5", local=None)
    found = extract(model, digits, output)
    assert plain.prototypes is None
    assert "local" not in plain.settings
    assert plain.split("test").local is None
    for name, split in plain.splits.items():
        np.testing.assert_array_equal(split.features[:], found.split(name).features[:])
    with h5py.File(tmp_path / "plain.h5") as file:
        assert not [name for name in file["train"] if name == "local"]
    rows = np.array([3, 250, 380])
    some = found.split("train").at(rows)
    np.testing.assert_array_equal(some.local[:], found.split("train").local[:][rows])


def test_those_of_the_checkpoint_come_first(model, digits, output):
    """Under ``auto``; a number fits others."""
    own = torch.nn.functional.normalize(torch.randn(5, 64))
    found = extract(replace(model, prototypes=own), digits, output, "auto", ("test",))
    np.testing.assert_allclose(found.prototypes, own)
    assert found.settings["local"] == {"prototypes": 5, "of": "checkpoint"}
    others = extract(replace(model, prototypes=own), digits, output.with_name("g.h5"), 5)
    assert others.settings["local"]["of"] == "train"


@pytest.mark.parametrize("stop", [100, 250])
def test_a_resumed_extraction_has_the_same_bytes(model, digits, output, monkeypatch, stop):
    """Where features and shares are in blocks of other sizes; a finished file is kept."""
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 64 * 4 * 30)  # 30 rows of features
    whole = output.with_name("whole.h5")
    extract(model, digits, whole, 50)
    append, written = FeaturesWriter.append, []

    def stopping(self, name, rows):
        written.append(len(rows))
        if sum(written) > 2 * stop:
            raise KeyboardInterrupt
        append(self, name, rows)

    monkeypatch.setattr(FeaturesWriter, "append", stopping)
    with pytest.raises(KeyboardInterrupt):
        extract(model, digits, output, 50)
    assert "train/local 0 " in output.with_name("f.h5.journal").read_text()
    monkeypatch.setattr(FeaturesWriter, "append", append)
    extract(model, digits, output, 50, resume=True)
    assert output.read_bytes() == whole.read_bytes()
    extract(model, digits, output, 50, resume=True)
    assert output.read_bytes() == whole.read_bytes()
    for other in (49, None):
        made.refused(lambda k=other: extract(model, digits, output, k, resume=True), "f.h5: exists")


def test_what_is_refused(model, digits, output):
    def asked(local, model=model, **options):
        return lambda: extract(model, digits, output, local, **options)

    for wrong in (0, 65_537, 1.5):
        made.refused(asked(wrong), f"local: found {wrong}, expected a whole number from 1 to 65536")
    made.refused(asked(4, splits=("test",)), "local: found no images of train")
    vectors = np.minimum(4 * digits.classes.train_count, 256).sum()
    message = f"prototypes: found 60000, expected from 1 to {vectors}, the vectors"
    made.refused(asked(60_000), message)
    for shape in [(5, 63), (0, 64), (64,)]:
        other = replace(model, prototypes=torch.zeros(shape))
        message = "attributes: prototypes: found"
        made.refused(asked("auto", other), message, "(K, 64)", error=FormatError)
    experts = architectures.build("resnet32_2experts", 10, channels=1)
    several = replace(model, network=Network(experts.backbone, experts.head))
    made.refused(asked(4, several), "features: feature map already pooled")
    assert not output.exists()


def test_the_command(digits, tmp_path, ltkit, monkeypatch):
    """Trained with lpa, extracted with its prototypes, read as any features file."""
    monkeypatch.chdir(tmp_path)
    given = "--epochs 2 --set queue=0 --set size=8 --set warmup=1 --set prototypes=7 --device cpu"
    for words in (
        f"train lpa --data digits_lt {given} -o net.pt -q",
        "extract net.pt --data digits_lt --local auto -o f.h5 --device cpu -q",
        "validate f.h5", "posthoc tau-norm f.h5 -o t.h5", "evaluate f.h5 --classifier t.h5",
    ):  # fmt: skip
        code, _, said = ltkit(*words.split())
        assert code == 0, said
    stored = torch.load("net.pt", weights_only=True)["attributes"]["prototypes"]
    found = features.read(tmp_path / "f.h5")
    np.testing.assert_array_equal(found.prototypes, stored)
