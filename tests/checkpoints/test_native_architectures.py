"""What `train` writes, `extract` reads: every network of the catalogue."""

import numpy as np
import pytest
import torch

from ltkit import architectures, checkpoints
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings
from ltkit.sources import extraction
from ltkit.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")
C, SIZE = 5, 32
LARGE = {"resnet101", "resnet152", "wide_resnet50_2", "resnext50", "resnet50"}


def dataset(channels, names=("e", "d", "c", "b", "a")):
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, channels), dtype=np.uint8)
    split = ImageSplit(pixels, np.array([0, 3, 4]), np.array(["a", "b", "c"]))
    table = ClassTable(np.array([9, 8, 7, 6, 5]), names)
    half, record = (0.5,) * channels, {"spec": "random", "index_digest": "x"}
    return Dataset({"train": split, "test": split}, table, half, half, 0, False, record)


def written(path, arch, data, cosine=False):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build(
            arch, C, cosine=cosine, scale=16.0 if cosine else 1.0, channels=len(data.mean)
        )
    recipe = {"arch": arch, "cosine": cosine, "scale": 16.0 if cosine else 1.0}
    checkpoint.save(path, {**recipe, "dataset": dict(data.record)}, 1, network, data)
    return network.eval()


def named(arch):
    family = arch.rpartition("_")[0] if "experts" in arch else arch
    large = any(arch.startswith(name) for name in LARGE) and (family != arch or "152" in arch)
    return pytest.param(arch, marks=[pytest.mark.slow] if large else [])


@torch.no_grad()
@pytest.mark.parametrize("arch", [named(arch) for arch in architectures.CATALOGUE])
def test_what_train_writes_is_extracted(tmp_path, arch):
    spec = architectures.spec(arch)
    data, path = dataset(spec.channels), tmp_path / "m.pt"
    network = written(path, arch, data)
    found = checkpoints.load(path)
    assert (found.family, found.arch, found.class_names) == ("native", arch, data.classes.names)
    assert (found.head.num_classes, found.head.experts) == (C, spec.experts)
    extraction.extract(found, data, ("test",), tmp_path / "f.h5", ExtractSettings())
    features = features_file.read(tmp_path / "f.h5")
    images = torch.from_numpy(data.split("test").images).permute(0, 3, 1, 2) / 127.5 - 1
    expected = network(images).numpy()
    logits = features.classifier().logits(features.split("test").features[:])
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@torch.no_grad()
@pytest.mark.parametrize("arch", ["resnet32_3experts", "resnet10_2experts_reduced"])
@pytest.mark.parametrize("cosine", [False, True])
def test_corrected_experts_go_back(tmp_path, arch, cosine):
    path, output = tmp_path / "m.pt", tmp_path / "fixed.pt"
    written(path, arch, dataset(3), cosine)
    found = checkpoints.load(path)
    base = found.head.fold()
    swapped = Correction(
        "made", np.array([0, 1]), base.weight[[1, 0]][None], base.bias[[1, 0]][None], ({},),
        base.normalize_features,
    )  # fmt: skip
    export_into(path, swapped, 0, output, made_from=found.digest)
    images = torch.randn(2, 3, SIZE, SIZE)
    old, new = found.network(images), checkpoints.load(output).network(images)
    torch.testing.assert_close(new, old[:, [1, 0, 2, 3, 4]], rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("arch", ["resnet20", "resnet32_2experts", "digits_net", "resnet18"])
@pytest.mark.parametrize("channels", [1, 4])
def test_networks_for_other_channels(tmp_path, arch, channels):
    data = dataset(channels)
    network = written(tmp_path / "m.pt", arch, data)
    found, images = checkpoints.load(tmp_path / "m.pt"), torch.randn(2, channels, SIZE, SIZE)
    assert found.mean == (0.5,) * channels
    torch.testing.assert_close(found.network(images), network(images))
