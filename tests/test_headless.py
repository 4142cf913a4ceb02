"""Features without a head: every command works as on the same features with a head."""

import json
import shutil
from pathlib import Path

import made
import numpy as np
import pytest
from typer.testing import CliRunner

import ltkit as face
from ltkit import posthoc, registry
from ltkit.cli import app
from ltkit.files import bases, classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.records import Classifier, Correction, Head
from ltkit.sources.arrays import import_arrays

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = (150, 110, 60, 30, 12, 6)
ANEW = ("ncm", "ridge", "logistic", "crt")


def drawn():
    rng = np.random.default_rng(0)
    centres = 1.2 * rng.normal(size=(6, 8))
    arrays = {}
    for split, counts in (("train", COUNTS), ("val", [20] * 6), ("test", [30] * 6)):
        labels = np.repeat(np.arange(6), counts)
        rows = centres[labels] + rng.normal(size=(len(labels), 8))
        arrays[f"{split}_features"], arrays[f"{split}_labels"] = rows.astype(np.float32), labels
    return arrays


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Features without a head, in bare/, and with one, in own/, which bare/base.h5 has too."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, more in (("bare", {}), ("own", None)):
            Path(name).mkdir()
            if more is None:
                base, _ = classifiers.read(Path("bare/base.h5"))
                more = {"weight": base.weight[0], "bias": base.bias[0]}
            np.savez("a.npz", **drawn(), **more)
            import_arrays(Path("a.npz"), Path(name, "feats.h5"))
            if name == "bare":
                train = "train ce bare/feats.h5 --epochs 8 --device cpu -o bare/base.h5 -q"
                assert CliRunner().invoke(app, train.split()).exit_code == 0
    return folder


@pytest.fixture
def folder(both, tmp_path, monkeypatch):
    """A copy of it, to work in."""
    shutil.copytree(both, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(ltkit, *words):
    code, out, said = ltkit(*words)
    assert code == 0, said
    return out, said


def refused(ltkit, *words):
    code, _, said = ltkit(*words)
    assert code == 2, said
    error = said.splitlines()[-1]
    assert error.startswith("ltkit: ")
    assert len(error) <= 307
    return error


def without_names(document):
    """Drop what tells the two folders apart: paths and what the baseline is called."""
    if isinstance(document, dict):
        kept = ("file", "files", "features", "networks", "against", "fit", "base")
        return {k: without_names(v) for k, v in document.items() if k not in kept}
    if isinstance(document, list):
        return [without_names(part) for part in document]
    return "baseline" if document == "ce" else document


def test_the_same_as_with_that_head(ltkit, folder):
    """A second way to the same numbers: import the base as the head."""
    fits = [
        ("posthoc", "logit-adjust"), ("posthoc", "tau-norm"), ("posthoc", "blend"),
        ("posthoc", "lws", "--set", "epochs=1"), ("posthoc", "ncm"),
        ("alphanet", "fit", "--k", 2, "--epochs", 2, "--device", "cpu"),
    ]  # fmt: skip
    for name in ("bare", "own"):
        for command, *words in fits:
            run(ltkit, command, words[0], f"{name}/feats.h5", *words[1:], "-q")
    for path in sorted(Path("own").glob("feats.*.h5")):
        expected, found = (classifiers.read(Path(f, path.name))[0] for f in ("own", "bare"))
        np.testing.assert_array_equal(expected.weight, found.weight)
        np.testing.assert_array_equal(expected.bias, found.bias)
    judged = [
        ("evaluate",), ("compare",), ("compare", "--against", "baseline"), ("analyze", "flows"),
        ("analyze", "distance", "--k", 2), ("alphanet", "show"),
    ]  # fmt: skip
    for words in judged:
        words = [*words, "--replicates", 100] if words[0] in ("evaluate", "compare") else words
        first = 2 if words[0] in ("analyze", "alphanet") else 1
        documents = []
        for name in ("own", "bare"):
            out, said = run(
                ltkit, *words[:first], f"{name}/feats.h5", *words[first:], "--json"
            )  # fmt: skip
            documents.append(without_names(json.loads(out)))
            assert ("note: bare/feats.h5 has no head: bare/base.h5 stands for it" in said) == (
                name == "bare"
            )
        texts = [json.dumps(d).replace("ce", "baseline") for d in documents]
        assert texts[0] == texts[1], words


def test_the_baseline_has_the_name_of_the_base(ltkit, folder):
    run(ltkit, "posthoc", "ridge", "bare/feats.h5", "-q")
    words = ("bare/feats.h5", "--replicates", 100, "--base")
    rows = json.loads(run(ltkit, "evaluate", *words, "bare/base.h5", "--json")[0])["rows"]
    assert [row["name"] for row in rows] == ["ce", "ridge"]
    assert rows[0]["file"] == "bare/base.h5"
    rows = json.loads(run(ltkit, "evaluate", *words, "bare/feats.ridge.h5", "--json")[0])["rows"]
    assert [row["name"] for row in rows] == ["ridge", "ce"]
    test = drawn()
    found, _ = classifiers.read(Path("bare/feats.ridge.h5"))
    logits = test["test_features"].astype(np.float64) @ found.weight[0].T + found.bias[0]
    expected = (logits.argmax(axis=1) == test["test_labels"]).mean()
    assert rows[0]["accuracy"]["all"] == pytest.approx(expected)
    run(ltkit, "report", *words, "bare/base.h5", "-o", "r.html", "-q")
    page = Path("r.html").read_text()
    assert "bare/base.h5" in page
    assert ">ce<" in page


def test_methods_that_start_anew_need_no_base(ltkit, folder):
    Path("bare/base.h5").unlink()
    for name in sorted(registry.names(posthoc), key=ANEW.__contains__):
        words = ("posthoc", name, "bare/feats.h5")
        if name not in ANEW:
            assert "--base: absent, bare/feats.h5 has no head and no" in refused(ltkit, *words)
            continue
        more = ("--set", "learning-rate=1", "--set", "epochs=2") if name == "crt" else ()
        run(ltkit, *words, *more, "-q")
        found, inputs = classifiers.read(Path(f"bare/feats.{name}.h5"))
        assert found.is_whole(6)
        assert inputs.keys() == {"features"}
    for method in ("logit-adjust", "blend"):
        run(ltkit, "posthoc", method, "--from", "bare/feats.crt.h5", "-q")
    said = refused(ltkit, "posthoc", "tau-norm", "bare/feats.h5")
    assert "found feats.crt.h5, feats.logistic.h5, feats.ncm.h5, feats.ridge.h5 beside" in said


def test_of_several_the_one_that_others_start_from(ltkit, folder):
    run(ltkit, "posthoc", "ncm", "bare/feats.h5", "-q")
    assert "name one of them" in refused(ltkit, "evaluate", "bare/feats.h5")
    words = ("posthoc", "logit-adjust", "bare/feats.h5", "--base", "bare/feats.ncm.h5")
    run(ltkit, *words, "--set", "tau=1", "-q")
    header = hdf5.header(Path("bare/feats.ncm.h5"))
    _, inputs = classifiers.read(Path("bare/feats.logit-adjust.h5"))
    assert inputs["base"] == header["digest"]
    _, said = run(ltkit, "evaluate", "bare/feats.h5", "--replicates", 100)
    assert "bare/feats.ncm.h5 stands for it" in said


@pytest.fixture
def fitted(ltkit, folder):
    words = ("alphanet", "fit", "bare/feats.h5", "--k", 2, "--epochs", 1, "--device", "cpu")
    run(ltkit, *words, "-q")
    return Path("bare/feats.alphanet.h5")


def test_rows_of_some_classes_belong_to_their_base(ltkit, fitted):
    run(ltkit, "posthoc", "ncm", "bare/feats.h5", "-q")
    said = refused(ltkit, "compare", "bare/feats.h5", fitted, "--base", "bare/feats.ncm.h5")
    assert "corrects the classifier" in said
    assert "name its file as base" in said
    said = refused(ltkit, "evaluate", "bare/feats.h5", "--base", fitted)
    assert "has rows of 2 of 6 classes, expected all" in said
    run(ltkit, "export", fitted, "--to", "npz", "-o", "h.npz", "-q")
    base, _ = classifiers.read(Path("bare/base.h5"))
    found, _ = classifiers.read(fitted)
    expected = base.weight[0].copy()
    expected[found.class_id] = found.weight[0]
    np.testing.assert_array_equal(np.load("h.npz")["weight"], expected)
    Path("bare/base.h5").unlink()
    said = refused(ltkit, "export", fitted, "--to", "npz", "-o", "h2.npz")
    assert "corrects another classifier, which is not beside" in said


def test_rows_of_the_own_head_do_not_fit_a_base(ltkit, folder):
    words = ("alphanet", "fit", "own/feats.h5", "--k", 2, "--epochs", 1, "--device", "cpu")
    run(ltkit, *words, "-q")
    run(ltkit, "posthoc", "ncm", "own/feats.h5", "-q")
    words = ("compare", "own/feats.h5", "own/feats.alphanet.h5", "--base", "own/feats.ncm.h5")
    said = refused(ltkit, *words)
    assert "corrects the own head" in said
    assert "leave base out" in said


def test_export(ltkit, folder):
    run(ltkit, "posthoc", "logit-adjust", "bare/feats.h5", "--set", "tau=1", "-q")
    corrected = "bare/feats.logit-adjust.h5"
    run(ltkit, "export", corrected, "--to", "npz", "-o", "h.npz", "-q")
    base, _ = classifiers.read(Path("bare/base.h5"))
    prior = np.log(np.array(COUNTS) / sum(COUNTS))
    np.testing.assert_allclose(np.load("h.npz")["bias"], base.bias[0] - prior, rtol=1e-5)
    for feats in ("bare", "own"):
        if feats == "own":
            run(ltkit, "posthoc", "ncm", "own/feats.h5", "-q")
        file = corrected if feats == "bare" else "own/feats.ncm.h5"
        said = refused(ltkit, "export", file, "--into", "a.npz", "-o", "x.pt")
        assert said.startswith("ltkit: --into: needs features that ltkit extract wrote")
        assert f"those of {feats}/feats.h5 were imported" in said
        assert said.endswith("--to npz")
    assert not Path("x.pt").exists()


def test_a_base_has_one_run(ltkit, folder):
    words = ("posthoc", "crt", "bare/feats.h5", "--seeds", 2, "--set", "learning-rate=1")
    run(ltkit, *words, "--set", "epochs=1", "-q")
    said = refused(ltkit, "evaluate", "bare/feats.h5", "--base", "bare/feats.crt.h5")
    assert "found 2 runs, expected one to start from" in said


def test_a_classifier_of_other_features_is_no_base(ltkit, folder):
    run(ltkit, "posthoc", "ncm", "own/feats.h5", "-q")
    said = refused(ltkit, "evaluate", "bare/feats.h5", "--base", "own/feats.ncm.h5")
    assert "fitted on features" in said


def test_in_python(folder):
    features = face.read("bare/feats.h5")
    made.refused(lambda: face.evaluate(features), "head: absent", "ltkit train ce")
    base = face.read_correction("bare/base.h5")
    expected = face.posthoc.logit_adjust(face.read("own/feats.h5"), tau=1.0)
    for given in ("bare/base.h5", base, Classifier(base.weight[0], base.bias[0]),
                  Head(base.weight[0], base.bias[0])):  # fmt: skip
        found = face.posthoc.logit_adjust(features, base=given, tau=1.0)
        np.testing.assert_array_equal(found.bias, expected.bias)
        table = face.evaluate(features, found, base=given, replicates=20)
        name = "base" if isinstance(given, Classifier | Head) else "ce"
        assert list(table.index) == [name, "logit-adjust tau 1"]
        pairs = face.compare(features, found, base=given, replicates=20)
        assert list(pairs.index) == [f"logit-adjust tau 1 - {name}"]
    ncm = face.posthoc.ncm(features)
    face.export(ncm, "n.npz", base=features)
    np.testing.assert_array_equal(np.load("n.npz")["weight"], ncm.weight[0])
    wrong = Classifier(np.zeros((5, 8), np.float32), np.zeros(5, np.float32))
    made.refused(lambda: face.with_base(features, wrong), "(5, 8), expected (6, 8)")
    assert face.with_base(features, None) is features


def test_what_is_saved_from_python_says_what_it_was_made_from(folder):
    features = face.read("bare/feats.h5")
    on_file = face.with_base(features, "bare/base.h5")
    made_of = face.posthoc.tau_norm(on_file, tau=1.0)
    _, inputs = classifiers.read(face.save(on_file, made_of, "t.h5"))
    assert inputs["base"] == hdf5.header(Path("bare/base.h5"))["digest"]
    in_memory = face.with_base(features, face.read_correction("bare/base.h5"))
    _, inputs = classifiers.read(face.save(in_memory, made_of, "u.h5"))
    assert "base" not in inputs
    some = Correction("m", np.array([1]), made_of.weight[:, :1], made_of.bias[:, :1], ({},))
    made.refused(lambda: face.save(in_memory, some, "v.h5"), "base: is in memory alone")
    assert not Path("v.h5").exists()


def test_no_file_stands_for_a_head_unasked_where_there_is_one(folder):
    features = features_file.read(Path("own/feats.h5"))
    assert features.base is None
    assert bases.with_base(features, None).baseline == "baseline"
