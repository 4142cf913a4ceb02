"""Files that are damaged, cut, of another structure or by another writer."""

import os
from dataclasses import replace

import h5py
import made
import numpy as np
import pytest
import xxhash
from written import everything, everything_in, write_neighbors

from ltkit.errors import FormatError, InputError
from ltkit.files import features, hdf5
from ltkit.files.opening import MAGIC

pytestmark = pytest.mark.usefixtures("small_blocks")

# Damage


def attempt(call):
    """Return what a call gives, None when it is refused in one line."""
    try:
        return call()
    except FormatError as error:
        return None if "\n" not in str(error) else error


@pytest.mark.parametrize(
    ("seed", "count"),
    [(2, 30), *(pytest.param(seed, 150, marks=pytest.mark.more) for seed in (0, 1))],
)
def test_a_flipped_bit_is_met_or_changes_nothing(tmp_path, seed, count):
    path, plan = tmp_path / "f.h5", made.plan()
    made.write_features(path, replace(plan, splits={"train": plan.splits["train"]}))
    content, expected = path.read_bytes(), everything(path)
    met, positions = 0, np.random.default_rng(seed).choice(len(content), count, replace=False)
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
