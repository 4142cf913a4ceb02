"""Predictions and scores in other tools' files: equal to the plain form, and whole or not there."""

import json
import sys

import numpy as np
import pytest

from ltkit.exports import tables
from ltkit.records import Classifier, ClassTable, FeatureSplit, shot_groups

COUNTS = np.array([200, 50, 5])
NAMES = ("a_b & c", 'x"y', "\u202eleft\n")


@pytest.fixture
def case(monkeypatch):
    """A classifier and a split of several blocks."""
    rng = np.random.default_rng(0)
    base = Classifier(rng.normal(size=(3, 4)).astype(np.float32), np.float32([0.1, 0, -0.1]))
    features = rng.normal(size=(23, 4)).astype(np.float32)
    split = FeatureSplit(features, rng.integers(0, 3, 23), np.array([f"i/{n}" for n in range(23)]))
    monkeypatch.setattr(
        FeatureSplit, "slices", lambda self: (slice(s, min(s + 5, 23)) for s in range(0, 23, 5))
    )
    logits = features.astype(np.float64) @ base.weight.T + base.bias
    odds = np.exp(logits)
    return base, split, odds / odds.sum(axis=1, keepdims=True)


def write(case, form, path, split=None):
    base, own, _ = case
    classes = ClassTable(COUNTS, NAMES)
    tables.write_samples(form, path, base, split or own, "test", classes, shot_groups(COUNTS))


def test_cleanlab_gets_labels_and_probabilities(case, tmp_path):
    write(case, "cleanlab", tmp_path / "p.npz")
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        assert file["pred_probs"].dtype == np.float32
        np.testing.assert_allclose(file["pred_probs"], case[2], atol=1e-6)
        np.testing.assert_array_equal(file["labels"], case[1].labels)
        np.testing.assert_array_equal(file["ids"], case[1].ids)


def test_fiftyone_gets_samples(case, tmp_path):
    write(case, "fiftyone", tmp_path / "s.json")
    samples = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["samples"]
    assert len(samples) == 23
    for number, sample in enumerate(samples):
        said = int(case[2][number].argmax())
        assert sample["filepath"] == f"i/{number}"
        assert sample["tags"] == ["test"]
        assert sample["ground_truth"] == {"label": NAMES[case[1].labels[number]]}
        assert sample["prediction"]["label"] == NAMES[said]
        assert sample["prediction"]["confidence"] == pytest.approx(case[2][number, said], abs=1e-5)


def test_samples_without_ids_have_numbers(case, tmp_path):
    split = FeatureSplit(case[1].features, case[1].labels)
    write(case, "fiftyone", tmp_path / "s.json", split)
    samples = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["samples"]
    assert [sample["filepath"] for sample in samples] == [str(n) for n in range(23)]


def test_parquet_without_its_library_leaves_nothing(case, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(tables.InputError, match=r"pyarrow is not installed.*ltkit\[parquet\]"):
        write(case, "parquet", tmp_path / "p.parquet")
    assert not list(tmp_path.iterdir())


def test_a_name_is_no_argument_of_the_line_before():
    row = {"settings": {}, "runs": 1, "accuracy": {"all": 0.5}, "std": None}
    lines = tables.latex({"rows": [row | {"name": name} for name in ("[b]", "*c")]}).splitlines()
    assert [line[:5] for line in lines[4:6]] == ["{}[b]", "{}*c "]


def test_latex_escapes_and_leaves_absent_groups_out():
    row = {"name": "a_b%", "settings": {"tau": 1.5, "seed": 3, "variant": "x"}, "runs": 1,
           "accuracy": {"few": None, "all": 0.5}, "std": None}  # fmt: skip
    lines = tables.latex({"rows": [row]}).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[4] == r"a\_b\% (tau 1.5) & -- & 50.0 \\"
    rows = [row | {"settings": {"penalty": p, "seed": 3}} for p in (0.1, 10.0)]
    shown = tables.latex({"rows": rows}).splitlines()[4:6]
    assert [line.split(" & ")[0] for line in shown] == [
        r"a\_b\% (penalty 0.1)", r"a\_b\% (penalty 10)"
    ]  # fmt: skip
    assert tables._escaped("\\{~^#$&}\n") == (
        r"\textbackslash{}\{\textasciitilde{}\textasciicircum{}\#\$\&\} "
    )


def test_the_command(tmp_path, ltkit, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), (120, 30, 5))
    arrays = {"weight": rng.normal(size=(3, 4)), "bias": np.zeros(3)}
    for split in ("train", "test"):
        arrays |= {f"{split}_features": rng.normal(size=(155, 4)), f"{split}_labels": labels}
    np.savez("a.npz", **{k: v.astype(np.float32) if v.dtype.kind == "f" else v
                         for k, v in arrays.items()})  # fmt: skip
    assert ltkit("import", "a.npz", "-o", "feats.h5")[0] == 0
    assert ltkit("posthoc", "logit-adjust", "feats.h5", "--set", "tau=1")[0] == 0
    for source in ("feats.h5", "feats.logit-adjust.h5"):
        assert ltkit("export", source, "--to", "cleanlab", "-o", "p.npz", "--overwrite")[0] == 0
        with np.load("p.npz") as file:
            predicted = file["pred_probs"].argmax(axis=1)
            hits = float((predicted == file["labels"]).mean())
        code, document, said = ltkit("evaluate", "feats.h5", "--topk", "1", "--json", "-q")
        assert code == 0, said
        rows = {row["name"]: row["accuracy"]["all"] for row in json.loads(document)["rows"]}
        name = "baseline" if source == "feats.h5" else "logit-adjust"
        assert rows[name] == pytest.approx(hits, abs=1e-6)
    assert ltkit("export", "feats.h5", "--to", "latex", "-o", "t.tex")[0] == 0
    text = (tmp_path / "t.tex").read_text(encoding="utf-8")
    assert "logit-adjust (tau 1) & " in text
    assert ltkit("export", "feats.logit-adjust.h5", "--to", "latex", "-o", "u.tex")[0] == 0
    code, _, said = ltkit("export", "feats.h5", "--into", "m.pt", "-o", "n.pt")
    assert code == 2
    assert "feats.h5: is the features file, expected a classifier for --into" in said
    code, _, said = ltkit("export", "feats.h5", "--to", "exel", "-o", "n.x")
    assert code == 2
    assert "cleanlab" in said
