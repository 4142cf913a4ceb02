"""Files that earlier versions wrote are read, with the values that went into them."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ltkit.files import classifiers, features, hdf5, neighbors
from ltkit.files.contents import FORMAT_VERSION

V1 = Path(__file__).parents[1] / "archives" / "v1"
WRITTEN_BY = "ltkit 0.1.0"
DIGEST = "a48ae0ee2b03071bdb591ff1bf1799d27e918f6e3ee557687042e6fdf24444ce"


def test_a_features_file_of_v1():
    found = features.read(V1 / "features.h5")
    assert {name: len(split) for name, split in found.splits.items()} == {
        "train": 7, "val": 0, "test": 3,
    }  # fmt: skip
    test = found.split("test")
    assert test.features[:].tolist() == [
        [0, 0.25, 0.5, 0.75], [1, 1.25, 1.5, 1.75], [2, 2.25, 2.5, 2.75],
    ]  # fmt: skip
    assert test.features.dtype == np.float16
    assert test.labels.tolist() == [0, 1, 2]
    assert test.ids.tolist() == ["test/0.png", "test/1.png", "test/2.png"]
    assert found.split("train").features[6:].tolist() == [[6, 6.25, 6.5, 6.75]]
    classes = found.classes
    assert classes.train_count.tolist() == [3, 2, 2]
    assert classes.names == ("ant", "größe", "猫")
    assert classes.wnids == ("n01", "n02", "n03")
    assert classes.coarse == ("animal", "word", "animal")
    assert found.head.weight[1, 2].tolist() == [1.25, 1.375]
    assert found.head.bias.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (found.head.scale, found.head.normalize) == (16.0, "cosine")
    assert found.settings == {"dtype": "float16"}
    assert found.digest == DIGEST


def test_a_classifier_file_of_v1():
    found, inputs = classifiers.read(V1 / "classifier.h5")
    assert inputs == {"features": DIGEST}
    assert (found.method, found.normalize_features) == ("alphanet", True)
    assert found.class_id.tolist() == [1, 2]
    assert found.weight[1].tolist() == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert found.bias.tolist() == [[0, 0.5], [1, 1.5]]
    assert found.runs == ({"rho": 0.5, "seed": 0}, {"rho": 1.0, "seed": 0})
    assert found.extra["alpha"][1].tolist() == [[4, 5], [6, 7]]


def test_a_neighbours_file_of_v1():
    found = neighbors.read(V1 / "neighbors.h5")
    assert found.few_class.tolist() == [1, 2]
    assert found.base_class.tolist() == [[0, 2], [0, 1]]
    assert found.distance.tolist() == [[1, 2], [0.5, 3]]
    assert found.metric == "euclidean"


@pytest.mark.parametrize("name", ["features.h5", "classifier.h5", "neighbors.h5"])
def test_the_archives_are_small_and_sound(name):
    assert (V1 / name).stat().st_size < 30_000
    contents = hdf5.read(V1 / name, *hdf5.KINDS.values())
    assert contents.root["written_by"] == WRITTEN_BY
    assert [line for rows in contents.datasets.values() for line in rows.verify()] == []


def test_what_wrote_them_still_writes_them(tmp_path, monkeypatch):
    if FORMAT_VERSION != 1:
        pytest.skip("format v1 is no longer written")
    monkeypatch.setattr(hdf5, "__version__", WRITTEN_BY.removeprefix("ltkit "))
    spec = importlib.util.spec_from_file_location("make", V1 / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(tmp_path)
    for path in sorted(tmp_path.iterdir()):
        assert hdf5.header(path) == hdf5.header(V1 / path.name)  # its digest covers all
