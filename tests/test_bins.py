"""Shot groups that a features file keeps: stored once, used by every command."""

import json

import numpy as np
import pytest

import ltkit as library
from ltkit.errors import InputError, SettingError
from ltkit.files import features as features_file
from ltkit.records import ClassTable, FeatureSet, automatic_bins, shot_groups, stored_bins
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

RNG = np.random.default_rng(0)
COUNTS = np.array([90, 60, 40, 30, 25, 22])


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Six classes, all of them with 22 to 90 images: none few, none many by the usual bins."""
    monkeypatch.chdir(tmp_path)
    held = {}
    for split, counts in (("train", COUNTS), ("val", [8] * 6), ("test", [10] * 6)):
        labels = np.repeat(np.arange(6), counts)
        held[f"{split}_features"] = RNG.normal(size=(len(labels), 4)) + np.eye(6, 4)[labels] * 3
        held[f"{split}_labels"] = labels
    held |= {"weight": np.eye(6, 4), "bias": np.zeros(6)}
    np.savez("a.npz", **held)
    return tmp_path


@pytest.mark.parametrize(("said", "bins"), [("auto", [30, 40]), ("30,70", [30, 70])])
def test_every_command_uses_what_the_file_keeps(arrays, ltkit, said, bins):
    assert ltkit("import", "a.npz", "-o", "f.h5", "--bins", said)[0] == 0
    features = features_file.read(arrays / "f.h5")
    assert list(features.bins) == bins
    assert features.settings["bins"] == bins
    groups = shot_groups(COUNTS, bins)
    sizes = {name: len(ids) for name, ids in groups.items()}
    document = json.loads(ltkit("evaluate", "f.h5", "--json", "--replicates", "100")[1])
    assert (document["bins"], document["groups"]) == (bins, sizes)
    assert json.loads(ltkit("inspect", "f.h5", "--json")[1])["shot_groups"] == sizes
    assert ltkit("posthoc", "group-bias", "f.h5")[0] == 0
    kept = json.loads(ltkit("inspect", "f.group-bias.h5", "--json")[1])["settings"]
    assert kept["bins"] == ",".join(map(str, bins))
    assert ltkit("neighbors", "f.h5", "-o", "n.h5", "--k", "1")[0] == 0
    compared = json.loads(
        ltkit("compare", "f.h5", "f.group-bias.h5", "--json", "--replicates", "100")[1]
    )
    assert compared["bins"] == bins
    table = library.evaluate(features, replicates=100)
    assert table.attrs["document"]["bins"] == bins
    asked = json.loads(ltkit("evaluate", "f.h5", "--bins", "20,100", "--json")[1])
    assert asked["groups"] == {"few": 0, "medium": 6, "many": 0}


def test_the_usual_bins_are_not_stored(arrays, ltkit):
    assert ltkit("import", "a.npz", "-o", "f.h5")[0] == 0
    features = features_file.read(arrays / "f.h5")
    assert "bins" not in features.settings
    assert features.bins == (20, 100)


def test_extract_stores_them_and_says_what_is_empty(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    data = "digits_lt:ir=2,val=none"
    train = ["train", "ce", "--data", data, "--arch", "digits_net", "--epochs", "1", "-o", "m.pt"]
    assert ltkit(*train)[0] == 0
    code, _, said = ltkit("extract", "m.pt", "--data", data, "-o", "f.h5")
    assert code == 0
    assert "note: no few class with bins 20,100, of classes with 57 to 114 training" in said
    code, _, said = ltkit("extract", "m.pt", "--data", data, "-o", "g.h5", "--bins", "auto")
    assert code == 0
    assert "shot groups: few 3, medium 4, many 3 classes, with bins 71,90" in said
    assert all(len(ids) for _, ids in features_file.read(tmp_path / "g.h5").groups().items())


@pytest.mark.parametrize("said", ["20", "1,2,3", "100,20", "0,5", "a,b", "automatic", "20,"])
def test_bins_that_cannot_be_stored(arrays, ltkit, said):
    code, _, err = ltkit("import", "a.npz", "-o", "f.h5", "--bins", said)
    assert code == 2
    assert "bins" in err
    assert not (arrays / "f.h5").exists()


@pytest.mark.parametrize("said", ["20,100", [20], [100, 20], [0, 5], [1.5, 3], [True, 3], {}])
def test_bins_that_a_file_has_wrong(said):
    features = FeatureSet({}, ClassTable(COUNTS), settings={"bins": said})
    with pytest.raises(InputError, match=r"features: bins: found .*, expected two counts"):
        features.groups()


@pytest.mark.parametrize("seed", range(20))
def test_thirds_of_the_classes(seed):
    rng = np.random.default_rng(seed)
    counts = rng.permutation(np.unique(rng.integers(1, 19, 12)))
    groups = shot_groups(counts, automatic_bins(counts))
    sizes = [len(ids) for _, ids in groups.items()]
    assert max(sizes) - min(sizes) <= 2
    assert sum(sizes) == len(counts)
    assert counts[groups.few].max() < counts[groups.medium].min()
    assert counts[groups.medium].max() < counts[groups.many].min()


def test_limits_of_automatic_bins():
    assert automatic_bins(np.full(5, 7)) == (7, 7)
    assert automatic_bins(np.array([500, 50, 5])) == (20, 100)
    assert automatic_bins(np.array([0, 0, 0])) == (1, 1)
    with pytest.raises(SettingError, match="bins"):
        stored_bins((9, 3), COUNTS)


@pytest.mark.parametrize(
    ("bins", "counts", "said"),
    [
        ("auto", [300, 50, 5], "few below 20, many above 100, the usual ones"),
        ("auto", [9, 7, 7, 5, 4, 2], "few below 5, many above 7, thirds of the classes"),
        ((3, 6), [9, 7, 7, 5, 4, 2], ""),
        (None, [300, 50, 5], ""),
    ],
)
def test_what_auto_has_chosen_is_said(tmp_path, bins, counts, said):
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.random.default_rng(0).normal(size=(len(labels), 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", train_features=rows, train_labels=labels)
    _, notes = import_arrays(
        tmp_path / "a.npz", tmp_path / "f.h5", settings=ImportSettings(bins=bins)
    )
    found = [note for note in notes if note.startswith("--bins")]
    assert len(found) == bool(said)
    assert all(said in note for note in found)
