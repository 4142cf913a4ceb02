"""The last layer as people save it: rows or columns of classes, scikit-learn's, of class texts."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.narrowing import as_float32
from ltkit.records import Head
from ltkit.settings import ImportSettings
from ltkit.sources.arrays.stored import Stored

LARGEST = 1 << 14
"""Rows of a square weight that are looked at, to see whether it is its own transpose."""


def num_classes(
    weight: Stored, feature_size: int, settings: ImportSettings, *, binary: bool
) -> int | None:
    """Return how many classes a weight has rows or columns of; None where neither fits.

    Args:
        weight: (C, D), or (D, C).
        feature_size: D.
        settings: says which, where both are equal.
        binary: whether one row stands for two classes.

    Raises:
        InputError: when it is square, and nobody says which.
    """
    if len(weight.shape) != 2:
        return None
    rows, columns = weight.shape
    ask = settings.weight_rows is None and not _of_sklearn(weight) and not _is_symmetric(weight)
    if rows == columns == feature_size and ask:
        raise SettingError(
            "weight_rows",
            f"absent; {weight.where}: found {weight.shape}, a row for each class, or for each "
            "feature; say classes or features",
        )
    if _transposed(weight, feature_size, settings):
        return columns
    if columns != feature_size:
        return None
    return 2 if rows == 1 and binary else rows


def _of_sklearn(weight: Stored) -> bool:
    return weight.key.rpartition("/")[2] == "coef_"


def _is_symmetric(weight: Stored) -> bool:
    """Return whether a weight is its own transpose, so that nobody has to say which it is."""
    if len({*weight.shape}) > 1 or weight.shape[0] > LARGEST:
        return False
    values = np.concatenate(list(weight.rows()))
    return bool(np.array_equal(values, values.T))


def _transposed(weight: Stored, feature_size: int, settings: ImportSettings) -> bool:
    """Say whether a weight has a row for each feature."""
    rows, columns = weight.shape
    if rows == columns:
        return settings.weight_rows == "features"
    return rows == feature_size


def read(
    named: Mapping[str, Stored], expected: tuple[int, int], settings: ImportSettings,
    notes: list[str],
) -> Head | None:  # fmt: skip
    """Return the head that there is a weight of; None where there is none.

    Args:
        named: the arrays by ltkit's names.
        expected: (C, D).
        settings: how it is to be read.
        notes: takes what was assumed.

    Raises:
        InputError: when it does not fit, or float32 does not hold it.
    """
    if "weight" not in named:
        return None
    weight, count = named["weight"], expected[0]
    values = _oriented(weight, expected, settings, notes)
    binary = values.shape == (1, expected[1]) and count == 2
    if binary:
        notes.append("coef_ of two classes: its one row halved for the second, and turned round "
                     "for the first")  # fmt: skip
        values = np.concatenate([-values, values]) / 2
    if values.shape != expected:
        raise InputError(f"{weight.where}: found {weight.shape}, expected {expected}")
    bias = _bias(named.get("bias"), count, binary, notes)
    return Head(as_float32(values, weight.where), as_float32(bias, f"{weight.path}: bias"))


def _oriented(
    weight: Stored, expected: tuple[int, int], settings: ImportSettings, notes: list[str]
) -> NDArray[Any]:
    """Return rows of classes."""
    if len(weight.shape) != 2:
        raise InputError(f"{weight.where}: found {weight.shape}, expected {expected}")
    values = weight.whole()
    if not _transposed(weight, expected[1], settings):
        return values
    notes.append(f"{weight.name}: found {weight.shape}, a row for each feature: transposed")
    return values.T


def _bias(stored: Stored | None, count: int, binary: bool, notes: list[str]) -> NDArray[Any]:
    if stored is None:
        notes.append("no bias: taken as zeros")
        return np.zeros(count)
    shape = stored.shape
    sizes = [size for size in shape if size != 1]
    one = len(shape) <= 1 and not sizes
    if one and stored.dtype.kind in "iuf":  # of two classes, or scikit-learn's 0.0
        (piece,) = stored.pieces()
        value = float(piece.reshape(-1)[0])
        if binary:
            return np.array([-value, value]) / 2
        if not shape and not value:
            return np.zeros(count)
    if sizes != [count] and shape != (count,):
        raise InputError(f"{stored.where}: found {shape}, expected ({count},)")
    return stored.whole().reshape(-1)


def of_texts(
    found: Mapping[str, Stored], expected: tuple[int, int], settings: ImportSettings,
    notes: list[str],
) -> Head:  # fmt: skip
    r"""Return the zero-shot head of class embeddings: cosine, times a scale.

    .. math:: z_c = s \frac{f \cdot t_c}{\lVert f \rVert \lVert t_c \rVert}

    Args:
        found: the arrays of a file, one of them (C, D).
        expected: (C, D).
        settings: its scale, and how a square one is to be read.
        notes: takes what was assumed.

    Raises:
        InputError: when there is no such array, more than one, or one of another shape.

    Source:
        Radford et al., ICML 2021, arXiv:2103.00020, sec. 3.1.2; CLIP's learned scale ends at 100.
    """
    tables = {key: stored for key, stored in found.items() if len(stored.shape) == 2}
    for key in ("text_features", "weight"):
        if key in tables:
            tables = {key: tables[key]}
    if len(tables) != 1:
        keys = ", ".join(list(found)[:5])
        raise SettingError(
            "text_features",
            f"found {len(tables)} tables ({keys}), expected one of {expected}; call it "
            "text_features",
        )
    (stored,) = tables.values()
    stored.name = "text_features"
    num_classes(stored, expected[1], settings, binary=False)
    values = _oriented(stored, expected, settings, notes)
    if values.shape != expected:
        raise InputError(
            f"{stored.where}: found {stored.shape}, expected {expected}, a row for each class"
        )
    rows = as_float32(values, stored.where)
    if not rows.any(axis=1).all():
        raise InputError(
            f"{stored.where}: row {(~rows.any(axis=1)).argmax()}: found zeros alone, expected an "
            "embedding of the class; make it again"
        )
    return Head(rows, np.zeros(expected[0], np.float32), settings.scale, "cosine")
