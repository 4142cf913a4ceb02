"""Local pseudo-attributes: which a class has, how balanced they are, which images share one."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError, nearest
from ltkit.records import FeatureSet, FeatureSplit, Rows
from ltkit.settings import RANGES

Floats = NDArray[np.float64]

Order = Literal["share", "cosine"]
"""What images that share an attribute are ordered by."""


@dataclass(frozen=True, eq=False)
class Profiles:
    """The attributes of a split's classes.

    of: (C, K) mean shares of each class's images; NaN for a class without any.
    mean: (K,) the mean over classes. overall: (K,) the mean over images.
    """

    of: Floats
    mean: Floats
    overall: Floats


def local_of(features: FeatureSet, split: str) -> tuple[FeatureSplit, Rows]:
    """Return a split and its (N, K) shares.

    Raises:
        InputError: when there is no such split, it has no images, or no shares.
    """
    found = features.split(split)
    if found.local is None:
        raise InputError(
            f"{features.source}: found no shares in local prototypes; extract it with --local"
        )
    if not len(found):
        raise InputError(f"{features.source}: {split}: found no images; name another split")
    return found, found.local


def profiles(features: FeatureSet, split: str) -> Profiles:
    """Return the attributes of a split's classes, read block by block.

    Raises:
        InputError: as `local_of`.
    """
    found, local = local_of(features, split)
    sums = np.zeros((len(features.classes), local.shape[1]))
    for rows in found.slices():  # of the shares alone; the features are not read
        np.add.at(sums, found.labels[rows], local[rows].astype(np.float64))
    counts = np.bincount(found.labels, minlength=len(sums)).astype(float)
    with np.errstate(invalid="ignore"):
        of = sums / counts[:, None]
    return Profiles(of, np.nanmean(of, axis=0), sums.sum(axis=0) / counts.sum())


def gini(shares: Floats) -> float:
    """Return the Gini coefficient of shares: 0 if all are the same, near 1 if one has all.

    Example:
        >>> gini(np.array([1.0, 1.0])), gini(np.array([0.0, 0.0, 0.0, 1.0]))
        (0.0, 0.75)
    """
    count = len(shares)
    weights = 2 * np.arange(1, count + 1) - count - 1
    return float(weights @ np.sort(shares) / (count * shares.sum()))


def evenness(shares: Floats) -> float | None:
    """Return the entropy of shares over that of equal ones, 0 to 1; None for a single one.

    Example:
        >>> evenness(np.array([2.0, 2.0])), evenness(np.array([3.0, 0.0]))
        (1.0, 0.0)
    """
    if len(shares) < 2:
        return None
    parts = shares[shares > 0] / shares.sum()
    return float(abs(parts @ np.log(parts))) / float(np.log(len(shares)))


def _balance(shares: Floats) -> dict[str, Any]:
    """Return how balanced shares are: they themselves, the largest first, and two figures."""
    parts = np.sort(shares / shares.sum())[::-1]
    return {
        "count": len(parts), "gini": gini(parts), "evenness": evenness(parts),
        "shares": parts.tolist(),
    }  # fmt: skip


def analyze_attributes(
    features: FeatureSet, *, split: str = "train", top: int = 3
) -> dict[str, Any]:
    """Return which pseudo-attributes classes have, and how balanced these are beside the classes.

    A class's attributes are those whose mean share in its images is most above the mean over
    classes. Classes are shares of the images, attributes of their positions.

    Args:
        features: with shares in local prototypes.
        split: whose images.
        top: attributes of each class.

    Raises:
        InputError: as `local_of`. SettingError: for ``top`` out of range.
    """
    found, _ = local_of(features, split)
    if top not in RANGES["k"]:
        raise SettingError("top", f"found {top}, expected {RANGES['k']}")
    made, counts = profiles(features, split), np.bincount(
        found.labels, minlength=len(features.classes)
    )  # fmt: skip
    rows = [
        {
            "class": c, "name": features.classes.name(c), "images": int(counts[c]),
            "train_count": int(features.classes.train_count[c]),
            "attributes": _most(made.of[c], made.mean, top),
        }
        for c in np.flatnonzero(counts).tolist()
    ]  # fmt: skip
    return {
        "schema": "ltkit.analyze-attributes/1", "features": features.source, "split": split,
        "n": len(found), "attributes": made.of.shape[1], "classes": rows,
        "balance": {"classes": _balance(counts[counts > 0].astype(float)),
                    "attributes": _balance(made.overall)},
    }  # fmt: skip


def _most(shares: Floats, mean: Floats, top: int) -> list[dict[str, Any]]:
    order = np.argsort(mean - shares, kind="stable")[:top]
    return [
        {"attribute": k, "share": float(shares[k]), "above_mean": float(shares[k] - mean[k])}
        for k in order.tolist()
    ]


def nearest_images(
    features: FeatureSet,
    *,
    split: str = "train",
    image: str | None = None,
    of_class: str | None = None,
    by: Order = "share",
    count: int = 8,
) -> dict[str, Any]:
    """Return the images that share the most characteristic attribute of an image, or of a class.

    It is the attribute whose share is most above the mean over classes. Of a class, the images of
    other classes are searched.

    Args:
        features: with shares in local prototypes.
        split: whose images, the given one among them.
        image: its id, or its row.
        of_class: a class's name, or its number.
        by: ``share``: those with most positions in the attribute come first; ``cosine``: of those
            whose most characteristic attribute it is, too, those whose shares are most alike.
        count: most images.

    Raises:
        SettingError: for no image and no class, both, one that is not there, or a count out of
            range.
        InputError: as `local_of`.

    Source:
        Kim, Ke, Yu, local pseudo-attributes, 2022, figure 3.
    """
    found, local = local_of(features, split)
    if (image is None) == (of_class is None):
        raise SettingError("image", "expected an image, or else a class")
    if count not in RANGES["k"]:
        raise SettingError("count", f"found {count}, expected {RANGES['k']}")
    made = profiles(features, split)
    if of_class is not None:
        c = _class(features, of_class)
        shares, own = made.of[c], np.flatnonzero(found.labels == c)
        if not len(own):
            said = f"{of_class}: found no image in {split}; name another class, or split"
            raise SettingError("class", said)
    else:
        row = _row(found, str(image))
        shares, own = local[row : row + 1][0].astype(np.float64), np.array([row])
    attribute = int(np.argmax(shares - made.mean))
    hits = _ranked(found, local, shares, made.mean, attribute, own, by, count)
    example = int(own[0]) if image is not None else _example(found, local, own, attribute)
    return {
        "schema": "ltkit.nearest-images/1", "features": features.source, "split": split,
        "of": "image" if of_class is None else "class", "by": by,
        "attribute": attribute, "share": float(shares[attribute]),
        "mean": float(made.mean[attribute]),
        "query": _described(features, found, example)
        | {"share": float(local[example : example + 1][0, attribute])},
        "images": [_described(features, found, row) | more for row, more in hits],
    }  # fmt: skip


def _ranked(
    found: FeatureSplit,
    local: Rows,
    shares: Floats,
    mean: Floats,
    attribute: int,
    own: NDArray[np.int64],
    by: Order,
    count: int,
) -> list[tuple[int, dict[str, float]]]:
    """Return rows of the images that come first, with their shares and cosines."""
    best = np.zeros((0, 3))  # share, cosine, row
    for rows in found.slices():
        values = local[rows].astype(np.float64)
        norms = np.linalg.norm(values, axis=1) * np.linalg.norm(shares)
        every = np.arange(len(found))[rows]
        block = np.column_stack([values[:, attribute], values @ shares / norms, every])
        fits = ~np.isin(every, own) & (values[:, attribute] > 0)
        if by == "cosine":
            fits &= (values - mean).argmax(axis=1) == attribute
        best = np.concatenate([best, block[fits]])
        first, second = (0, 1) if by == "share" else (1, 0)
        best = best[np.lexsort((best[:, 2], -best[:, second], -best[:, first]))][:count]
    return [(int(row), {"share": s, "cosine": min(c, 1.0)}) for s, c, row in best.tolist()]


def _example(found: FeatureSplit, local: Rows, own: NDArray[np.int64], attribute: int) -> int:
    """Return the row of a class's image with the largest share of an attribute."""
    shares = np.concatenate([local[row : row + 1][:, attribute] for row in own.tolist()])
    return int(own[np.argmax(shares)])


def _described(features: FeatureSet, found: FeatureSplit, row: int) -> dict[str, Any]:
    c = int(found.labels[row])
    return {
        "row": row, "id": None if found.ids is None else str(found.ids[row]), "class": c,
        "name": features.classes.name(c), "train_count": int(features.classes.train_count[c]),
    }  # fmt: skip


def _class(features: FeatureSet, text: str) -> int:
    """Return a class by its name, or its number."""
    names = list(features.classes.names or map(str, range(len(features.classes))))
    if text in names:
        return names.index(text)
    if text.isdecimal() and text.isascii() and len(text) < 10 and int(text) < len(names):
        return int(text)
    raise SettingError("class", f"found {text[:60]!r}; {nearest(text, names)}")


def _row(found: FeatureSplit, text: str) -> int:
    """Return the row of an image by its id, or its row's number."""
    if found.ids is not None and len(rows := np.flatnonzero(found.ids == text)):
        return int(rows[0])
    if text.isdecimal() and text.isascii() and len(text) < 19 and int(text) < len(found):
        return int(text)
    like = "" if found.ids is None else f" as {str(found.ids[0])[:60]!r},"
    said = f"found {text[:60]!r}, expected an id,{like} or a row from 0 to {len(found) - 1}"
    raise SettingError("image", said)
