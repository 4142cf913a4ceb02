"""The command that trains heads again: seeds, corrections of corrections, bad words."""

import json
from pathlib import Path

import numpy as np
import pytest
from four_classes import COUNTS, made

from ltkit.files import classifiers, features, hdf5
from ltkit.posthoc import crt, logit_adjust


@pytest.fixture
def feats(tmp_path, monkeypatch, ltkit):
    """A working folder with a made feats.h5 of four classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    base, train, x = made()
    np.savez(
        "arrays.npz", weight=base.weight, bias=base.bias, train_features=x.astype(np.float32),
        train_labels=train.labels, val_features=x[::2].astype(np.float32) + 0.5,
        val_labels=train.labels[::2],
    )  # fmt: skip
    assert ltkit("import", "arrays.npz", "-o", "feats.h5", "-q")[0] == 0
    return Path("feats.h5")


def test_a_correction_of_a_correction_is_the_product_of_both(feats, ltkit):
    assert ltkit("posthoc", "ridge", "--set", "penalty=0.1", "-q")[0] == 0
    code, out, err = ltkit(
        "posthoc", "logit-adjust", "--from", "feats.ridge.h5", "--set", "tau=0.5"
    )
    assert code == 0
    assert "using feats.h5, which feats.ridge.h5 was made from" in err
    assert out.strip() == "feats.ridge.logit-adjust.h5"
    found, inputs = classifiers.read(Path("feats.ridge.logit-adjust.h5"))
    file = features.read(feats)
    first, _ = classifiers.read(Path("feats.ridge.h5"))
    base = first.classifier(file.classifier(), 0)
    expected = logit_adjust.fit(base, None, file.classes.train_count, tau=0.5)
    np.testing.assert_array_equal(found.weight[0], expected.weight)
    np.testing.assert_array_equal(found.bias[0], expected.bias)
    assert found.method == "ridge+logit-adjust"
    settings = hdf5.read(Path("feats.ridge.logit-adjust.h5"), hdf5.CLASSIFIER).settings
    assert inputs == {
        "features": file.digest, "from": hdf5.header(Path("feats.ridge.h5"))["digest"]
    }  # fmt: skip
    assert settings["from"] == {"method": "ridge", "run": {"penalty": 0.1}}
    words = ("evaluate", "feats.h5", "--split", "val", "--topk", "1", "--json", "-q")
    assert ltkit(*words)[0] == 0


def test_which_run_is_corrected(feats, ltkit):
    assert ltkit("posthoc", "crt", "--seeds", "3", "--set", "learning_rate=0.1", "-q")[0] == 0
    crt_runs, _ = classifiers.read(Path("feats.crt.h5"))
    assert [run["seed"] for run in crt_runs.runs] == [0, 1, 2]
    assert all(run["epochs"] == 10 for run in crt_runs.runs)
    code, _, err = ltkit("posthoc", "lade", "--from", "feats.crt.h5")
    assert code == 2
    assert "seed: 0, 1, 2" in err
    assert ltkit("posthoc", "lade", "--from", "feats.crt.h5", "--run", "seed=2", "-q")[0] == 0
    found, _ = classifiers.read(Path("feats.crt.lade.h5"))
    np.testing.assert_array_equal(found.weight[0], crt_runs.weight[2])


def test_seeds_share_the_learning_rate_that_is_best_on_average(feats, ltkit):
    code, _, err = ltkit("posthoc", "crt", "--seeds", "2", "--set", "epochs=2", "-o", "two.h5")
    assert code == 0
    assert err.count("balanced accuracy") == len(crt.GRID["learning_rate"])
    found, _ = classifiers.read(Path("two.h5"))
    settings = hdf5.read(Path("two.h5"), hdf5.CLASSIFIER).settings
    best = settings["tried"][int(np.argmax(settings["val"]))]
    assert [r["learning_rate"] for r in found.runs] == [best["learning_rate"]] * 2
    file, scores = features.read(feats), []
    x, y = file.split("val").features[:], file.split("val").labels
    for run, weight in zip(found.runs, found.weight, strict=True):
        alone = crt.fit(file.classifier(), file.split("train"), COUNTS, **run)
        np.testing.assert_allclose(weight, alone.weight, atol=1e-5)
        right = alone.logits(x).argmax(axis=1) == y
        scores.append(np.mean([right[y == c].mean() for c in range(4)]))
    assert scores[0] != scores[1]
    assert max(settings["val"]) == pytest.approx(np.mean(scores))


def test_same_command_same_bytes(feats, ltkit):
    contents = []
    for _ in range(2):
        assert (
            ltkit("posthoc", "marc", "--set", "seed=3", "-o", "m.h5", "--overwrite", "-q")[0] == 0
        )
        contents.append(Path("m.h5").read_bytes())
    assert contents[0] == contents[1]


def test_parameters_that_are_words(feats, ltkit):
    assert ltkit("posthoc", "ncm", "--set", "variant=cl2n", "-q")[0] == 0
    found, _ = classifiers.read(Path("feats.ncm.h5"))
    assert found.runs == ({"variant": "cl2n"},)
    code, _, err = ltkit("posthoc", "ncm", "--set", "variant=cosin", "-o", "x.h5")
    assert code == 2
    assert "did you mean cosine?" in err
    assert not Path("x.h5").exists()


@pytest.mark.parametrize(("words", "said"), [
    (["lade", "--run", "seed=1"], "--run: names a run of --from, which is absent"),
    (["lade", "--seeds", "2"], "--seeds: lade draws nothing at random"),
    (["lade", "--from", "none.h5"], "none.h5: not found"),
    (["lade", "feats.h5", "--from", "feats.h5"], "found ltkit-features"),
    (["lade", "--from", "feats.ncm.h5", "-o", "feats.ncm.h5", "--overwrite"], "is an input"),
])  # fmt: skip
def test_refused(feats, ltkit, words, said):
    assert ltkit("posthoc", "ncm", "-q")[0] == 0
    before = Path("feats.ncm.h5").read_bytes()
    code, _, err = ltkit("posthoc", *words)
    assert code == 2
    assert said in err, err
    assert Path("feats.ncm.h5").read_bytes() == before


def test_a_classifier_of_other_features(feats, ltkit):
    assert ltkit("posthoc", "ncm", "-q")[0] == 0
    arrays = dict(np.load("arrays.npz"))
    np.savez("other.npz", **arrays | {"bias": arrays["bias"] + 1})
    assert ltkit("import", "other.npz", "-o", "other.h5", "-q")[0] == 0
    code, _, err = ltkit("posthoc", "lade", "other.h5", "--from", "feats.ncm.h5", "-o", "x.h5")
    assert code == 2
    assert err.startswith("ltkit: feats.ncm.h5: fitted on features ")
    assert "name the features it was made from" in err
    assert not Path("x.h5").exists()


def test_bundled_features_gain_on_rare_classes(ltkit, tmp_path):
    """Every correction of the bundled CIFAR-100-LT features helps few-shot classes."""
    from importlib.resources import files

    feats = Path(str(files("ltkit") / "data" / "demo" / "feats.h5"))
    target = tmp_path / "feats.h5"
    target.symlink_to(feats)
    for method in ("lws", "ridge", "group-bias"):
        assert ltkit("posthoc", method, target, "-q")[0] == 0
    code, out, _ = ltkit("evaluate", target, "--json", "-q")
    assert code == 0
    baseline, *rows = json.loads(out)["rows"]
    assert len(rows) == 3
    for row in rows:
        assert row["accuracy"]["few"] > baseline["accuracy"]["few"] + 0.05
        assert row["accuracy"]["balanced"] > baseline["accuracy"]["balanced"]
