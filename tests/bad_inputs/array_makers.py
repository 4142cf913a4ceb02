"""How wrong arrays are made, in the working folder."""

import gzip
import os
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from bad_inputs.makers import Maker, arrays, changed, file, npz, opened, several


def from_1():
    """Write an archive whose labels count from 1."""
    given = arrays()
    npz(**{name: value + 1 for name, value in given.items() if name.endswith("labels")})()


def names_for_labels():
    """Write an archive whose labels are names."""
    given = arrays()
    names = np.array(list("abcdef"))
    npz(**{name: names[value] for name, value in given.items() if name.endswith("labels")})()


def outputs(change: Callable[[np.ndarray], np.ndarray]) -> Maker:
    """Write an archive of a model's outputs, changed, in the place of features and head."""
    given = arrays()
    weight = given["weight"]
    changed = {n: change(v @ weight.T) for n, v in given.items() if n.endswith("features")}
    return npz(**changed, weight=None, bias=None)


def npy_file(name: str, values: np.ndarray) -> Maker:
    """Write an array alone."""
    return lambda: np.save(name, values)


def foreign(name: str) -> Maker:
    """Write an HDF5 file of another program."""

    def make():
        with h5py.File(name, "w") as file:
            file["mean"] = np.zeros(3)

    return make


def hole(name: str, size: int) -> Maker:
    """Make a file of so many bytes that take no room."""
    return several(file(name), lambda: os.truncate(name, size))


def packed(name: str, content: bytes, times: int) -> Maker:
    """Pack some content many times over."""

    def make():
        with gzip.open(name, "wb", 1) as stream:
            for _ in range(times):
                stream.write(content)

    return make


def npy(descr: str, shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """Return an array's file with any header."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


def member(name: str, content: bytes, *, twice: bool = False) -> Maker:
    """Write ``bad.npz`` with other bytes for one array, or with these beside it."""

    def make():
        np.savez("made.npz", **arrays())
        with zipfile.ZipFile("made.npz") as old, zipfile.ZipFile("bad.npz", "w") as new:
            for item in old.namelist():
                if item != f"{name}.npy" or twice:
                    new.writestr(item, old.read(item))
            with warnings.catch_warnings(action="ignore"):  # about names
                new.writestr(f"{name}.npy", content)
        Path("made.npz").unlink()

    return make


def lzma_damaged():
    """Write ``bad.npz`` packed by LZMA, with damage in it."""
    np.savez("made.npz", **arrays())
    with (
        zipfile.ZipFile("made.npz") as old,
        zipfile.ZipFile("bad.npz", "w", zipfile.ZIP_LZMA) as new,
    ):
        for item in old.namelist():
            new.writestr(item, old.read(item))
        at = new.getinfo("test_features.npy").header_offset + 60
    Path("made.npz").unlink()
    changed(lambda c: bytes(c[:at]) + b"\xff" * 20 + bytes(c[at + 20 :]), "bad.npz")()


def logits(count: int) -> Maker:
    """Write ``bad.npz`` with a sample of so many features, of the last of as many classes."""
    rows = {"train_features": np.zeros((1, count), np.float32), "train_labels": [count - 1]}
    return lambda: np.savez_compressed("bad.npz", **rows)


def zero_labels(count: int) -> Maker:
    """Write ``bad.npz`` with so many labels and features, all zero, of few bytes."""

    def make():
        with zipfile.ZipFile("bad.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, descr, shape in (
                ("train_features", "|u1", (count, 1)), ("train_labels", "<i8", (count,)),
            ):  # fmt: skip
                with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    stream.write(npy(descr, shape))
                    for _ in range(100):
                        stream.write(bytes(np.dtype(descr).itemsize * count // 100))

    return make


def bfloat16(name: str) -> Maker:
    """Store a dataset of feats.h5 as HDF5's bfloat16."""

    def change(f):
        values = f[name][...]
        del f[name]
        kind = h5py.h5t.IEEE_F32LE.copy()
        kind.set_fields(15, 7, 8, 0, 7)
        kind.set_precision(16)
        kind.set_size(2)
        space = h5py.h5s.create_simple(values.shape)
        h5py.h5d.create(f.id, name.encode(), kind, space).write(h5py.h5s.ALL, h5py.h5s.ALL, values)

    return opened(change)
