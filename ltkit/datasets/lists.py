"""Datasets of image files by lists of them; what every dataset of image files is made of."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ltkit.datasets import longtail
from ltkit.datasets.images import ImageFiles, view_of
from ltkit.datasets.names import SPLIT_NAMES, split_of
from ltkit.errors import InputError
from ltkit.records import (
    SPLITS,
    ClassTable,
    Dataset,
    ImageSplit,
    ImageView,
    Ints,
    note_of_left_out,
)
from ltkit.untrusted.texts import in_array, lines

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's normalisation, which nearly every pretrained checkpoint uses."""

WNID = re.compile(r"n\d{8}")
"""ImageNet's folders are named by the WordNet ids of their classes."""

NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A label that is meant as a number: then all of a table are."""

MOST_PATH = 4096
"""Characters of a path, as systems have them."""

WHAT = "a list of images"

SEEN = "; a model that was trained on them has seen them: choose nothing on them for it"
"""End of the note on images that are held out, where it is not known to be trained without them."""


class Listing(NamedTuple):
    """Relative image paths and their labels; `source` is where they are listed, for messages."""

    source: Path
    paths: list[str]
    labels: Ints


def load_lists(
    listings: Mapping[str, Listing],
    root: Path,
    parameters: Mapping[str, Any],
    *,
    wnids: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """Make a dataset of list files, one a split; see `read_list`.

    Where each class has a folder of its own, the folders' names are the classes'.

    Args:
        listings: split to what its list holds.
        root: what the paths in the lists are relative to.
        parameters: of ``--data``; see `ltkit.datasets.load`.
        wnids: C WordNet ids, where known.
        notes: what the user should know.
        classes: the names of all classes, where the user states them; see `dataset_of`.

    Raises:
        InputError: when a class has no training image.
    """
    names = _folder_names([*listings.values()] if classes else [listings["train"]])
    return dataset_of(root, listings, names, parameters, wnids=wnids, notes=notes, classes=classes)


def beside(path: Path) -> dict[str, Path]:
    """Return the list of each split, given that for training: the others have its name but for it.

    Of its name the last ``train`` counts, one that is a word of its own before others.

    Args:
        path: the training list.

    Raises:
        InputError: when two files beside it mean one split; both are named.
    """
    found = {"train": path}
    if (around := _around(path.name)) is None:
        return found
    before, after = around
    for split in ("val", "test"):
        for file in _called(path, before, SPLIT_NAMES[split], after):
            if split not in found:
                found[split] = file
            elif not file.samefile(found[split]):
                raise InputError(
                    f"{path.parent}: found {found[split].name} and {file.name}, which both mean "
                    f"{split}, expected one beside {path.name}; move the other away"
                )
    return found


def renamed(path: Path, split: str) -> Path | None:
    """Return how the list of a split is called beside a training list; None for no such list.

    Example:
        >>> str(renamed(Path("strain_train.txt"), "val"))
        'strain_val.txt'
    """
    if (around := _around(path.name)) is None:
        return None
    return path if split == "train" else path.with_name(split.join(around))


def _around(name: str) -> tuple[str, str] | None:
    """Return what is before and after the word in a name that says that it is for training."""
    words = [*re.finditer("training|train", name, re.IGNORECASE)]
    if not words:
        return None
    word = ([word for word in words if _is_word(name, word)] or words)[-1]
    return name[: word.start()], name[word.end() :]


def _is_word(name: str, word: "re.Match[str]") -> bool:
    """Tell whether no letter is beside a word."""
    around = name[word.start() - 1 : word.start()] + name[word.end() : word.end() + 1]
    return not any(map(str.isalpha, around))


def _called(path: Path, before: str, names: tuple[str, ...], after: str) -> Iterator[Path]:
    """Give the files beside one that have a name, in any usual case, packed or not."""
    plain = after.removesuffix(".gz")
    for name in names:
        for written in (name, name.capitalize(), name.upper()):
            for end in (plain, f"{plain}.gz"):
                if (file := path.with_name(f"{before}{written}{end}")).is_file():
                    yield file


def as_training(path: Path) -> tuple[str, ...]:
    """Return a note where a file that is taken for training is called as another split is."""
    words = filter(None, re.split("[^a-z]+", path.name.lower()))
    split = next((found for word in words if (found := split_of(word))), "train")
    if split == "train":
        return ()
    return (
        f"{path.name} is taken as the training list, though its name says {split}; name the "
        "training list instead, which takes those beside it along",
    )


def read_list(path: Path, root: Path | None = None) -> Listing:
    """Read a list file, plain or ``.gz``, with a ``path label`` line an image.

    Args:
        path: the list.
        root: the folder of images, under which whole paths may lie.

    Raises:
        InputError: for an empty list, or a line that is not a path and a label; the message names
            the line.
    """
    paths, labels = [], []
    for number, whole in enumerate(lines(path, WHAT), start=1):
        line = whole.strip(" \t")
        if not line:
            continue
        *name, label = re.split(r"[ \t]+(?=[^ \t]*$)", line, maxsplit=1)
        class_id = as_label(label)
        if class_id is None:
            raise InputError(
                f"{path}: line {number}: found {line[:80]!r}, expected "
                "'path label' with a whole label from 0"
            )
        paths.append(relative(path, number, "".join(name), root))
        labels.append(class_id)
    if not paths:
        raise InputError(f"{path}: found no line, expected 'path label' lines")
    return Listing(path, paths, np.array(labels, dtype=np.int64))


def shown(name: str) -> str:
    """Return a file's name as text; bytes in it that are no UTF-8 become escapes."""
    return name.encode("utf-8", "backslashreplace").decode()


def as_label(text: str) -> int | None:
    """Return a label that is a whole number from 0, if it is one, however it is written.

    Example:
        >>> [as_label(text) for text in ("2", "2.0", "1.0e+01", "+3", "2.5", "-1", "x")]
        [2, 2, 10, 3, None, None, None]
    """
    if text.isascii() and text.isdigit():
        return int(text) if len(text) < 19 else None
    if len(text) > 60 or not NUMBER.fullmatch(text):
        return None
    value = float(text)
    return int(value) if 0 <= value < 2**53 and value.is_integer() else None


def relative(source: Path, line: int, path: str, root: Path | None = None) -> str:
    """Return a listed path as one within the folder of images, or refuse one that leaves it.

    Raises:
        InputError: see above.
    """
    if len(path) > MOST_PATH:
        raise InputError(
            f"{source}: line {line}: found a path of {len(path)} characters, expected at most "
            f"{MOST_PATH}; correct the line"
        )
    parts = path.split("/")
    if path.startswith("/") and root is not None and ".." not in parts and "\0" not in path:
        for folder in (root.absolute(), root.resolve()):
            if Path(path).is_relative_to(folder) and Path(path) != folder:
                return Path(path).relative_to(folder).as_posix()
    if not parts[0] or ".." in parts or "\0" in path:
        raise InputError(
            f"{source}: line {line}: path {path[:150]!r}, expected one relative to the folder of "
            "images, without '..', or a whole one under --root"
        )
    return path


def _folder_names(listings: Sequence[Listing]) -> tuple[str, ...] | None:
    """Return the folder of each class's images, where each class has one of its own."""
    found = set[tuple[int, str]]()
    for listing in listings:
        folders = (path.rpartition("/")[0].rpartition("/")[2] for path in listing.paths)
        found |= {*zip(listing.labels.tolist(), folders, strict=True)}
    pairs = sorted(found)
    labels, names = zip(*pairs, strict=True)
    one_each = all(names) and labels == (*range(len(set(names))),) and len(pairs) > 1
    return names if one_each else None


def dataset_of(
    root: Path,
    listings: Mapping[str, Listing],
    names: tuple[str, ...] | None,
    parameters: Mapping[str, Any],
    *,
    wnids: tuple[str, ...] | None = None,
    notes: tuple[str, ...] = (),
    classes: Sequence[str] = (),
) -> Dataset:
    """Make a dataset of listed images.

    Args:
        root: what the paths are relative to.
        listings: split to what it holds; ``train`` among them.
        names: C class names, where known.
        parameters: of ``--data``: how images are seen, and what is held out for validation.
        wnids: C WordNet ids, where known.
        notes: what the user should know.
        classes: the names of all classes, where the user states them: those may have no training
            image.

    Raises:
        InputError: for a split without images, and a class without a training image.
    """
    count, empty = _check_classes(listings, names, classes)
    if wnids is None and names and all(WNID.fullmatch(name) for name in names):
        wnids = names
    listings, rule, said = _validated(listings, parameters["val"], parameters["seed"])
    splits = {
        split: _split(listings[split], root, parameters) for split in SPLITS if split in listings
    }
    table = ClassTable(np.bincount(listings["train"].labels, minlength=count), names, wnids)
    if len(empty):
        said = (*said, note_of_left_out(table, empty, "it is tested, but nothing learns it"))
    return Dataset(
        splits,
        table,
        mean=MEAN,
        std=STD,
        crop_padding=_view(parameters).crop // 8,
        flip=True,
        record={"val": rule, "index_digest": _digest(listings)},
        notes=(*notes, *said),
    )


def _split(listing: Listing, root: Path, parameters: Mapping[str, Any]) -> ImageSplit:
    """Return the images of a split."""
    files = [root / path for path in listing.paths]
    ids = in_array([shown(path) for path in listing.paths], f"{listing.source}: paths")
    return ImageSplit(ImageFiles(files, _view(parameters)), listing.labels, ids)


def _view(parameters: Mapping[str, Any]) -> ImageView:
    """Return how the pictures are brought to size, as far as ``--data`` says."""
    return view_of(parameters["resize"], parameters["crop"])


def _check_classes(
    listings: Mapping[str, Listing], names: tuple[str, ...] | None, stated: Sequence[str]
) -> tuple[int, Ints]:
    """Return the number of classes, and those without a training image.

    Raises:
        InputError: for a split without images, and for such a class that the user does not state.
    """
    for listing in listings.values():
        if not listing.paths:
            raise InputError(f"{listing.source}: found no image")
    train = listings["train"]
    present = np.unique(train.labels)
    most = 1 + max(int(listing.labels.max()) for listing in listings.values())
    num_classes = max(len(names or ()), most)
    known = {*stated} & {*names} if names else range(len(stated))
    empty = np.setdiff1d(np.arange(min(num_classes, len(present) + len(known) + 1)), present)
    called = dict(enumerate(names or ()))
    for absent in empty.tolist():
        if called.get(absent, absent) not in known:
            raise InputError(
                f"{train.source}: found no training image of class {called.get(absent, absent)}, "
                f"expected at least one of each of the {num_classes} classes; extract takes a "
                "class to test alone, if --classes FILE names it"
            )
    return num_classes, empty


def _validated(
    listings: Mapping[str, Listing], rule: str, seed: int
) -> tuple[Mapping[str, Listing], str, tuple[str, ...]]:
    """Return the splits with their validation part, where it is from, and a note.

    Raises:
        InputError: when there is too little to hold out.
    """
    if "val" in listings:
        return listings, "list", ()
    train = listings["train"]
    if rule != "holdout":
        note = (
            f"there is no val split (val=none), all {len(train.paths)} training images count; "
            "val=holdout makes one of a fifth of them, which a model trained on all has seen"
        )
        return listings, "none", (note,)
    kept, held_out = longtail.hold_out(train.labels, seed)
    note = (
        f"val=holdout: {len(held_out)} of the {len(train.paths)} training images are val, and not "
        f"counted as training images{SEEN}"
    )
    split = {**listings, "train": _take(train, kept), "val": _take(train, held_out)}
    return split, "holdout", (note,)


def _take(listing: Listing, positions: Ints) -> Listing:
    paths = [listing.paths[i] for i in positions]
    return Listing(listing.source, paths, listing.labels[positions])


def _digest(listings: Mapping[str, Listing]) -> str:
    """Return a digest of what is for training and what for validation, as `index_digest` does."""
    digest = hashlib.sha256()
    for split in ("train", "val"):
        if split in listings:
            _, paths, labels = listings[split]
            text = "\n".join([split, *map(shown, paths), ""])
            digest.update(text.encode() + labels.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
