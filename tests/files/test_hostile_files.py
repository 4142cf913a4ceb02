"""What fuzzing found: files that hung, crashed or misled a reader, each with what it says now."""

import io
import json
import os
import pickle
import zipfile

import h5py
import made
import numpy as np
import pytest
import torch
from PIL import Image

from ltkit import datasets
from ltkit.datasets import cifar
from ltkit.datasets.images import ImageFiles
from ltkit.errors import FormatError, InputError
from ltkit.files import features, hdf5, soundness
from ltkit.files.blocks import block_checksums
from ltkit.files.features_writer import FeaturesWriter
from ltkit.records import ImageView
from ltkit.sources.arrays import import_arrays
from ltkit.sources.arrays.npy import archive
from ltkit.training import beside, checkpoint

pytestmark = pytest.mark.usefixtures("small_blocks")


# HDF5


def test_groups_that_hold_each_other_have_an_end(path):
    """60 groups, each twice in the one before: 2 ** 60 paths."""
    with h5py.File(path, "r+") as file:
        group = file["checksums"].create_group("0")
        for _ in range(60):
            group["b"] = group.create_group("a")
            group = group["a"]
    made.refused(lambda: features.read(path), "found more than 10000 members", error=FormatError)


def test_a_group_that_holds_itself_has_an_end(path):
    with h5py.File(path, "r+") as file:
        loop = file["checksums"].create_group("0")
        loop["0"] = loop
    made.refused(lambda: features.read(path), "found more than 10000 members", error=FormatError)


def test_data_that_would_lie_beyond_the_end(path):
    """Where the HDF5 library does not look itself; that of these tests does."""
    name = "test/labels"
    with h5py.File(path) as file:
        end = file[name].id.get_offset() + file[name].nbytes
        assert hdf5._checked(file[name], name, path, end) == file[name]
        made.refused(
            lambda: hdf5._checked(file[name], name, path, end - 1),
            f"{name}: declared up to byte {end}, the file has {end - 1}", error=FormatError,
        )  # fmt: skip


@pytest.mark.parametrize("value", [np.complex64(8), 8.0, np.array([8]), "8", np.bytes_(b"8")])
@pytest.mark.parametrize("name", ["block_rows", "complete", "format_version"])
def test_numbers_that_are_no_whole_numbers_are_refused(path, name, value):
    with h5py.File(path, "r+") as file:
        holder = file["checksums/train/labels"] if name == "block_rows" else file
        holder.attrs[name] = value
    made.refused(lambda: features.read(path), "cannot be read", error=FormatError)
    assert hdf5.header(path) == {} or name != "complete"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_validate_names_the_row_that_is_not_finite(path, ltkit, value):
    with h5py.File(path, "r+") as file:
        values = file["train/features"][...]
        values[37, 3] = value
        file["train/features"][...] = values
    hdf5.seal(path, {"train/features": block_checksums(values)[1]})
    expected = "train/features: row 37: found NaN or infinity, expected finite numbers"
    (line,) = soundness.problems(path)
    assert expected in line
    assert ltkit("validate", path)[0] == 1


def test_every_bad_dataset_is_named(path):
    content = bytearray(path.read_bytes())
    for name, at in hdf5.offsets(path).items():
        if name in ("train/labels", "head/bias", "test/features"):
            content[at] ^= 1
    path.write_bytes(content)
    lines = soundness.problems(path)
    assert [line.split(": ")[1] for line in sorted(lines)] == [
        "head/bias", "test/features", "train/labels",
    ]  # fmt: skip


# What an interrupted command leaves


def interrupted(path, stop=40):
    plan = made.plan()
    with FeaturesWriter(path, plan, command="x", resume=False) as writer:
        made.append(writer, plan, stop)
    return path.with_name(f"{path.name}.partial")


def finish(path):
    plan = made.plan()
    with FeaturesWriter(path, plan, command="y", resume=True) as writer:
        done = writer.done("train")
        made.append(writer, plan)
        writer.finish()
    return done


@pytest.mark.parametrize("where", ["train/ids", "test/labels", "head/weight", "gap", "last gap"])
def test_damage_beside_the_features_is_mended_on_resuming(tmp_path, where):
    """Only the features have checksums in the journal; the rest used to be sealed as it was."""
    whole, path = tmp_path / "whole.h5", tmp_path / "f.h5"
    made.write_features(whole, command="x")
    partial = interrupted(path)
    content, offsets = bytearray(partial.read_bytes()), hdf5.offsets(partial)
    gaps = {"gap": content.find(b"\0" * 64), "last gap": content.rfind(b"\0" * 64)}
    content[gaps.get(where) or offsets[where]] ^= 0x10
    partial.write_bytes(content)
    assert finish(path) == 40
    assert path.read_bytes() == whole.read_bytes()
    assert made.beside(path) == ["f.h5", "whole.h5"]


def test_a_partial_file_that_is_too_long_is_cut(tmp_path):
    whole, path = tmp_path / "whole.h5", tmp_path / "f.h5"
    made.write_features(whole, command="x")
    partial = interrupted(path, 100)
    partial.write_bytes(partial.read_bytes() + b"x" * 5000)
    assert finish(path) == 100
    assert path.read_bytes() == whole.read_bytes()


def test_a_partial_file_without_its_metadata_is_refused(tmp_path):
    path = tmp_path / "f.h5"
    partial = interrupted(path)
    partial.write_bytes(b"x" * 100)
    made.refused(lambda: finish(path), "f.h5.partial", "not known to be ltkit's")
    assert made.beside(path) == ["f.h5.journal", "f.h5.partial"]


def test_a_training_state_with_another_bit_is_refused(tmp_path):
    path, recipe = tmp_path / "m.pt.partial", {"arch": "x"}
    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    generator = torch.Generator()
    checkpoint.save_partial(path, recipe, 3, network, optimizer, generator)
    given = path, recipe, network, optimizer, generator
    assert checkpoint.load_partial(*given) == 3
    content = bytearray(path.read_bytes())
    at = content.find(network.weight.detach().numpy().tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    made.refused(
        lambda: checkpoint.load_partial(*given), "m.pt.partial: is damaged", error=FormatError
    )
    path.write_bytes(b"")
    made.refused(lambda: checkpoint.load_partial(*given), "is damaged", error=FormatError)


def test_a_training_log_that_is_no_text(tmp_path):
    log = tmp_path / "m.pt.jsonl"
    log.write_bytes(json.dumps({"epoch": 1}).encode() + b"\n\xff")
    made.refused(lambda: beside.log_lines(log), "m.pt.jsonl: is not UTF-8 text", error=FormatError)


# Arrays


def npz(path, header):
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_features.npy", array)
    return path


@pytest.mark.parametrize("header", [b"(" * 5000, b"-" * 9000 + b"1", b"[" * 90 + b"]" * 90])
def test_a_header_that_the_parser_has_no_stack_for(tmp_path, header):
    path = npz(tmp_path / "a.npz", header)
    made.refused(
        lambda: archive(path)["train_features"].header, "cannot be read",
        error=FormatError,
    )  # fmt: skip


def test_a_header_that_python_2_wrote_is_read_in_silence(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 2L), }\n"
    path = npz(tmp_path / "a.npz", header)
    assert archive(path)["train_features"].header == ((2, 2), np.dtype("<f4"))


def with_signalling(shape):
    """Float64 with a NaN that the processor reports when it is cast."""
    values = np.ones(shape)
    values.view(np.uint64)[-1, -1] = 0x7FF0_0000_0000_0001
    return values


@pytest.mark.parametrize(("name", "words"), [
    ("train_features", ("train: row 2: features are not finite",)),
    ("weight", ("weight: holds NaN or infinity",)),
])  # fmt: skip
def test_a_nan_that_signals_is_refused_in_silence(tmp_path, name, words):
    arrays = {"train_features": np.ones((3, 4)), "train_labels": np.array([0, 1, 0]),
              "weight": np.ones((2, 4))}  # fmt: skip
    np.savez(tmp_path / "a.npz", **arrays | {name: with_signalling(arrays[name].shape)})
    made.refused(lambda: import_arrays(tmp_path / "a.npz", tmp_path / "o.h5"), *words)
    assert made.beside(tmp_path / "o.h5") == ["a.npz"]


def test_a_nan_that_signals_in_a_file(path):
    with h5py.File(path, "r+") as file:
        values = with_signalling(file["head/weight"].shape)
        attributes = dict(file["checksums/head/weight"].attrs)
        del file["head/weight"]
        file["head/weight"] = values
        rows, sums = block_checksums(values)
        del file["checksums/head/weight"]
        file["checksums/head/weight"] = sums
        file["checksums/head/weight"].attrs.update(attributes | {"block_rows": rows})
    hdf5.seal(path, {})
    made.refused(lambda: features.read(path), "head/weight: found NaN or infinity")


# Lists and folders


def test_names_that_are_no_text_are_escaped(tmp_path, ltkit):
    for name in (b"a\xff", b"b"):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        for i in range(3):
            Image.new("RGB", (8, 8), (i, 0, 0)).save(folder / os.fsdecode(b"\xfe%d.png" % i))
    found = datasets.load(f"{tmp_path}:resize=8,crop=8")
    assert found.classes.names == ("a\\udcff", "b")
    assert found.splits["train"].ids[0] == "a\\udcff/\\udcfe0.png"
    assert found.splits["train"].images[0:3].shape == (3, 8, 8, 3)
    assert ltkit("data", "info", f"{tmp_path}:val=none")[0] == 0


@pytest.mark.parametrize(
    ("train", "val", "absent"),
    [("0 1 3", "0", "2, expected at least one of each of the 4"), ("1 2", "0", "0"),
     ("0 1", "0 2", "2, expected at least one of each of the 3"), ("0 1", "5", "2")],
)  # fmt: skip
def test_folders_name_the_classes_only_where_none_is_absent(tmp_path, train, val, absent):
    """Labels with a gap, each in a folder of its own."""
    for split, labels in (("train", train), ("val", val)):
        lines = [f"n{label}/{i}.jpg {label}\n" for label in labels.split() for i in range(3)]
        (tmp_path / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
    made.refused(
        lambda: datasets.load(str(tmp_path / "train.txt")),
        f"train.txt: found no training image of class {absent}", error=InputError,
    )  # fmt: skip


# CIFAR


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
BYTES = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"


@pytest.mark.parametrize(
    "opcodes",
    [
        ARRAY + b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02O8K\x00K\x01tR\x89](Netb.",
        ARRAY + b"(K\x01(K\x01tcnumpy\ndtype\n(U\x02i1K\x00K\x01tR\x89U\x01xtb.",
        ARRAY + b"(K\x01(K\x01t" + BYTES + b"\x88U\x01xtb.",
        ARRAY + b"(K\x01(K\x09t" + BYTES + b"\x89U\x01xtb.",
        ARRAY + b"(K\x01K\x01U\x01x\x89U\x01xtb.",
        ARRAY + b"K\x01b.",
        ARRAY + b".",
        b"cnumpy\nndarray\n(I99999999999\ntR.",
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.",
        b"Nr\xff\xff\xff\x7f.",
        b"J\x00.",
    ],
)
def test_pickles_that_numpy_or_python_would_trust(tmp_path, opcodes):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02}(U\x04data" + opcodes[:-1] + b"u.")
    with (
        pytest.raises(FormatError, match="not as in the official archive"),
        cifar._pickled(path) as content,
    ):
        content[b"data"].values.reshape(-1, 1)


@pytest.mark.parametrize(("opcode", "words"), [
    (b"\x82\x01", "Unsupported extension 1"), (b"\x83\x01\x01", "Unsupported extension 257"),
    (b"P0\n", "Unsupported persistent id"), (b"K\x01Q", "Unsupported persistent id"),
    (b"\xff", "KeyError: 255"), (b"\x97", "out-of-band"),
])  # fmt: skip
def test_opcodes_without_a_use_are_refused(tmp_path, opcode, words):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x05" + opcode + b".")
    with pytest.raises(FormatError, match=words), cifar._pickled(path):
        pass


def test_text_of_another_coding(tmp_path):
    path = tmp_path / "data_batch_1"
    path.write_bytes(b"\x80\x02c_codecs\nencode\n(X\x01\0\0\0xX\x03\0\0\0hextR.")
    with pytest.raises(FormatError, match="text of another coding"), cifar._pickled(path):
        pass


def test_an_array_of_bytes_is_read(tmp_path):
    path = tmp_path / "data_batch_1"
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps({b"data": pixels}, protocol))
        with cifar._pickled(path) as content:
            np.testing.assert_array_equal(content[b"data"].values, pixels)


def test_coarse_names_that_are_no_text(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels = np.zeros((100, 3074), np.uint8)
    pixels[:, 0], pixels[:, 1] = np.arange(100) % 20, np.arange(100)
    for name in ("train.bin", "test.bin"):
        (folder / name).write_bytes(pixels.tobytes())
    (folder / "coarse_label_names.txt").write_bytes(b"apples\n\xff")
    made.refused(
        lambda: datasets.load("cifar100_lt:ir=1,val=none", tmp_path),
        "coarse_label_names.txt: cannot be read as the names of superclasses", "UTF-8 text",
    )  # fmt: skip


def test_one_superclass_a_class(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels = np.zeros((200, 3074), np.uint8)
    pixels[:, 0], pixels[:, 1] = np.arange(200) % 20, np.arange(200) % 100
    (folder / "test.bin").write_bytes(pixels.tobytes())
    pixels[107, 0] = 9
    (folder / "train.bin").write_bytes(pixels.tobytes())
    made.refused(
        lambda: datasets.load("cifar100_lt:ir=1,val=none", tmp_path),
        "coarse labels: found several for class 7", error=FormatError,
    )  # fmt: skip


def test_an_archive_of_images_has_a_size(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name in ("train.bin", "test.bin"):
        (folder / name).touch()
        os.truncate(folder / name, 3 << 30)
    made.refused(
        lambda: datasets.load("cifar100_lt", tmp_path), "train.bin: found 3221225472 bytes",
        "images of CIFAR-100", error=FormatError,
    )  # fmt: skip


# Images


@pytest.mark.parametrize("kind", ["EPS", "PDF", "ICNS", "JPEG2000", "TGA"])
def test_other_formats_are_refused_whatever_their_name(tmp_path, kind):
    """Pillow runs Ghostscript on an EPS."""
    path = tmp_path / "x.jpg"
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    path.write_bytes(file.getvalue())
    made.refused(
        lambda: ImageFiles([path], ImageView(16, 16)).decode(0),
        "x.jpg: image 0: cannot be decoded",
        error=InputError,
    )  # fmt: skip


def test_odd_metadata_is_no_ones_business(tmp_path):
    """Warnings are errors here."""
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0"
    Image.new("RGB", (16, 16)).save(tmp_path / "x.jpg", exif=exif)
    with pytest.warns(UserWarning, match="Corrupt EXIF"), Image.open(tmp_path / "x.jpg") as image:
        image.getexif()
    assert ImageFiles([tmp_path / "x.jpg"], ImageView(16, 16)).decode(0).shape == (16, 16, 3)
