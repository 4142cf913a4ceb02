"""Classes without training images: left out by whatever learns, with a note, and kept in the file.

Eight classes; 2 and 6 have no training image, 6 has test images. What is fitted must be what is
fitted to a file, or by hand, without the two.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

import ltkit as face
from ltkit import posthoc, registry
from ltkit.alphanet.reduction import reduce
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.neighbors import nearest_of_groups
from ltkit.records import (
    NEVER,
    Base,
    Classifier,
    ClassTable,
    FeatureSplit,
    Present,
    note_of_left_out,
)
from ltkit.settings import HeadSettings, NeighborSettings, TrainPlan
from ltkit.sources.arrays import import_arrays
from ltkit.training import runs

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = np.array([150, 110, 0, 60, 40, 12, 0, 6])
ALL, THERE, EMPTY = np.arange(8), np.flatnonzero(COUNTS), np.flatnonzero(COUNTS == 0)
ANEW = ("ncm", "ridge", "logistic", "crt")
ON_VAL = ("bias", "temperature", "vector-scaling")
HEAD_ONLY = ("tau-norm", "group-bias")
OTHERS = sorted(set(registry.names(posthoc)) - {*HEAD_ONLY, *ON_VAL, "tde"})
SET = {
    "crt": ("epochs=2", "learning_rate=0.1"), "lws": ("epochs=2", "learning_rate=0.1"),
    "marc": ("epochs=2", "learning_rate=0.1"), "ridge": ("penalty=0.1",),
    "weight-balancing": ("epochs=2", "learning_rate=0.01"), "logistic": ("inverse_penalty=0.1",),
    "blend": ("tau=0.5",), "logit-adjust": ("tau=1.5",), "tau-norm": ("tau=0.5",),
    "group-bias": ("few=1", "medium=0.5"), "lade": ("target=inverse",),
    "pc-softmax": ("target=inverse",),
}  # fmt: skip
NOTE = "2 of 8 classes have no training image (2, 6) and are left out: "


def drawn(classes=ALL):
    """Arrays of a file with some of the classes, numbered anew."""
    rng = np.random.default_rng(0)
    centres = 1.2 * rng.normal(size=(8, 7))
    weight = centres + 0.2 * rng.normal(size=(8, 7))
    bias = np.where(COUNTS > 0, 0.1 * rng.normal(size=8), -2.0)
    arrays = {"weight": weight[classes], "bias": bias[classes], "train_counts": COUNTS[classes]}
    for split, counts in (("train", COUNTS), ("val", 20 * (COUNTS > 0)), ("test", [30] * 8)):
        labels = np.repeat(np.arange(8), counts)
        rows = (centres[labels] + rng.normal(size=(len(labels), 7))).astype(np.float32)
        kept = np.isin(labels, classes)
        arrays[f"{split}_features"] = rows[kept]
        arrays[f"{split}_labels"] = np.searchsorted(classes, labels[kept])
    return {name: v.astype(np.float32) if name in ("weight", "bias") else v
            for name, v in arrays.items()}  # fmt: skip


def put(name, classes=ALL, **changes):
    arrays = {k: v for k, v in (drawn(classes) | changes).items() if v is not None}
    np.savez("a.npz", **arrays)
    import_arrays(Path("a.npz"), Path(name))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """f.h5 has all classes, s.h5 those that have training images."""
    monkeypatch.chdir(tmp_path)
    put("f.h5")
    put("s.h5", THERE)
    return tmp_path


def run(ltkit, *words, code=0):
    found, out, said = ltkit(*words)
    assert found == code, said
    assert all(len(line) <= 300 for line in said.splitlines())
    return out, said


def one(path):
    """The only run of a classifier file: weight and bias."""
    found, _ = classifiers.read(Path(path))
    return found.weight[0], found.bias[0]


# Post-hoc methods


@pytest.mark.parametrize("method", OTHERS)
def test_a_method_gives_the_rows_that_it_gives_without_these_classes(method, folder, ltkit):
    given = [word for pair in SET.get(method, ()) for word in ("--set", pair)]
    _, said = run(ltkit, "posthoc", method, "f.h5", *given, "-o", "o.h5")
    _, plain = run(ltkit, "posthoc", method, "s.h5", *given, "-o", "p.h5")
    then = "never predicted" if method in ANEW else "their rows stay as they are"
    assert f"note: {NOTE}{then}\n" in said
    assert "note:" not in plain
    (weight, bias), (alone, alone_bias) = one("o.h5"), one("p.h5")
    np.testing.assert_array_equal(weight[THERE], alone)
    np.testing.assert_array_equal(bias[THERE], alone_bias)
    base = features_file.read(Path("f.h5")).classifier()
    if method in ANEW:
        assert not weight[EMPTY].any()
        assert (bias[EMPTY] == np.float32(NEVER)).all()
    else:
        np.testing.assert_array_equal(weight[EMPTY], base.weight[EMPTY])
        np.testing.assert_array_equal(bias[EMPTY], base.bias[EMPTY])


def test_logit_adjust_by_hand(folder, ltkit):
    run(ltkit, "posthoc", "logit-adjust", "f.h5", "--set", "tau=1.5", "-o", "o.h5", "-q")
    arrays = drawn()
    expected = arrays["bias"].astype(float)
    expected[THERE] -= 1.5 * np.log(COUNTS[THERE] / COUNTS.sum())
    np.testing.assert_allclose(one("o.h5")[1], expected, rtol=1e-6)


def test_class_means_predict_as_those_of_scikit_learn(folder, ltkit):
    run(ltkit, "posthoc", "ncm", "f.h5", "--set", "variant=euclidean", "-o", "o.h5", "-q")
    arrays = drawn()
    reference = NearestCentroid().fit(arrays["train_features"], arrays["train_labels"])
    classifier = Classifier(*one("o.h5"))
    found = classifier.logits(arrays["test_features"]).argmax(axis=1)
    np.testing.assert_array_equal(found, reference.predict(arrays["test_features"]))


@pytest.mark.parametrize("method", HEAD_ONLY)
def test_methods_of_the_head_alone_correct_every_class(method, folder, ltkit):
    given = [word for pair in SET[method] for word in ("--set", pair)]
    _, said = run(ltkit, "posthoc", method, "f.h5", *given, "-o", "o.h5")
    assert "note:" not in said
    weight, bias = one("o.h5")
    arrays = drawn()
    if method == "tau-norm":
        norms = np.linalg.norm(arrays["weight"], axis=1, keepdims=True)
        np.testing.assert_allclose(weight, arrays["weight"] / norms**0.5, rtol=1e-5)
        assert not bias.any()
    else:
        shift = np.where(COUNTS > 100, 0, np.where(COUNTS < 20, 1, 0.5))
        np.testing.assert_allclose(bias, arrays["bias"] + shift, rtol=1e-6)


def test_a_target_has_a_number_for_every_class(folder, ltkit):
    for method in ("pc-softmax", "lade"):
        words = ("posthoc", method, "f.h5", "--set", "target=8,7,6,5,4,3,2,1", "-o")
        run(ltkit, *words, f"{method}.h5")
        shown = run(ltkit, "inspect", f"{method}.h5", "--json")[0]
        assert "8,7,6,5,4,3,2,1" in shown
        short = ("posthoc", method, "f.h5", "--set", "target=8,7,5,4,3,1", "-o", "x.h5")
        _, said = run(ltkit, *short, code=2)
        assert "target: found 6 numbers" in said
        assert "expected 8 positive ones" in said
    wanted = np.array([8, 7, 5, 4, 3, 1])
    shift = np.log(wanted / wanted.sum())
    plain = drawn()["bias"][THERE]
    prior = np.log(COUNTS[THERE] / COUNTS.sum())
    np.testing.assert_allclose(one("pc-softmax.h5")[1][THERE], plain + shift - prior, rtol=1e-5)
    np.testing.assert_allclose(
        one("lade.h5")[1][THERE], plain + shift + np.log(6), rtol=1e-5, atol=1e-6
    )


def test_parameters_are_chosen_and_a_missing_val_is_said_too(folder, ltkit):
    _, said = run(ltkit, "posthoc", "logit-adjust", "f.h5", "-o", "o.h5")
    _, alone = run(ltkit, "posthoc", "logit-adjust", "s.h5", "-o", "p.h5")
    assert "chosen: tau" in alone
    assert "chosen: tau" in said
    put("n.h5", val_features=None, val_labels=None)
    _, said = run(ltkit, "posthoc", "logit-adjust", "n.h5", "-o", "q.h5")
    assert f"note: {NOTE}" in said
    assert "note: no val split to choose tau on" in said


def test_a_call_leaves_them_out_without_a_word(folder, ltkit, capsys):
    features = features_file.read(Path("f.h5"))
    found = posthoc.logit_adjust(features, tau=1.5)
    assert capsys.readouterr() == ("", "")
    run(ltkit, "posthoc", "logit-adjust", "f.h5", "--set", "tau=1.5", "-o", "o.h5", "-q")
    np.testing.assert_array_equal(found.bias[0], one("o.h5")[1])
    near = face.nearest(features, k=2)
    assert sorted(set(near["class"])) == ["5", "7"]
    assert capsys.readouterr() == ("", "")


def test_what_starts_from_a_head_that_never_predicts_them_does_not_either(folder, ltkit):
    """tau-norm drops biases, which would put a row of zeros on a level with the others."""
    run(ltkit, "posthoc", "ncm", "f.h5", "-o", "ncm.h5", "-q")
    for method in ("tau-norm", "logit-adjust", "lws", "blend", "group-bias"):
        given = [word for pair in SET[method] for word in ("--set", pair)]
        run(ltkit, "posthoc", method, "--from", "ncm.h5", "f.h5", *given, "-o", "o.h5",
            "--overwrite", "-q")  # fmt: skip
        found = Classifier(*one("o.h5")).logits(drawn()["test_features"]).argmax(axis=1)
        assert not np.isin(found, EMPTY).any(), method


def test_an_ensemble_takes_the_same_classes_of_both(folder, ltkit):
    for name in "fs":
        run(ltkit, "posthoc", "lws", f"{name}.h5", "--set", "learning_rate=0.1", "-o",
            f"{name}.lws.h5", "-q")  # fmt: skip
        run(ltkit, "posthoc", "gla", f"{name}.h5", "--from", f"{name}.lws.h5", "-o",
            f"{name}.gla.h5", "-q")  # fmt: skip
    np.testing.assert_array_equal(one("f.gla.h5")[1][THERE], one("s.gla.h5")[1])


def test_a_class_counted_without_samples_or_the_other_way_round_is_refused(folder, ltkit):
    """Counts and samples that contradict each other are no classes without images."""
    put("b.h5", train_counts=COUNTS + (np.arange(8) == 6))
    _, said = run(ltkit, "posthoc", "ncm", "b.h5", "-o", "o.h5", code=2)
    assert "class 2: no training sample; 2 such classes" in said
    put("c.h5", train_counts=np.where(np.arange(8) == 7, 0, COUNTS))
    _, said = run(ltkit, "posthoc", "logit-adjust", "c.h5", "--set", "tau=1", "-o", "o.h5", code=2)
    assert "class 2: no training image, so no log prior; 3 such classes" in said


def test_a_file_in_which_no_class_has_images_is_refused(folder, ltkit):
    absent = {"train_features": None, "train_labels": None}
    put("z.h5", train_counts=np.zeros(8, int), **absent)
    _, said = run(ltkit, "posthoc", "logit-adjust", "z.h5", "--set", "tau=1", "-o", "o.h5", code=2)
    assert "class 0: no training image" in said
    _, said = run(ltkit, "posthoc", "ncm", "z.h5", "-o", "o.h5", code=2)
    assert "no train split" in said


# Neighbours and AlphaNet


def test_neighbours_are_those_among_the_others(folder, ltkit):
    out, said = run(ltkit, "neighbors", "f.h5", "--k", "2", "--json")
    assert f"note: {NOTE}no mean feature, no neighbours\n" in said
    alone = json.loads(run(ltkit, "neighbors", "s.h5", "--k", "2", "--json")[0])["rows"]
    found = json.loads(out)["rows"]
    assert [row["class"] for row in found] == [5, 7]
    for one_row, other in zip(found, alone, strict=True):
        assert one_row["class"] == THERE[other["class"]]
        assert [n["class"] for n in one_row["neighbors"]] == [
            THERE[n["class"]] for n in other["neighbors"]
        ]
    out, _ = run(ltkit, "neighbors", "f.h5", "--k", "5", "--of", "all", "--among", "all", "--json")
    every = {n["class"] for row in json.loads(out)["rows"] for n in row["neighbors"]}
    assert every == {*THERE}
    _, said = run(ltkit, "neighbors", "f.h5", "--k", "6", "--of", "all", "--among", "all", code=2)
    assert "expected 1..5" in said


def test_a_group_in_which_no_class_has_images_is_refused(folder, ltkit):
    _, said = run(ltkit, "neighbors", "f.h5", "--bins", "2,100", code=2)
    assert "--of: found no few class with training images" in said
    _, said = run(ltkit, "neighbors", "f.h5", "--among", "few", "--of", "many", "--bins", "2,100",
                  code=2)  # fmt: skip
    assert "--among: found no few class with training images" in said
    _, said = run(ltkit, "alphanet", "fit", "f.h5", "--bins", "2,100", "--k", "2", code=2)
    assert "found no few-shot class with training images" in said


FIT = ("--k", "2", "--device", "cpu", "--epochs", "3")


def test_a_fit_is_that_without_these_classes(folder, ltkit):
    """Their base logits stay in the loss; here they are so low that they do not matter."""
    far = drawn()["bias"]
    far[EMPTY] = -1e5
    put("far.h5", bias=far)
    _, said = run(ltkit, "alphanet", "fit", "far.h5", *FIT, "-o", "o.h5")
    assert f"note: {NOTE}their rows stay as they are\n" in said
    run(ltkit, "alphanet", "fit", "s.h5", *FIT, "-o", "p.h5", "-q")
    (found, _), (alone, _) = (classifiers.read(Path(name)) for name in ("o.h5", "p.h5"))
    assert found.class_id.tolist() == [5, 7]
    assert THERE[alone.class_id].tolist() == [5, 7]
    np.testing.assert_allclose(found.weight, alone.weight, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.bias, alone.bias, rtol=1e-5, atol=1e-6)


def test_their_logits_count_in_the_loss_as_those_of_any_class_not_corrected(folder):
    features = features_file.read(Path("f.h5"))
    near = nearest_of_groups(features, NeighborSettings(k=2))
    split, base = features.split("train"), features.classifier()
    data = reduce(base, near, split, None, np.arange(0))
    logits = torch.from_numpy(base.logits(split.features[0 : len(split)]))
    others = logits[:, [0, 1, 2, 3, 4, 6]].logsumexp(dim=1)
    np.testing.assert_allclose(data.base_lse, others, rtol=1e-5)


def test_a_sweep_and_what_is_applied_leave_them_out_too(folder, ltkit):
    words = ("--rho", "1", "--seeds", "1", "--k", "2", "--epochs", "2", "--device", "cpu")
    _, said = run(ltkit, "alphanet", "sweep", "f.h5", *words, "-o", "w.h5")
    assert f"note: {NOTE}" in said
    assert classifiers.read(Path("w.h5"))[0].class_id.tolist() == [5, 7]
    run(ltkit, "alphanet", "fit", "f.h5", *FIT, "--leave-out", "7", "-o", "o.h5", "-q")
    _, said = run(ltkit, "alphanet", "apply", "o.h5", "f.h5", "-o", "q.h5")
    assert f"note: {NOTE}" in said
    assert classifiers.read(Path("q.h5"))[0].class_id.tolist() == [7]
    _, said = run(ltkit, "alphanet", "apply", "o.h5", "f.h5", "--of", "7", "-o", "r.h5")
    assert "left out" not in said
    _, said = run(ltkit, "alphanet", "apply", "o.h5", "f.h5", "--of", "6", "-o", "x.h5", code=2)
    assert "class 6: no training sample" in said
    _, said = run(ltkit, "alphanet", "fit", "f.h5", *FIT, "--leave-out", "2,6", "-o", "l.h5")
    assert "left out" not in said
    _, said = run(ltkit, "alphanet", "apply", "w.h5", "f.h5", "-o", "x.h5", code=2)
    assert "corrects all 2 rare classes" in said


# Heads trained on the features


def trained(name, output, **options):
    said = []
    runs.train_heads(
        Path(name), TrainPlan(options.pop("method", "balanced-softmax"), **options),
        HeadSettings(epochs=3), Path(output), note=said.append,
    )  # fmt: skip
    return one(output), said


@pytest.mark.parametrize("method", ["balanced-softmax", "ce", "ldam", "swrm", "cdb"])
def test_a_head_is_trained_on_the_others(folder, method):
    options = {"method": method, "parameters": {"window": 3} if method == "swrm" else {}}
    (weight, bias), said = trained("f.h5", "o.h5", **options)
    (alone, alone_bias), none = trained("s.h5", "p.h5", **options)
    assert said == [NOTE + "never predicted"]
    assert none == []
    np.testing.assert_array_equal(weight[THERE], alone)
    np.testing.assert_array_equal(bias[THERE], alone_bias)
    assert not weight[EMPTY].any()
    assert (bias[EMPTY] == np.float32(NEVER)).all()


def test_a_head_that_starts_from_one_keeps_its_rows(folder):
    (weight, bias), said = trained("f.h5", "o.h5", init="head")
    assert said == [NOTE + "their rows stay as they are"]
    arrays = drawn()
    np.testing.assert_array_equal(weight[EMPTY], arrays["weight"][EMPTY])
    np.testing.assert_array_equal(bias[EMPTY], arrays["bias"][EMPTY])
    (alone, _), _ = trained("s.h5", "p.h5", init="head")
    np.testing.assert_array_equal(weight[THERE], alone)
    (weight, bias), _ = trained("f.h5", "c.h5", init="head", cosine=True)
    lengths = np.linalg.norm(weight[EMPTY], axis=1)
    np.testing.assert_allclose(lengths, TrainPlan.scale, rtol=1e-5)
    assert not bias[EMPTY].any()
    (weight, _), said = trained("f.h5", "n.h5", init="ncm")
    assert said == [NOTE + "never predicted"]


def test_a_head_that_starts_from_a_base_that_never_predicts_them(folder, ltkit):
    run(ltkit, "posthoc", "ridge", "f.h5", "--set", "penalty=0.1", "-o", "base.h5", "-q")
    run(ltkit, "train", "ce", "f.h5", "--init", "head", "--base", "base.h5", "--epochs", "2",
        "--device", "cpu", "-o", "o.h5", "-q")  # fmt: skip
    assert (one("o.h5")[1][EMPTY] == np.float32(NEVER)).all()
    assert (one("o.h5")[1][THERE] > -100).all()


def test_class_means_of_another_file_are_those_of_the_others(folder, ltkit):
    for name in "fs":
        run(ltkit, "train", "swrm", f"{name}.h5", "--class-means", f"{name}.h5", "--epochs", "2",
            "--set", "window=3", "--device", "cpu", "-o", f"{name}.o.h5", "-q")  # fmt: skip
    np.testing.assert_array_equal(one("f.o.h5")[0][THERE], one("s.o.h5")[0])


def test_val_samples_of_these_classes_are_not_watched(folder, ltkit):
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 9)
    put("v.h5", val_labels=labels, val_features=rng.normal(size=(72, 7)).astype(np.float32))
    kept = np.isin(labels, THERE)
    values = features_file.read(Path("v.h5")).split("val").features[0:72][kept]
    put("u.h5", THERE, val_labels=np.searchsorted(THERE, labels[kept]), val_features=values)
    balanced = {}
    for name in "vu":
        _, said = run(ltkit, "train", "ldam", f"{name}.h5", "--epochs", "2", "--device", "cpu",
                      "-o", f"{name}.ldam.h5")  # fmt: skip
        lines = Path(f"{name}.ldam.h5.jsonl").read_text().splitlines()
        assert (f"note: {NOTE}" in said) == (name == "v")
        logged = [json.loads(line) for line in lines]
        balanced[name] = [line["val"]["balanced"] for line in logged if "val" in line]
    assert len(balanced["v"]) == 2
    assert balanced["v"] == balanced["u"]


# Everything after


def test_every_command_works_on_such_a_file(folder, ltkit):
    Path("d").mkdir()
    Path("f.h5").rename("d/f.h5")
    for method in ("ncm", "logit-adjust", "tau-norm"):
        run(ltkit, "posthoc", method, "d/f.h5", "-q")
    run(ltkit, "alphanet", "fit", "d/f.h5", *FIT, "--rho", "0.5,1", "-q")
    table = json.loads(run(ltkit, "evaluate", "d/f.h5", "--json", "--replicates", "100")[0])
    assert table["groups"] == {"few": 4, "medium": 2, "many": 2}
    run(ltkit, "compare", "d/f.h5", "--replicates", "100")
    run(ltkit, "analyze", "flows", "d/f.h5", "--k", "2")
    run(ltkit, "analyze", "distance", "d/f.h5", "--k", "2")
    run(ltkit, "analyze", "deltas", "d/f.h5", "d/f.alphanet.h5")
    run(ltkit, "report", "d/f.h5", "-o", "r.html", "--replicates", "100")
    page = Path("r.html").read_text()
    assert "1e+30" not in page
    assert "found no training image" not in page
    run(ltkit, "validate", "d/f.h5")
    run(ltkit, "inspect", "d/f.h5")
    for form in ("npz", "csv", "safetensors"):
        run(ltkit, "export", "d/f.ncm.h5", "--to", form, "-o", f"e.{form}")
    assert np.load("e.npz")["bias"][6] == np.float32(NEVER)


# The records


def test_some_rows_are_read_as_of_the_whole():
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=(50_000, 40)), rng.integers(0, 9, 50_000)
    labels[100:30_000] = 0
    split = Present(np.arange(1, 9), 9).split(FeatureSplit(values, labels))
    np.testing.assert_array_equal(split.labels, labels[labels > 0] - 1)
    found = [features for _, features, _ in split.blocks()]
    np.testing.assert_array_equal(np.concatenate(found), values[labels > 0])
    assert split.features[0:0].shape == (0, 40)
    assert split.features.dtype == np.float64


def test_everything_of_some_classes(folder):
    features = features_file.read(Path("f.h5"))
    names, coarse = tuple("abcdefgh"), tuple("xxyyzzww")
    table = ClassTable(features.classes.train_count, names, coarse=coarse)
    base = Base("base", features.classifier())
    named = replace(features, classes=table, base=base)
    found = Present.of(named).features(named)
    assert found.classes.names == tuple("abdefh")
    assert found.classes.coarse == tuple("xxyzzw")
    assert found.classes.wnids is None
    assert found.classes.train_count.tolist() == COUNTS[THERE].tolist()
    np.testing.assert_array_equal(found.head.weight, features.head.weight[THERE])
    np.testing.assert_array_equal(found.base.classifier.bias, features.head.bias[THERE])


def test_a_note_names_the_first_three():
    classes = ClassTable(np.zeros(9, int), (*"abcdefgh", "x" * 99))
    said = note_of_left_out(classes, np.array([0, 1, 2, 8]), "gone")
    assert said.startswith("4 of 9 classes have no training image (a, b, c, ...) and are left")
    assert "x" * 41 not in note_of_left_out(classes, np.array([8]), "gone")
