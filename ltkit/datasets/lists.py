"""Datasets of image files: a folder per class, list files, or a CSV."""

import csv
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltkit.datasets import longtail
from ltkit.datasets.images import ImageFiles, view_of
from ltkit.errors import InputError, nearest
from ltkit.records import SPLITS, ClassTable, Dataset, ImageSplit, Ints
from ltkit.untrusted.texts import in_array, lines

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's normalisation, which nearly every pretrained checkpoint uses."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}

WNID = re.compile(r"n\d{8}")
"""ImageNet's folders are named by the WordNet ids of their classes."""


NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)
"""A numeric label; if one label is numeric, all labels of a table must be."""

MOST_PATH = 4096
"""Most characters of a path, as in operating systems."""

WHAT = "a list of images"


class Row(NamedTuple):
    """A row of a CSV, and the line where it ends."""

    line: int
    path: str
    label: str
    split: str


class Listing(NamedTuple):
    """Relative image paths and their labels; `source` is their list file, for messages."""

    source: Path
    paths: list[str]
    labels: Ints


def load_folder(
    root: Path, *, resize: int | None, crop: int | None, seed: int, val: str
) -> Dataset:
    """Load ``root/<class>/...``, or ``root/<split>/<class>/...`` where such folders are.

    Classes are the sub-folders' names, sorted; of the train split where there are splits.

    Raises:
        InputError: when there is no class folder, no training split beside others, or a class that
            is not in the training split.
    """
    folders = {s: root / s for s in SPLITS if (root / s).is_dir()} or {"train": root}
    if "train" not in folders:
        raise InputError(f"{root}: found {', '.join(folders)}/, expected train/ too")
    names = _subfolders(folders["train"])
    if not names:
        raise InputError(f"{folders['train']}: found no sub-folder, expected one per class")
    listings = {}
    for split, folder in folders.items():
        extra = sorted({*_subfolders(folder)} - {*names})
        if extra:
            raise InputError(f"{folder}: class {extra[0]} is not in the train split")
        paths, labels = [], []
        for class_id, name in enumerate(names):
            for path in sorted((folder / name).rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    paths.append(path.relative_to(root).as_posix())
                    labels.append(class_id)
        listings[split] = Listing(folder, paths, np.array(labels, dtype=np.int64))
    shown = tuple(map(_shown, names))
    return _dataset(root, listings, shown, None, resize, crop, seed, val)


def load_csv(
    path: Path, root: Path, *, resize: int | None, crop: int | None, seed: int, val: str
) -> Dataset:
    """Load a CSV with a header and the columns ``path``, ``label`` and, if there, ``split``.

    Labels are whole numbers, or class names (then sorted).

    Raises:
        InputError: for a column that is absent, or a row that does not fit; the message names it.
    """
    rows = _table(path)
    numbered = any(NUMBER.fullmatch(row.label) for row in rows)
    names = None if numbered else tuple(sorted({row.label for row in rows}))
    class_ids = {name: class_id for class_id, name in enumerate(names or ())}
    listed: dict[str, tuple[list[str], list[int]]] = {}
    for row in rows:
        class_id = _whole(row.label) if numbered else class_ids[row.label] if row.label else None
        if class_id is None:
            expected = "a whole number from 0" if numbered else "a class name"
            raise InputError(
                f"{path}: line {row.line}: label: found {row.label[:80]!r}, expected {expected}"
            )
        paths, labels = listed.setdefault(row.split, ([], []))
        paths.append(row.path)
        labels.append(class_id)
    if "train" not in listed:
        raise InputError(f"{path}: found no training row, expected at least one per class")
    listings = {
        split: Listing(path, paths, np.array(labels)) for split, (paths, labels) in listed.items()
    }
    return _dataset(root, listings, names, None, resize, crop, seed, val)


def _table(path: Path) -> list[Row]:
    """Read the rows of a CSV; without a split they are for training."""
    reader = csv.reader((f"{line}\n" for line in lines(path, WHAT)), strict=True)
    rows: list[Row] = []
    texts: dict[str, str] = {}  # labels and splits stand once each, however many rows have them
    try:
        fields = [field.strip() for field in next(reader, [])]
        places = _columns(fields, path)
        for cells in reader:
            if not any(map(str.strip, cells)):
                continue
            line = reader.line_num
            if len(cells) > len(fields) or (places[2] or 0) >= len(cells):
                raise InputError(
                    f"{path}: line {line}: found {len(cells)} columns, expected {len(fields)}; put "
                    "quotes around what has a comma, and a comma before an empty split"
                )
            cells += [""] * (len(fields) - len(cells))
            name, label, split = (cells[at] if at is not None else "" for at in places)
            label, split = label.strip(), split.strip() or "train"
            if split not in SPLITS:
                raise InputError(f"{path}: line {line}: split {split!r}; {nearest(split, SPLITS)}")
            label, split = texts.setdefault(label, label), texts.setdefault(split, split)
            rows.append(Row(line, _relative(path, line, name), label, split))
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num}: not readable as CSV ({error}); look for a quote "
            "without its end"
        ) from None
    return rows


def _columns(fields: list[str], path: Path) -> tuple[int, int, int | None]:
    """Return the positions of the columns path, label and, if present, split."""
    if not {"path", "label"} <= {*fields}:
        raise InputError(
            f"{path}: found the columns {', '.join(fields)[:80] or 'none'}, expected path, label "
            "and, if there, split"
        )
    for name in ("path", "label", "split"):
        if fields.count(name) > 1:
            raise InputError(f"{path}: found {name} as {fields.count(name)} columns, expected one")
    return (
        fields.index("path"), fields.index("label"),
        fields.index("split") if "split" in fields else None,
    )  # fmt: skip


def load_lists(
    listings: dict[str, Listing],
    root: Path,
    *,
    resize: int | None,
    crop: int | None,
    seed: int,
    val: str,
    wnids: tuple[str, ...] | None = None,
) -> Dataset:
    """Make a dataset from list files, one per split; see `read_list`.

    Where each class has a folder of its own, the folders' names are the classes'.

    Args:
        listings: split to what its list holds.
        root: what the paths in the lists are relative to.
        resize: shorter side in pixels; None: as usual for the crop.
        crop: side of the centre crop; None: as usual.
        seed: of the validation part, where there is no list for it.
        val: ``none`` for no validation split where there is no list for it.
        wnids: C WordNet ids, where known.

    Raises:
        InputError: when a class has no training image.
    """
    names = _folder_names(listings["train"])
    return _dataset(root, listings, names, wnids, resize, crop, seed, val)


def read_list(path: Path) -> Listing:
    """Read a list file, plain or ``.gz``, with one ``path label`` line per image.

    Raises:
        InputError: for an empty list, or a line that is not a relative path and a label; the
            message names the line.
    """
    paths, labels = [], []
    for number, whole in enumerate(lines(path, WHAT), start=1):
        line = whole.strip(" \t")
        if not line:
            continue
        name, _, label = line.rpartition(" ")
        class_id = _whole(label)
        if class_id is None:
            raise InputError(
                f"{path}: line {number}: found {line[:80]!r}, expected "
                "'path label' with a whole label from 0"
            )
        paths.append(_relative(path, number, name))
        labels.append(class_id)
    if not paths:
        raise InputError(f"{path}: found no line, expected 'path label' lines")
    return Listing(path, paths, np.array(labels, dtype=np.int64))


def _shown(name: str) -> str:
    """Return a file name as text; bytes that are not UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))


def _whole(text: str) -> int | None:
    """Return a label as a whole number from 0, if it is one; 2.0 is 2."""
    digits = text.rstrip("0").removesuffix(".") if "." in text else text
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None


def _relative(source: Path, line: int, path: str) -> str:
    """Return a listed path, or refuse one that leaves the folder of images."""
    if len(path) > MOST_PATH:
        raise InputError(
            f"{source}: line {line}: found a path of {len(path)} characters, expected at most "
            f"{MOST_PATH}; correct the line"
        )
    parts = path.split("/")
    if not parts[0] or ".." in parts or "\0" in path:
        raise InputError(
            f"{source}: line {line}: path {path!r}, expected one relative to the folder of images, "
            "without '..'"
        )
    return path


def _folder_names(train: Listing) -> tuple[str, ...] | None:
    """Return the folder of each class's images, if each class has its own."""
    folders = (path.rpartition("/")[0].rpartition("/")[2] for path in train.paths)
    pairs = sorted(set(zip(train.labels.tolist(), folders, strict=True)))
    labels, names = zip(*pairs, strict=True)
    one_each = all(names) and labels == (*range(len(set(names))),) and len(pairs) > 1
    return names if one_each else None


def _dataset(
    root: Path,
    listings: dict[str, Listing],
    names: tuple[str, ...] | None,
    wnids: tuple[str, ...] | None,
    resize: int | None,
    crop: int | None,
    seed: int,
    val: str,
) -> Dataset:
    for listing in listings.values():
        if not listing.paths:
            raise InputError(f"{listing.source}: found no image")
    train = listings["train"]
    present = np.unique(train.labels)
    most = 1 + max(int(listing.labels.max()) for listing in listings.values())
    num_classes = max(len(names or ()), most)
    if len(present) < num_classes:
        absent = int(np.setdiff1d(np.arange(len(present) + 1), present)[0])
        named = dict(enumerate(names or ())).get(absent, absent)
        raise InputError(
            f"{train.source}: found no training image of class {named}, "
            f"expected at least one of each of the {num_classes} classes"
        )
    if wnids is None and names and all(WNID.fullmatch(name) for name in names):
        wnids = names
    rule = "list" if "val" in listings else val
    if rule == "holdout":
        kept, held_out = longtail.hold_out(train.labels, seed)
        listings = {**listings, "train": _take(train, kept), "val": _take(train, held_out)}
    splits, view = {}, view_of(resize, crop)
    for split in SPLITS:
        if split in listings:
            _, paths, labels = listings[split]
            files = ImageFiles([root / path for path in paths], view)
            ids = in_array([_shown(path) for path in paths], f"{listings[split].source}: paths")
            splits[split] = ImageSplit(files, labels, ids)
    return Dataset(
        splits,
        ClassTable(np.bincount(listings["train"].labels), names, wnids),
        mean=MEAN,
        std=STD,
        crop_padding=view.crop // 8,
        flip=True,
        record={"val": rule, "index_digest": _digest(listings)},
    )


def _take(listing: Listing, positions: Ints) -> Listing:
    paths = [listing.paths[i] for i in positions]
    return Listing(listing.source, paths, listing.labels[positions])


def _digest(listings: dict[str, Listing]) -> str:
    """Return a digest of the training and validation images, as `index_digest` does."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        if split in listings:
            _, paths, labels = listings[split]
            text = "\n".join([split, *map(_shown, paths), ""])
            digest.update(text.encode() + labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
