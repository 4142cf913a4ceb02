"""``ltkit recommend`` as it is typed."""

import json

import numpy as np
import pytest
from long_tailed import problem

from ltkit.evaluation import mean_heads
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.sources.arrays import import_arrays

FAST = "--methods", "logit-adjust,bias", "--repeats", "3"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with feats.h5 of a problem, and novel.h5 without a validation split."""
    for name, splits in (("feats", ("train", "val")), ("novel", ("train",))):
        made = problem(splits=splits)
        arrays = {"weight": made.head.weight, "bias": made.head.bias}
        for split in splits:
            arrays[f"{split}_features"] = made.split(split).features
            arrays[f"{split}_labels"] = made.split(split).labels
        np.savez(tmp_path / f"{name}.npz", **arrays)
        import_arrays(tmp_path / f"{name}.npz", tmp_path / f"{name}.h5")
        (tmp_path / f"{name}.npz").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_answer_and_the_file(ltkit, folder):
    code, out, said = ltkit("recommend", "feats.h5", *FAST)
    assert (code, out) == (0, "feats.recommended.h5\n")
    lines = [line for line in said.splitlines() if not line.startswith("methods ")]
    assert lines[0].startswith("recommended: ")
    assert "balanced accuracy +" in lines[0]
    assert [line.split()[0] for line in lines[1:5]] == ["few", "medium", "many", "all"]
    assert lines[5].startswith("chosen on 240 val images")
    assert "% of 15 folds; next is" in lines[6]
    assert lines[7] == "ship it: ltkit export feats.recommended.h5 --to npz -o head.npz"
    assert lines[8:] == ["wrote feats.recommended.h5"]
    features = features_file.read(folder / "feats.h5")
    read = classifiers.read_for(folder / "feats.recommended.h5", features)
    assert read.runs[0]["of"] in ("logit-adjust", "bias")
    assert ltkit("evaluate", "feats.h5", "--split", "val", "-q")[0] == 0
    assert ltkit("recommend", "feats.h5", *FAST)[0] == 2  # it is there already


def test_json_is_one_document(ltkit, folder):
    code, out, _ = ltkit("recommend", "feats.h5", "--json", "--objective", "harmonic", *FAST)
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "ltkit.recommend/1"
    assert document["objective"] == "harmonic"
    assert document["output"] == "feats.recommended.h5"
    assert set(document["gain"]) == {"few", "medium", "many", "all", "balanced"}


def test_the_rows_of_all_methods(ltkit, folder):
    code, out, _ = ltkit("recommend", "feats.h5", "--all", "--keep", "all=90", *FAST)
    assert code == 0
    assert "not within the limits" in out
    assert "logit-adjust" in out


def test_keep_is_an_answer_too(ltkit, folder):
    code, out, said = ltkit("recommend", "feats.h5", "--keep", "all=90", *FAST)
    assert code == 0
    assert "keep the baseline: no correction is ahead" in said
    assert "ship it" not in said
    assert ltkit("validate", "feats.recommended.h5")[0] == 0
    code, out, _ = ltkit("evaluate", "feats.h5", "--split", "val", "--json")
    rows = json.loads(out)["rows"]
    assert rows[1]["name"] == "recommended (keep)"
    assert rows[1]["accuracy"] == rows[0]["accuracy"]


def test_without_val(ltkit, folder):
    code, _, said = ltkit("recommend", "novel.h5")
    assert code == 0
    assert "recommended: logit-adjust tau 1; no validation split" in said
    assert "hold some out" in said
    words = "recommend", "novel.h5", "--overwrite", *FAST
    code, _, said = ltkit(*words, "--recalibrate-on", "feats.h5")
    assert code == 0
    assert "chosen on 240 val images" in said
    assert ltkit(*words, "--recalibrate-on", "feats.h5:train")[0] == 0


def test_limits_are_read(ltkit, folder):
    code, out, _ = ltkit("recommend", "--json", "--objective", "few", "--keep", "none", *FAST,
                         "feats.h5")  # fmt: skip
    assert (code, json.loads(out)["limits"]) == (0, [])
    for given, said in (("rare=1", "keep: found rare"), ("few", "--keep few: expected GROUP"),
                        ("few=x", "--keep few")):  # fmt: skip
        code, _, message = ltkit("recommend", "feats.h5", "--keep", given)
        assert code == 2
        assert said in message


def test_heads_of_several_seeds_are_averaged(ltkit, folder):
    assert ltkit("posthoc", "crt", "feats.h5", "--seeds", "3", "--set", "epochs=1", "-q")[0] == 0
    features = features_file.read(folder / "feats.h5")
    crt = classifiers.read_for(folder / "feats.crt.h5", features)
    mean = mean_heads(crt)
    rows = features.split("val").features[:]
    every = [features.corrected(crt, run).logits(rows) for run in range(3)]
    np.testing.assert_allclose(features.corrected(mean).logits(rows), np.mean(every, 0), atol=1e-4)
    assert mean.runs[0]["seeds"] == 3
