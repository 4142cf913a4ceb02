"""Labels as people save them: numbers from 0 or 1, names, columns, one-hot rows."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.records import Ints
from ltkit.sources.arrays.naming import listed
from ltkit.sources.arrays.stored import NUMBERS, TEXTS, Stored

MOST_CLASSES = 10_000_000
"""A label above this is taken for damage, not for that many classes."""

WHOLE_TEXT = re.compile(r"\s*[+-]?\d{1,18}(\.0*)?\s*")
"""A label that is a number in text, as a table has it."""


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of all splits, numbers from 0, and what they say of the classes.

    names: of the classes, where labels are names; num_classes: at least so many.
    """

    by_split: Mapping[str, Ints]
    names: tuple[str, ...] | None
    num_classes: int


def read(
    stored: Mapping[str, Stored],
    lengths: Mapping[str, int],
    *,
    names: Sequence[str] | None,
    values: Ints | None,
    known: int | None,
    ordered: str | None,
    first_label: int | None,
    notes: list[str],
) -> Labels:
    """Return labels as numbers from 0.

    Args:
        stored: of each split.
        lengths: rows of each split's features.
        names: of the classes in their order, where they are known.
        values: the labels' values in the order of the classes, as scikit-learn's ``classes_``.
        known: how many classes there are, where something else says it.
        ordered: what has an order of classes that names of labels would have to be known in.
        first_label: 0 or 1, what labels count from; None: as they look.
        notes: takes what was assumed.

    Raises:
        InputError: for labels that are none, or whose meaning is not clear.
    """
    raw, width = dict[str, NDArray[Any]](), 0
    for split, labels in stored.items():
        raw[split], hot = _one_a_row(labels, lengths[split], notes)
        width = max(width, hot)
    texts = {split for split, labels in raw.items() if labels.dtype.kind == "U"}
    if texts and len(texts) < len(raw):
        other = next(split for split in raw if split not in texts)
        raise InputError(
            f"{stored[other].where}: found numbers, and names in {min(texts)}_labels, expected one "
            "of both; save all splits alike"
        )
    if texts:
        return _by_name(raw, names, ordered, stored, notes)
    if values is not None:
        return _by_value(raw, values, stored)
    found = {split: _whole(stored[split], labels) for split, labels in raw.items()}
    shift = _shift(found, max(known or 0, width) or None, first_label, notes)
    if shift:
        found = {split: labels - 1 for split, labels in found.items()}
    most = 1 + max((int(labels.max(initial=-1)) for labels in found.values()), default=-1)
    return Labels(found, None, max(most, width))


def _one_a_row(stored: Stored, rows: int, notes: list[str]) -> tuple[NDArray[Any], int]:
    """Return one label a row, numbers or texts, and the width of one-hot rows, else 0."""
    shape = stored.shape
    flat = len(shape) == 2 and 1 in shape and (shape[0] == rows or shape == (1, rows))
    if len(shape) == 2 and not flat and shape[0] == rows:
        return _from_one_hot(stored, notes), shape[1]
    if len(shape) != 1 and not flat:
        raise InputError(
            f"{stored.where}: found shape {shape}, expected one label a row, or one-hot rows"
        )
    if (found := shape[0] * (shape[1] if flat else 1)) != rows:
        raise InputError(f"{stored.where}: found {found} labels for {rows} rows")
    if stored.dtype.kind in TEXTS:
        texts = np.char.strip(stored.texts().reshape(-1))
        if len(texts) and all(WHOLE_TEXT.fullmatch(text) for text in texts.tolist()):
            return texts.astype(np.float64), 0
        return texts, 0
    return stored.whole(NUMBERS).reshape(-1), 0


def _from_one_hot(stored: Stored, notes: list[str]) -> Ints:
    """Return the place of the one 1 in each row.

    Raises:
        InputError: for rows with several, with none, or with other numbers.
    """
    labels, done = np.empty(stored.shape[0], np.int64), 0
    for block in stored.rows("b" + NUMBERS):
        binary = ((block == 0) | (block == 1)).all(axis=1)
        ones = (block == 1).sum(axis=1)
        for wrong, what, mend in (
            (~binary, "numbers other than 0 and 1", "give one label a row"),
            (ones != 1, f"rows of {stored.shape[1]} columns with other than one 1", "multi-label "
             "data is not supported: give one label a row"),
        ):  # fmt: skip
            if wrong.any():
                raise InputError(
                    f"{stored.where}: row {done + wrong.argmax()}: found {what}, expected one-hot "
                    f"rows; {mend}"
                )
        labels[done : done + len(block)] = block.argmax(axis=1)
        done += len(block)
    notes.append(f"{stored.name}: one-hot rows, taken as the column of the 1")
    return labels


def _whole(stored: Stored, values: NDArray[Any], below: float = MOST_CLASSES) -> Ints:
    """Return whole numbers from 0; floats that are exactly such are taken."""
    with np.errstate(invalid="ignore"):
        numbers = values.astype(np.int64)
    wrong = np.flatnonzero((numbers != values) | (numbers < 0))
    if len(wrong):
        raise InputError(
            f"{stored.where}: row {wrong[0]}: found {values[wrong[0]]}, expected a whole number "
            "from 0"
        )
    if numbers.max(initial=0) >= below:
        raise InputError(
            f"{stored.where}: row {numbers.argmax()}: found {numbers.max()}, expected a label "
            f"below {below}"
        )
    return numbers


def counts_of(stored: Stored) -> Ints:
    """Read training images per class.

    Raises:
        InputError: when they are no whole numbers from 0.
    """
    if len(stored.shape) != 1:
        raise InputError(f"{stored.where}: found shape {stored.shape}, expected one a class")
    return _whole(stored, stored.whole(NUMBERS), below=inf)


def _shift(
    found: Mapping[str, Ints], known: int | None, first_label: int | None, notes: list[str]
) -> bool:
    """Say whether labels count from 1; say it in a note where it is not asked for.

    Raises:
        InputError: when they were said to and have a 0, or one split does and another does not.
    """
    held = {split: np.unique(labels) for split, labels in found.items() if len(labels)}
    every = np.unique(np.concatenate([*held.values(), np.zeros(0, np.int64)]))
    if not len(every) or first_label == 0:
        return False
    least, most = int(every[0]), int(every[-1])
    if first_label == 1:
        if least == 0:
            raise SettingError("first_label", "found a label 0, expected labels from 1")
        return True
    if least == 0:
        _check_alike(held)
        return False
    if least == 1 and most == (len(every) if known is None else known):
        notes.append(f"labels count from 1 to {most}: taken as 0 to {most - 1}")
        return True
    return False


def _check_alike(held: Mapping[str, Ints]) -> None:
    """Refuse splits of which one counts all its classes from 0, another as many from 1."""
    from_0 = {s: len(v) for s, v in held.items() if v[0] == 0 and v[-1] == len(v) - 1}
    from_1 = {s: len(v) for s, v in held.items() if v[0] == 1 and v[-1] == len(v)}
    for split, count in from_1.items():
        other = next((s for s, n in from_0.items() if n == count and n > 1), None)
        if other is not None:
            raise SettingError(
                "first_label",
                f"found labels 1 to {count} in {split}, and 0 to {count - 1} in {other}; subtract "
                "1 of the former, or set it to 0 if they are right",
            )


def _by_name(
    raw: Mapping[str, NDArray[np.str_]],
    names: Sequence[str] | None,
    ordered: str | None,
    stored: Mapping[str, Stored],
    notes: list[str],
) -> Labels:
    """Return labels that are names as numbers: in the order of the names, where they are known.

    Raises:
        InputError: for a name that is none of them, and where their order is needed but not known.
    """
    present = sorted(set[str]().union(*(np.unique(labels).tolist() for labels in raw.values())))
    if names is None:
        if ordered == "coef_":  # scikit-learn sorts labels so
            names = present
        elif ordered is not None:
            raise SettingError(
                "names",
                f"absent; labels are names as {listed(present)}, and {ordered} has an order of "
                "classes that they do not tell; give the names in that order",
            )
        else:
            names = sorted(present, key=natural)
        notes.append(f"labels are names: {len(names)} classes in the order {listed(list(names))}")
    place = {name: number for number, name in enumerate(names)}
    found = {}
    for split, labels in raw.items():
        wrong = next((i for i, name in enumerate(labels.tolist()) if name not in place), None)
        if wrong is not None:
            name = str(labels[wrong])
            raise InputError(
                f"{stored[split].where}: row {wrong}: found {name!r:.60}, expected a name of a "
                f"class, as {listed(list(names)[:3])}"
            )
        found[split] = np.array([place[name] for name in labels.tolist()], np.int64)
    return Labels(found, tuple(names), len(names))


def _by_value(
    raw: Mapping[str, NDArray[Any]], values: Ints, stored: Mapping[str, Stored]
) -> Labels:
    """Return labels as the places of their values among those of the classes."""
    order = np.argsort(values)
    found = {}
    for split, labels in raw.items():
        numbers = _whole(stored[split], labels)
        place = np.searchsorted(values, numbers, sorter=order).clip(max=len(values) - 1)
        found[split] = order[place]
        wrong = np.flatnonzero(values[found[split]] != numbers)
        if len(wrong):
            raise InputError(
                f"{stored[split].where}: row {wrong[0]}: found {numbers[wrong[0]]}, which is none "
                f"of the {len(values)} values in classes_"
            )
    return Labels(found, tuple(map(str, values.tolist())), len(values))


def natural(text: str) -> list[tuple[int, int | str]]:
    """Return what sorts names with numbers in them as people do.

    Example:
        >>> sorted(["c10", "c2", "b"], key=natural)
        ['b', 'c2', 'c10']
    """
    parts = re.split(r"(\d{1,18})", text)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part]
