"""CIFAR-10 and CIFAR-100 from their official archives, long-tailed.

Both forms of the archives are read: the binary one (a label byte or two, then 3 x 32 x 32 pixel
bytes a record) and the Python one, a pickle, through an unpickler that can build nothing but arrays
and bytes.
"""

import csv
import os
import pickle
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltkit.datasets import longtail
from ltkit.errors import FormatError, InputError
from ltkit.records import ClassTable, Dataset, ImageSplit, Ints
from ltkit.untrusted.budget import Budget, opened, read_bytes
from ltkit.untrusted.texts import lines
from ltkit.untrusted.unpickling import Unpickler

PIXELS = 3 * 32 * 32

MOST_RECORDS = 60_000
"""Most images in a file, which is the size of the whole dataset."""

NAMES = ("coarse_label_names.txt", "meta")
"""Files of the superclasses' names, in the binary form and in the Python one."""

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
"""The normalisation of the reference schedule, for both datasets."""


class Layout(NamedTuple):
    """File names of one of the two datasets, in both forms."""

    num_classes: int
    label_bytes: int
    binary: str
    binary_files: Mapping[str, tuple[str, ...]]
    python: str
    python_files: Mapping[str, tuple[str, ...]]
    label_key: bytes
    wnids: str


LAYOUTS = {
    10: Layout(
        num_classes=10,
        label_bytes=1,
        binary="cifar-10-batches-bin",
        binary_files={
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        python="cifar-10-batches-py",
        python_files={
            "train": tuple(f"data_batch_{i}" for i in range(1, 6)),
            "test": ("test_batch",),
        },
        label_key=b"labels",
        wnids="cifar10_wnids.tsv",
    ),
    100: Layout(
        num_classes=100,
        label_bytes=2,
        binary="cifar-100-binary",
        binary_files={"train": ("train.bin",), "test": ("test.bin",)},
        python="cifar-100-python",
        python_files={"train": ("train",), "test": ("test",)},
        label_key=b"fine_labels",
        wnids="cifar100_wnids.tsv",
    ),
}


class Part(NamedTuple):
    """The images of the official training or test set.

    images: (N, 32, 32, 3) uint8; labels: (N,); coarse: (N,) or None.
    """

    images: NDArray[np.uint8]
    labels: Ints
    coarse: Ints | None


def load(
    root: Path,
    *,
    num_classes: int,
    ir: float,
    seed: int,
    val: longtail.ValRule,
    profile: longtail.Profile = "exponential",
) -> Dataset:
    """Load a long-tailed CIFAR; the official test set is used unchanged.

    Args:
        root: a folder that holds the archive's folder, or that folder itself.
        num_classes: 10 or 100.
        ir: imbalance factor n_max / n_min.
        seed: seed of the draw.
        val: see `longtail.draw`.
        profile: see `longtail.profile_counts`.

    Raises:
        InputError: when the archive is not there; the message names it.
        FormatError: when a file of it is not what it should be.
    """
    layout = LAYOUTS[num_classes]
    folder, read = _find(root, layout)
    train, test = read(folder, layout, "train"), read(folder, layout, "test")
    per_class = len(train.labels) // num_classes
    counts = longtail.profile_counts(profile, num_classes, per_class, ir)
    drawn = longtail.draw(train.labels, counts, seed, val)

    splits = {"train": _split(train, drawn.train, "train")}
    if drawn.val is not None:
        splits["val"] = _split(train, drawn.val, "train")
    splits["test"] = _split(test, np.arange(len(test.labels)), "test")
    names, wnids = _class_names(layout)
    return Dataset(
        splits,
        ClassTable(
            np.bincount(splits["train"].labels, minlength=num_classes),
            names,
            wnids,
            _coarse_names(train, folder, num_classes),
        ),
        mean=MEAN,
        std=STD,
        crop_padding=4,
        flip=True,
        record={"index_digest": longtail.index_digest(drawn.train, drawn.val)},
    )


def files(root: Path, num_classes: int) -> list[Path]:
    """Return the files that are read, some of which may be absent.

    Raises:
        InputError: when the archive is not there.
    """
    layout = LAYOUTS[num_classes]
    folder, read = _find(root, layout)
    parts = layout.binary_files if read is _read_binary else layout.python_files
    return [folder / name for names in (*parts.values(), NAMES) for name in names]


def _find(root: Path, layout: Layout) -> tuple[Path, Any]:
    forms = (
        (layout.binary, layout.binary_files, _read_binary),
        (layout.python, layout.python_files, _read_python),
    )
    for name, files, read in forms:
        for folder in (root / name, root):
            if all((folder / f).is_file() for part in files.values() for f in part):
                return folder, read
    raise InputError(
        f"{root}: found neither {layout.binary}/ nor {layout.python}/ with all their files; "
        f"unpack the official archive of CIFAR-{layout.num_classes} (binary or Python version) "
        "there, or name its folder with --root"
    )


def _split(part: Part, positions: Ints, name: str) -> ImageSplit:
    ids = np.array([f"{name}/{i:05d}" for i in positions])
    return ImageSplit(part.images[positions], part.labels[positions], ids)


def _read_binary(folder: Path, layout: Layout, part: str) -> Part:
    record = layout.label_bytes + PIXELS
    records = []
    for name in layout.binary_files[part]:
        what = f"images of CIFAR-{layout.num_classes}"
        content = read_bytes(folder / name, what, MOST_RECORDS * record)
        raw = np.frombuffer(content, dtype=np.uint8)
        if raw.size == 0 or raw.size % record:
            raise FormatError(
                f"{folder / name}: found {raw.size} bytes, expected a multiple of {record}; "
                "unpack the archive again"
            )
        records.append(raw.reshape(-1, record))
    rows = np.concatenate(records)
    labels = rows[:, layout.label_bytes - 1].astype(np.int64)
    coarse = rows[:, 0].astype(np.int64) if layout.label_bytes == 2 else None
    return _part(rows[:, layout.label_bytes :], labels, coarse, folder, layout)


class _Type:
    """Stand-in for a NumPy type."""

    def __init__(self, code: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Ignore the byte order: bytes have none."""


class _Pixels:
    """Stand-in for a NumPy array of bytes; `values` is set if it is one."""

    values: NDArray[np.uint8]

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, raw = state
        if not isinstance(kind, _Type) or kind.code not in ("u1", b"u1") or by_columns:
            raise pickle.UnpicklingError("an array of other than bytes")
        self.values = np.frombuffer(raw, np.uint8).reshape(shape)


class ArrayUnpickler(Unpickler):
    """An unpickler that builds only byte arrays, text and plain containers."""

    changed: ClassVar[tuple[type, ...]] = (_Type, _Pixels)

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for one of the few names that the official files use."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return lambda *arguments: _Pixels()
        if module == "numpy" and name in ("ndarray", "dtype"):
            return lambda code, *others: _Type(code)
        if module == "_codecs" and name == "encode":
            return _latin1
        raise FormatError(
            f"{self.budget.path}: refused to load {f'{module}.{name}'[:100]}; the official files "
            "hold only arrays"
        )


def _latin1(text: Any, coding: Any) -> bytes:
    """Return bytes that Python 3 stores as text for Python 2."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1", b"latin1"):
        raise pickle.UnpicklingError("text of another coding")
    return text.encode("latin-1")


@contextmanager
def _pickled(path: Path) -> Iterator[Any]:
    """Yield a pickle's content; any error in it, or in its use, becomes a `FormatError`."""
    try:
        with opened(path, "a file of the official archive") as file:
            size = os.fstat(file.fileno()).st_size
            found = ArrayUnpickler(file, Budget(path, size), size=size, encoding="bytes").load()
        yield found
    except (
        AttributeError, EOFError, LookupError, MemoryError, OverflowError, TypeError, ValueError,
        pickle.UnpicklingError, struct.error,
    ) as error:  # fmt: skip
        raise FormatError(
            f"{path}: not as in the official archive ({type(error).__name__}: {str(error)[:100]}); "
            "unpack it again"
        ) from error


def _read_python(folder: Path, layout: Layout, part: str) -> Part:
    images, labels, coarse = [], [], []
    for name in layout.python_files[part]:
        with _pickled(folder / name) as content:
            images.append(content[b"data"].values.reshape(-1, PIXELS))
            labels.append(_numbers(content[layout.label_key]))
            if layout.num_classes == 100:
                coarse.append(_numbers(content[b"coarse_labels"]))
                if min(coarse[-1], default=0) < 0:
                    raise ValueError("a coarse label below 0")
    joined = np.concatenate(coarse) if coarse else None
    return _part(np.concatenate(images), np.concatenate(labels), joined, folder, layout)


def _numbers(values: Any) -> Ints:
    """Return a list of numbers as an array; nested lists, of any size, are refused."""
    if not isinstance(values, list) or not all(type(n) is int for n in values):
        raise ValueError("labels that are no list of whole numbers")
    return np.array(values, dtype=np.int64)


def _part(
    pixels: NDArray[np.uint8], labels: Ints, coarse: Ints | None, folder: Path, layout: Layout
) -> Part:
    classes, counts = np.unique(labels, return_counts=True)
    balanced = np.array_equal(classes, np.arange(layout.num_classes)) and np.ptp(counts) == 0
    if (
        not balanced
        or len(labels) != len(pixels)
        or len(labels if coarse is None else coarse) != len(labels)
    ):
        raise FormatError(
            f"{folder}: found {len(labels)} labels of {len(classes)} classes for {len(pixels)} "
            f"images, expected 0..{layout.num_classes - 1}, each equally often; unpack the "
            "archive again"
        )
    images = np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    return Part(images, labels, coarse)


def _class_names(layout: Layout) -> tuple[tuple[str, ...], tuple[str, ...]]:
    table = resources.files("ltkit") / "data" / layout.wnids
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return tuple(r["class"] for r in rows), tuple(r["wnid"] for r in rows)


def _coarse_names(train: Part, folder: Path, num_classes: int) -> tuple[str, ...] | None:
    if train.coarse is None:
        return None
    text, meta = (folder / name for name in NAMES)
    written = lines(text, "the names of superclasses") if text.exists() else ()
    names = [name.strip() for name in written if name.strip()]
    if meta.is_file():
        with _pickled(meta) as content:
            names = [name.decode() for name in content[b"coarse_label_names"]]
    of_class = np.zeros(num_classes, dtype=np.int64)
    of_class[train.labels] = train.coarse
    several = np.flatnonzero(of_class[train.labels] != train.coarse)
    if len(several):
        raise FormatError(
            f"{folder}: coarse labels: found several for class {train.labels[several[0]]}, "
            "expected one; unpack the archive again"
        )
    return tuple(names[c] if c < len(names) else f"superclass {c}" for c in of_class)
