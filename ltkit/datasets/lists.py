"""Datasets of image files: a folder a class, list files, a CSV."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ltkit.datasets import longtail
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, nearest
from ltkit.records import SPLITS, ClassTable, Dataset, ImageSplit, Ints

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's normalisation, which nearly every pretrained checkpoint uses."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}

WNID = re.compile(r"n\d{8}")
"""ImageNet's folders are named by the WordNet ids of their classes."""


class Listing(NamedTuple):
    """Relative image paths and their labels; `source` is where they are listed, for messages."""

    source: Path
    paths: list[str]
    labels: Ints


def load_folder(root: Path, *, resize: int, crop: int, seed: int, val: str) -> Dataset:
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
        raise InputError(f"{folders['train']}: found no sub-folder, expected one a class")
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


def load_csv(path: Path, root: Path, *, resize: int, crop: int, seed: int, val: str) -> Dataset:
    """Load a CSV with a header and the columns ``path``, ``label`` and, if there, ``split``.

    Labels are whole numbers, or class names (then sorted).

    Raises:
        InputError: for a column that is absent, or a row that does not fit; the message names it.
    """
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), restval="")
    try:
        fields = reader.fieldnames or []
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: not readable as CSV ({error})") from None
    if not {"path", "label"} <= {*fields}:
        raise InputError(
            f"{path}: found the columns {', '.join(fields) or 'none'}, expected path, label and, "
            "if there, split"
        )
    numbered = any(_is_label(row["label"]) for _, row in rows)
    names = None if numbered else tuple(sorted({row["label"] for _, row in rows}))
    class_ids = {name: class_id for class_id, name in enumerate(names or ())}
    listed: dict[str, list[tuple[str, int]]] = {}
    for line, row in rows:
        split, label = row.get("split") or "train", row["label"]
        if split not in SPLITS:
            raise InputError(f"{path}: line {line}: split {split!r}; {nearest(split, SPLITS)}")
        if not label or (numbered and not _is_label(label)):
            expected = "a whole number from 0" if numbered else "a class name"
            raise InputError(f"{path}: line {line}: label: found {label!r}, expected {expected}")
        class_id = int(label) if numbered else class_ids[label]
        listed.setdefault(split, []).append((_relative(path, line, row["path"]), class_id))
    if "train" not in listed:
        raise InputError(f"{path}: found no training row, expected at least one a class")
    listings = {
        split: Listing(path, [name for name, _ in pairs], np.array([label for _, label in pairs]))
        for split, pairs in listed.items()
    }
    return _dataset(root, listings, names, None, resize, crop, seed, val)


def load_lists(
    listings: dict[str, Listing],
    root: Path,
    *,
    resize: int,
    crop: int,
    seed: int,
    val: str,
    wnids: tuple[str, ...] | None = None,
) -> Dataset:
    """Make a dataset of list files, one a split; see `read_list`.

    Where each class has a folder of its own, the folders' names are the classes'.

    Args:
        listings: split to what its list holds.
        root: what the paths in the lists are relative to.
        resize: shorter side in pixels.
        crop: side of the centre crop.
        seed: of the validation part, where there is no list for it.
        val: ``none`` for no validation split where there is no list for it.
        wnids: C WordNet ids, where known.

    Raises:
        InputError: when a class has no training image.
    """
    names = _folder_names(listings["train"])
    return _dataset(root, listings, names, wnids, resize, crop, seed, val)


def read_list(path: Path) -> Listing:
    """Read a list file, plain or ``.gz``, with a ``path label`` line an image.

    Raises:
        InputError: for an empty list, or a line that is not a relative path and a label; the
            message names the line.
    """
    paths, labels = [], []
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not _is_label(label):
            raise InputError(
                f"{path}: line {number}: found {line.strip()[:80]!r}, expected "
                "'path label' with a whole label from 0"
            )
        paths.append(_relative(path, number, name))
        labels.append(int(label))
    if not paths:
        raise InputError(f"{path}: found no line, expected 'path label' lines")
    return Listing(path, paths, np.array(labels, dtype=np.int64))


def _read_text(path: Path) -> str:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a list of images ({error})") from error


def _shown(name: str) -> str:
    """Return a file's name as text; bytes in it that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19  # fits in 64 bits


def _relative(source: Path, line: int, path: str) -> str:
    """Return a listed path, or refuse one that leaves the folder of images."""
    parts = path.split("/")
    if not parts[0] or ".." in parts or "\0" in path:
        raise InputError(
            f"{source}: line {line}: path {path!r}, expected one relative to the folder of images, "
            "without '..'"
        )
    return path


def _folder_names(train: Listing) -> tuple[str, ...] | None:
    """Return the folder of each class's images, where each class has one of its own."""
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
    resize: int,
    crop: int,
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
    splits = {}
    for split in SPLITS:
        if split in listings:
            _, paths, labels = listings[split]
            files = ImageFiles([root / path for path in paths], resize, crop)
            splits[split] = ImageSplit(files, labels, np.array([_shown(path) for path in paths]))
    return Dataset(
        splits,
        ClassTable(np.bincount(listings["train"].labels), names, wnids),
        mean=MEAN,
        std=STD,
        crop_padding=crop // 8,
        flip=True,
        record={"val": rule, "index_digest": _digest(listings)},
    )


def _take(listing: Listing, positions: Ints) -> Listing:
    paths = [listing.paths[i] for i in positions]
    return Listing(listing.source, paths, listing.labels[positions])


def _digest(listings: dict[str, Listing]) -> str:
    """Return a digest of what is for training and what for validation, as `index_digest` does."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        if split in listings:
            _, paths, labels = listings[split]
            text = "\n".join([split, *map(_shown, paths), ""])
            digest.update(text.encode() + labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
