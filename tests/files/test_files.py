"""ltkit's files: what is written is read, inspected and described; memory."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import made
import numpy as np
import pytest
import xxhash
from written import (
    NEIGHBORS,
    correction,
    everything_in,
    write_correction,
    write_neighbors,
    writer_of,
)

from ltkit import records
from ltkit.files import classifiers, features, hdf5, neighbors
from ltkit.files.features_writer import SplitPlan
from ltkit.files.opening import MAGIC
from ltkit.records import ClassTable, Head

pytestmark = pytest.mark.usefixtures("small_blocks")

# What is written is read


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_features_file_round_trips(tmp_path, dtype):
    plan = made.plan(dtype=dtype)
    plan = replace(
        plan,
        classes=replace(plan.classes, wnids=tuple("abcde"), coarse=("ä", "b", "b", "c", "c")),
        splits=plan.splits | {"val": replace(plan.splits["val"], skipped=np.array(["x/ö.png"]))},
    )
    values = made.write_features(tmp_path / "f.h5", plan)
    found = features.read(tmp_path / "f.h5")
    assert list(found.splits) == ["train", "val", "test"]
    for name, split in found.splits.items():
        assert split.features.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(split.features[:], values[name].astype(dtype))
        np.testing.assert_array_equal(split.labels, plan.splits[name].labels)
    assert found.splits["train"].ids.tolist() == plan.splits["train"].ids.tolist()
    assert found.splits["val"].ids.shape == (0,)
    assert found.splits["test"].ids is None
    assert found.classes.names == made.NAMES
    assert found.classes.wnids == tuple("abcde")
    assert found.classes.coarse == ("ä", "b", "b", "c", "c")
    np.testing.assert_array_equal(found.classes.train_count, [20, 7, 0, 3, 1])
    np.testing.assert_array_equal(found.head.weight, plan.head.weight)
    np.testing.assert_array_equal(found.head.bias, plan.head.bias)
    assert found.settings == plan.settings
    with h5py.File(tmp_path / "f.h5") as file:
        assert file["val/skipped"][0].decode() == "x/ö.png"


@pytest.mark.parametrize(
    "head",
    [
        None,
        Head(np.ones((5, 8), np.float32), np.zeros(5, np.float32), 16.5, "cosine"),
        Head(np.ones((2, 5, 4), np.float32), np.ones((2, 5), np.float32), 2, "features"),
    ],
)
def test_heads_round_trip(tmp_path, head):
    made.write_features(tmp_path / "f.h5", made.plan(head=head))
    found = features.read(tmp_path / "f.h5").head
    if head is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found.weight, head.weight)
        assert (found.scale, found.normalize) == (head.scale, head.normalize)
        np.testing.assert_array_equal(found.fold().weight, head.fold().weight)


def test_h5py_alone_reads_the_same_values(path):
    with h5py.File(path) as file:
        values = made.features(made.plan())
        np.testing.assert_array_equal(file["train/features"][:], values["train"])
        assert [name.decode() for name in file["classes/name"][:]] == list(made.NAMES)
        sums = file["checksums/train/features"]
        assert sums.attrs["block_rows"] == 8
        expected = xxhash.xxh3_64_intdigest(values["train"][8:16].tobytes())
        assert sums[1] == expected


@pytest.mark.parametrize(("runs", "changed"), [(2, 2), (1, 0), (40, 1)])
def test_a_classifier_file_round_trips(tmp_path, runs, changed):
    given = correction(runs, changed)
    write_correction(tmp_path / "c.h5", given)
    found, inputs = classifiers.read(tmp_path / "c.h5")
    assert inputs == {"features": "ab"}
    assert (found.method, found.runs, found.normalize_features) == ("alphanet", given.runs, True)
    for name in ("class_id", "weight", "bias"):
        np.testing.assert_array_equal(getattr(found, name), getattr(given, name))
    assert set(found.extra) == {"alpha", "epoch"}
    for name, values in given.extra.items():
        np.testing.assert_array_equal(found.extra[name], values)


def test_a_neighbours_file_round_trips(tmp_path):
    write_neighbors(tmp_path / "n.h5")
    found = neighbors.read(tmp_path / "n.h5")
    for name in ("few_class", "base_class", "distance"):
        np.testing.assert_array_equal(getattr(found, name), getattr(NEIGHBORS, name))
    assert found.metric == "cosine"


@pytest.mark.parametrize("write", [made.write_features, write_correction, write_neighbors])
def test_the_same_contents_give_the_same_bytes(tmp_path, write):
    write(tmp_path / "a.h5")
    write(tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_the_digest_leaves_out_the_command_and_covers_the_rest(tmp_path):
    plan = made.plan()
    classes = replace(plan.classes, names=tuple("abcde"))
    flipped = replace(plan.head, bias=-plan.head.bias)
    changes = [
        {}, {"settings": {"a": 2}}, {"inputs": {"arrays": "1" * 64}}, {"classes": classes},
        {"head": flipped}, {"head": replace(plan.head, scale=2.0)}, {"dtype": "float16"},
        {"splits": {"test": plan.splits["train"]}},
    ]  # fmt: skip
    digests = set()
    for change in changes:
        made.write_features(tmp_path / "f.h5", replace(plan, **change))
        digests.add(features.read(tmp_path / "f.h5").digest)
    assert len(digests) == len(changes)
    made.write_features(tmp_path / "f.h5", command="another")
    assert features.read(tmp_path / "f.h5").digest in digests
    assert hdf5.read(tmp_path / "f.h5", hdf5.FEATURES).root["command"] == "another"


def test_text_that_is_no_utf8_is_escaped(tmp_path):
    classes = ClassTable(np.array([20, 7, 0, 3, 1]), ("caf\udce9", "b", "c", "d", "e"))
    made.write_features(tmp_path / "f.h5", made.plan(classes=classes), command="x \udce9")
    assert features.read(tmp_path / "f.h5").classes.names[0] == r"caf\udce9"
    assert hdf5.read(tmp_path / "f.h5", hdf5.FEATURES).root["command"] == r"x \udce9"


def test_long_settings_and_names(tmp_path):
    classes = ClassTable(np.array([20, 7, 0, 3, 1]), ("x" * 1_000_000, "b", "c", "d", "e"))
    plan = made.plan(classes=classes, settings={"list": list(range(100_000))})
    made.write_features(tmp_path / "f.h5", plan)
    assert features.read(tmp_path / "f.h5").settings == plan.settings
    assert features.read(tmp_path / "f.h5").classes.names == classes.names


def test_slices_are_read_as_numpy_reads_them(path):
    values = made.features(made.plan())["train"]
    rows = features.read(path).split("train").features
    for start, stop in [(0, 0), (0, 1), (7, 9), (8, 16), (95, 100), (99, 200), (100, 100), (50, 3)]:
        np.testing.assert_array_equal(rows[start:stop], values[start:stop])
    read = np.concatenate([block for _, block, _ in features.read(path).split("train").blocks()])
    np.testing.assert_array_equal(read, values)


def test_a_file_is_read_twice_at_once(path):
    first, second = features.read(path), features.read(path)
    one = first.split("train").features[:10]
    np.testing.assert_array_equal(second.split("train").features[:10], one)


# The commands


def test_validate_says_what_is_bad(path, tmp_path, ltkit):
    write_correction(tmp_path / "c.h5")
    write_neighbors(tmp_path / "n.h5")
    sound = [path, tmp_path / "c.h5", tmp_path / "n.h5"]
    code, out, _ = ltkit("validate", *sound)
    assert (code, out.splitlines()) == (0, [f"{p}: sound" for p in sound])
    content = bytearray(path.read_bytes())
    for row in (0, 99):
        content[content.find(made.features(made.plan())["train"][row].tobytes())] ^= 1
    path.write_bytes(content)
    (tmp_path / "d.h5").write_bytes(b"hello")
    code, out, _ = ltkit("validate", "--json", *sound, tmp_path / "d.h5")
    document = json.loads(out)
    assert (code, document["schema"]) == (1, "ltkit.validate/1")
    problems = document["problems"]
    first, last = problems[str(path)]
    assert "block 0 (rows 0..7)" in first
    assert "block 12 (rows 96..99)" in last
    assert problems[str(tmp_path / "c.h5")] == []
    assert "not an HDF5 file" in problems[str(tmp_path / "d.h5")][0]
    code, out, err = ltkit("validate", tmp_path / "none.h5")
    assert (code, out) == (2, "")
    assert "none.h5: not found" in err


def test_inspect_shows_what_is_in_a_file(path, tmp_path, ltkit):
    code, out, _ = ltkit("inspect", path, "--json", "--bins", "5,10")
    document = json.loads(out)
    assert code == 0
    assert document["schema"] == "ltkit.inspect/1"
    assert document["format"] == "ltkit-features v1"
    assert document["train"] == "100 x 8 float32"
    assert document["shot_groups"] == {"few": 3, "medium": 1, "many": 1}
    assert document["head"] == {
        "classes": 5, "features": 8, "experts": 1, "normalize": "none", "scale": 1.0,
    }  # fmt: skip
    assert document["settings"] == made.plan().settings
    write_correction(tmp_path / "c.h5")
    code, out, _ = ltkit("inspect", tmp_path / "c.h5")
    assert code == 0
    assert re.search(r"^runs: +2, rho 0 0\.5$", out, re.M)
    assert json.loads(ltkit("inspect", tmp_path / "c.h5", "--json")[1])["weight"] == (
        "(2, 2, 8) float32"
    )
    assert re.search(r"^features: +ab, not in this folder$", out, re.M)


@pytest.mark.parametrize(
    ("content", "word"),
    [(None, "not found"), (b"", "is empty"), (b"hello", "torch"), (MAGIC, "cannot be read")],
)
def test_inspect_of_something_else(tmp_path, ltkit, content, word):
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    code, out, err = ltkit("inspect", tmp_path / "x")
    assert (code, out) == (2, "")
    assert word in err
    assert err.count("\n") == 1


# Memory


MEASURED = """
import resource, sys
from pathlib import Path
from ltkit.neighbors.class_means import class_means
from ltkit.files import features
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
small, large = (features.read(Path(p)).split("train") for p in sys.argv[1:])
class_means(small, 5)
before = peak()
total = sum(float(block[0, 0]) for _, block, _ in large.blocks())
class_means(large, 5)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_file(path, tmp_path, monkeypatch):
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 1 << 20)
    large, rows = tmp_path / "large.h5", 100_000
    split = SplitPlan(np.arange(rows) % 5, None)
    plan = made.plan(size=512, splits={"train": split}, head=None)
    block = np.random.default_rng(0).normal(size=(10_000, 512)).astype(np.float32)
    with writer_of(large, plan) as writer:
        for _ in range(10):
            writer.append("train", block)
        writer.finish()
    assert large.stat().st_size > 200e6
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, path, large], check=True, capture_output=True, text=True
    )
    large.unlink()
    assert float(run.stdout) < 60


# The description


def test_the_description_names_what_files_have(tmp_path):
    text = (Path(__file__).parents[2] / "docs" / "format.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([^`\n]+)`", text.replace("```", "")))
    plan = made.plan()
    plan = replace(
        plan,
        classes=replace(plan.classes, wnids=tuple("abcde"), coarse=tuple("abcde")),
        splits={"train": replace(plan.splits["train"], skipped=np.array(["x"]))},
    )
    made.write_features(tmp_path / "f.h5", plan)
    write_correction(tmp_path / "c.h5")
    write_neighbors(tmp_path / "n.h5")
    for path in sorted(tmp_path.iterdir()):
        with h5py.File(path) as file:
            assert file.attrs["format"].decode() in named
            found = [*file.attrs, *(file["head"].attrs if "head" in file else [])]
            sums = file["checksums"]
            found += [re.sub("^train/", "<split>/", name) for name in everything_in(sums)]
            found = [re.sub("^extra/.*", "extra/<name>", name) for name in found]
            assert set(found) - named == set()
