"""A dataset's classes in another order: that of a network's head.

The order of folders says nothing of the order in which a network was trained. Where the
checkpoint, or the user, states the names of its classes, they decide which label is which.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ltkit.errors import InputError
from ltkit.numerals import shown
from ltkit.records import ClassTable, Dataset, Ints
from ltkit.untrusted.texts import lines

WHAT = "names of classes"


def read_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes in the order of the head, one on a line.

    Raises:
        InputError: for a file without a name, an empty line between names, or a name twice.
    """
    names = [line.strip() for line in lines(path, WHAT)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise InputError(f"{path}: found no name, expected one per line, in the order of the head")
    for number, name in enumerate(names, start=1):
        if not name:
            raise InputError(f"{path}: line {number}: found no name, expected one per line")
    _check_once(names, str(path))
    return tuple(names)


def in_order(dataset: Dataset, names: Sequence[str], source: str) -> tuple[Dataset, str]:
    """Return a dataset with its classes in a given order, and what to tell the user.

    Classes without images that the names have are there with none.

    Args:
        dataset: with names, or WordNet ids, of its classes.
        names: of all classes, in the order that is wanted.
        source: who states the order, for messages.

    Raises:
        InputError: when the dataset has a class that is not among the names, or no names to go by.
    """
    own = _known_as(dataset.classes, names)
    if own is None:
        return dataset, _unnamed(dataset, names, source)
    place = {name: number for number, name in enumerate(names)}
    absent = [name for name in own if name not in place]
    if absent:
        raise InputError(
            f"{source}: found no class {shown(absent[0])} among its {len(names)} ({names[0][:40]}, "
            f"...), which {dataset.record['spec']} has; say with --classes FILE the names of the "
            "data's classes in the order of the head"
        )
    new = np.array([place[name] for name in own])
    if len(names) == len(own) and (new == np.arange(len(own))).all():
        return dataset, ""
    moved = replace(
        dataset,
        splits={
            name: replace(split, labels=new[split.labels]) for name, split in dataset.splits.items()
        },
        classes=_table(dataset.classes, names, own, new),
        record={**dataset.record, "class_order": source},
    )
    empty = len(names) - len(own)
    said = f"classes are in the order of {source}, not that of {dataset.record['spec']}"
    return moved, said + f"; {empty} of them without images here" * bool(empty)


def _known_as(classes: ClassTable, names: Sequence[str]) -> tuple[str, ...] | None:
    """Return the dataset's names of the kind that is given: names, or WordNet ids."""
    known = [own for own in (classes.names, classes.wnids) if own is not None]
    if not known:
        return None
    wanted = {*names}
    return max(known, key=lambda own: sum(name in wanted for name in own))


def _unnamed(dataset: Dataset, names: Sequence[str], source: str) -> str:
    """Return a note on labels that are numbers, which are taken as the head's.

    Raises:
        InputError: when there are more of them than names.
    """
    if len(dataset.classes) > len(names):
        raise InputError(
            f"{source}: found {len(names)} names, expected {len(dataset.classes)}, one for each "
            f"class of {dataset.record['spec']}"
        )
    return ""


def _table(classes: ClassTable, names: Sequence[str], own: Sequence[str], new: Ints) -> ClassTable:
    """Return the class table in the new order; a column that does not cover all is left out."""
    count = np.zeros(len(names), dtype=np.int64)
    count[new] = classes.train_count
    whole, back = len(names) == len(own), np.argsort(new)

    def column(values: Sequence[str] | None) -> tuple[str, ...] | None:
        if values is own:
            return tuple(names)
        return tuple(values[here] for here in back) if values is not None and whole else None

    called = column(classes.names) or tuple(names)
    return ClassTable(count, called, column(classes.wnids), column(classes.coarse))


def _check_once(names: Sequence[str], source: str) -> None:
    seen = set[str]()
    for name in names:
        if name in seen:
            raise InputError(f"{source}: found {shown(name)} twice, expected each class once")
        seen.add(name)
