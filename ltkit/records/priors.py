"""How often each class occurs where a classifier is used: in words, numbers or a file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import numerals
from ltkit.errors import InputError, SettingError
from ltkit.numerals import Range, shown
from ltkit.records.by_class import values_by_class

Shares = NDArray[np.float64]

WORDS = ("uniform", "train", "test", "inverse")
TAILS = ("forward", "backward")
RATIO = Range(1, 10**6)
WEIGHT = Range(0)
SUM = 1e-3
"""Allowed distance of a file's shares from the sum 1."""


def in_words(said: str) -> bool:
    """Say whether a prior is said in words, and not by a number for each class."""
    return said in WORDS or said.partition(":")[0] in TAILS


def names_file(said: str) -> bool:
    """Say whether a prior is said by the name of a file."""
    try:
        return not in_words(said) and Path(said).is_file()
    except OSError:  # numbers that are longer than any name
        return False


def class_prior(
    said: str,
    train_counts: NDArray[Any],
    *,
    name: str = "prior",
    test_counts: NDArray[Any] | None = None,
    class_names: Sequence[str] | None = None,
) -> Shares:
    r"""Return the (C,) share of each class, which sum to 1.

    .. math:: \pi_c \propto R^{-r_c / (C - 1)}

    is ``forward:R``, with the rank r of a class by training count, the largest 0, and of equal
    counts the lower class id first; ``backward:R`` counts ranks from the other end.

    Args:
        said: ``uniform``; ``train`` or ``test``, as in that split; ``inverse``, in proportion to
            one over the training count; ``forward:R`` or ``backward:R``; C numbers,
            comma-separated, in proportion to which; or a file with a line ``class<TAB>weight`` for
            each class: shares that sum to 1, or whole counts.
        train_counts: (C,) training images per class.
        name: of the setting, for messages.
        test_counts: (C,) samples of the split that is judged; None: there is none, so no ``test``.
        class_names: (C,) names, for a file; None: ids.

    Raises:
        SettingError: when it is none of these, or needs counts that there are not.
        InputError: for a file that says something else.

    Example:
        >>> class_prior("forward:4", np.array([5, 90, 20])).round(3).tolist()  # 1, 2, 4 of 7
        [0.143, 0.571, 0.286]
        >>> class_prior("3,1", np.array([5, 5])).tolist()
        [0.75, 0.25]

    Source:
        Hong et al., CVPR 2021, arXiv:2012.00321, sec. 4.2 (test sets shifted forward and backward).
    """
    word, _, ratio = said.partition(":")
    if said in WORDS:
        return _of_counts(said, train_counts, test_counts, name)
    if word in TAILS:
        return _tail(word, ratio, train_counts, name)
    if names_file(said):
        return _of_file(Path(said), class_names or tuple(map(str, range(len(train_counts)))))
    weights = [numerals.read(text, WEIGHT) for text in said.split(",", numerals.ITEMS)]
    if None in weights:
        raise SettingError(
            name,
            f"found {shown(said, always=True)}, expected numbers, as 3,1,2, or one of "
            f"{', '.join(WORDS)}, forward:50, backward:50, or a file",
        )
    if len(weights) != len(train_counts) or not any(weights):
        raise SettingError(
            name,
            f"found {len(weights)} numbers, expected {len(train_counts)} positive ones, one "
            "per class",
        )
    return _shares(np.array(weights))


def as_text(shares: Shares) -> str:
    """Return shares as numbers that `class_prior` reads.

    Example:
        >>> as_text(np.array([0.75, 0.25]))
        '0.75,0.25'
    """
    return ",".join(f"{share:.9g}" for share in shares)


def _shares(weights: NDArray[Any]) -> Shares:
    shares: Shares = weights / weights.sum()
    return shares


def _of_counts(said: str, train: NDArray[Any], test: NDArray[Any] | None, name: str) -> Shares:
    """Return the shares that counts of samples say.

    Raises:
        SettingError: when there are none, or one is 0 that is divided by.
    """
    if said == "uniform":
        return np.full(len(train), 1 / len(train))
    if said == "test":
        if test is None:
            raise SettingError(
                name, "found test, whose labels nothing may be fitted to; give a file of shares"
            )
        return _shares(test)
    empty = np.flatnonzero(train == 0)
    if len(empty) and (said == "inverse" or len(empty) == len(train)):
        raise SettingError(
            name,
            f"found {said}, and no training image of class {empty[0]}; {len(empty)} such classes; "
            "give a file of shares",
        )
    return _shares(1 / train if said == "inverse" else train)


def _tail(word: str, text: str, counts: NDArray[Any], name: str) -> Shares:
    """Return the shares of a long tail in the order of training counts, or against it.

    Raises:
        SettingError: for a ratio out of range, or counts that give no order.
    """
    ratio = numerals.read(text, RATIO)
    if ratio is None:
        raise SettingError(
            name, f"found {word}:{shown(text)}, expected {RATIO} after {word}:, as {word}:50"
        )
    size = len(counts)
    if size > 1 and ratio > 1 and not np.ptp(counts):
        raise SettingError(
            name,
            f"found {word}, which goes by training counts, and all are {counts[0]:g}; give a file "
            "of shares",
        )
    rank = np.empty(size)
    rank[np.argsort(-counts, kind="stable")] = np.arange(size)
    if word == "backward":
        rank = size - 1 - rank
    return _shares(ratio ** (-rank / max(1, size - 1)))


def _of_file(path: Path, class_names: Sequence[str]) -> Shares:
    """Return the shares that a file gives.

    Raises:
        InputError: for a weight that is no number, or a wrong sum.
    """
    texts = values_by_class(path, class_names, "weight")
    weights = np.empty(len(texts))
    for class_id, text in enumerate(texts):
        value = numerals.read(text, WEIGHT)
        if value is None:
            raise InputError(
                f"{path}: class {class_names[class_id][:60]!r}: found {shown(text)}, expected a "
                "share or a count, at least 0"
            )
        weights[class_id] = value
    total = float(weights.sum())
    counted = total > 0 and bool((weights == np.floor(weights)).all())
    if not counted and abs(total - 1) > SUM:
        raise InputError(
            f"{path}: found weights with sum {total:.6g}, expected shares that sum to 1, or whole "
            "counts; divide them by their sum"
        )
    return _shares(weights)
