"""Tables: a row a sample, with a column of labels and columns of numbers; CSV, or Parquet."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, nearest
from ltkit.records import SPLITS, block_rows
from ltkit.sources.arrays import npy, unpacked
from ltkit.sources.arrays.naming import LABELS, split_of
from ltkit.sources.arrays.stored import Stored, held_texts
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.texts import lines

WHAT = "a table with a column of labels and columns of numbers"
SEPARATORS = ",;\t"


class _Columns(NamedTuple):
    """Which columns of a table are what."""

    label: str
    split: str | None
    ids: str | None
    features: list[str]


def _columns(
    path: Path, names: Sequence[str], label: str | None, ignored: Sequence[str]
) -> _Columns:
    """Say which columns are what.

    Raises:
        InputError: when a name is there twice, there is no column of labels, or none of features.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: found the column {name} twice, expected each name once")
    for name in ignored:
        if name not in names:
            raise InputError(f"{path}: no column {name} to ignore; {nearest(name, names)}")
    kept = [name for name in names if name not in ignored]
    known = [name for name in kept if name.strip().lower() in LABELS] if label is None else [label]
    if len(known) != 1 or known[0] not in names:
        found = ", ".join(known if known and label is None else kept)[:80]
        raise InputError(
            f"{path}: found the columns {found}, expected one of labels; name it with --label"
        )
    split = next((name for name in kept if name.strip().lower() == "split"), None)
    ids = next((name for name in kept if name.strip().lower() in ("id", "ids")), None)
    features = [name for name in kept if name not in (known[0], split, ids)]
    if not features:
        raise InputError(f"{path}: found no column of features beside {known[0]}, expected some")
    return _Columns(known[0], split, ids, features)


def of_csv(
    path: Path, folder: Path, label: str | None, ignored: Sequence[str]
) -> dict[str, Stored]:
    """Return the arrays of a CSV: features and labels, or those of each split it has a column for.

    Args:
        path: the file, with a line of names first; commas, semicolons or tabs between.
        folder: for the numbers, as they are read.
        label: the column of labels; None: the one that is called so.
        ignored: columns that are left out.

    Raises:
        InputError: when it is no such table; the message names the line.
    """
    rows = _rows(path)
    names = [name.strip() for name in next(rows)]
    columns = _columns(path, names, label, ignored)
    at = {name: place for place, name in enumerate(names)}
    writers: dict[str, _Part] = {}
    for number, row in enumerate(rows, start=2):
        if not row:
            continue
        split = _split(path, number, row, names, columns.split)
        if split not in writers:
            writers[split] = _Part(path, folder / f"{split or 'all'}.npy", columns)
        writers[split].add(number, row, at)
    budget, found = Budget(path), dict[str, Stored]()
    for split, part in writers.items():
        found |= part.arrays(f"{split}_" if split else "", budget)
    return found


def _rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV, the names of its columns first."""
    every = lines(path, WHAT)
    first = next(every, "")
    if not first.strip():
        raise InputError(f"{path}: line 1: is empty, expected the names of columns")
    separator = max(SEPARATORS, key=first.count)

    def text() -> Iterator[str]:
        yield first
        yield from every

    try:
        for row in csv.reader(text(), delimiter=separator, skipinitialspace=True):
            yield [] if row == [""] else row
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error}); write it again") from error


def _split(
    path: Path, number: int, row: Sequence[str], names: Sequence[str], column: str | None
) -> str:
    """Return which split a row says it is of, "" where none does."""
    if len(row) != len(names):
        raise InputError(f"{path}: line {number}: found {len(row)} columns, expected {len(names)}")
    if column is None:
        return ""
    text = row[names.index(column)]
    found = split_of(text)
    if found is None:
        raise InputError(
            f"{path}: line {number}: split: found {text[:40]!r}, expected {', '.join(SPLITS)}"
        )
    return found


class _Part:
    """The rows of one split: numbers in a file, labels and ids in memory."""

    def __init__(self, path: Path, target: Path, columns: _Columns) -> None:
        self._path, self._target, self._columns = path, target, columns
        self._labels: list[str] = []
        self._ids: list[str] = []
        self._raw = target.with_suffix(".raw")
        self._waiting: list[list[str]] = []
        self._lines: list[int] = []
        self._block = max(1, block_rows(8 * len(columns.features)))

    def add(self, number: int, row: Sequence[str], at: dict[str, int]) -> None:
        """Take a row."""
        self._labels.append(row[at[self._columns.label]].strip())
        if self._columns.ids is not None:
            self._ids.append(row[at[self._columns.ids]])
        self._waiting.append([row[at[name]] for name in self._columns.features])
        self._lines.append(number)
        if len(self._waiting) >= self._block:
            self._flush()

    def _flush(self) -> None:
        try:
            values: NDArray[Any] = np.array(self._waiting).astype(np.float64)
        except ValueError:
            raise self._no_number() from None
        with self._raw.open("ab") as out:
            out.write(values.tobytes())
        self._waiting, self._lines = [], []

    def _no_number(self) -> InputError:
        """Return the error for the first cell that is no number."""
        for number, row in zip(self._lines, self._waiting, strict=True):
            for name, cell in zip(self._columns.features, row, strict=True):
                try:
                    float(cell)
                except ValueError:
                    return InputError(
                        f"{self._path}: line {number}: {name}: found {cell[:40]!r}, expected a "
                        "number; leave such columns out with --ignore"
                    )
        return InputError(f"{self._path}: line {self._lines[0]}: found what is no number")

    def arrays(self, prefix: str, budget: Budget) -> dict[str, Stored]:
        """Return what was taken."""
        if self._waiting:
            self._flush()
        shape = (len(self._labels), len(self._columns.features))
        with self._target.open("wb") as out:
            header = {"descr": "<f8", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_2_0(out, header)
            with self._raw.open("rb") as raw:
                while piece := raw.read(1 << 22):
                    out.write(piece)
        self._raw.unlink()
        features = npy.alone(self._target, f"{prefix}features")
        features.path = self._path
        found: dict[str, Stored] = {f"{prefix}features": features}
        for what, texts in (("labels", self._labels), ("ids", self._ids)):
            if texts:
                key = f"{prefix}{what}"
                found[key] = held_texts(self._path, key, budget, texts)
        return found


def of_parquet(
    path: Path, folder: Path, label: str | None, ignored: Sequence[str]
) -> dict[str, Stored]:
    """Return features, labels and ids of a Parquet table; features may be one column of lists.

    Raises:
        InputError: when it is no such table, has a column for splits, or pyarrow is absent.
        FormatError: when it is damaged.
    """
    kinds, table = unpacked.of_parquet(path, folder)
    columns = _columns(path, list(kinds), label, ignored)
    if columns.split is not None:
        raise InputError(
            f"{path}: found the column {columns.split}, expected a Parquet file for each split; "
            "write three, and name them with --train, --val and --test"
        )
    form = _form(path, kinds, columns.features)
    found = {"features": table.array("features", columns.features, form)}
    for key, name in (("labels", columns.label), ("ids", columns.ids)):
        if name is not None:
            kind = "text" if key == "ids" else kinds[name]
            found[key] = table.array(key, [name], kind)
    return found


def _form(path: Path, kinds: Mapping[str, str], names: Sequence[str]) -> str:
    """Say whether columns of features are numbers, or one of lists.

    Raises:
        InputError: when they are neither.
    """
    of_features = {kinds[name] for name in names}
    if of_features not in ({"number"}, {"list"}) or (of_features == {"list"} and len(names) > 1):
        odd = next((n for n in names if kinds[n] != "number"), names[0])
        raise InputError(
            f"{path}: {odd}: found a column of {kinds[odd]}, expected numbers, or one column of "
            "lists; leave others out with --ignore"
        )
    return of_features.pop()
