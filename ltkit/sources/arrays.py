"""Writing features made elsewhere, in an .npz archive, into a features file."""

import hashlib
import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError, nearest
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.files.narrowing import as_float32
from ltkit.records import SPLITS, ClassTable, Head, Ints, block_rows, blocks
from ltkit.untrusted.budget import BYTES, Budget, opened
from ltkit.untrusted.texts import lines

DAMAGED = (
    EOFError, LookupError, MemoryError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""Errors that zipfile and NumPy raise for a damaged archive."""

KNOWN = (
    *(f"{s}_{what}" for s in SPLITS for what in ("features", "labels", "ids")),
    *("weight", "bias", "class_names", "wnids", "train_counts"),
)

MAX_CLASSES = 10_000_000
"""A label above this is treated as damage, not as that many classes."""

NUMBERS = "iuf"
"""Allowed kinds of numeric types."""

COPIES = 3
"""Memory that labels and texts take while being read, as a multiple of their size."""

UNPACKED = 100
"""Largest size of an archive's features, as a multiple of the archive's; zeros pack far better."""

LAST_SIGN = 0x10FFFF
"""Last code point of Unicode; four bytes of text can hold more."""


class Archive:
    """The arrays of an .npz file, read without pickles, large ones block by block."""

    def __init__(self, path: Path) -> None:
        """Open it and read the list of its arrays.

        Raises:
            InputError: when there is no such file, or an array that is not known.
            FormatError: when it is not an .npz archive.
        """
        self.path = path
        with opened(path, "an .npz archive"):
            pass
        try:
            self._zip = zipfile.ZipFile(path)
        except DAMAGED as error:
            raise FormatError(f"{path}: not an .npz archive; write it with numpy.savez") from error
        self.budget = Budget(path)
        self.names = [n.removesuffix(".npy") for n in self._zip.namelist()]
        for name in self.names:
            if name not in KNOWN:
                raise InputError(f"{path}: {name}: unknown array; {nearest(name, KNOWN)}")
            if self.names.count(name) > 1:
                raise InputError(f"{path}: {name}: found twice, expected once; save it again")
            needed = f"{name.partition('_')[0]}_features"
            if name.endswith(("_labels", "_ids")) and needed not in self.names:
                raise InputError(f"{path}: {name}: needs {needed}, which is absent")

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return the shape and type of an array."""
        with self._opened(name) as (_, shape, dtype):
            return shape, dtype

    def rows(self, name: str, kinds: str) -> Iterator[NDArray[Any]]:
        """Yield an array's rows block by block; its type must be of one of the kinds."""
        with self._opened(name) as (stream, shape, dtype):
            if dtype.kind not in kinds or not shape or 0 in shape[1:] or not dtype.itemsize:
                what = "numbers" if kinds == NUMBERS else "strings"
                raise InputError(
                    f"{self.path}: {name}: found {dtype} {shape}, expected an array of {what}"
                )
            row_bytes = math.prod(shape[1:]) * dtype.itemsize
            self.budget.take(row_bytes, name)
            for block in blocks(shape[0], block_rows(row_bytes)):
                count = block.stop - block.start
                raw = stream.read(count * row_bytes)
                if len(raw) < count * row_bytes:
                    raise EOFError("it is truncated")
                yield np.frombuffer(raw, dtype).reshape(count, *shape[1:])
            if stream.read(1):  # reading on to the end also checks the checksum
                raise EOFError("it is longer than its header says")

    def whole(self, name: str, kinds: str = NUMBERS) -> NDArray[Any]:
        """Read a small array.

        Raises:
            FormatError: when it is damaged, or with the others too large for such a file.
            InputError: when its type is of another kind.
        """
        shape, dtype = self.header(name)
        self.budget.take(COPIES * math.prod(shape) * dtype.itemsize, name)
        values, done = np.empty(shape, dtype), 0
        for block in self.rows(name, kinds):
            values[done : done + len(block)] = block
            done += len(block)
        return values

    @contextmanager
    def _opened(self, name: str) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
        """Yield one array after its header; damage, also found later, becomes a `FormatError`."""
        try:
            with self._zip.open(f"{name}.npy") as stream:
                first = np.lib.format.read_magic(stream) == (1, 0)
                read = getattr(np.lib.format, f"read_array_header_{'1_0' if first else '2_0'}")
                with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
                    shape, fortran, dtype = read(stream)
                if any(type(size) is not int or size < 0 for size in shape):
                    raise ValueError(f"its shape is {shape}")
                claimed = stream.tell() + math.prod(shape) * dtype.itemsize
                held = self._zip.getinfo(f"{name}.npy").file_size
                if claimed != held and not dtype.hasobject:
                    what = "truncated" if claimed > held else "longer than its header says"
                    raise EOFError(f"it is {what}")
                if dtype.hasobject:
                    raise FormatError(
                        f"{self.path}: {name}: holds Python objects; save plain arrays, not pickles"
                    )
                if fortran and len(shape) > 1:
                    raise FormatError(
                        f"{self.path}: {name}: stored by columns; "
                        "save numpy.ascontiguousarray of it"
                    )
                yield stream, shape, dtype
        except DAMAGED as error:
            raise FormatError(
                f"{self.path}: {name}: cannot be read ({error}); write the archive again"
            ) from error


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
        names: C class names, instead of the archive's.
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
    for split in shapes:
        kind = archive.header(f"{split}_labels")[1]
        if kind.kind in "iu" and np.iinfo(kind).max < len(counts) - 1:
            raise InputError(
                f"{path}: {split}_labels: found {kind}, which ends at {np.iinfo(kind).max}, for "
                f"{len(counts)} classes; labels may have wrapped around, save them as int64"
            )
    head = _head(archive, len(counts), feature_size, notes)
    classes = _classes(archive, counts, names)
    _check_unpacked(archive, shapes)
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
    with FeaturesWriter(output, plan, command=command, resume=False) as writer, ExitStack() as undo:
        undo.callback(writer.abandon)
        for split in shapes:
            for block in archive.rows(f"{split}_features", NUMBERS):
                writer.append(split, block)
        digest = writer.finish()
        undo.pop_all()
    return digest, notes


def read_names(path: Path) -> tuple[str, ...]:
    """Read class names, one per line, from a UTF-8 file; blank lines may follow.

    Raises:
        InputError: when there is no such file, or a name is blank.
    """
    names = list(lines(path, "names of classes, one a line"))
    while names and not names[-1].strip():
        names.pop()
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise InputError(f"{path}: line {number}: is blank, expected a class name; write it")
    return tuple(names)


def _check_unpacked(archive: Archive, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Reject features so much larger than the archive that they would fill the disk."""
    sizes = {
        s: math.prod(shape) * archive.header(f"{s}_features")[1].itemsize
        for s, shape in shapes.items()
    }
    most = BYTES + UNPACKED * archive.budget.size
    if sum(sizes.values()) > most:
        raise InputError(
            f"{archive.path}: features: unpack to {sum(sizes.values())} bytes, expected at most "
            f"{most} for an archive of {archive.budget.size}; write it with numpy.savez, unpacked"
        )


def _labels(archive: Archive, split: str, shape: tuple[int, ...]) -> Ints:
    path, name = archive.path, f"{split}_labels"
    if len(shape) != 2 or not shape[1]:
        raise InputError(f"{path}: {split}_features: found shape {shape}, expected (N, D)")
    if name not in archive.names:
        raise InputError(f"{path}: {name}: absent, expected one label per row of {split}_features")
    found = archive.header(name)[0]
    if len(found) == 1 and found != shape[:1]:
        raise InputError(f"{path}: {name}: found {found[0]} labels for {shape[0]} rows")
    labels = _whole_numbers(archive, name)
    if labels.max(initial=0) >= MAX_CLASSES:
        raise InputError(
            f"{path}: {name}: row {labels.argmax()}: found {labels.max()}, expected a label below "
            f"{MAX_CLASSES}"
        )
    return labels


def _whole_numbers(archive: Archive, name: str) -> Ints:
    """Read whole numbers from 0; floats with exactly whole values are accepted."""
    shape = archive.header(name)[0]
    if len(shape) != 1:
        raise InputError(
            f"{archive.path}: {name}: found shape {shape}, expected one dimension; "
            "of one-hot labels take argmax(axis=1)"
        )
    values = archive.whole(name)
    with np.errstate(invalid="ignore"):
        numbers = values.astype(np.int64)
    wrong = np.flatnonzero((numbers != values) | (numbers < 0))
    if len(wrong):
        raise InputError(
            f"{archive.path}: {name}: row {wrong[0]}: found {values[wrong[0]]}, expected a whole "
            "number from 0"
        )
    return numbers


def _counts(archive: Archive, labels: dict[str, Ints], feature_size: int) -> Ints:
    most = 1 + max(int(y.max(initial=-1)) for y in labels.values())
    if "train_counts" in archive.names:
        counts = _whole_numbers(archive, "train_counts")
        if len(counts) < most:
            raise InputError(
                f"{archive.path}: train_counts: found {len(counts)}, expected one for each of "
                f"{most} classes"
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
            most = max(most, min(rows, MAX_CLASSES))
    return np.bincount(labels["train"], minlength=most)


def _head(archive: Archive, num_classes: int, feature_size: int, notes: list[str]) -> Head | None:
    path, expected = archive.path, (num_classes, feature_size)
    if "weight" not in archive.names:
        if feature_size != num_classes:
            left_out = ", and bias is left out" if "bias" in archive.names else ""
            notes.append(f"no weight: the file has no head{left_out}")
            return None
        if (room := 4 * num_classes**2) > archive.budget.most_bytes:
            raise InputError(
                f"{path}: weight: absent, and for {num_classes} logits an identity head would take "
                f"{room} bytes; add the weight, or train_labels of the classes that there are"
            )
        notes.append("no weight, and as many features as classes: taken as logits, identity head")
        return Head(np.eye(num_classes, dtype=np.float32), np.zeros(num_classes, np.float32))
    found = archive.header("weight")[0]
    if found != expected:
        hint = ": one row a class; save weight.T" if found == expected[::-1] else ""
        raise InputError(f"{path}: weight: found {found}, expected {expected}{hint}")
    weight, bias = archive.whole("weight"), np.zeros(num_classes)
    if "bias" not in archive.names:
        notes.append("no bias: taken as zeros")
    elif (shape := archive.header("bias")[0]) != (num_classes,):
        raise InputError(f"{path}: bias: found {shape}, expected ({num_classes},)")
    else:
        bias = archive.whole("bias")
    return Head(as_float32(weight, f"{path}: weight"), as_float32(bias, f"{path}: bias"))


def _classes(archive: Archive, counts: Ints, names: tuple[str, ...] | None) -> ClassTable:
    given = _text(archive, "class_names", len(counts))
    if names is None and given is not None:
        names = tuple(given.tolist())
    if names is not None and len(names) != len(counts):
        raise InputError(f"{archive.path}: class names: found {len(names)}, expected {len(counts)}")
    if names is not None and len(set(names)) < len(names):
        twice = next(n for n, times in Counter(names).items() if times > 1)
        raise InputError(f"{archive.path}: class names: found {twice!r} twice, expected each once")
    wnids = _text(archive, "wnids", len(counts))
    return ClassTable(counts, names, None if wnids is None else tuple(wnids.tolist()))


def _text(archive: Archive, name: str, count: int) -> NDArray[np.str_] | None:
    if name not in archive.names:
        return None
    shape = archive.header(name)[0]
    if shape != (count,):
        raise InputError(f"{archive.path}: {name}: found shape {shape}, expected {count} strings")
    values = archive.whole(name, "US")
    wide = values.dtype.kind == "U"
    signs = values.view(f"{values.dtype.str[0]}u4" if wide else np.uint8)
    signs = signs.reshape(count, values.itemsize // signs.itemsize)
    for bad, found in (
        ((signs > LAST_SIGN).any(axis=1), "a sign that Unicode does not have"),
        (((signs[:, 1:] != 0) & (signs[:, :-1] == 0)).any(axis=1), "NUL within a text"),
    ):
        if bad.any():
            raise InputError(
                f"{archive.path}: {name}: row {bad.argmax()}: found {found}, expected text; the "
                "array is damaged, save it again"
            )
    if wide:
        return values.astype(np.str_)
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{archive.path}: {name}: found other bytes, expected UTF-8") from error
