"""Folders of images, a sub-folder a class: what is read there, and what is left out."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.datasets.lists import Listing, dataset_of, shown
from ltkit.datasets.names import SUFFIXES, hidden, in_order, one_a_split, split_of
from ltkit.errors import InputError
from ltkit.records import SPLITS, Dataset

MOST_KINDS = 5
"""Kinds of files that a note names; the rest is counted."""


@dataclass
class Ignored:
    """What lies in folders of images and is not read.

    kinds: how many files of each suffix; hidden: what systems leave behind.
    folders: that are called as images are; links: to folders within a class.
    loose: images beside the folders of the classes.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    folders: int = 0
    links: int = 0
    loose: int = 0

    def note(self) -> tuple[str, ...]:
        """Return one line that counts it; none where there is nothing.

        Example:
            >>> Ignored(Counter({".txt": 2, ".json": 1}), hidden=2).note()[0]
            'ignored 3 files that are no images (.txt 2, .json 1) and 2 hidden ones'
        """
        ranked = sorted(self.kinds.items(), key=lambda item: (-item[1], item[0]))
        kinds = [f"{shown(kind)[:12] or 'no suffix'} {count}" for kind, count in ranked]
        if len(kinds) > MOST_KINDS:
            kinds[MOST_KINDS - 1 :] = [f"and {len(kinds) - MOST_KINDS + 1} kinds more"]
        files = self.kinds.total()
        that = "that are no images" if files > 1 else "that is no image"
        counted = [
            (files, f"{that} ({', '.join(kinds)})", "file"),
            (self.loose, "outside of the classes' folders", "image"),
            (self.folders, "called as an image is", "folder"),
            (self.links, "to other folders", "link"),
        ]
        parts = [f"{n} {what}{'s' * (n != 1)} {where}" for n, where, what in counted if n]
        if self.hidden:
            several = "s" * (self.hidden != 1)
            parts.append(f"{self.hidden} hidden {'one' if parts else 'file'}{several}")
        if not parts:
            return ()
        head = ", ".join(parts[:-1])
        return (f"ignored {head} and {parts[-1]}" if head else f"ignored {parts[0]}",)

    def file(self, name: str) -> None:
        """Count a file that is no image."""
        self.kinds[Path(name).suffix.lower()] += 1


def load_folder(root: Path, parameters: Mapping[str, Any], classes: Sequence[str] = ()) -> Dataset:
    """Load ``root/<class>/...``, or ``root/<split>/<class>/...`` where such folders are.

    Classes are the sub-folders' names in order; of the train split where there are splits. What a
    system left behind, and what is no image, is not read, but counted in a note.

    Args:
        root: the folder.
        parameters: of ``--data``; see `ltkit.datasets.load`.
        classes: the names of all classes, where the user states them; see `dataset_of`.

    Raises:
        InputError: when there is no class folder, no training split beside others, two folders of
            one split, splits within a class, or a class that is not in the training split.
    """
    ignored = Ignored()
    folders, notes = _splits(root, ignored)
    there = {split: _subfolders(folder, ignored) for split, folder in folders.items()}
    _check_trained(folders, there, classes)
    every = {name for split in there.values() for name in split}
    names, said = in_order(every, parameters["order"])
    listings = {
        split: _listing(folder, root, names, {*there[split]}, ignored)
        for split, folder in folders.items()
    }
    notes = (*notes, *map(shown, said), *ignored.note())
    named = tuple(map(shown, names))
    return dataset_of(root, listings, named, parameters, notes=notes, classes=classes)


def _check_trained(
    folders: Mapping[str, Path], there: Mapping[str, list[str]], stated: Sequence[str]
) -> None:
    """Refuse splits without classes to train, and a class that neither train nor the user has.

    Raises:
        InputError: see above.
    """
    if not there["train"]:
        raise InputError(f"{folders['train']}: found no sub-folder, expected one per class")
    for split, folder in folders.items():
        if extra := sorted({*there[split]} - {*there["train"], *stated}):
            raise InputError(
                f"{folder}: class {shown(extra[0])} is not in the train split; extract takes a "
                "class to test alone, if --classes FILE names it"
            )


def _listing(
    folder: Path, root: Path, names: tuple[str, ...], there: set[str], ignored: Ignored
) -> Listing:
    """Return the images of a split.

    Args:
        folder: of the split.
        root: what paths are relative to.
        names: of the classes.
        there: those that have a folder.
        ignored: counts what is not read.
    """
    paths: list[str] = []
    labels: list[int] = []
    for class_id, name in enumerate(names):
        if name in there:
            _refuse_splits_within(folder / name)
            found = images(folder / name, ignored)
            paths += [path.relative_to(root).as_posix() for path in found]
            labels += [class_id] * (len(paths) - len(labels))
    return Listing(folder, paths, np.array(labels, dtype=np.int64))


def _splits(root: Path, ignored: Ignored) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Return the folder of each split, and a note on those beside them.

    A folder that has the name of a split, but holds no folders while others lie beside it, is a
    class: ``valid`` beside ``invalid``, the vehicle ``train``.

    Raises:
        InputError: when splits are there but no training split, or two of one.
    """
    every = _subfolders(root, ignored, silent=True)
    named = [name for name in every if split_of(name)]
    others = [name for name in every if not split_of(name)]
    if len(named) == 1 and others and not _subfolders(root / named[0], ignored, silent=True):
        return {"train": root}, (
            f"{shown(named[0])}/ holds no folders, so it is taken as a class, not as a split",
        )
    if not named:
        if len(others) == 1 and len(_splits_in(root / others[0])) > 1:
            raise InputError(
                f"{root}: found the splits within {shown(others[0])}/; name that folder instead"
            )
        return {"train": root}, ()
    _subfolders(root, ignored)
    beside = f"ignored {len(others)} folder{'s' * (len(others) != 1)} beside the splits: "
    return _named(root, named), (beside + _first(others),) if others else ()


def _named(root: Path, names: list[str]) -> dict[str, Path]:
    """Return the folder of each split that names mean.

    Raises:
        InputError: when there is none of training images, or two of one split.
    """
    found = one_a_split(names, f"{root}")
    splits = {split: found[split] for split in SPLITS if split in found}
    if "train" not in splits:
        raise InputError(
            f"{root}: found {', '.join(splits.values())}/, expected train/ too; if they are "
            "classes, move all classes into a folder train/"
        )
    return {split: root / name for split, name in splits.items()}


def _first(names: list[str]) -> str:
    """Return the first few of some names."""
    return ", ".join(shown(name)[:30] for name in names[:3]) + ", ..." * (len(names) > 3)


def _splits_in(folder: Path) -> set[str]:
    """Return which splits the sub-folders of a folder mean."""
    return {
        split for name in _subfolders(folder, Ignored(), silent=True) if (split := split_of(name))
    }


def _refuse_splits_within(folder: Path) -> None:
    """Refuse a class whose images lie in splits, which would all be trained on.

    Raises:
        InputError: for such a class.
    """
    if len(splits := _splits_in(folder)) > 1:
        raise InputError(
            f"{folder}: found folders of {' and '.join(sorted(splits))} within a class, expected "
            "splits above the classes, as train/<class>/; move them, or name the images in a CSV"
        )


def _subfolders(folder: Path, ignored: Ignored, *, silent: bool = False) -> list[str]:
    """Return the folders in a folder, but hidden ones, sorted; count what else is there."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not hidden(entry.name) and entry.is_dir():
                found.append(entry.name)
            elif silent:
                continue
            elif hidden(entry.name):
                ignored.hidden += 1
            elif Path(entry.name).suffix.lower() in SUFFIXES:
                ignored.loose += 1
            else:
                ignored.file(entry.name)
    return sorted(found)


def images(folder: Path, ignored: Ignored) -> Iterator[Path]:
    """Give the images in a folder and the folders in it, sorted; count what else is there."""
    waiting = _entries(folder)
    while waiting:
        entry = waiting.pop()
        image = Path(entry.name).suffix.lower() in SUFFIXES
        if hidden(entry.name):
            ignored.hidden += 1
        elif not entry.is_dir():
            if image:
                yield Path(entry.path)
            else:
                ignored.file(entry.name)
        elif entry.is_symlink():
            ignored.links += 1
        else:
            ignored.folders += image
            waiting += _entries(Path(entry.path))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, the last name first."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name, reverse=True)
