"""Compositions in files, and what the commands make of them, on the bundled features."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from composed import problem

import ltkit as face
from ltkit import alphanet
from ltkit.errors import InputError
from ltkit.evaluation import Entry
from ltkit.evaluation.analysis import class_changes, observe
from ltkit.evaluation.analysis.deltas import rho_curves
from ltkit.files import bases, classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.records import Base, Classifier, Correction

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = Path(face.__file__).parent / "data" / "demo" / "feats.h5"
FIT = ("alphanet", "fit", "feats.h5", "--epochs", 2, "--k", 4, "--seeds", 2, "--leave-out", 99)


@pytest.fixture
def folder(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    shutil.copy(DEMO, "feats.h5")
    run(ltkit, "posthoc", "logit-adjust", "feats.h5", "--set", "tau=0.5", "-o", "onto.h5", "-q")
    return tmp_path


def run(ltkit, *words):
    code, out, said = ltkit(*words)
    assert code == 0, said
    return out, said


def test_from_the_fit_to_the_page(folder, ltkit):
    run(ltkit, *FIT, "-o", "plain.h5", "-q")
    words = ("--onto", "onto.h5", "--scale", "0.3", "--prior-offset", "0.25")
    run(ltkit, *FIT, *words, "-o", "composed.h5", "-q")
    plain, _ = classifiers.read(Path("plain.h5"))
    found, inputs = classifiers.read(Path("composed.h5"))
    features = features_file.read(Path("feats.h5"))
    digest = hdf5.header(Path("onto.h5"))["digest"]
    assert inputs == {"features": features.digest, "onto": digest}
    assert found.method == "logit-adjust+alphanet"
    numbers = {"scale": 0.3, "prior_offset": 0.25, "onto": digest}
    assert found.runs == tuple(one | numbers for one in plain.runs)
    for name, values in plain.extra.items():
        np.testing.assert_array_equal(found.learned.get(name, found.extra.get(name)), values)
    ours = alphanet.compose(plain, features, onto="onto.h5", scale=0.3, prior_offset=0.25)
    np.testing.assert_array_equal(ours.weight, found.weight)
    np.testing.assert_array_equal(ours.bias, found.bias)
    face.save(features, ours, "saved.h5")
    assert classifiers.read(Path("saved.h5"))[1] == inputs

    out, _ = run(ltkit, "evaluate", "feats.h5", "composed.h5", "--replicates", 100, "--json")
    rows = json.loads(out)["rows"]
    assert [row["name"] for row in rows] == ["baseline", "logit-adjust+alphanet"]
    run(ltkit, "export", "composed.h5", "--to", "npz", "--run", "seed=1", "-o", "head.npz", "-q")
    with np.load("head.npz") as head:
        np.testing.assert_array_equal(head["weight"], found.weight[1])
        np.testing.assert_array_equal(head["bias"], found.bias[1])
    shown, _ = run(ltkit, "inspect", "composed.h5")
    assert f"onto:         {digest[:12]}" in shown
    flows, _ = run(ltkit, "analyze", "flows", "feats.h5", "composed.h5", "--json")
    assert json.loads(flows)["rows"]


def test_show_gives_the_coefficients_that_act(folder, ltkit):
    words = ("--onto", "onto.h5", "--scale", "0.3", "--prior-offset", "0.25")
    run(ltkit, *FIT, *words, "-q")
    found, _ = classifiers.read(Path("feats.alphanet.h5"))
    features = features_file.read(Path("feats.h5"))
    onto, _ = classifiers.read(Path("onto.h5"))
    base = features.classifier()
    show = ("alphanet", "show", "feats.h5", "feats.alphanet.h5")
    document = json.loads(run(ltkit, *show, "--class", "wolf", "--json")[0])
    assert document["settings"]["scale"] == 0.3
    assert document["settings"]["prior_offset"] == 0.25
    (wolf,) = document["rows"]
    added = sum(p["alpha"] * base.weight[p["class"]].astype(float) for p in wolf["combination"])
    np.testing.assert_allclose(
        onto.weight[0, 97] + added, found.weight[:, 97].mean(axis=0), atol=1e-5
    )
    assert sum(abs(p["alpha"]) for p in wolf["combination"]) <= 0.3 + 1e-6
    assert wolf["bias"]["after"] == pytest.approx(found.bias[:, 97].mean())
    every = json.loads(run(ltkit, *show, "--most", 0, "--json")[0])["rows"]
    assert sorted(row["class"] for row in every) == list(range(70, 99))
    first, _, line, *_ = run(ltkit, *show, "--class", "wolf")[0].splitlines()
    digest = hdf5.header(Path("onto.h5"))["digest"][:12]
    assert f"rho 1, scale 0.3, prior offset 0.25, onto the head {digest}, mean" in first
    largest = max(abs(p["alpha"]) for p in wolf["combination"])
    assert f"{largest:.3f} ± " in line


def test_auto_says_what_it_tried_and_chose(folder, ltkit):
    words = ("--onto", "onto.h5", "--scale", "auto", "--rho", "0.5,1", "--select", "few")
    _, said = run(ltkit, *FIT, *words)
    found, _ = classifiers.read(Path("feats.alphanet.h5"))
    settings = hdf5.read(Path("feats.alphanet.h5"), hdf5.CLASSIFIER).settings
    assert (settings["scale"], settings["prior_offset"], settings["select"]) == ("auto", "0", "few")
    assert len(settings["tried"]) == 16
    for rho in (0.5, 1.0):
        tried = [t for t in settings["tried"] if t["rho"] == rho]
        best = max(t["val"] for t in tried)
        scale = next(t["scale"] for t in tried if t["val"] == best)
        assert {r["scale"] for r in found.runs if r["rho"] == rho} == {scale}
        assert f"chosen: scale {scale:g}\n" in said
        line = f"scale {scale:g}: few accuracy {best:.4f} on val at rho {rho:g}"
        assert line in said
    features = features_file.read(Path("feats.h5"))
    again = alphanet.fit_features(
        features, alphanet.study.AlphaNetSettings(epochs=2), k=4, rhos=(0.5, 1.0), seeds=2,
        leave_out=(99,), onto="onto.h5", scale="auto", select="few",
    )  # fmt: skip
    for one, other in zip(again.runs, found.runs, strict=True):
        for name in ("rho", "seed", "scale", "prior_offset", "onto"):
            assert one[name] == other[name]
    subject = observe(features, "test", [Entry("c", "c.h5", found)])
    labels = features.split("test").labels
    (curve,) = rho_curves(subject.cases, subject.before, labels, 100, features.groups())
    assert curve.rho.tolist() == [0.5, 1.0]


def test_asked_for_as_published_the_file_is_the_same(folder, ltkit):
    run(ltkit, *FIT, "-o", "plain.h5", "-q")
    own = Correction.whole("own", features_file.read(Path("feats.h5")).classifier())
    face.save(features_file.read(Path("feats.h5")), own, "own.h5")
    words = ("--onto", "own.h5", "--scale", "1.0", "--prior-offset", "0")
    run(ltkit, *FIT, *words, "-o", "asked.h5", "-q")
    headers = [hdf5.header(Path(name)) for name in ("plain.h5", "asked.h5")]
    assert headers[0]["digest"] == headers[1]["digest"]


def test_apply_composes_as_the_fit_did(folder, ltkit):
    words = ("--onto", "onto.h5", "--scale", "0.3", "--prior-offset", "0.25")
    run(ltkit, *FIT, "-o", "plain.h5", "-q")
    run(ltkit, *FIT, *words, "-o", "composed.h5", "-q")
    run(ltkit, "alphanet", "apply", "plain.h5", "feats.h5", "-o", "new.h5", "-q")
    apply = ("alphanet", "apply", "composed.h5", "feats.h5", "-o", "part.h5", "-q")
    run(ltkit, *apply, "--onto", "onto.h5")
    new, part = (classifiers.read(Path(name))[0] for name in ("new.h5", "part.h5"))
    assert new.class_id.tolist() == part.learned_class.tolist() == [99]
    features = features_file.read(Path("feats.h5"))
    expected = alphanet.compose(new, features, onto="onto.h5", scale=0.3, prior_offset=0.25)
    np.testing.assert_array_equal(part.weight, expected.weight)
    np.testing.assert_array_equal(part.bias, expected.bias)
    assert part.runs == expected.runs
    assert part.method == "logit-adjust+alphanet"
    inputs = classifiers.read(Path("part.h5"))[1]
    assert inputs["onto"] == hdf5.header(Path("onto.h5"))["digest"]
    assert inputs["fit"] == hdf5.header(Path("composed.h5"))["digest"]
    run(ltkit, "alphanet", "show", "feats.h5", "part.h5")


def test_a_part_on_the_own_head_needs_no_other_to_apply(folder, ltkit):
    run(ltkit, *FIT, "--scale", "0.5", "-q")
    found, inputs = classifiers.read(Path("feats.alphanet.h5"))
    assert inputs.keys() == {"features"}
    assert found.class_id.tolist() == list(range(70, 99))  # rows of the corrected classes alone
    run(ltkit, "alphanet", "apply", "feats.alphanet.h5", "feats.h5", "-q")
    part, _ = classifiers.read(Path("feats.alphanet-applied.h5"))
    assert part.class_id.tolist() == [99]
    base = features_file.read(Path("feats.h5")).classifier()
    for run_, row in enumerate(part.weight):
        alpha, near = (part.learned[n][run_, 0] for n in ("alpha", "neighbor"))
        expected = base.weight[99] + 0.5 * alpha.astype(float) @ base.weight[near]
        np.testing.assert_allclose(row[0], expected, atol=1e-6)
    np.testing.assert_array_equal(part.bias, np.full((2, 1), base.bias[99]))


def test_a_head_in_memory_is_not_asked_after(folder):
    features = features_file.read(Path("feats.h5"))
    base = features.classifier()
    onto = Classifier(2 * base.weight, base.bias)
    fit = alphanet.fit_features(
        features, alphanet.study.AlphaNetSettings(epochs=1, min_epochs=1), leave_out=(99,),
        onto=onto, scale=0.5,
    )  # fmt: skip
    assert fit.runs[0]["onto"] == ""
    found = alphanet.apply_features(fit, features, onto=onto)
    assert found.learned_class.tolist() == [99]
    with pytest.raises(InputError, match="onto: absent, fit was composed"):
        alphanet.apply_features(fit, features)


def test_a_composition_is_no_base_by_itself(folder, ltkit):
    """Features without a head: it has a base, and the head it was composed with is another."""
    features = features_file.read(Path("feats.h5"))
    weight = features.classifier().weight
    arrays = {}
    for name, split in features.splits.items():
        arrays |= {f"{name}_features": split.features[:], f"{name}_labels": split.labels}
    Path("bare").mkdir()
    np.savez("a.npz", **arrays)
    run(ltkit, "import", "a.npz", "-o", "bare/feats.h5", "-q")
    bare = features_file.read(Path("bare/feats.h5"))
    head = Correction.whole("ce", Classifier(weight, np.zeros(100, np.float32)))
    face.save(bare, head, "bare/base.h5")
    run(ltkit, "posthoc", "logit-adjust", "bare/feats.h5", "-o", "bare/onto.h5", "-q")
    fit = ("alphanet", "fit", "bare/feats.h5", "--epochs", 1, "--k", 2, "-q")
    run(ltkit, *fit, "--onto", "bare/onto.h5", "--scale", "0.5")
    _, inputs = classifiers.read(Path("bare/feats.alphanet.h5"))
    assert inputs.keys() == {"features", "base", "onto"}
    assert bases.only(Path("bare/feats.h5"), bare) == Path("bare/base.h5")
    onto_alone = {"features": bare.digest, "onto": inputs["onto"]}
    found, _ = classifiers.read(Path("bare/feats.alphanet.h5"))
    for file in ("bare/onto.h5", "bare/feats.alphanet.h5"):
        Path(file).unlink()
    classifiers.write(
        Path("bare/other.h5"), found, settings={}, inputs=onto_alone, command="made"
    )  # fmt: skip
    assert bases.only(Path("bare/feats.h5"), bare) == Path("bare/base.h5")


def test_changes_of_a_class_have_what_acts():
    features, fit, onto = problem()
    found = alphanet.compose(fit, features, onto=onto, scale=0.5, prior_offset=1)
    entry = Entry("c", "c.h5", found)
    changes = observe(features, "val", [entry])
    (change, *_) = class_changes(
        found, [0], features.classifier(), changes.before, changes.cases[0].predicted[:1],
        features.split("val").labels, [5],
    )  # fmt: skip
    np.testing.assert_allclose(change.alpha[0], 0.5 * fit.extra["alpha"][0, 0], rtol=1e-6)
    assert change.neighbor.tolist() == fit.extra["neighbor"][0, 0].tolist()
    assert change.bias[1] == found.bias[0, 5]


def test_a_base_of_several_experts_keeps_them():
    """A head that divides each expert's features by their own norms, not by the common one."""
    features, _, _ = problem()
    base = features.classifier()
    own = Classifier(base.weight, base.bias, normalize_features=True, experts=2)
    based = features.with_base(Base("base", own))
    found = bases.read_start(based, Correction.whole("m", own))
    assert found.classifier.experts == 2
    x = features.split("val").features
    np.testing.assert_array_equal(found.classifier.logits(x), own.logits(x))


def refused(ltkit, *words):
    code, _, said = ltkit(*words)
    assert code == 2
    assert len(said.splitlines()[-1]) <= 307
    return said.splitlines()[-1]


def test_the_right_head_is_asked_for(folder, ltkit):
    run(ltkit, *FIT, "--onto", "onto.h5", "--scale", "0.5", "-o", "composed.h5", "-q")
    run(ltkit, *FIT, "--scale", "0.5", "-o", "own.h5", "-q")
    run(ltkit, "posthoc", "logit-adjust", "feats.h5", "--set", "tau=1", "-o", "other.h5", "-q")
    digests = [hdf5.header(Path(name))["digest"][:12] for name in ("onto.h5", "other.h5")]
    apply = ("alphanet", "apply", "composed.h5", "feats.h5")
    said = refused(ltkit, *apply)
    assert f"--onto: absent, composed.h5 was composed with the head {digests[0]}" in said
    said = refused(ltkit, *apply, "--onto", "other.h5")
    assert f"--onto: found the head {digests[1]}, expected {digests[0]}" in said
    said = refused(ltkit, "alphanet", "apply", "own.h5", "feats.h5", "--onto", "onto.h5")
    assert "--onto: own.h5 was composed with no other head; leave it out" in said
    assert not Path("feats.alphanet-applied.h5").exists()


def test_numbers_are_read_before_the_features(folder, ltkit):
    assert refused(ltkit, *FIT, "--scale", "much").endswith(
        "--scale: found much, expected auto, or a number from 0 to 10"
    )
    Path("feats.h5").write_bytes(b"")
    assert "--prior-offset: found 1_0" in refused(ltkit, *FIT, "--prior-offset", "1_0")
