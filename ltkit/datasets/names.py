"""What the names of folders, files and columns say: numbers, splits, what a system left behind."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from ltkit.errors import InputError

Order = Literal["natural", "text"]

ORDERS = ("natural", "text")

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""What people call the splits, in any case."""

MEANINGS = {name: split for split, names in SPLIT_NAMES.items() for name in names}

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".ppm", ".pgm", ".pbm",
     ".pnm", ".tif", ".tiff", ".gif")
)  # fmt: skip
"""Of the files that `images.FORMATS` decode; a .pfm of floats has no range, so none of these."""

SYSTEM = frozenset(
    ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found",
     "system volume information", "icon\r")
)  # fmt: skip
"""What file managers and archives leave in folders, beside names that start with a dot."""


def split_of(name: str) -> str | None:
    """Return the split that a name means, in any case; None for another name.

    Example:
        >>> split_of("Validation"), split_of("testing"), split_of("ant")
        ('val', 'test', None)
    """
    return MEANINGS.get(name.strip().lower())


def one_a_split(names: Iterable[str], where: str) -> dict[str, str]:
    """Return, for each split that some names mean, its name.

    Raises:
        InputError: when two names mean one split; both are named.

    Example:
        >>> one_a_split(["ant", "Train", "valid"], "pics")
        {'train': 'Train', 'val': 'valid'}
    """
    found: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split is not None and found.setdefault(split, name) != name:
            raise InputError(
                f"{where}: found {found[split]} and {name}, which both mean {split}, expected one; "
                "move the other away"
            )
    return found


def hidden(name: str) -> bool:
    """Tell whether a system left a file or folder there, which is no part of the data.

    Example:
        >>> [hidden(name) for name in (".ipynb_checkpoints", "._0000.png", "Thumbs.db", "ant")]
        [True, True, True, False]
    """
    return name.startswith(".") or name.lower() in SYSTEM


def natural(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """Return a key that sorts the numbers in names as numbers, and all else as text.

    Example:
        >>> sorted(["10", "9", "class_10", "class_2"], key=natural)
        ['9', '10', 'class_2', 'class_10']
    """
    key = []
    for piece in re.findall("[0-9]+|[^0-9]", name, re.DOTALL):
        digits = piece.lstrip("0") if piece.isascii() and piece.isdigit() else None
        key.append((piece, 0, "") if digits is None else ("0", len(digits), digits))
    return key, name


def in_order(names: Iterable[str], order: Order) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return different names in order, and a note where the other order would differ.

    Args:
        names: of classes.
        order: ``natural``, numbers as numbers; ``text``, as torchvision's ImageFolder and
            scikit-learn's LabelEncoder have them.

    Example:
        >>> in_order(["0", "10", "2"], "natural")[1][0][:53]
        'classes are in natural order (0, 2, 10); as text, whi'
    """
    by_number, by_text = sorted(names, key=natural), sorted(names)
    if by_number == by_text:
        return tuple(by_text), ()
    if order == "text":
        return tuple(by_text), (
            f"classes are in the order of text ({_some(by_text)}), as order=text asks",
        )
    return tuple(by_number), (
        f"classes are in natural order ({_some(by_number)}); as text, which is how torchvision's "
        f"ImageFolder sorts, they would be {_some(by_text)}: for a model of that order add "
        "order=text",
    )


def _some(names: Sequence[str]) -> str:
    """Return the first few names, and the last."""
    short = [name if len(name) <= 12 else f"{name[:11]}…" for name in names]
    return ", ".join(short if len(short) <= 5 else [*short[:4], "...", short[-1]])
