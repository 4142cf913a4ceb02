"""``ltkit posthoc adapt`` as it is typed, and what it refuses of its target."""

from dataclasses import replace

import numpy as np
import pytest
import shifted
from made import refused

from ltkit.adaptation import targets
from ltkit.errors import InputError
from ltkit.files import classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

FAST = ("--set", "replicates=100")


def write(path, features):
    """Write features as a file."""
    arrays = {"weight": features.head.weight, "bias": features.head.bias,
              "train_counts": shifted.COUNTS}  # fmt: skip
    for name, split in features.splits.items():
        if name != "train":
            arrays |= {f"{name}_features": split.features, f"{name}_labels": split.labels}
    np.savez(path.with_suffix(".npz"), **arrays)
    settings = ImportSettings(weight_rows="classes", bins=(20, 100))
    import_arrays(path.with_suffix(".npz"), path, settings=settings)
    path.with_suffix(".npz").unlink()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with feats.h5, and prod.h5 with a target alone."""
    write(tmp_path / "feats.h5", shifted.problem())
    target = shifted.problem(test=shifted.sample(shifted.tail(-0.8), 600, 5))
    write(tmp_path / "prod.h5", replace(target, splits={"test": target.split("test")}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_answer_and_the_file(ltkit, folder):
    code, out, said = ltkit("posthoc", "adapt", "feats.h5", "--to", "prod.h5", *FAST)
    # but for lines of progress, which are there when it is slow
    lines = [line for line in said.splitlines() if not line.startswith(("part ", "pass "))]
    assert (code, out.strip()) == (0, "feats.adapt.h5")
    assert lines[0].startswith("share of classes among 600 samples of prod.h5 (tail: count to the")
    assert [line.split()[0] for line in lines[1:4]] == ["few", "medium", "many"]
    assert lines[4].startswith("that shares alone differ: p ")
    assert lines[4].endswith("no sign of another shift")
    assert lines[-1] == "wrote feats.adapt.h5"
    correction, inputs = classifiers.read(folder / "feats.adapt.h5")
    assert inputs["target"] == hdf5.header(folder / "prod.h5")["digest"]
    assert correction.extra["prior"].sum() == pytest.approx(1)
    settings = hdf5.read(folder / "feats.adapt.h5", hdf5.CLASSIFIER).settings
    assert (settings["method"], settings["estimator"], settings["kept"]) == ("adapt", "tail", False)
    assert settings["slope"] == pytest.approx(-0.8, abs=0.25)


def test_every_class_has_a_line_where_that_is_asked(ltkit, folder):
    code, _, said = ltkit(
        "posthoc", "adapt", "feats.h5", "--to", "prod.h5:test", "--all", *FAST,
        "--set", "estimator=map-em",
    )  # fmt: skip
    assert code == 0
    assert len([line for line in said.splitlines() if line.endswith(("(400)", "(6)"))]) == 2


def test_another_correction_can_be_adapted(ltkit, folder):
    assert ltkit("posthoc", "tau-norm", "feats.h5", "--set", "tau=0.5", "-q")[0] == 0
    code, _, said = ltkit("posthoc", "adapt", "--from", "feats.tau-norm.h5", "--to", "prod.h5",
                          *FAST)  # fmt: skip
    assert code == 0, said
    header = hdf5.header(folder / "feats.tau-norm.adapt.h5")
    assert {"from", "target", "features"} <= header["inputs"].keys()


def test_the_list_and_the_completion_have_it(ltkit):
    from ltkit.cli import _options

    lines = ltkit("posthoc", "--list")[1].splitlines()
    assert lines[-1].startswith("adapt ")
    assert "estimator=tail" in lines[-1]
    assert _options.begun("posthoc", also=["adapt"])("ad") == ["adapt"]


def test_only_split_is_taken_and_an_empty_one_refused(folder):
    target = features_file.read(folder / "prod.h5")
    split = target.split("test")
    named = replace(target, splits={"train": split})
    assert targets.split_of(named, None) == "train"
    assert targets.split_of(target, None) == "test"
    both = replace(target, splits={"train": split, "val": split})
    refused(lambda: targets.split_of(both, None), "no split test", "train, val", error=InputError)
    empty = replace(target, splits={"test": split.at(np.zeros(0, int))})
    refused(lambda: targets.split_of(empty, None), "test: found no sample", error=InputError)


def test_the_own_test_split_is_taken_with_a_note(folder):
    features = features_file.read(folder / "feats.h5")
    assert "own test split" in targets.check(features, features, "test")[0]
    other = features_file.read(folder / "prod.h5")
    assert targets.check(features, other, "test") == []


def test_features_without_a_head_are_told_apart_by_their_checkpoint(folder, monkeypatch):
    features, target = (features_file.read(folder / f"{n}.h5") for n in ("feats", "prod"))
    bare = replace(target, head=None)
    assert "not known" in targets.check(features, bare, "test")[0]
    digests = {"feats.h5": "a" * 64, "prod.h5": "b" * 64}
    monkeypatch.setattr(hdf5, "header", lambda path: {"inputs": {"checkpoint": digests[path.name]}})
    refused(
        lambda: targets.check(features, bare, "test"), "checkpoint: found bbbb", "another model"
    )
    digests["prod.h5"] = "a" * 64
    assert targets.check(features, bare, "test") == []


def from_checkpoint(path, features, classes, head, width=None):
    """Write the test split as extracted from one checkpoint, with or without the head."""
    test = features.split("test")
    rows = np.asarray(test.features, np.float32)[:, :width]
    labels = test.labels if head else np.zeros(len(test), np.int64)
    splits = {"test": SplitPlan(labels, None)}
    if head:
        splits["val"] = SplitPlan(features.split("val").labels, None)
    plan = Plan(
        rows.shape[1], "float32", splits, classes, features.head if head else None, {},
        {"checkpoint": "0" * 64},
    )  # fmt: skip
    with FeaturesWriter(path, plan, command="ltkit extract", resume=False) as writer:
        writer.append("test", rows)
        if head:
            writer.append("val", np.asarray(features.split("val").features, np.float32))
        writer.finish()


def test_images_without_labels_are_features_alone(ltkit, tmp_path, monkeypatch):
    """As ``extract --no-head`` writes them: one class, which stands for none."""
    monkeypatch.chdir(tmp_path)
    field = shifted.problem(test=shifted.sample(shifted.tail(-0.8), 600, 5))
    from_checkpoint(tmp_path / "feats.h5", field, ClassTable(shifted.COUNTS), head=True)
    one = ClassTable(np.array([600]))
    from_checkpoint(tmp_path / "field.h5", field, one, head=False)
    code, _, said = ltkit("posthoc", "adapt", "feats.h5", "--to", "field.h5", *FAST)
    assert code == 0, said
    assert "samples of field.h5" in said
    from_checkpoint(tmp_path / "narrow.h5", field, one, head=False, width=7)
    features, narrow = (features_file.read(tmp_path / f"{n}.h5") for n in ("feats", "narrow"))
    refused(
        lambda: targets.check(features, narrow, "test"), "found 7 features, expected the 12",
        error=InputError,
    )  # fmt: skip


def test_evaluate_says_what_was_adapted_to_its_images(ltkit, folder):
    write(folder / "both.h5", shifted.problem(test=shifted.sample(shifted.tail(-0.8), 600, 5)))
    assert ltkit("posthoc", "adapt", "both.h5", "--to", "both.h5:test", *FAST)[0] == 0
    _, _, said = ltkit("evaluate", "both.h5", "both.adapt.h5")
    assert "note: both.adapt.h5: was adapted to images of both.h5, without labels" in said


def test_a_split_that_is_not_there_is_named(ltkit, folder):
    code, _, said = ltkit("posthoc", "adapt", "feats.h5", "--to", "prod.h5:march")
    assert (code, said.splitlines()[-1]) == (
        2,
        "ltkit: prod.h5: no split march; there are: test; choose one of them, or add it to the "
        "data and extract again",
    )
    (folder / "prod.h5").rename(folder / "prod:march")
    assert ltkit("posthoc", "adapt", "feats.h5", "--to", "prod:march", *FAST)[0] == 0
