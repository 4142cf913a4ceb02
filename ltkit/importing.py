"""Features made elsewhere, in an .npz archive, into a features file."""

import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError, nearest
from ltkit.files.features import FeaturesWriter, Plan, SplitPlan
from ltkit.records import SPLITS, ClassTable, Head, Ints, block_rows, blocks

KNOWN = (
    *(f"{s}_{what}" for s in SPLITS for what in ("features", "labels", "ids")),
    *("weight", "bias", "class_names", "wnids", "train_counts"),
)


class Archive:
    """The arrays of an .npz file, read without pickles, large ones block by block."""

    def __init__(self, path: Path) -> None:
        """Open it and read the list of its arrays.

        Raises:
            InputError: when there is no such file, or an array that is not known.
            FormatError: when it is not an .npz archive.
        """
        self.path = path
        if not path.is_file():
            raise InputError(f"{path}: not found; check the path")
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise FormatError(f"{path}: not an .npz archive; write it with numpy.savez") from error
        self.names = [n.removesuffix(".npy") for n in self._zip.namelist()]
        for name in self.names:
            if name not in KNOWN:
                raise InputError(f"{path}: {name}: unknown array; {nearest(name, KNOWN)}")

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and type of an array."""
        with self._open(name) as (_, shape, dtype):
            return shape, dtype

    def rows(self, name: str) -> Iterator[NDArray[Any]]:
        """Yield an array's rows block by block."""
        with self._open(name) as (stream, shape, dtype):
            row = int(np.prod(shape[1:], dtype=np.int64))
            for block in blocks(shape[0], block_rows(row * dtype.itemsize)):
                size = (block.stop - block.start) * row * dtype.itemsize
                raw = _read_exactly(stream, size)
                if len(raw) < size:
                    raise FormatError(f"{self.path}: {name}: truncated; write the archive again")
                yield np.frombuffer(raw, dtype).reshape(-1, *shape[1:])

    def whole(self, name: str) -> NDArray[Any]:
        """Read a small array."""
        shape, dtype = self.header(name)
        if not shape:
            raise FormatError(f"{self.path}: {name}: found a single value, expected an array")
        return np.concatenate([np.empty((0, *shape[1:]), dtype), *self.rows(name)])

    def _open(self, name: str) -> "_Member":
        return _Member(self.path, self._zip, name)


class _Member:
    """One array of an archive, opened behind its header."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self.path, self.archive, self.name = path, archive, name

    def __enter__(self) -> tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]:
        try:
            self.stream = self.archive.open(f"{self.name}.npy")
            version = np.lib.format.read_magic(self.stream)
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(self.stream)
        except (
            ValueError,
            zipfile.BadZipFile,
            EOFError,
            NotImplementedError,
            RuntimeError,
        ) as error:
            raise FormatError(
                f"{self.path}: {self.name}: cannot be read ({error}); write the archive again"
            ) from error
        if dtype.hasobject:
            raise FormatError(
                f"{self.path}: {self.name}: holds Python objects; save plain arrays, not pickles"
            )
        if fortran and len(shape) > 1:
            raise FormatError(
                f"{self.path}: {self.name}: stored by columns; save numpy.ascontiguousarray of it"
            )
        return self.stream, shape, dtype

    def __exit__(self, *exception: object) -> None:
        self.stream.close()


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    try:
        return stream.read(size)
    except (zipfile.BadZipFile, EOFError) as error:
        raise FormatError(f"{stream.name}: damaged ({error}); write the archive again") from error


def import_arrays(
    path: Path,
    output: Path,
    *,
    names: tuple[str, ...] | None = None,
    dtype: str = "float32",
    command: str = "",
) -> tuple[str, list[str]]:
    """Write the arrays of an .npz archive into a features file.

    Keys: ``train_features`` (N, D), ``train_labels`` (N,), likewise ``val_`` and ``test_``;
    ``weight`` (C, D) and ``bias`` (C,); optional ``<split>_ids``, ``class_names``, ``wnids``,
    ``train_counts``. Without a weight, features of width C are taken as logits, with an identity
    head.

    Args:
        path: the archive.
        output: the features file.
        names: C class names, when the archive has none.
        dtype: ``float32`` or ``float16``, how features are stored.
        command: recorded in the file.

    Returns:
        The file's digest, and what was assumed, in sentences.

    Raises:
        InputError: when arrays do not fit each other.
        FormatError: when the archive is not sound.
    """
    archive, notes = Archive(path), list[str]()
    shapes = {
        s: archive.header(f"{s}_features")[0] for s in SPLITS if f"{s}_features" in archive.names
    }
    if not shapes:
        raise InputError(f"{path}: found no features, expected train_features, val_ or test_")
    labels = {s: _labels(archive, s, shape) for s, shape in shapes.items()}
    sizes = {shape[1] for shape in shapes.values()}
    if len(sizes) > 1:
        raise InputError(f"{path}: features: found {sorted(sizes)} columns, expected one size")
    feature_size = sizes.pop()
    counts = _counts(archive, labels, feature_size)
    head = _head(archive, len(counts), feature_size, notes)
    classes = _classes(archive, counts, names)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    plan = Plan(
        feature_size,
        dtype,
        {s: SplitPlan(labels[s], _text(archive, f"{s}_ids", len(labels[s]))) for s in shapes},
        classes,
        head,
        settings={"dtype": dtype},
        inputs={"arrays": digest},
    )
    writer = FeaturesWriter(output, plan, command=command, resume=False)
    try:
        for split in shapes:
            for block in archive.rows(f"{split}_features"):
                writer.append(split, block)
        return writer.finish(), notes
    except BaseException:
        writer.close()
        writer.abandon()
        raise


def _labels(archive: Archive, split: str, shape: tuple[int, ...]) -> Ints:
    path, name = archive.path, f"{split}_labels"
    if len(shape) != 2:
        raise InputError(f"{path}: {split}_features: found shape {shape}, expected (N, D)")
    if name not in archive.names:
        raise InputError(f"{path}: {name}: absent, expected one label a row of {split}_features")
    values = archive.whole(name)
    if values.ndim != 1:
        raise InputError(
            f"{path}: {name}: found shape {values.shape}, expected ({shape[0]},); "
            "of one-hot labels take argmax(axis=1)"
        )
    if len(values) != shape[0]:
        raise InputError(f"{path}: {name}: found {len(values)} labels for {shape[0]} rows")
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path}: {name}: found type {values.dtype}, expected whole numbers")
    labels = values.astype(np.int64)
    wrong = np.flatnonzero((labels != values) | (labels < 0))
    if len(wrong):
        raise InputError(
            f"{path}: {name}: row {wrong[0]}: found {values[wrong[0]]}, expected a whole "
            "label from 0"
        )
    return labels


def _counts(archive: Archive, labels: dict[str, Ints], feature_size: int) -> Ints:
    most = 1 + max(int(y.max(initial=-1)) for y in labels.values())
    if "train_counts" in archive.names:
        counts = archive.whole("train_counts").astype(np.int64)
        if counts.ndim != 1 or len(counts) < most or counts.min(initial=0) < 0:
            raise InputError(
                f"{archive.path}: train_counts: found shape {counts.shape}, expected one count "
                f"from 0 for each of {most} classes"
            )
        return counts
    if "train" not in labels:
        raise InputError(
            f"{archive.path}: train_counts: absent; without train_labels it must say how many "
            "training images each class had"
        )
    if "weight" in archive.names:
        rows, *columns = archive.header("weight")[0] or (0,)
        if columns == [feature_size]:
            most = max(most, rows)
    return np.bincount(labels["train"], minlength=most)


def _head(archive: Archive, num_classes: int, feature_size: int, notes: list[str]) -> Head | None:
    path = archive.path
    if "weight" not in archive.names:
        if feature_size != num_classes:
            notes.append("no weight: the file has no head")
            return None
        notes.append("no weight, and as many features as classes: taken as logits, identity head")
        return Head(np.eye(num_classes, dtype=np.float32), np.zeros(num_classes, np.float32))
    weight = archive.whole("weight").astype(np.float32)
    if weight.shape == (feature_size, num_classes) != (num_classes, feature_size):
        raise InputError(
            f"{path}: weight: found {weight.shape}, expected ({num_classes}, {feature_size}): "
            "one row a class; save weight.T"
        )
    if weight.shape != (num_classes, feature_size):
        raise InputError(
            f"{path}: weight: found {weight.shape}, expected ({num_classes}, {feature_size})"
        )
    if "bias" in archive.names:
        bias = archive.whole("bias").astype(np.float32)
    else:
        bias = np.zeros(num_classes, np.float32)
        notes.append("no bias: taken as zeros")
    if bias.shape != (num_classes,):
        raise InputError(f"{path}: bias: found {bias.shape}, expected ({num_classes},)")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError(f"{path}: weight, bias: hold NaN or infinity; the model is damaged")
    return Head(weight, bias)


def _classes(archive: Archive, counts: Ints, names: tuple[str, ...] | None) -> ClassTable:
    given = _text(archive, "class_names", len(counts))
    if given is not None:
        names = tuple(given.tolist())
    if names is not None and len(names) != len(counts):
        raise InputError(f"{archive.path}: class names: found {len(names)}, expected {len(counts)}")
    if names is not None and len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise InputError(f"{archive.path}: class names: found {twice!r} twice, expected each once")
    wnids = _text(archive, "wnids", len(counts))
    return ClassTable(counts, names, None if wnids is None else tuple(wnids.tolist()))


def _text(archive: Archive, name: str, count: int) -> NDArray[np.str_] | None:
    if name not in archive.names:
        return None
    values = archive.whole(name)
    if values.dtype.kind not in "US" or values.shape != (count,):
        raise InputError(
            f"{archive.path}: {name}: found {values.dtype} {values.shape}, expected {count} strings"
        )
    return values.astype(np.str_)
