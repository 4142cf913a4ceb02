"""Datasets of image files by a table: CSV, or with semicolons or tabs, with a header."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltkit.datasets.lists import NUMBER, WHAT, Listing, as_label, dataset_of, relative, shown
from ltkit.datasets.names import MEANINGS, in_order, split_of
from ltkit.errors import InputError, SettingError, nearest
from ltkit.records import Dataset
from ltkit.untrusted.texts import lines

ENDS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
"""Of the names of tables, in any case."""

COLUMNS = ("path", "label", "split")

SEPARATORS = (",", ";", "\t")

NO_LABELS = np.empty(0, dtype=np.int64)


class Row(NamedTuple):
    """A row of a table, and where it ends there."""

    line: int
    path: str
    label: str
    split: str


class Columns(NamedTuple):
    """Where the columns of a table are; `split` is None where there is none.

    width: how many there are in all; separator: what is between them.
    """

    path: int
    label: int
    split: int | None
    width: int
    separator: str


def is_table(path: Path) -> bool:
    """Tell whether a file is called as a table is.

    Example:
        >>> is_table(Path("a.CSV")), is_table(Path("train.txt"))
        (True, False)
    """
    return path.name.lower().endswith(ENDS)


def load_table(
    path: Path,
    root: Path,
    parameters: Mapping[str, Any],
    *,
    columns: Mapping[str, str] | None = None,
    files: Mapping[str, Path] | None = None,
    notes: tuple[str, ...] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """Load a table with a header and the columns ``path``, ``label`` and, if there, ``split``.

    Labels are whole numbers, however they are written, or class names, then in order.

    Args:
        path: the table; its separator is the one that its header shows: ``,``, ``;`` or a tab.
        root: what the paths are relative to.
        parameters: of ``--data``; see `ltkit.datasets.load`.
        columns: what the columns are called there, where it is something else.
        files: split to a table of its own, the training one among them, where none has a column for
            the split.
        notes: what the user should know.
        classes: the names of all classes, where the user states them; see `dataset_of`.

    Raises:
        InputError: for a column that is absent, or a row that does not fit; the message names it.
    """
    called = {name: name for name in COLUMNS} | dict(columns or {})
    own = {} if files is None else {split: file for split, file in files.items() if file != path}
    rows = _table(path, root, called, "train")
    if own and any(row.split != "train" for row in rows):
        own = {}  # the table tells its splits itself
    parts = {path: rows} | {file: _table(file, root, called, split) for split, file in own.items()}
    labels = {row.label for found in parts.values() for row in found}
    if any(map(NUMBER.fullmatch, labels)):
        numbered = _listings(parts, None)
        return dataset_of(root, numbered, None, parameters, notes=notes, classes=classes)
    names, said = in_order(labels, parameters["order"])
    listings = _listings(parts, {name: class_id for class_id, name in enumerate(names)})
    notes = (*notes, *map(shown, said))
    return dataset_of(root, listings, names, parameters, notes=notes, classes=classes)


def _listings(
    parts: Mapping[Path, list[Row]], class_ids: Mapping[str, int] | None
) -> dict[str, Listing]:
    """Return what is listed of each split.

    Args:
        parts: the rows of each table, that of the training images first.
        class_ids: of the names that are the labels; None where they are numbers.

    Raises:
        InputError: for a label that is none, or where there is no training row.
    """
    listed: dict[str, Listing] = {}
    labels: dict[str, list[int]] = {}
    for file, rows in parts.items():
        for row in rows:
            class_id = as_label(row.label) if class_ids is None else class_ids[row.label]
            if class_id is None or row.label.lower() in ("", "nan"):
                expected = "a whole number from 0" if class_ids is None else "a class name"
                raise InputError(
                    f"{file}: line {row.line}: label: found {row.label[:80]!r}, expected {expected}"
                )
            listed.setdefault(row.split, Listing(file, [], NO_LABELS)).paths.append(row.path)
            labels.setdefault(row.split, []).append(class_id)
    if "train" not in listed:
        file = next(iter(parts))
        raise InputError(f"{file}: found no training row, expected at least one a class")
    return {s: one._replace(labels=np.array(labels[s])) for s, one in listed.items()}


def _table(path: Path, root: Path, called: Mapping[str, str], split: str) -> list[Row]:
    """Read the rows of a table; those that name no split are of the given one."""
    text = (f"{line}\n" for line in lines(path, WHAT))
    header = next(text, "")
    columns = _columns(header, path, called)
    reader = csv.reader(text, strict=True, delimiter=columns.separator)
    try:
        return [*_rows(reader, columns, path, root, split)]
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num + 1}: not readable as CSV ({error}); look for a quote "
            "without its end"
        ) from None


def _rows(reader: Any, columns: Columns, path: Path, root: Path, default: str) -> Iterator[Row]:
    """Give the rows of a table under its header.

    Raises:
        InputError: for a row that does not fit.
    """
    texts: dict[str, str] = {}  # labels and splits stand once each, however many rows have them
    for cells in reader:
        if not any(map(str.strip, cells)):
            continue
        line = reader.line_num + 1
        if len(cells) > columns.width or (columns.split or 0) >= len(cells):
            raise InputError(
                f"{path}: line {line}: found {len(cells)} columns, expected {columns.width}; put "
                "quotes around what has a comma, and a comma before an empty split"
            )
        cells += [""] * (columns.width - len(cells))
        name, label = cells[columns.path].strip(), cells[columns.label].strip()
        if columns.separator == ";" and NUMBER.fullmatch(dotted := label.replace(",", ".", 1)):
            label = dotted  # a decimal comma
        word = "" if columns.split is None else cells[columns.split].strip()
        split = split_of(word) if word else default
        if split is None:
            known = nearest(word.lower(), [*MEANINGS])
            raise InputError(f"{path}: line {line}: split {word[:40]!r}; {known}")
        label, split = texts.setdefault(label, label), texts.setdefault(split, split)
        yield Row(line, relative(path, line, name, root), label, split)


def _columns(header: str, path: Path, called: Mapping[str, str]) -> Columns:
    """Return where the columns are, by the separator with which the header has them.

    Raises:
        InputError: when path or label is absent, or one is there twice.
    """
    wanted = {name: text.strip().lower() for name, text in called.items()}
    separator, written = _fields(header, wanted)
    fields = [field.lower() for field in written]
    if not {wanted["path"], wanted["label"]} <= {*fields}:
        raise InputError(
            f"{path}: found the columns {', '.join(written)[:80] or 'none'}, expected "
            f"{called['path']}, {called['label']} and, if there, {called['split']}; name yours, as "
            "--columns path=FILE,label=CLASS"
        )
    for name, text in wanted.items():
        if (count := fields.count(text)) > 1:
            raise InputError(f"{path}: found {called[name]} as {count} columns, expected one")
    split = fields.index(wanted["split"]) if wanted["split"] in fields else None
    if called["split"] != "split" and split is None:
        near = nearest(called["split"], written)
        raise InputError(f"{path}: found no column {called['split']}; {near}")
    return Columns(
        fields.index(wanted["path"]), fields.index(wanted["label"]), split, len(fields), separator
    )


def _fields(header: str, wanted: Mapping[str, str]) -> tuple[str, list[str]]:
    """Return the separator of a header, and its columns.

    The separator is the first that gives the path and the label, else that of the most columns.
    """
    best: tuple[str, list[str]] = (",", [])
    for separator in SEPARATORS:
        try:
            cells = next(csv.reader([header], delimiter=separator), [])
        except csv.Error:
            continue
        fields = [cell.strip() for cell in cells]
        if {wanted["path"], wanted["label"]} <= {field.lower() for field in fields}:
            return separator, fields
        best = max(best, (separator, fields), key=lambda found: len(found[1]))
    return best


def check_columns(columns: Mapping[str, str] | None, table: str | None) -> None:
    """Refuse names of columns for what is no table, and of columns that none has.

    Args:
        columns: as `load_table` takes them.
        table: what was named, where it is no table.

    Raises:
        InputError: see above.
    """
    if columns and table is not None:
        raise SettingError(
            "columns", f"found {table[:150]}, expected a CSV; only a CSV has columns"
        )
    for name, text in (columns or {}).items():
        if name not in COLUMNS:
            raise SettingError("columns", f"found {name[:40]!r}; {nearest(name, COLUMNS)}")
        if not text.strip():
            raise SettingError("columns", f"found no name for {name}, expected that of a column")


def has_columns(path: Path, columns: Mapping[str, str] | None) -> bool:
    """Tell whether a table has the columns that are looked for."""
    called = {name: name for name in COLUMNS} | dict(columns or {})
    try:
        _columns(next(lines(path, WHAT), ""), path, called)
    except InputError:
        return False
    return True
