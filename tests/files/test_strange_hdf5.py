"""HDF5 files with right checksums and digests whose types, sizes or records mislead."""

import contextlib
import os

import h5py
import made
import numpy as np
import pytest
import strange_types
from strange_types import EXACT, STRANGE

from ltkit.errors import FormatError, InputError
from ltkit.files import contents, features, hdf5, soundness
from ltkit.files.opening import size_on_disk

PLACES = {"f": "train/features", "i": "train/labels", "S": "classes/name"}


@pytest.mark.parametrize(
    ("kind", "case"), [(k, case) for k, found in STRANGE.items() for case in found]
)
def test_types_that_are_not_what_numpy_calls_them(path, kind, case):
    with h5py.File(path, "r+") as file:
        strange_types.rewrite(file, PLACES[kind], STRANGE[kind][case])
    with contextlib.suppress(TypeError, ValueError, FormatError):  # where h5py knows no type
        strange_types.seal(path)
    made.refused(lambda: features.read(path), "f.h5", error=FormatError)
    if case in ("bfloat16", "padded float", "another bias", "enumeration", "12 bits"):
        made.refused(lambda: features.read(path), f"{PLACES[kind]}: found a type of HDF5")


@pytest.mark.parametrize(
    ("kind", "case"), [(k, case) for k, found in EXACT.items() for case in found]
)
def test_types_that_hold_the_same_are_read(path, kind, case):
    found = features.read(path)
    expected = found.split("train").features[:].astype(np.float16), found.split("train").labels
    with h5py.File(path, "r+") as file:
        strange_types.rewrite(file, PLACES[kind], EXACT[kind][case])
    strange_types.seal(path)
    again = features.read(path)
    assert again.classes.names == made.NAMES
    np.testing.assert_array_equal(again.split("train").features[:].astype(np.float16), expected[0])
    np.testing.assert_array_equal(again.split("train").labels, expected[1])


def sound(plan=None):
    plan = plan or made.plan()
    return plan.arrays() | {f"{s}/features": v for s, v in made.features(plan).items()}


def test_text_after_a_nul_is_refused(path):
    """It is no part of the text to HDF5, and would make other names of it here."""
    names = np.array([b"a\0b", b"c", b"d", b"e", b"f"])
    made.crafted(path, hdf5.FEATURES, sound(), made.plan().attributes(), **{"classes/name": names})
    made.refused(lambda: features.read(path), "classes/name: found NUL within", error=FormatError)


@pytest.mark.parametrize(
    "scale", [0.0, -0.0, np.nan, np.inf, 1e-50, 1e39, np.bool_(True), np.float64(5e-324)]
)
def test_scales_that_make_no_logits(path, scale):
    attributes = {"head": {**made.plan().attributes()["head"], "scale": scale}}
    made.crafted(path, hdf5.FEATURES, sound(), attributes)
    made.refused(lambda: features.read(path), "head: scale: found", error=FormatError)


@pytest.mark.parametrize("scale", [-2.0, 3, np.float32(1e-30)])
def test_odd_scales_that_do(path, scale):
    attributes = {"head": {**made.plan().attributes()["head"], "scale": scale}}
    made.crafted(path, hdf5.FEATURES, sound(), attributes)
    assert features.read(path).head.scale == scale


@pytest.mark.parametrize("value", [np.array([1.0]), b"\xff", np.complex64(1), h5py.Empty("f4")])
@pytest.mark.parametrize("name", ["scale", "normalize", "aggregate"])
def test_attributes_of_other_kinds(path, name, value):
    with h5py.File(path, "r+") as file:
        file["head"].attrs[name] = value
    made.refused(lambda: features.read(path), "f.h5", error=FormatError)


@pytest.mark.parametrize("name", ["complete", "format_version"])
def test_truth_is_no_number(path, name):
    with h5py.File(path, "r+") as file:
        file.attrs[name] = np.bool_(True)
    made.refused(lambda: features.read(path), "bool for a whole number", error=FormatError)


def claiming(path, shape, dtype=np.int64, block_rows=1 << 40):
    """Add a dataset that claims room in a hole of the file."""
    with h5py.File(path, "r+") as file:
        plain = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plain.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        plain.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(np.dtype(dtype))
        h5py.h5d.create(file.id, b"hole", kind, space, dcpl=plain)
        sums = file.create_dataset("checksums/hole", data=np.zeros(1, np.uint64))
        sums.attrs["block_rows"] = block_rows
        end = file["hole"].id.get_offset() + file["hole"].nbytes
    if path.stat().st_size < end:
        os.truncate(path, end)


def test_a_hole_counts_for_nothing(path):
    claiming(path, (1 << 31,), block_rows=1 << 40)
    made.refused(lambda: features.read(path), "hole: claims 17179869184 bytes", error=FormatError)


def test_a_file_of_data_may_be_large(path):
    assert size_on_disk(path) > path.stat().st_size - 8192
    with path.open("ab") as file:
        file.truncate(1 << 34)
        file.seek(1 << 34)
        file.write(b"x" * 8192)
    assert 8192 < size_on_disk(path) < 1 << 20


def test_a_block_is_read_whole_and_so_has_a_bound(path, monkeypatch):
    monkeypatch.setattr(hdf5, "MOST_BLOCK", 3000)
    made.refused(
        lambda: features.read(path), "train/features: block_rows: found", "block of 3200 bytes",
        error=FormatError,
    )  # fmt: skip


def test_sums_of_small_claims(path, monkeypatch):
    monkeypatch.setattr("ltkit.untrusted.budget.BYTES", 0)
    monkeypatch.setattr("ltkit.untrusted.budget.FOLD", 1)
    assert features.read(path).digest
    monkeypatch.setattr(contents, "TEXT_FOLD", 1000)
    made.refused(lambda: features.read(path), "claims", "damaged or hostile", error=FormatError)


@pytest.mark.parametrize("kind", ["fifo", "folder"])
def test_what_is_no_file(tmp_path, kind):
    path = tmp_path / "x.h5"
    os.mkfifo(path) if kind == "fifo" else path.mkdir()
    for read in (features.read, soundness.problems):
        made.refused(lambda r=read: r(path), "expected an ltkit file", error=InputError)
    assert hdf5.header(path) == {}
