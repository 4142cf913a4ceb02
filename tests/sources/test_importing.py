"""Features made elsewhere: every key, and every way in which arrays can be wrong."""

import subprocess
import sys
from pathlib import Path

import made
import numpy as np
import pytest
from importable import arrays, given, saved

from ltkit import records
from ltkit.errors import FormatError, InputError
from ltkit.files import features
from ltkit.sources.arrays import import_arrays
from ltkit.sources.arrays.npy import Npy


@pytest.fixture
def wrong(run, tmp_path):
    """Check that arrays are refused and that nothing is left behind."""

    def wrong(*words, error=InputError, **changes):
        made.refused(lambda: run(**changes), "a.npz", *words, error=error)
        assert made.beside(tmp_path / "f.h5") == ["a.npz"]

    return wrong


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("block", [32, 1 << 20])
def test_every_key(run, save, block, monkeypatch):
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", block)
    names = np.array(["a", "b", "ü", "d"])
    given = arrays(
        class_names=names,
        wnids=np.char.encode(names, "utf-8"),
        train_counts=np.array([400.0, 30, 0, 1]),
        train_ids=np.array([f"ü{i}" for i in range(40)]),
    )
    found, notes = run(save=save, **given)
    assert notes == []
    for split in ("train", "val", "test"):
        np.testing.assert_array_equal(found.split(split).features[:], given[f"{split}_features"])
        np.testing.assert_array_equal(found.split(split).labels, given[f"{split}_labels"])
    np.testing.assert_array_equal(found.head.weight, given["weight"].astype(np.float32))
    np.testing.assert_array_equal(found.head.bias, given["bias"].astype(np.float32))
    assert found.classes.train_count.tolist() == [400, 30, 0, 1]
    assert found.classes.names == found.classes.wnids == ("a", "b", "ü", "d")
    assert found.split("train").ids[39] == "ü39"
    assert found.split("test").ids is None


def test_the_same_arrays_give_the_same_bytes(run, tmp_path):
    contents = []
    for _ in range(2):
        run()
        contents.append((tmp_path / "f.h5").read_bytes())
        (tmp_path / "f.h5").unlink()
    assert contents[0] == contents[1]


def test_half_precision(run):
    found, _ = run(dtype="float16")
    rows = found.split("train").features
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(rows[:], arrays()["train_features"].astype(np.float16))


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "i4", "u1"])
def test_features_of_any_numbers(run, dtype):
    values = (np.arange(72).reshape(12, 6)).astype(dtype)
    found, _ = run(test_features=values)
    np.testing.assert_array_equal(found.split("test").features[:], values.astype(np.float32))


@pytest.mark.parametrize("dtype", ["u1", ">i2", "f8", "u8"])
def test_labels_of_any_whole_numbers(run, dtype):
    found, _ = run(test_labels=(np.arange(12) % 4).astype(dtype))
    np.testing.assert_array_equal(found.split("test").labels, np.arange(12) % 4)


def test_byte_labels_hold_up_to_256_classes(run):
    labels = np.arange(256).astype(np.uint8)
    found, _ = run(
        train_features=np.zeros((256, 6)), train_labels=labels, weight=np.zeros((256, 6)),
        bias=None,
    )  # fmt: skip
    assert found.split("train").labels.max() == 255
    assert found.classes.train_count.tolist() == [1] * 256


def test_classes_without_training_samples_are_counted(run):
    found, _ = run(train_labels=np.arange(40) % 2 * 3)
    assert found.classes.train_count.tolist() == [20, 0, 0, 20]


def test_one_split_is_enough(run):
    only = {f"{s}_{what}": None for s in ("train", "val") for what in ("features", "labels")}
    found, _ = run(train_counts=np.array([5, 4, 3, 2]), **only)
    assert list(found.splits) == ["test"]


def test_a_split_may_be_empty(run):
    found, _ = run(val_features=np.zeros((0, 6)), val_labels=np.zeros(0))
    assert len(found.split("val")) == 0


def test_without_a_bias_it_is_zero(run):
    found, notes = run(bias=None)
    assert found.head.bias.tolist() == [0] * 4
    assert notes == ["no bias: taken as zeros"]


def test_without_a_weight_there_is_no_head(run):
    found, notes = run(weight=None)
    assert found.head is None
    assert notes == ["no weight: the file has no head, and bias is left out"]


def test_logits_get_an_identity_head(run):
    logits = {f"{s}_features": arrays()[f"{s}_features"][:, :4] for s in ("train", "val", "test")}
    found, notes = run(weight=None, bias=None, **logits)
    given = arrays()["test_features"][:, :4]
    np.testing.assert_array_equal(found.classifier().logits(given), given)
    assert "identity head" in notes[0]


def test_names_given_apart_come_first(run):
    found, _ = run(names=tuple("wxyz"), class_names=np.array(["a", "b", "c", "d"]))
    assert found.classes.names == tuple("wxyz")


class Lazy(Npy):
    """An array that notes how many bytes are read at once."""

    most = 0

    def pieces(self):
        for block in super().pieces():
            Lazy.most = max(Lazy.most, block.nbytes)
            yield block


def test_features_are_read_block_by_block(run, monkeypatch):
    monkeypatch.setattr("ltkit.sources.arrays.npy.Npy", Lazy)
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 1 << 14)
    values = np.random.default_rng(0).normal(size=(10_000, 6)).astype(np.float32)
    found, _ = run(test_features=values, test_labels=np.arange(10_000) % 4)
    assert 0 < Lazy.most <= 1 << 14
    np.testing.assert_array_equal(found.split("test").features[:], values)


def table(shape):
    return np.zeros(shape, np.float32)


WRONG = [
    ({"test_labels": np.zeros(3, int)}, ["test_labels: found 3 labels for 12 rows"]),
    ({"test_labels": None}, ["test_labels: absent"]),
    ({"test_labels": np.eye(12)}, ["weight: found (4, 6), expected (12, 6)"]),
    ({"test_labels": np.int64(3)}, ["test_labels: found shape ()"]),
    ({"test_labels": np.arange(12) + 0.5}, ["test_labels: row 0: found 0.5", "whole number"]),
    ({"test_labels": np.full(12, np.nan)}, ["test_labels: row 0: found nan"]),
    ({"test_labels": np.full(12, 1e300)}, ["test_labels: row 0: found 1e+300"]),
    ({"test_labels": np.arange(12) - 3}, ["test_labels: row 0: found -3"]),
    ({"test_labels": np.full(12, 2**63, np.uint64)}, ["test_labels: row 0: found 922337203685477"]),
    ({"test_labels": np.full(12, 10**12)}, ["test_labels: row 0: found 1000000000000", "below"]),
    ({"test_labels": np.array(["a"] * 12)}, ["train_labels: found numbers, and names in"]),
    ({"test_labels": np.zeros(12, bool)}, ["test_labels: found bool"]),
    ({"test_features": None}, ["test_labels: needs test_features"]),
    ({"test_features": None, "test_labels": None, "test_ids": np.array(["a"])}, ["needs"]),
    ({"test_features": table((12, 6, 1))}, ["test_features: found shape (12, 6, 1)", "(N, D)"]),
    ({"test_features": table((12, 0))}, ["test_features: found shape (12, 0)", "(N, D)"]),
    ({"test_features": np.float32(1)}, ["test_features: found shape ()"]),
    ({"test_features": table((12, 7))}, ["features: found [6, 7] columns, expected one size"]),
    ({"test_features": np.zeros((12, 6), complex)}, ["test_features: found complex128"]),
    ({f"{s}_{w}": None for s in ("train", "val", "test") for w in ("features", "labels")},
     ["found no features"]),
    ({"train_features": None, "train_labels": None}, ["train_counts: absent"]),
    ({"train_counts": np.array([1, 2, 3])}, ["train_counts: found 3", "4 classes"]),
    ({"train_counts": np.array([1, 2, 3, -4])}, ["train_counts: row 3: found -4"]),
    ({"train_counts": np.array([1, 2, 3, 0.5])}, ["train_counts: row 3: found 0.5"]),
    ({"train_counts": np.array(["1"] * 4)}, ["train_counts: found <U1"]),
    ({"weight": table((4, 5))}, ["weight: found (4, 5), expected (4, 6)"]),
    ({"weight": table((3, 6))}, ["weight: found (3, 6), expected (4, 6)"]),
    ({"weight": table(6)}, ["weight: found (6,), expected (4, 6)"]),
    ({"weight": np.float32(1)}, ["weight: found (), expected (4, 6)"]),
    ({"weight": np.full((4, 6), np.inf)}, ["NaN or infinity"]),
    ({"weight": np.full((4, 6), 1e300)}, ["NaN or infinity"]),
    ({"weight": np.full((4, 6), "a")}, ["weight: found <U1"]),
    ({"bias": table(5)}, ["bias: found (5,), expected (4,)"]),
    ({"bias": np.full(4, np.nan)}, ["NaN or infinity"]),
    ({"class_names": np.array(["a", "b"])}, ["class_names: found shape (2,), expected 4 strings"]),
    ({"class_names": np.zeros(4)}, ["class_names: found float64 (4,)", "array of strings"]),
    ({"class_names": np.array(["a", "b", "a", "c"])}, ["class names: found 'a' twice"]),
    ({"names": ("a", "b")}, ["class names: found 2, expected 4"]),
    ({"wnids": np.array([b"\xff"] * 4)}, ["wnids: found other bytes, expected UTF-8"]),
    ({"test_ids": np.array(["a"] * 5)}, ["test_ids: found shape (5,), expected 12 strings"]),
    ({"feature": table(1)}, ["feature: unknown array"]),
    ({"test_feature": table(1)}, ["unknown array", "did you mean test_features"]),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_wrong_arrays(wrong, changes, words):
    wrong(*words, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": np.array(["a"] * 4, object)}, ["class_names: holds Python objects"]),
        ({"test_features": np.full((12, 6), None)}, ["test_features: holds Python objects"]),
        ({"test_features": np.asfortranarray(table((12, 6)))}, ["by columns", "ascontiguousarray"]),
    ],
)
def test_arrays_of_another_form(wrong, changes, words):
    wrong(*words, error=FormatError, **changes)


@pytest.mark.parametrize(
    ("changes", "dtype", "words"),
    [
        ({"test_features": np.full((12, 6), np.nan)}, "float32", ["test: row 0:", "not finite"]),
        ({"test_features": np.full((12, 6), 7e4)}, "float16", ["test: row 0:", "--dtype float32"]),
        ({"test_features": np.full((12, 6), 1e99)}, "float32", ["test: row 0:", "float32; scale"]),
    ],
)
def test_features_that_cannot_be_stored(run, tmp_path, changes, dtype, words):
    made.refused(lambda: run(dtype=dtype, **changes), *words)
    assert made.beside(tmp_path / "f.h5") == ["a.npz"]


@pytest.mark.parametrize("content", [b"hello", b"PK\x03\x04", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive(tmp_path, content):
    made.refused(given(tmp_path, content), "a.npz: not an .npz archive", error=FormatError)


def test_no_such_archive(tmp_path):
    for path, word in ((tmp_path / "none.npz", "not found"), (tmp_path, "is a folder")):
        made.refused(lambda p=path: import_arrays(p, tmp_path / "f.h5"), word)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damage_of_an_archive_is_met(tmp_path, save):
    content = saved(tmp_path, save)
    output = tmp_path / "f.h5"
    given(tmp_path, content)()
    expected = features.read(output).splits
    rng, met = np.random.default_rng(0), 0
    for position in rng.choice(len(content), 150, replace=False):
        output.unlink(missing_ok=True)
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        try:
            given(tmp_path, damaged)()
        except (FormatError, InputError) as error:
            met += "\n" not in str(error)
            continue
        # Dates and flags mean nothing; a zip's list of members has no checksum, so some may lack.
        for name, split in features.read(output).splits.items():
            wanted = expected[name].features.checksums
            np.testing.assert_array_equal(split.features.checksums, wanted)
    assert met > 100
    assert set(made.beside(output)) <= {"a.npz", "f.h5"}


def test_a_truncated_archive(tmp_path):
    content = saved(tmp_path)
    for length in range(0, len(content), 311):
        made.refused(given(tmp_path, content[:length]), "a.npz", error=FormatError)


# The command


def test_a_full_disk_leaves_nothing(tmp_path):
    np.savez(tmp_path / "a.npz", **arrays())
    command = f"ulimit -f 4; exec {Path(sys.executable).parent}/ltkit import a.npz"
    run = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.count("\n") == 1
    assert "a.h5: the disk is full; free some space" in run.stderr
    assert made.beside(tmp_path / "a.npz") == ["a.npz"]


def test_the_command_reads_names(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "a.npz", **arrays(bias=None))
    (tmp_path / "names.txt").write_bytes("\ufeffä\nb c\r\nd\ne\n".encode())
    said = "note: no bias: taken as zeros\nwrote a.h5\n"
    assert ltkit("import", "a.npz", "--names", "names.txt") == (0, "a.h5\n", said)
    assert features.read(tmp_path / "a.h5").classes.names == ("ä", "b c", "d", "e")
    (tmp_path / "names.txt").write_bytes(b"\xff\n")
    code, _, err = ltkit("import", "a.npz", "--names", "names.txt", "--overwrite")
    assert code == 2
    assert err == (
        "ltkit: names.txt: cannot be read as names of classes, one a line (line 1 or later: "
        "invalid start byte), expected UTF-8 text; save it as UTF-8\n"
    )
