"""Archives of arrays that are not sound: other headers, types, ways of packing, sizes."""

import os
import zipfile

import made
import numpy as np
import pytest
from importable import arrays, given, saved

from ltkit.errors import FormatError
from ltkit.files import features
from ltkit.sources.arrays import import_arrays


def member(tmp_path, name, content):
    """An archive with one member changed: a sound zip around a broken array."""
    np.savez(tmp_path / "b.npz", **arrays())
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(tmp_path / "b.npz") as old, zipfile.ZipFile(path, "w") as new:
        for item in old.namelist():
            kept = old.read(item)
            new.writestr(item, content(kept) if item == f"{name}.npy" else kept)
    (tmp_path / "b.npz").unlink()
    return lambda: import_arrays(path, tmp_path / "f.h5")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda kept: kept[:-1], "it is truncated"),
        (lambda kept: kept + b"x", "longer than its header says"),
        (lambda kept: b"", "cannot be read"),
        (lambda kept: b"hello", "cannot be read"),
        (lambda kept: kept.replace(b"(12, 6)", b"(12, 7)"), "it is truncated"),
        (lambda kept: kept.replace(b"'<f4'", b"'<q4'"), "cannot be read"),
        (lambda kept: kept.replace(b"(12, 6), }", b"(12, 6)   "), "cannot be read"),
    ],
)
def test_a_broken_array(tmp_path, content, words):
    made.refused(member(tmp_path, "test_features", content), "a.npz", words)
    assert made.beside(tmp_path / "f.h5") == ["a.npz"]


def test_a_member_that_is_no_array(tmp_path):
    saved(tmp_path)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("wnids", "hello")
    made.refused(
        lambda: import_arrays(tmp_path / "a.npz", tmp_path / "f.h5"), "wnids: cannot be read"
    )


def test_a_later_version_of_the_array_format(tmp_path):
    def rewritten(kept):
        length = int.from_bytes(kept[8:10], "little")
        return b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little") + kept[10:]

    member(tmp_path, "test_features", rewritten)()
    found = features.read(tmp_path / "f.h5").split("test").features[:]
    np.testing.assert_array_equal(found, arrays()["test_features"])


def npy(descr, shape, data=b""):
    """An array's file with any header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (npy("<f4", (-5, 6)), "its shape is (-5, 6)"),
        (npy("<f4", (5, -6)), "its shape is (5, -6)"),
        (npy("<f4", (True, 6), bytes(24)), "its shape is (True, 6)"),
        (npy("<f4", (1 << 40, 6), bytes(24)), "it is truncated"),
        (npy("<f4", (2**100, 6), bytes(24)), "it is truncated"),
        (npy("<f4", (0, 1 << 40), bytes(24)), "longer than its header says"),
    ],
)
def test_shapes_that_are_none(tmp_path, header, words):
    make = member(tmp_path, "test_features", lambda kept: header)
    made.refused(make, "test_features: cannot be read", words, error=FormatError)


@pytest.mark.parametrize("descr", ["|V2", "<V4", "<f4,<f4", "(2,2)f4", "|V1"])
def test_types_that_are_no_numbers(tmp_path, descr):
    """NumPy writes bfloat16, float8 and float4 of other packages as bare bytes."""
    size = np.dtype(descr).itemsize
    header = npy(descr, (12, 6), bytes(12 * 6 * size))
    made.refused(member(tmp_path, "test_features", lambda kept: header), "test_features")


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_packing_are_read_and_their_damage_is_met(tmp_path, kind):
    def packed(path, content):
        with zipfile.ZipFile(path, "w", kind) as archive:
            for name, values in content.items():
                with archive.open(f"{name}.npy", "w") as file:
                    np.save(file, values)

    packed(tmp_path / "a.npz", arrays())
    import_arrays(tmp_path / "a.npz", tmp_path / "f.h5")
    found = features.read(tmp_path / "f.h5").split("test").features[:]
    np.testing.assert_array_equal(found, arrays()["test_features"])
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        at = archive.getinfo("test_features.npy").header_offset + 60
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[at : at + 20] = b"\xff" * 20
    made.refused(given(tmp_path, content), "test_features: cannot be read", error=FormatError)


def test_an_array_that_is_there_twice(tmp_path):
    saved(tmp_path)
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("weight.npy", archive.read("weight.npy"))
    made.refused(
        lambda: import_arrays(tmp_path / "a.npz", tmp_path / "f.h5"), "weight: found twice"
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_signs_beyond_unicode(run, tmp_path, order):
    texts = np.array(["ab"] * 12).astype(f"{order}U2")
    texts.view(f"{order}u4")[7] = 0x110000
    made.refused(lambda: run(test_ids=texts), "test_ids: row 3: found a sign that")
    found, _ = run(test_ids=np.array(["é\U0010ffff"] * 12).astype(f"{order}U2"))
    assert found.split("test").ids[3] == "é\U0010ffff"


@pytest.mark.parametrize("kind", ["S", "U"])
def test_nul_within_a_text(run, kind):
    made.refused(
        lambda: run(test_ids=np.array(["ab"] * 11 + ["a\0b"]).astype(kind)),
        "test_ids: row 11: found NUL within a text",
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_features_and_weights_that_would_vanish(run, tmp_path, dtype):
    scale = 1e-50 if dtype == "float32" else 1e-8
    small = {f"{s}_features": arrays()[f"{s}_features"].astype(float) * scale
             for s in ("train", "val", "test")}  # fmt: skip
    made.refused(lambda: run(dtype=dtype, **small), "train: row 0", "lose more than")
    made.refused(lambda: run(weight=arrays()["weight"] * 1e-50), "weight: row 0", "lost in float32")
    made.refused(lambda: run(bias=arrays()["bias"] * 1e-50), "bias: values of", "lost in float32")
    assert made.beside(tmp_path / "f.h5") == ["a.npz"]


def test_claims_of_an_archive_add_up(run, tmp_path, monkeypatch):
    zeros = {"test_features": np.zeros((4000, 6)), "test_labels": np.zeros(4000, np.int64)}
    run(save=np.savez_compressed, **zeros)
    (tmp_path / "f.h5").unlink()
    monkeypatch.setattr("ltkit.untrusted.budget.BYTES", 1 << 14)
    words = "test_labels: claims", "damaged or hostile"
    made.refused(lambda: run(save=np.savez_compressed, **zeros), *words, error=FormatError)
    monkeypatch.undo()
    monkeypatch.setattr("ltkit.sources.arrays.unpacked.BYTES", 0)
    monkeypatch.setattr("ltkit.sources.arrays.unpacked.UNPACKED", 1)
    made.refused(
        lambda: run(save=np.savez_compressed, **zeros), "features: unpack to", "numpy.savez"
    )
    run(**zeros)


def test_a_large_identity_head_is_refused(run, monkeypatch):
    monkeypatch.setattr("ltkit.untrusted.budget.BYTES", 3000)
    monkeypatch.setattr("ltkit.untrusted.budget.FOLD", 0)
    for room in ("stored", "npy"):
        monkeypatch.setattr(f"ltkit.sources.arrays.{room}.COPIES", 0)
    few = {f"{s}_features": np.zeros((4, 30)) for s in ("train", "val", "test")}
    few |= {f"{s}_labels": np.full(4, 29) for s in ("train", "val", "test")}
    made.refused(
        lambda: run(weight=None, bias=None, **few), "weight: absent, and for 30 logits",
        "3600 bytes; add the weight",
    )  # fmt: skip


def test_a_pipe_is_no_archive(tmp_path):
    os.mkfifo(tmp_path / "a.npz")
    made.refused(
        lambda: import_arrays(tmp_path / "a.npz", tmp_path / "f.h5"), "is a device or pipe"
    )
