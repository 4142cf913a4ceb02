"""Features made elsewhere, in arrays of any usual kind of file, into a features file.

A room for each question: `opening` (which kind of file), `npy`, `tensors`, `tables` and `unpacked`
(how its arrays are read), `naming` (what they are called), `labels`, `heads` and `scores` (what
they mean). What is not clear is refused with the option that settles it; what is assumed is said.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.files.atomic import temporary_folder
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import SPLITS, ClassTable, Head, Ints, note_of_bins, stored_bins
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import heads, labels, opening, scores, unpacked
from ltkit.sources.arrays.stored import NUMBERS, Stored
from ltkit.untrusted.texts import lines


class _Read(NamedTuple):
    """What is known before features are gone through."""

    features: dict[str, Stored]
    labels: Mapping[str, Ints]
    classes: ClassTable
    head: Head | None


def import_arrays(
    path: Path | None,
    output: Path,
    *,
    splits: Mapping[str, Sequence[Path]] | None = None,
    head: Path | None = None,
    text_features: Path | None = None,
    names: tuple[str, ...] | None = None,
    settings: ImportSettings = ImportSettings(),  # noqa: B008 - it is frozen
    command: str = "",
) -> tuple[str, list[str]]:
    """Write arrays into a features file.

    Args:
        path: a file with ``train_features`` (N, D), ``train_labels`` (N,), likewise ``val_`` and
            ``test_``; ``weight`` (C, D) and ``bias`` (C,); optional ``<split>_ids``,
            ``class_names``, ``wnids``, ``train_counts``. None where `splits` has all.
        output: the features file.
        splits: files of single splits: features and labels, or one with both.
        head: a file of weight and bias.
        text_features: a file of class embeddings (C, D), which make a cosine head.
        names: C class names, instead of the file's.
        settings: what the arrays do not say themselves.
        command: recorded in the file.

    Returns:
        The file's digest, and what was assumed, in sentences.

    Raises:
        InputError: when arrays do not fit each other, or what they mean is not clear.
        FormatError: when a file is not sound.
    """
    notes, splits = list[str](), splits or {}
    files = {
        "arrays": path, "head": head, "text_features": text_features,
        **{f"{s}_{n}": file for s, several in splits.items() for n, file in enumerate(several)},
    }  # fmt: skip
    with temporary_folder(output) as folder:
        named = opening.named_arrays(path, splits, head, folder, settings, notes)
        source = path or next(iter(next(iter(splits.values()), ())), Path("arrays"))
        found = _read(source, named, text_features, folder, names, settings, notes)
        inputs = {role: _digest(file) for role, file in files.items() if file is not None}
        digest = _write(output, named, found, settings, inputs, command, notes)
        notes += note_of_bins(settings.bins, found.classes.train_count)
    return digest, notes


def _read(
    source: Path,
    named: Mapping[str, Stored],
    text_features: Path | None,
    folder: Path,
    names: tuple[str, ...] | None,
    settings: ImportSettings,
    notes: list[str],
) -> _Read:
    """Read all but the features."""
    features = {s: named[f"{s}_features"] for s in SPLITS if f"{s}_features" in named}
    if not features:
        raise InputError(f"{source}: found no features, expected train_features, val_ or test_")
    size = _feature_size(source, features, named)
    given, values = _names(named, names)
    weight, counted = named.get("weight"), named.get("train_counts")
    rows = None
    if weight is not None:
        rows = heads.num_classes(weight, size, settings, binary="coef" in weight.key)
    known = rows or (counted.shape[0] if counted is not None and counted.shape else None)
    found = labels.read(
        {split: named[f"{split}_labels"] for split in features},
        {split: stored.shape[0] for split, stored in features.items()},
        names=given, values=values, known=known or (len(given) if given else None),
        ordered=_ordered(weight, counted, text_features), first_label=settings.first_label,
        notes=notes,
    )  # fmt: skip
    least = max(found.num_classes, rows or len(given or ()))
    counts = _counts(source, counted, found.by_split, least, found.num_classes)
    classes = _classes(source, named, counts, given or found.names)
    _check_range(named, features, len(counts))
    _note_empty(found.by_split, counts, notes)
    head = _head(source, named, text_features, folder, (len(counts), size), settings, notes)
    _check_unpacked(features)
    return _Read(features, found.by_split, classes, head)


def _ordered(
    weight: Stored | None, counted: Stored | None, text_features: Path | None
) -> str | None:
    """Return what has an order of classes, if anything has."""
    if weight is not None:
        return weight.key.rpartition("/")[2]
    if text_features is not None:
        return "text_features"
    return None if counted is None else counted.name


def _head(
    source: Path,
    named: Mapping[str, Stored],
    text_features: Path | None,
    folder: Path,
    expected: tuple[int, int],
    settings: ImportSettings,
    notes: list[str],
) -> Head | None:
    if text_features is None:
        return heads.read(named, expected, settings, notes)
    if "weight" in named:
        raise InputError(f"{text_features}: found a weight in {source} too; name one of them")
    tables, _ = opening.arrays_of(text_features, folder, settings)
    return heads.of_texts(tables, expected, settings, notes)


def _check_unpacked(features: Mapping[str, Stored]) -> None:
    """Refuse features that would fill the disk."""
    for path in {stored.path for stored in features.values()}:
        of_file = [stored for stored in features.values() if stored.path == path]
        claimed = sum(math.prod(s.shape) * s.dtype.itemsize for s in of_file)
        unpacked.check_unpacked(path, path.stat().st_size, claimed)


def _feature_size(source: Path, features: Mapping[str, Stored], named: Mapping[str, Stored]) -> int:
    for split, stored in features.items():
        shape = stored.shape
        if len(shape) != 2 or not shape[1]:
            raise InputError(f"{stored.where}: found shape {shape}, expected (N, D)")
        if f"{split}_labels" not in named:
            raise InputError(
                f"{source}: {split}_labels: absent, expected one label a row of {split}_features"
            )
    sizes = {stored.shape[1] for stored in features.values()}
    if len(sizes) > 1:
        raise InputError(f"{source}: features: found {sorted(sizes)} columns, expected one size")
    return sizes.pop()


def _names(
    named: Mapping[str, Stored], names: tuple[str, ...] | None
) -> tuple[tuple[str, ...] | None, Ints | None]:
    """Return the classes' names, and the values of labels, in the order of the classes."""
    stored = named.get("class_names")
    if stored is None:
        return names, None
    if stored.key.rpartition("/")[2] == "classes_" and stored.dtype.kind in NUMBERS:
        return names, labels.counts_of(stored)
    return names or tuple(_texts(stored, None).tolist()), None


def _counts(
    source: Path, stored: Stored | None, found: Mapping[str, Ints], least: int, labelled: int
) -> Ints:
    """Return training images per class: those given, or counted."""
    if stored is not None:
        counts = labels.counts_of(stored)
        if len(counts) < labelled:
            raise InputError(
                f"{source}: train_counts: found {len(counts)}, expected one for each of "
                f"{labelled} classes"
            )
        return counts
    if "train" not in found:
        raise InputError(
            f"{source}: train_counts: absent; without train_labels it must say how many training "
            "images each class had"
        )
    return np.bincount(found["train"], minlength=least)


def _check_range(named: Mapping[str, Stored], features: Mapping[str, Stored], count: int) -> None:
    """Refuse labels of a type that ends before the last class."""
    for split in features:
        stored = named[f"{split}_labels"]
        kind, one_hot = stored.dtype, len(stored.shape) > 1 and 1 not in stored.shape
        if kind.kind in "iu" and not one_hot and np.iinfo(kind).max < count - 1:
            raise InputError(
                f"{stored.where}: found {kind}, which ends at {np.iinfo(kind).max}, for {count} "
                "classes; labels may have wrapped around, save them as int64"
            )


def _note_empty(found: Mapping[str, Ints], counts: Ints, notes: list[str]) -> None:
    """Say how many classes have neither a sample nor a count."""
    seen = np.bincount(np.concatenate(list(found.values())), minlength=len(counts)) + counts
    empty = np.flatnonzero(seen == 0)
    if len(empty):
        notes.append(f"{len(empty)} of {len(counts)} classes have no sample, as class {empty[0]}")


def _classes(
    source: Path, named: Mapping[str, Stored], counts: Ints, names: tuple[str, ...] | None
) -> ClassTable:
    if names is not None and len(names) != len(counts):
        stored = named.get("class_names")
        if stored is not None and stored.shape == (len(names),):
            raise InputError(
                f"{stored.where}: found shape {stored.shape}, expected {len(counts)} strings"
            )
        raise InputError(f"{source}: class names: found {len(names)}, expected {len(counts)}")
    if names is not None and len(set(names)) < len(names):
        twice = next(n for n, times in Counter(names).items() if times > 1)
        raise InputError(f"{source}: class names: found {twice!r} twice, expected each once")
    wnids = named.get("wnids")
    ids = None if wnids is None else tuple(_texts(wnids, len(counts)).tolist())
    return ClassTable(counts, names, ids)


def _texts(stored: Stored, count: int | None) -> NDArray[np.str_]:
    """Return texts, one a row."""
    if len(stored.shape) != 1 or count not in (None, stored.shape[0]):
        raise InputError(
            f"{stored.where}: found shape {stored.shape}, expected {count or 'C'} strings"
        )
    return stored.texts()


def _write(
    output: Path,
    named: Mapping[str, Stored],
    found: _Read,
    settings: ImportSettings,
    inputs: Mapping[str, str],
    command: str,
    notes: list[str],
) -> str:
    """Write the features file, features block by block; return its digest."""
    size = next(iter(found.features.values())).shape[1]
    change, head = _outputs(found, size, settings, named, notes)
    defaults = asdict(ImportSettings())
    changed = {k: v for k, v in asdict(settings).items() if v != defaults[k] or k == "dtype"}
    changed.pop("bins", None)
    changed |= stored_bins(settings.bins, found.classes.train_count)
    splits = {}
    for split, values in found.labels.items():
        ids = named.get(f"{split}_ids")
        splits[split] = SplitPlan(values, None if ids is None else _texts(ids, len(values)))
    width = size if head is None else head.feature_size
    plan = Plan(width, settings.dtype, splits, found.classes, head, changed, inputs)
    with FeaturesWriter(output, plan, command=command, resume=False) as writer, ExitStack() as undo:
        undo.callback(writer.abandon)
        for split, stored in found.features.items():
            for block in stored.rows(NUMBERS):
                writer.append(split, change(block))
        digest = writer.finish()
        undo.pop_all()
    return digest


def _outputs(
    found: _Read, size: int, settings: ImportSettings, named: Mapping[str, Stored],
    notes: list[str],
) -> tuple[scores.Change, Head | None]:  # fmt: skip
    """Return what is made of the features, and the head: the identity, of a model's outputs."""
    count, asked = len(found.classes), settings.scores
    if found.head is not None:
        if asked not in ("auto", "features"):
            raise SettingError("scores", f"found {asked} and a head, expected one of them")
        return scores.as_they_are, found.head
    sigmoid = asked == "sigmoid" and (size, count) == (1, 2)
    if asked == "features" or (size != count and not sigmoid):
        if asked not in ("auto", "features"):
            raise SettingError(
                "scores", f"found {asked}, but {size} columns for {count} classes; leave it out"
            )
        left_out = ", and bias is left out" if "bias" in named else ""
        notes.append(f"no weight: the file has no head{left_out}")
        return scores.as_they_are, None
    budget = next(iter(found.features.values())).budget
    if (room := 4 * count**2) > budget.most_bytes:
        raise InputError(
            f"{budget.path}: weight: absent, and for {count} logits an identity head would take "
            f"{room} bytes; add the weight, or train_labels of the classes that there are"
        )
    change = scores.of_outputs(found.features, asked, count, notes)
    if change is scores.as_they_are:
        notes.append("no weight, and as many features as classes: taken as logits, identity head")
    return change, Head(np.eye(count, dtype=np.float32), np.zeros(count, np.float32))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes, one a line, from a UTF-8 file; blank lines may follow.

    Raises:
        InputError: when it is no such file, or a name is blank.
    """
    names = list(lines(path, "names of classes, one a line"))
    while names and not names[-1].strip():
        names.pop()
    for number, name in enumerate(names, start=1):
        if not name.strip():
            raise InputError(f"{path}: line {number}: is blank, expected a class name; write it")
    return tuple(names)
