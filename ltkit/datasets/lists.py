"""Datasets of image files: a folder a class, list files, a CSV."""

import csv
import gzip
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from ltkit.datasets import longtail
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, nearest
from ltkit.records import SPLITS, ClassTable, Dataset, ImageSplit, Ints

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's normalisation, which nearly every pretrained checkpoint uses."""

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


class Listing(NamedTuple):
    """Relative image paths and their labels."""

    paths: list[str]
    labels: Ints


def load_folder(root: Path, *, resize: int, crop: int, seed: int, val: str) -> Dataset:
    """Load ``root/<class>/...``, or ``root/<split>/<class>/...`` where such folders are.

    Classes are the sub-folders' names, sorted; of the train split where there are splits.
    """
    present = [s for s in SPLITS if (root / s).is_dir()]
    folders = {s: root / s for s in present} if "train" in present else {"train": root}
    names = tuple(sorted(p.name for p in folders["train"].iterdir() if p.is_dir()))
    if not names:
        raise InputError(f"{root}: found no sub-folder, expected one a class")
    listings = {}
    for split, folder in folders.items():
        extra = sorted({p.name for p in folder.iterdir() if p.is_dir()} - set(names))
        if extra:
            raise InputError(f"{folder}: class {extra[0]} is not in the train split")
        paths, labels = [], []
        for class_id, name in enumerate(names):
            for path in sorted((folder / name).rglob("*")):
                if path.suffix.lower() in SUFFIXES:
                    paths.append(path.relative_to(root).as_posix())
                    labels.append(class_id)
        listings[split] = Listing(paths, np.array(labels, dtype=np.int64))
    return _dataset(root, listings, len(names), names, None, resize, crop, seed, val)


def load_csv(path: Path, root: Path, *, resize: int, crop: int, seed: int, val: str) -> Dataset:
    """Load a CSV with a header and the columns ``path``, ``label`` and, if there, ``split``.

    Labels are whole numbers, or class names (then sorted).
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        fields = reader.fieldnames or []
        missing = {"path", "label"} - set(fields)
        if missing:
            raise InputError(
                f"{path}: found the columns {', '.join(fields) or 'none'}, expected path, label "
                "and, if there, split"
            )
        rows = list(reader)
    labels = [row["label"] or "" for row in rows]
    names = None
    if all(_is_label(label) for label in labels):
        numbers = [int(label) for label in labels]
    elif any(label.lstrip("-").isdigit() for label in labels):
        line = next(i for i, label in enumerate(labels, start=2) if not _is_label(label))
        raise InputError(f"{path}: line {line}: label {labels[line - 2]!r} is not a number from 0")
    else:
        names = tuple(sorted(set(labels)))
        index = {name: i for i, name in enumerate(names)}
        numbers = [index[label] for label in labels]
    listings = {}
    for split in SPLITS:
        chosen = [i for i, row in enumerate(rows) if (row.get("split") or "train") == split]
        if chosen:
            listings[split] = Listing(
                [rows[i]["path"] for i in chosen], np.array([numbers[i] for i in chosen])
            )
    unknown = sorted({row.get("split") or "train" for row in rows} - set(SPLITS))
    if unknown:
        raise InputError(f"{path}: split {unknown[0]!r}; {nearest(unknown[0], SPLITS)}")
    if "train" not in listings:
        raise InputError(f"{path}: found no training row, expected at least one a class")
    num_classes = max(numbers) + 1
    return _dataset(root, listings, num_classes, names, None, resize, crop, seed, val)


def load_lists(
    files: dict[str, Path],
    root: Path,
    *,
    resize: int,
    crop: int,
    seed: int,
    val: str,
    num_classes: int | None = None,
    wnids: tuple[str, ...] | None = None,
) -> Dataset:
    """Load list files, one a split, with a ``path label`` line an image.

    Args:
        files: split to list file; ``.gz`` is read too.
        root: what the paths in the lists are relative to.
        resize: shorter side in pixels.
        crop: side of the centre crop.
        seed: of the validation part, where there is no list for it.
        val: ``none`` for no validation split where there is no list for it.
        num_classes: C where known, else the greatest label + 1.
        wnids: C WordNet ids, where known.
    """
    listings = {split: read_list(path) for split, path in files.items()}
    found = 1 + max(int(listing.labels.max()) for listing in listings.values())
    if num_classes is not None and found > num_classes:
        raise InputError(
            f"{files['train']}: found label {found - 1}, expected 0..{num_classes - 1}"
        )
    return _dataset(root, listings, num_classes or found, None, wnids, resize, crop, seed, val)


def read_list(path: Path) -> Listing:
    """Read ``path label`` lines.

    Raises:
        InputError: for an empty list, or a line that is not a relative path and a label; the
            message names the line.
    """
    paths, labels = [], []
    opened = gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")
    with opened as file:
        for number, line in enumerate(file, start=1):
            name, _, label = line.strip().rpartition(" ")
            if not line.strip():
                continue
            if not name or not _is_label(label):
                raise InputError(
                    f"{path}: line {number}: found {line.strip()[:80]!r}, expected "
                    "'path label' with a whole label from 0"
                )
            paths.append(name)
            labels.append(int(label))
    if not paths:
        raise InputError(f"{path}: found no line, expected 'path label' lines")
    return Listing(paths, np.array(labels, dtype=np.int64))


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _dataset(
    root: Path,
    listings: dict[str, Listing],
    num_classes: int,
    names: tuple[str, ...] | None,
    wnids: tuple[str, ...] | None,
    resize: int,
    crop: int,
    seed: int,
    val: str,
) -> Dataset:
    kept = held_out = None
    if "val" not in listings and val != "none":
        train = listings["train"]
        kept, held_out = longtail.hold_out(train.labels, seed)
        listings = {**listings, "train": _take(train, kept), "val": _take(train, held_out)}
    splits = {}
    for split in SPLITS:
        if split in listings:
            paths, labels = listings[split]
            splits[split] = ImageSplit(
                ImageFiles(_safe_paths(root, paths), resize, crop), labels, np.array(paths)
            )
    return Dataset(
        splits,
        ClassTable(
            np.bincount(listings["train"].labels, minlength=num_classes), names, wnids
        ),
        mean=MEAN,
        std=STD,
        crop_padding=crop // 8,
        flip=True,
        record={"index_digest": longtail.index_digest(kept, held_out)},
    )


def _take(listing: Listing, positions: Ints) -> Listing:
    return Listing([listing.paths[i] for i in positions], listing.labels[positions])


def _safe_paths(root: Path, paths: Sequence[str]) -> list[Path]:
    for number, path in enumerate(paths, start=1):
        parts = PurePosixPath(path)
        if parts.is_absolute() or ".." in parts.parts:
            raise InputError(
                f"image {number}: path {path!r} leaves the folder {root}; expected a relative path"
            )
    return [root / path for path in paths]
