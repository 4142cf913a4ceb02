"""The on-disk format: what is written is read, and damage of any kind is said in one line."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import made
import numpy as np
import pytest
import xxhash

from ltkit import records
from ltkit.errors import FormatError, InputError
from ltkit.files import classifiers, features, features_writer, hdf5, neighbors
from ltkit.files.features_writer import FeaturesWriter, SplitPlan
from ltkit.files.opening import MAGIC
from ltkit.records import ClassTable, Correction, Head, Neighbors


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of 256 bytes: eight rows of the small files."""
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 256)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "f.h5"
    made.write_features(path)
    return path


def everything(path):
    """All values that ltkit reads of a features file, as bytes and plain objects."""
    found = features.read(path)
    splits = {
        name: (
            split.features[:].tobytes(), split.labels.tobytes(),
            None if split.ids is None else split.ids.tolist(),
        )
        for name, split in found.splits.items()
    }  # fmt: skip
    head = found.head
    return (
        splits, found.classes.train_count.tobytes(), found.classes.names, found.classes.wnids,
        head.weight.tobytes(), head.bias.tobytes(), head.scale, head.normalize,
        found.settings, found.digest,
    )  # fmt: skip


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


def correction(runs=2, changed=2):
    rng = np.random.default_rng(0)
    return Correction(
        "alphanet",
        np.arange(changed) * 2 + 1,
        rng.normal(size=(runs, changed, 8)).astype(np.float32),
        rng.normal(size=(runs, changed)).astype(np.float32),
        tuple({"rho": 0.5 * s, "name": "ä"} for s in range(runs)),
        True,
        {"alpha": rng.normal(size=(runs, changed, 3)), "epoch": np.arange(runs)},
    )


def write_correction(path, given=None):
    classifiers.write(path, given or correction(), settings={"k": 3}, inputs={"features": "ab"},
                      command="c")  # fmt: skip


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


NEIGHBORS = Neighbors(
    np.array([1, 4]),
    np.array([[0, 2], [3, 0]]),
    np.array([[0.5, 1], [2, 2]], np.float32),
    "cosine",
)


def write_neighbors(path):
    neighbors.write(path, NEIGHBORS, settings={"k": 2}, inputs={}, command="c")


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


# The writer


def writer_of(path, plan=None, resume=False):
    return FeaturesWriter(path, plan or made.plan(), command="c", resume=resume)


@pytest.mark.parametrize("size", [1, 7, 9, 1000])
def test_rows_may_come_in_any_sizes(tmp_path, size):
    made.write_features(tmp_path / "whole.h5", command="c")
    with writer_of(tmp_path / "f.h5") as writer:
        for name, values in made.features(made.plan()).items():
            for start in range(0, len(values), size):
                writer.append(name, values[start : start + size])
        writer.finish()
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("stop", [1, 8, 50, 100])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_resumed_file_has_the_bytes_of_an_uninterrupted_one(tmp_path, stop, dtype):
    plan = made.plan(dtype=dtype)
    made.write_features(tmp_path / "whole.h5", plan, command="c")
    path, rows = tmp_path / "f.h5", 8 if dtype == "float32" else 16
    with writer_of(path, plan) as writer:
        made.append(writer, plan, stop)
    assert made.beside(path) == ["f.h5.journal", "f.h5.partial", "whole.h5"]
    with FeaturesWriter(path, plan, command="another", resume=True) as writer:
        assert writer.done("train") == (100 if stop == 100 else stop // rows * rows)
        made.append(writer, plan)
        writer.finish()
    assert made.beside(path) == ["f.h5", "whole.h5"]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
import made
from ltkit import records
from ltkit.files.features_writer import FeaturesWriter
records.arrays.BLOCK_BYTES = 256
writer = FeaturesWriter(Path(sys.argv[1]), made.plan(), command="c", resume=False)
made.append(writer, made.plan(), 77)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_resumed(tmp_path):
    path = tmp_path / "f.h5"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert not path.exists()
    with writer_of(path, resume=True) as writer:
        assert writer.done("train") == 72
        made.append(writer, made.plan())
        writer.finish()
    made.write_features(tmp_path / "whole.h5", command="c")
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def interrupted(path, stop=50):
    with writer_of(path) as writer:
        made.append(writer, made.plan(), stop)
    return path.with_name("f.h5.partial"), path.with_name("f.h5.journal")


def finished(path, done):
    """Resume, check how many rows of train were kept, finish; check the bytes."""
    with writer_of(path, resume=True) as writer:
        assert writer.done("train") == done
        made.append(writer, made.plan())
        writer.finish()
    whole = path.with_name("whole.h5")
    made.write_features(whole, command="c")
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "ending",
    [
        b"train 6 12", b"train 6 0000000000000000\n", b"train x 12\n", b"\xff\xfe\n",
        b"nosplit 0 1\n", b"train\n", b"\n", b"val 0 2d06800538d394c2\n", b"train -1 a\n",
    ],
)  # fmt: skip
def test_a_damaged_last_line_of_the_journal_is_dropped(tmp_path, ending):
    _, journal = interrupted(tmp_path / "f.h5")
    with journal.open("ab") as file:
        file.write(ending)
    finished(tmp_path / "f.h5", 48)


def test_a_last_line_without_its_end_is_done_again(tmp_path):
    _, journal = interrupted(tmp_path / "f.h5")
    journal.write_bytes(journal.read_bytes()[:-1])
    finished(tmp_path / "f.h5", 40)


def test_a_block_damaged_after_it_was_noted_is_done_again(tmp_path):
    partial, _ = interrupted(tmp_path / "f.h5")
    content = bytearray(partial.read_bytes())
    at = content.find(made.features(made.plan())["train"][16:24].tobytes())
    content[at] ^= 1
    partial.write_bytes(content)
    finished(tmp_path / "f.h5", 16)


def test_a_run_stopped_while_sealing_is_resumed(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"

    def stop(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, writer_of(path) as writer:
        patch.setattr(features_writer, "publish", stop)
        made.append(writer, made.plan())
        with pytest.raises(KeyboardInterrupt):
            writer.finish()
    assert not path.exists()
    finished(path, 100)


def test_resuming_nothing_is_a_first_run(tmp_path):
    finished(tmp_path / "f.h5", 0)


def test_without_resume_a_run_starts_anew(tmp_path):
    interrupted(tmp_path / "f.h5")
    with writer_of(tmp_path / "f.h5") as writer:
        assert writer.done("train") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"a": 2}}, {"inputs": {}}, {"dtype": "float16"}, {"head": None},
        {"classes": ClassTable(np.array([20, 7, 0, 3, 2]), made.NAMES)},
    ],
)  # fmt: skip
def test_another_plan_is_not_resumed(tmp_path, change):
    path = tmp_path / "f.h5"
    interrupted(path)
    made.refused(
        lambda: writer_of(path, made.plan(**change), resume=True),
        "f.h5.partial", "another model, dataset or setting", "without --resume",
        error=InputError,
    )  # fmt: skip
    finished(path, 48)


def test_a_partial_file_without_a_journal_is_not_resumed(tmp_path):
    interrupted(tmp_path / "f.h5")[1].unlink()
    made.refused(lambda: writer_of(tmp_path / "f.h5", resume=True), "f.h5.partial", "belongs to")


@pytest.mark.parametrize("kept", [0, 7, 100, 600, 3000])
def test_a_damaged_partial_file_is_not_resumed(tmp_path, kept):
    partial, _ = interrupted(tmp_path / "f.h5")
    partial.write_bytes(partial.read_bytes()[:kept])
    for resume in (True, False):
        made.refused(
            lambda r=resume: writer_of(tmp_path / "f.h5", resume=r), "f.h5.partial",
            "not known to be ltkit's", "move it away",
        )  # fmt: skip
    assert partial.stat().st_size == kept


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "f.h5"
    with writer_of(path) as writer:
        made.append(writer, made.plan(), 50)
        for resume in (False, True):
            made.refused(lambda r=resume: writer_of(path, resume=r), "f.h5", "another process")
        for name, values in made.features(made.plan()).items():
            writer.append(name, values[50 if name == "train" else 0 :])
        writer.finish()
    assert len(features.read(path).split("train")) == 100


def full(code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_too_small_is_said_before_any_work(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "posix_fallocate", full(code))
    made.refused(lambda: writer_of(tmp_path / "f.h5"), "f.h5", "disk is full", "free some space")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_what_can_be_resumed(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    with writer_of(path) as writer:
        made.append(writer, made.plan(), 50)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full(errno.ENOSPC))
            made.refused(
                lambda: writer.append("train", np.zeros((8, 8))), "f.h5", "disk is full", "--resume"
            )
    assert not path.exists()
    finished(path, 48)


def test_another_failure_to_write_is_said(tmp_path, monkeypatch):
    with writer_of(tmp_path / "f.h5") as writer:
        monkeypatch.setattr(os, "pwrite", full(errno.EIO))
        made.refused(
            lambda: writer.append("train", np.zeros((8, 8))),
            "cannot be written (Input/output error)",
        )


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, view, at: pwrite(file, view[:10], at))
    finished(tmp_path / "f.h5", 0)


LIMITED = """
import resource, sys
from pathlib import Path
import made
from ltkit.errors import InputError
from ltkit.files import neighbors, features
import test_files
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (test_files.write_neighbors, made.write_features):
    try:
        write(Path(sys.argv[1]))
    except InputError as error:
        print(error)
"""


def test_a_limit_of_the_system_is_said_in_one_line(tmp_path):
    tests = os.pathsep.join(map(str, Path(__file__).parents[:2]))
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "f.h5"],
        env=os.environ | {"PYTHONPATH": tests}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    first, second = run.stdout.splitlines()
    assert "f.h5: cannot be written (File too large); free some space" in first
    assert "f.h5: the disk is full" in second
    assert list(tmp_path.iterdir()) == []


def test_wrong_rows_are_the_callers_fault(tmp_path):
    with writer_of(tmp_path / "f.h5") as writer:
        with pytest.raises(ValueError, match="at most 100 rows of 8"):
            writer.append("train", np.zeros((3, 9)))
        writer.append("train", np.zeros((90, 8)))
        with pytest.raises(ValueError, match="at most 10 rows of 8"):
            writer.append("train", np.zeros((11, 8)))
        with pytest.raises(ValueError, match="train: 88 rows of 100 written"):
            writer.finish()
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_row(tmp_path, value):
    values = np.zeros((60, 8))
    values[41, 3] = value
    with writer_of(tmp_path / "f.h5") as writer:
        writer.append("train", np.zeros((13, 8)))
        made.refused(lambda: writer.append("train", values), "train: row 54:", "not finite")


@pytest.mark.parametrize(
    ("dtype", "value", "hint"),
    [("float16", 70000, "--dtype float32"), ("float32", 1e39, "scale the features")],
)
def test_features_that_do_not_fit_the_type(tmp_path, dtype, value, hint):
    values = np.zeros((3, 8))
    values[2, 1] = value
    with writer_of(tmp_path / "f.h5", made.plan(dtype=dtype)) as writer:
        made.refused(
            lambda: writer.append("train", values), "train: row 2:", f"{value:g}", dtype, hint
        )


# Damage


def attempt(call):
    """Return what a call gives, None when it is refused in one line."""
    try:
        return call()
    except FormatError as error:
        return None if "\n" not in str(error) else error


def test_a_flipped_bit_is_met_or_changes_nothing(tmp_path):
    path, plan = tmp_path / "f.h5", made.plan()
    made.write_features(path, replace(plan, splits={"train": plan.splits["train"]}))
    content, expected = path.read_bytes(), everything(path)
    met, positions = 0, np.random.default_rng(0).choice(len(content), 300, replace=False)
    for position in positions:
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            path.write_bytes(flipped)
            found = attempt(lambda: everything(path))
            assert found in (None, expected), f"byte {position} bit {bit}"
            met += found is None
            if bit == 0:
                hdf5.header(path)
    assert met > len(positions) * 8 * 0.2  # the rest is padding and what HDF5 leaves unused


@pytest.mark.parametrize("row", [0, 50, 99])
def test_a_flip_in_the_features_names_block_and_rows(path, row):
    content = bytearray(path.read_bytes())
    content[content.find(made.features(made.plan())["train"][row].tobytes()) + 3] ^= 64
    path.write_bytes(content)
    rows = features.read(path).split("train").features
    block = row // 8
    last = min(block * 8 + 7, 99)
    made.refused(
        lambda: rows[row : row + 1], f"train/features: block {block} (rows {block * 8}..{last})",
        error=FormatError,
    )  # fmt: skip
    contents = hdf5.read(path, hdf5.FEATURES)
    assert len(list(contents.datasets["train/features"].verify())) == 1
    assert list(contents.datasets["test/features"].verify()) == []


def test_every_length_of_a_truncated_file_is_refused(path):
    content = path.read_bytes()
    for length in [*range(1, 200, 13), *range(200, len(content), 613), len(content) - 1]:
        path.write_bytes(content[:length])
        made.refused(lambda: everything(path), "f.h5", error=FormatError)


def test_a_file_cut_after_it_was_opened(path):
    rows = features.read(path).split("train").features
    path.write_bytes(path.read_bytes()[: rows.offset + 40])
    made.refused(lambda: rows[:10], "train/features: truncated")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty", "make the file again"]),
        (b"<!DOCTYPE html>", ["web page"]),
        (b"\n <html>", ["web page"]),
        (b"version https://git-lfs.github.com/spec/v1\n", ["git lfs pull"]),
        (b"PK\x03\x04", ["zip archive", "ltkit import"]),
        (b"\x80\x02}q\x00.", ["pickle"]),
        (b"hello", ["not an HDF5 file"]),
        (MAGIC, ["cannot be read"]),
        (MAGIC + b"\xff" * 4000, ["cannot be read"]),
    ],
)
def test_what_is_not_hdf5_is_said(path, content, words):
    path.write_bytes(content)
    made.refused(lambda: features.read(path), "f.h5", *words, error=FormatError)
    assert hdf5.header(path) == {}


def test_no_such_file_and_a_folder(path, tmp_path):
    missing = tmp_path / "none.h5"
    made.refused(lambda: features.read(missing), "not found", "beside it: f.h5", error=InputError)
    missing = tmp_path / "no" / "none.h5"
    made.refused(lambda: features.read(missing), "not found; check the path", error=InputError)
    made.refused(lambda: features.read(tmp_path), "is a folder", error=InputError)
    assert hdf5.header(missing) == hdf5.header(tmp_path) == {}


def test_a_foreign_file(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    made.refused(lambda: features.read(path), "format: found none", "ltkit import")
    assert hdf5.header(path) == {}


def test_another_kind_of_file(tmp_path):
    write_neighbors(tmp_path / "n.h5")
    made.refused(
        lambda: features.read(tmp_path / "n.h5"),
        "format: found ltkit-neighbors, expected ltkit-features; name another file",
    )


def put(name, value):
    def change(file):
        file.attrs[name] = value

    return change


def drop(name, group="/"):
    def change(file):
        del file[group].attrs[name]

    return change


def replaced(name, make):
    """Replace a dataset by what `make` puts there, or take it away."""

    def change(file):
        values = file[name][:]
        del file[name]
        if make is not None:
            make(file, name, values)

    return change


def linked(link):
    return lambda file, name, values: file.__setitem__(name, link)


def dataset(**options):
    return lambda file, name, values: file.create_dataset(name, data=values, **options)


def typed(dtype):
    return lambda file, name, values: file.create_dataset(name, data=values.astype(dtype))


def virtual(file, name, values):
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("other.h5", name, values.shape)
    file.create_virtual_dataset(name, layout)


def compact(file, name, values):
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout)
    file[name][:] = values


def objects(file, name, values):
    file.create_dataset(name, data=["x"] * len(values), dtype=h5py.string_dtype())


def unwritten(file, name, values):
    file.create_dataset(name, values.shape, values.dtype)


SUMS = "checksums/test/labels"

STRUCTURE = [
    (put("format_version", 2), ["format_version: found 2, expected 1; upgrade ltkit"]),
    (put("format_version", 0), ["format_version: found 0, expected 1; make the file again"]),
    (put("format_version", "one"), ["cannot be read"]),
    (put("complete", 0), ["complete: found 0, expected 1; finish it with --resume"]),
    (drop("complete"), ["complete: found 0"]),
    (put("format", [1, 2]), ["format: found [1 2]"]),
    *[(drop(n), [f"{n}: attribute absent; found ", "format"]) for n in hdf5.REQUIRED],
    *[(put(n, 7), [f"{n} is not text"]) for n in hdf5.REQUIRED],
    (put("settings", "{"), ["cannot be read"]),
    (put("settings", "[]"), ["settings is not a JSON object"]),
    (put("inputs", "3"), ["inputs is not a JSON object"]),
    (put("settings", "{}"), ["digest: found ", "damaged"]),
    (drop("scale", "head"), ["head: scale: attribute absent"]),
    (lambda file: file["head"].attrs.modify("scale", 2.0), ["digest: found"]),
    (lambda file: file["head"].attrs.create("scale", [2.0, 3]), ["cannot be read"]),
    (replaced("test/labels", None), ["test/labels: found nothing, expected data"]),
    (replaced("test/labels", lambda f, n, v: f.create_group(n)), ["found a group"]),
    (replaced("test/labels", linked(h5py.ExternalLink("other.h5", "/x"))), ["a link", "refused"]),
    (replaced("test/labels", linked(h5py.SoftLink("/train/labels"))), ["a link", "refused"]),
    (replaced("test/labels", dataset(chunks=True)), ["filtered or no data"]),
    (replaced("test/labels", dataset(compression="gzip")), ["filtered or no data"]),
    (replaced("test/labels", virtual), ["its data lies in other files"]),
    (replaced("test/labels", dataset(external=[("/tmp/none", 0, 296)])), ["in other files"]),
    (replaced("test/labels", compact), ["test/labels: found", "contiguous"]),
    (replaced("test/labels", unwritten), ["test/labels: found", "contiguous"]),
    (replaced("test/labels", lambda f, n, v: f.__setitem__(n, 3)), ["filtered or no data"]),
    (replaced("test/labels", typed(np.complex64)), ["test/labels: found the type complex64"]),
    (replaced("test/labels", objects), ["test/labels: found the type object"]),
    (replaced("test/labels", typed(np.int32)), ["digest: found"]),
    (replaced("test/labels", typed(bool)), ["found the type bool"]),
    (replaced(SUMS, None), ["digest: found"]),
    (replaced(SUMS, lambda f, n, v: f.create_dataset(n, data=v)), ["cannot be read"]),
    (lambda file: file[SUMS].attrs.modify("block_rows", 0), ["checksums do not fit"]),
    (lambda file: file[SUMS].attrs.modify("block_rows", 3), ["checksums do not fit"]),
    (lambda file: file.__delitem__("checksums"), ["digest: found"]),
    (lambda file: file.move("test", "best"), ["found nothing, expected data"]),
    (lambda file: (file.__delitem__("head"), file.__setitem__("head", h5py.SoftLink("/test"))),
     ["head", "a link"]),
    (lambda file: file["checksums"].__setitem__("x", file["checksums"]), ["found nothing"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "words"), STRUCTURE)
def test_a_file_of_another_structure_is_refused(path, change, words):
    with h5py.File(path, "r+") as file:
        change(file)
    message = made.refused(lambda: features.read(path), "f.h5", *words, error=FormatError)
    assert len(message) < 600
    hdf5.header(path)


def test_links_are_not_followed(path, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")  # opening it would wait for ever
    with h5py.File(path, "r+") as file:
        del file["head"], file["checksums"]
        file["head"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
        file["checksums"] = h5py.ExternalLink(str(tmp_path / "pipe"), "/")
    made.refused(lambda: features.read(path), "found a link", error=FormatError)


def test_a_declared_size_beyond_the_file_is_refused(path):
    content, size = path.read_bytes(), (100).to_bytes(8, "little") + (8).to_bytes(8, "little")
    bigger = (1 << 40).to_bytes(8, "little") + (8).to_bytes(8, "little")
    assert size in content
    path.write_bytes(content.replace(size, bigger))
    made.refused(lambda: features.read(path), "f.h5", error=FormatError)


def test_unknown_groups_and_attributes_are_ignored(path):
    expected = everything(path)
    with h5py.File(path, "r+") as file:
        file["more/data"] = np.zeros(3, complex)
        file["train/extra"] = h5py.SoftLink("/nowhere")
        file.attrs["author"] = "x"
        file["head"].attrs["note"] = "x"
    assert everything(path) == expected


def reseal(path, change):
    """Change a file and give it the checksums and digest that fit, as another writer would."""
    with h5py.File(path, "r+") as file:
        change(file)
        sums = {}
        for name in list(everything_in(file["checksums"])):
            values, rows = file[name][:], file[f"checksums/{name}"].attrs["block_rows"]
            sums[name] = np.array(
                [xxhash.xxh3_64_intdigest(values[i : i + rows].tobytes())
                 for i in range(0, len(values), rows)], np.uint64,
            )  # fmt: skip
    hdf5.seal(path, sums)


def everything_in(group, prefix=""):
    for name, child in group.items():
        if isinstance(child, h5py.Group):
            yield from everything_in(child, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}"


def test_other_types_of_other_writers_are_read_right(path):
    def change(file):
        for name, dtype in [
            ("train/features", ">f4"), ("test/features", "<f8"), ("head/weight", ">f8"),
            ("train/labels", ">i8"), ("test/labels", "<u1"), ("classes/train_count", ">u4"),
        ]:  # fmt: skip
            values = file[name][:]
            del file[name]
            file.create_dataset(name, data=values.astype(dtype))
        for name in ("settings", "command"):
            file.attrs[name] = np.bytes_(file.attrs[name])

    values = made.features(made.plan())
    reseal(path, change)
    found = features.read(path)
    for name in ("train", "test"):
        np.testing.assert_array_equal(found.split(name).features[3:20], values[name][3:20])
        np.testing.assert_array_equal(found.split(name).labels, made.plan().splits[name].labels)
        assert found.split(name).labels.dtype == np.int64
        assert found.split(name).features[:3].dtype.isnative
    np.testing.assert_array_equal(found.head.weight, made.plan().head.weight)
    assert found.classes.train_count.tolist() == [20, 7, 0, 3, 1]
    assert found.settings == made.plan().settings


def test_the_header_of_a_sound_file(path):
    found = features.read(path)
    assert hdf5.header(path) == {
        "format": "ltkit-features", "digest": found.digest, "inputs": {"arrays": "0" * 64},
    }  # fmt: skip


# Files whose checksums are right and whose values are not


def datasets(plan=None):
    plan = plan or made.plan()
    return plan.arrays() | {f"{s}/features": v for s, v in made.features(plan).items()}


def nan(shape):
    values = np.zeros(shape, np.float32)
    values.flat[-1] = np.nan
    return values


FLOATS = np.float32
FEATURES = [
    ("classes/train_count", None, ["absent; found ", "train/labels"]),
    ("classes/train_count", np.array([20, 7, 0, -3, 1]), ["found -3 in row 3", "0 or more"]),
    ("classes/train_count", np.zeros((5, 2), int), ["int64 (5, 2)", "integers (any)"]),
    ("classes/train_count", np.ones(5), ["float64 (5,)", "integers (any)"]),
    ("classes/train_count", np.full(5, 2**63, np.uint64), ["found -"]),
    ("classes/name", np.array([b"a", b"b"]), ["|S1 (2,)", "strings (5)"]),
    ("classes/wnid", np.array([b"a"] * 6), ["strings (5)"]),
    ("classes/coarse", np.zeros(5), ["strings (5)"]),
    ("classes/name", np.array([b"\xff"] * 5), ["other bytes", "UTF-8"]),
    ("train/labels", None, ["absent"]),
    ("train/labels", np.zeros((100, 1), int), ["int64 (100, 1)", "integers (100)"]),
    ("train/labels", np.zeros(99, int), ["int64 (99,)", "integers (100)"]),
    ("train/labels", np.zeros(100), ["float64 (100,)"]),
    ("train/labels", np.full(100, -100), ["found -100 in row 0", "0..4"]),
    ("test/labels", np.arange(37) % 6, ["found 5 in row 5", "0..4"]),
    ("train/ids", np.array([b"a"] * 99), ["strings (100)"]),
    ("train/ids", np.zeros(100, int), ["strings (100)"]),
    ("test/features", np.zeros((37, 9), FLOATS), ["float32 (37, 9)", "floats (any, 8)"]),
    ("test/features", np.zeros(37, FLOATS), ["float32 (37,)", "floats (any, 8)"]),
    ("test/features", np.zeros((37, 8), int), ["int64 (37, 8)"]),
    ("head/weight", nan((5, 8)), ["NaN or infinity", "finite"]),
    ("head/weight", np.full((5, 8), 1e300), ["NaN or infinity"]),
    ("head/weight", np.zeros((4, 8), FLOATS), ["found (4, 8), expected (5, 8)"]),
    ("head/weight", np.zeros((5, 9), FLOATS), ["found (5, 9), expected (5, 8)"]),
    ("head/weight", np.zeros(8, FLOATS), ["expected (5, 8)"]),
    ("head/weight", np.zeros((1, 1, 5, 8), FLOATS), ["expected (5, 8)"]),
    ("head/weight", np.zeros((3, 5, 2), FLOATS), ["found (3, 5, 2), expected (5, 8)"]),
    ("head/weight", np.zeros((5, 8), int), ["int64 (5, 8)", "floats (5, 8)"]),
    ("head/bias", None, ["head/bias: absent"]),
    ("head/bias", np.zeros(4, FLOATS), ["floats (5)"]),
    ("head/bias", nan(5), ["NaN or infinity"]),
]


@pytest.mark.parametrize(("name", "values", "words"), FEATURES)
def test_features_files_with_wrong_values(tmp_path, name, values, words):
    path, plan = tmp_path / "f.h5", made.plan()
    made.crafted(path, hdf5.FEATURES, datasets(), plan.attributes(), **{name: values})
    made.refused(lambda: features.read(path), f"f.h5: {name}", *words, error=FormatError)


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", np.nan), ("scale", np.inf), ("scale", "x"), ("normalize", "l1"), ("normalize", 1),
     ("aggregate", "sum")],
)  # fmt: skip
def test_heads_with_wrong_attributes(tmp_path, name, value):
    attributes = {"head": made.plan().attributes()["head"] | {name: value}}
    made.crafted(tmp_path / "f.h5", hdf5.FEATURES, datasets(), attributes)
    words = (f"head: {name}: found {value}, expected ", "make the file again")
    made.refused(lambda: features.read(tmp_path / "f.h5"), *words, error=FormatError)


@pytest.mark.parametrize(
    "changes",
    [
        {"train/features": None, "val/features": None, "test/features": None},
        {f"{s}/features": np.zeros((n, 0), FLOATS) for s, n in made.ROWS.items()},
    ],
)
def test_a_file_without_features(tmp_path, changes):
    made.crafted(
        tmp_path / "f.h5", hdf5.FEATURES, datasets(made.plan(head=None)), {}, **changes
    )  # fmt: skip
    made.refused(
        lambda: features.read(tmp_path / "f.h5"), "found no features, expected train, val or test"
    )


CLASSIFIER = {
    "class_id": np.array([1, 3]),
    "weight": np.zeros((2, 2, 8), FLOATS),
    "bias": np.zeros((2, 2), FLOATS),
    "runs": np.array([b"{}", b"{}"]),
}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("class_id", None, ["absent; found bias, runs, weight"]),
        ("class_id", np.array([3, 1]), ["another order", "ascending"]),
        ("class_id", np.array([3, 3]), ["ascending"]),
        ("class_id", np.array([-1, 3]), ["found -1 in row 0"]),
        ("class_id", np.array([[1, 3]]), ["integers (any)"]),
        ("class_id", np.array([1, 2, 3]), []),
        ("weight", nan((2, 2, 8)), ["NaN"]),
        ("weight", np.zeros((3, 2, 8), FLOATS), ["float32 (3, 2, 8)", "floats (2, 2, any)"]),
        ("weight", None, ["absent"]),
        ("bias", np.zeros((2, 3), FLOATS), ["floats (2, 2)"]),
        ("bias", nan((2, 2)), ["NaN"]),
        ("runs", None, ["absent"]),
        ("runs", np.array([b"{}", b"{"]), ["found '{' in row 1", "JSON objects"]),
        ("runs", np.array([b"[]", b"{}"]), ["found '[]' in row 0", "JSON objects"]),
        ("runs", np.array([b"{}", b"\xff"]), ["UTF-8"]),
        ("runs", np.array([b"{}"]), []),
        ("runs", np.zeros(2), ["strings (any)"]),
        ("extra/alpha", np.zeros((3, 2)), ["float64 (3, 2)", "numbers (2, 2)"]),
    ],
)
def test_classifier_files_with_wrong_values(tmp_path, name, values, words):
    root = {"/": {"method": "m", "normalize_features": 0}}
    made.crafted(tmp_path / "c.h5", hdf5.CLASSIFIER, CLASSIFIER, root, **{name: values})
    named = [f"c.h5: {name}"] if words else ["c.h5: weight"]
    made.refused(lambda: classifiers.read(tmp_path / "c.h5"), *named, *words, error=FormatError)


@pytest.mark.parametrize("value", [2, "yes"])
def test_a_classifier_file_that_normalizes_by_halves(tmp_path, value):
    root = {"/": {"method": "m", "normalize_features": value}}
    made.crafted(tmp_path / "c.h5", hdf5.CLASSIFIER, CLASSIFIER, root)
    made.refused(
        lambda: classifiers.read(tmp_path / "c.h5"),
        f"normalize_features: found {value}, expected 0 or 1", error=FormatError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("few_class", np.array([4, 1]), ["ascending"]),
        ("few_class", None, ["absent"]),
        ("few_class", np.array([1]), []),
        ("base_class", np.array([[0, -2], [3, 0]]), ["found -2 in row 0"]),
        ("base_class", np.array([0, 2]), ["integers (2, any)"]),
        ("distance", np.zeros((2, 3), FLOATS), ["floats (2, 2)"]),
        ("distance", nan((2, 2)), ["NaN"]),
        ("base_class", np.array([[0, 2], [3, 3]]), ["a class twice in a row"]),
        ("distance", np.array([[0.5, 1], [2, 1]], FLOATS), ["the nearest first"]),
        ("distance", np.array([[-0.5, 1], [2, 2]], FLOATS), ["below 0", "the nearest first"]),
    ],
)
def test_neighbours_files_with_wrong_values(tmp_path, name, values, words):
    given = {n: getattr(NEIGHBORS, n) for n in ("few_class", "base_class", "distance")}
    path = tmp_path / "n.h5"
    made.crafted(path, hdf5.NEIGHBORS, given, {"/": {"metric": "m"}}, **{name: values})
    named = f"n.h5: {name if words else 'base_class'}"
    made.refused(lambda: neighbors.read(path), named, *words, error=FormatError)


def test_a_metric_is_text(tmp_path):
    given = {n: getattr(NEIGHBORS, n) for n in ("few_class", "base_class", "distance")}
    made.crafted(tmp_path / "n.h5", hdf5.NEIGHBORS, given, {"/": {"metric": 7}})
    made.refused(
        lambda: neighbors.read(tmp_path / "n.h5"), "metric: found 7, expected text",
        error=FormatError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [(write_correction, classifiers.read, "method"), (write_neighbors, neighbors.read, "metric")],
)
def test_root_attributes_of_a_kind_are_required(tmp_path, write, read, name):
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file.attrs[name]
    made.refused(lambda: read(tmp_path / "x.h5"), f"{name}: attribute absent", error=FormatError)


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
    assert re.search(r"^weight: +\(2, 2, 8\) float32$", out, re.M)
    assert re.search(r"^inputs: +features ab$", out, re.M)


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
