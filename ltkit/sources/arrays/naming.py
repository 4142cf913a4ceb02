"""What arrays are called: ltkit's names, those of other programs, and those the user says."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from ltkit.errors import InputError, SettingError, nearest
from ltkit.records import SPLITS
from ltkit.sources.arrays.stored import Stored

OF_SPLITS = {
    "features": ("features", "feats", "embeddings", "emb", "x"),
    "labels": ("labels", "label", "targets", "target", "class", "y"),
    "ids": ("ids", "paths", "filenames"),
}
"""What a split has, and what others call it."""

LABELS = OF_SPLITS["labels"]

SPLIT_WORDS = {
    "train": ("train", "training"), "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}  # fmt: skip

OF_MODEL = {
    "weight": ("weight", "coef", "fc_weight", "head_weight", "classifier_weight", "linear_weight"),
    "bias": ("bias", "intercept", "fc_bias", "head_bias", "classifier_bias", "linear_bias"),
    "class_names": ("class_names", "classes", "label_names", "target_names"),
    "wnids": ("wnids",),
    "train_counts": ("train_counts", "class_counts", "cls_num_list"),
}

KNOWN = (*(f"{s}_{what}" for s in SPLITS for what in OF_SPLITS), *OF_MODEL)
"""ltkit's own names."""

NAMED = {
    **{
        name: f"{split}_{what}"
        for split, words in SPLIT_WORDS.items() for what, others in OF_SPLITS.items()
        for word in words for other in others
        for name in (f"{word}_{other}", f"{other}_{word}", f"{word}{other}", f"{other}{word}")
    },
    **{name: what for what, others in OF_MODEL.items() for name in others},
}  # fmt: skip
"""Names in small letters, words joined by underscores, and what they mean."""

TOLD = 5
"""Arrays that a note names."""


def split_of(text: str) -> str | None:
    """Return the split that a word means.

    Example:
        >>> split_of(" Validation"), split_of("all")
        ('val', None)
    """
    word = text.strip().lower()
    return next((split for split, words in SPLIT_WORDS.items() if word in words), None)


def meaning(key: str) -> str | None:
    """Return ltkit's name for an array that others call so, None where it is not known.

    Example:
        >>> meaning("X_train"), meaning("emb/val"), meaning("coef_"), meaning("mean")
        ('train_features', 'val_features', 'weight', None)
    """
    return NAMED.get(re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_"))


def recognised(
    found: Mapping[str, Stored], path: Path, keys: Mapping[str, str], notes: list[str], *,
    strict: bool = False,
) -> dict[str, Stored]:  # fmt: skip
    """Return the arrays of a file by ltkit's names.

    Args:
        found: the arrays of a file, by its names.
        path: the file.
        keys: ltkit's names to those in the file, as the user says.
        notes: takes what was assumed.
        strict: refuse an array that is not known, which is left out otherwise.

    Raises:
        InputError: for a name or key that is not known, and two arrays of one meaning.
    """
    named = dict[str, Stored]()
    for name, key in keys.items():
        if name not in KNOWN:
            raise SettingError("keys", f"{name}: unknown; {nearest(name, KNOWN)}")
        if key not in found:
            raise SettingError("keys", f"{name}: {path} has no {key}; {nearest(key, found)}")
        named[name] = found[key]
    others, asked = list[str](), set(keys.values())
    for key, stored in found.items():
        known = meaning(key)
        if key in asked or known in keys:
            continue
        if known is None:
            if strict:
                raise InputError(f"{path}: {key}: unknown array; {nearest(key, KNOWN)}")
            others.append(key)
        elif known in named:
            raise InputError(
                f"{path}: found {named[known].key} and {key}, either as {known}; say which with "
                f"--keys {known}={key}"
            )
        else:
            named[known] = stored
    if others:
        notes.append(f"{path}: left out {len(others)} other arrays: {listed(others)}")
    for name, stored in named.items():
        if stored.key != name:
            notes.append(f"{path}: {stored.key} taken as {name}")
        stored.name = name
    return named


def of_one_split(
    files: Iterable[Mapping[str, Stored]], split: str, paths: Iterable[Path]
) -> dict[str, Stored]:
    """Return the arrays of the files of one split by ltkit's names.

    A file with one array is the features, a second one the labels; arrays of a file with several
    are known by their names.

    Raises:
        InputError: when features or labels are absent, or there twice.
    """
    named = dict[str, Stored]()
    paths = list(paths)
    for place, found in enumerate(files):
        for key, stored in found.items():
            what = _part(key) if len(found) > 1 else _part(key) or _by_place(place)
            if what is None:
                continue
            name = f"{split}_{what}"
            if name in named:
                raise InputError(
                    f"{stored.path}: {key or 'its array'}: found {name} in {named[name].path} too; "
                    "name it once"
                )
            named[name], stored.name = stored, name
    for what in ("features", "labels"):
        if f"{split}_{what}" not in named:
            raise SettingError(
                split,
                f"{', '.join(map(str, paths))}: found no {what}, expected X.npy,y.npy, or a file "
                "with both under these names",
            )
    return named


def _part(key: str) -> str | None:
    word = re.sub(r"[^a-z0-9]+", "_", key.lower()).strip("_")
    return next((what for what, others in OF_SPLITS.items() if word in others), None)


def _by_place(place: int) -> str | None:
    return ("features", "labels")[place] if place < 2 else None


def listed(names: list[str]) -> str:
    """Return some names in a line.

    Example:
        >>> listed(list("abcdefg"))
        'a, b, c, d, e and 2 more'
    """
    shown = ", ".join(name[:40] for name in names[:TOLD])
    return shown + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")
