"""Files that people write with one line for each class: its name or id, and a value."""

import csv
from collections.abc import Sequence
from pathlib import Path

from ltkit.errors import InputError
from ltkit.untrusted.texts import lines


def values_by_class(path: Path, class_names: Sequence[str], column: str) -> list[str]:
    r"""Read a value for each class from a file with one line ``class<TAB>value`` per class.

    A line without a tab is read as CSV, so ``"tench, Tinca tinca",fish`` works. The class is its
    name or its id; what could be both is the name. When class names repeat, only ids are taken.
    Empty lines are skipped, and there is no heading.

    Args:
        path: the file, UTF-8.
        class_names: (C,) the names in class order.
        column: what the values are, for messages.

    Returns:
        (C,) the value of each class in class order.

    Raises:
        InputError: when the file cannot be read, a line has not two columns, or a class is
            unknown, given twice or missing.
    """
    ids, expected = _known_classes(class_names)
    values: dict[int, str] = {}
    line_numbers: dict[int, int] = {}
    for number, line in enumerate(
        lines(path, f"a file with a line 'class<TAB>{column}' for each class"), start=1
    ):
        if not line.strip():
            continue
        where = f"{path}: line {number}"
        name, value = _two_columns(line, where, column)
        if name not in ids:
            raise InputError(f"{where}: found class {name[:60]!r}, expected {expected}")
        class_id = ids[name]
        if class_id in values:
            raise InputError(
                f"{where}: found class {name[:60]!r} again, it is already on line "
                f"{line_numbers[class_id]}; delete one of the two"
            )
        values[class_id], line_numbers[class_id] = value, number
    missing = [f"{i}: {name}" for i, name in enumerate(class_names) if i not in values]
    if missing:
        raise InputError(
            f"{path}: found no line for {len(missing)} of {len(class_names)} classes "
            f"({_some(missing)}); add a line 'class<TAB>{column}' for each"
        )
    return [values[class_id] for class_id in range(len(class_names))]


def _some(values: Sequence[str]) -> str:
    """Return the first three values for a message."""
    shown = [f"{value[:60]!r}" for value in values[:3]]
    return ", ".join(shown + ["..."] * (len(values) > 3))


def _known_classes(class_names: Sequence[str]) -> tuple[dict[str, int], str]:
    """Return class ids by every name that a file may use, and these names in words."""
    ids = {str(class_id): class_id for class_id in range(len(class_names))}
    in_words = f"a class id from 0 to {len(class_names) - 1}"
    if len(set(class_names)) < len(class_names):
        return ids, f"{in_words} (class names repeat here, so only ids can be used)"
    ids.update((name, class_id) for class_id, name in enumerate(class_names))
    return ids, f"a class name ({_some(class_names)}) or {in_words}, and no heading"


def _two_columns(line: str, where: str, column: str) -> tuple[str, str]:
    """Split a line at its tab, or else as CSV."""
    try:
        columns = line.split("\t") if "\t" in line else next(csv.reader([line], strict=True))
    except csv.Error as error:
        raise InputError(f"{where}: not readable as CSV ({error}); use a tab instead") from error
    texts = [column.strip() for column in columns]
    if len(texts) != 2 or not all(texts):
        raise InputError(
            f"{where}: found {len(texts)} columns ({line[:60]!r}), expected two that are not "
            f"empty; write class<TAB>{column}"
        )
    return texts[0], texts[1]
