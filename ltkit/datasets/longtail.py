"""Making a balanced dataset long-tailed, and holding out validation images."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ltkit.errors import InputError
from ltkit.records import Ints

ValRule = Literal["balanced", "holdout", "none"]
Profile = Literal["exponential", "step", "pareto", "balanced"]

POWER = 6.0
"""Of the Pareto law that Liu et al. 2019 name for ImageNet-LT and Places-LT."""

BALANCED_VAL = 20
"""Validation images per class, as in ImageNet-LT and Places-LT."""

HOLDOUT_FRACTION = 0.2


@dataclass(frozen=True, eq=False)
class Draw:
    """Positions of the training and validation images, class by class."""

    train: Ints
    val: Ints | None


def exponential_counts(num_classes: int, max_count: int, imbalance_factor: float) -> Ints:
    """Return the long-tailed training count of each class.

    ``n_c = floor(n_max * IF^(-c / (C - 1)))``.

    Args:
        num_classes: C, at least 2.
        max_count: n_max, images of class 0.
        imbalance_factor: n_max / n_min, at least 1.

    Raises:
        InputError: for an imbalance factor below 1, or so large that a class is left empty.

    Example:
        >>> exponential_counts(10, 5000, 100).tolist()
        [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 4; their released code.
    """
    _check_factor(imbalance_factor, max_count)
    classes = np.arange(num_classes)
    counts = max_count * (1 / imbalance_factor) ** (classes / (num_classes - 1.0))
    kept: Ints = np.maximum(counts.astype(np.int64), 1)  # 49 * (1 / 49) is below 1
    return kept


def _check_factor(imbalance_factor: float, max_count: int) -> None:
    """Refuse an imbalance factor that would leave a class empty, or the last one the largest.

    Raises:
        InputError: see above.
    """
    if not 1 <= imbalance_factor <= max_count:
        raise InputError(
            f"ir: found {imbalance_factor:g}, expected an imbalance factor from 1 to {max_count}"
        )


def step_counts(num_classes: int, max_count: int, imbalance_factor: float) -> Ints:
    """Return the count of each class where the first half is large and the other small.

    Of an odd number of classes the one in the middle is small.

    Args:
        num_classes: C, at least 2.
        max_count: n_max, images of the large classes.
        imbalance_factor: n_max / n_min, at least 1.

    Raises:
        InputError: as `exponential_counts`.

    Example:
        >>> step_counts(5, 500, 100).tolist()
        [500, 500, 5, 5, 5]

    Source:
        Buda et al., 2018, arXiv:1710.05381, sec. 3.2; with half of the classes small, Cao et al.,
        NeurIPS 2019, arXiv:1906.07413, sec. 4.1.
    """
    _check_factor(imbalance_factor, max_count)
    counts = np.full(num_classes, max_count)
    counts[num_classes // 2 :] = max(int(max_count * (1 / imbalance_factor)), 1)
    return counts


def pareto_counts(num_classes: int, max_count: int, imbalance_factor: float) -> Ints:
    """Return the count of each class by a Pareto law of power 6, read at equal steps.

    ``n_c = floor(n_max * (1 + s * c / (C - 1))^-6``, where s is such that ``n_max / n_min`` is the
    imbalance factor. The law and its power are those that Liu et al. name; their lists were drawn
    at random from it, and this form, with a factor, is ours.

    Args:
        num_classes: C, at least 2.
        max_count: n_max, images of class 0.
        imbalance_factor: n_max / n_min, at least 1.

    Raises:
        InputError: as `exponential_counts`.

    Example:
        >>> pareto_counts(3, 640, 64).tolist()  # 640 / 1.5^6 is 56.19
        [640, 56, 10]

    Source:
        Liu et al., CVPR 2019, arXiv:1904.05160, sec. 4 (the law and its power).
    """
    _check_factor(imbalance_factor, max_count)
    slope = imbalance_factor ** (1 / POWER) - 1
    steps = 1 + slope * np.arange(num_classes) / (num_classes - 1.0)
    counts: Ints = np.floor(np.round(max_count * steps**-POWER, 6)).astype(np.int64)
    return counts


LONG_TAILED: dict[str, Callable[[int, int, float], Ints]] = {
    "exponential": exponential_counts, "step": step_counts, "pareto": pareto_counts,
}  # fmt: skip
"""The profiles with an imbalance factor."""


def profile_counts(
    profile: Profile, num_classes: int, max_count: int, imbalance_factor: float
) -> Ints:
    """Return each class's training count: long-tailed, or balanced in a set of equal size.

    ``balanced`` is the reference set of the relative accuracy, ``floor(N / C)`` images a class
    where N is the sum of the exponential counts.

    Args:
        profile: which of `LONG_TAILED`, or ``balanced``.
        num_classes: C, at least 2.
        max_count: n_max, images of class 0 of the long-tailed set.
        imbalance_factor: of the long-tailed set.

    Example:
        >>> profile_counts("balanced", 10, 5000, 100).tolist()  # 12406 in all
        [1240, 1240, 1240, 1240, 1240, 1240, 1240, 1240, 1240, 1240]

    Source:
        Zhang et al., 2021, arXiv:2110.04596, sec. 4 (the balanced set of relative accuracy).
    """
    if profile != "balanced":
        return LONG_TAILED[profile](num_classes, max_count, imbalance_factor)
    counts = exponential_counts(num_classes, max_count, imbalance_factor)
    return np.full(num_classes, counts.sum() // num_classes)


def draw(labels: Ints, counts: Ints, seed: int, val: ValRule, *, shuffled: bool = True) -> Draw:
    """Draw a long-tailed training set, and validation images.

    For each class in ascending order its positions are shuffled with NumPy's legacy generator,
    seeded once; the first ``counts[c]`` are kept, as the code released with LDAM-DRW does. With
    ``val="balanced"`` the next `BALANCED_VAL` of the shuffled positions are for validation; where
    fewer are left, the training images give up the missing ones. ``val="none"`` keeps exactly the
    published training set.

    Args:
        labels: (N,) labels of the balanced set.
        counts: (C,) training images to keep.
        seed: seed of the shuffle.
        val: which images are for validation.
        shuffled: whether to shuffle; else the first images of a class are kept.

    Returns:
        Positions in `labels`, class by class.

    Raises:
        InputError: when a class has fewer images than `counts` asks for.

    Example:
        >>> d = draw(np.array([0, 0, 0, 1, 1, 1]), np.array([2, 1]), seed=0, val="none")
        >>> d.train.tolist()
        [2, 1, 5]
    """
    rng = np.random.RandomState(seed)
    train, held_out = [], []
    for class_id, count in enumerate(counts):
        order = np.flatnonzero(labels == class_id)
        if len(order) < count:
            raise InputError(f"class {class_id}: found {len(order)} images, expected {count}")
        if shuffled:
            rng.shuffle(order)
        if val == "balanced":
            count = max(1, min(count, len(order) - BALANCED_VAL))
            held_out.append(order[count : count + BALANCED_VAL])
        train.append(order[:count])
    positions = np.concatenate(train)
    if val == "holdout":
        kept, out = hold_out(labels[positions], seed)
        return Draw(positions[kept], positions[out])
    return Draw(positions, np.concatenate(held_out) if val == "balanced" else None)


def hold_out(labels: Ints, seed: int) -> tuple[Ints, Ints]:
    """Split positions into a training and a validation part, stratified by class.

    Each class gives the nearest whole number to `HOLDOUT_FRACTION` of its images, so one of one
    or two images gives none.

    Args:
        labels: (N,).
        seed: seed of the shuffle.

    Returns:
        (positions kept, positions held out), ascending.

    Raises:
        InputError: when no class has the three images that giving one up takes.

    Example:
        >>> kept, out = hold_out(np.array([0] * 10 + [1]), seed=0)
        >>> len(kept), len(out)
        (9, 2)
    """
    rng = np.random.default_rng(seed)
    counts = np.unique(labels, return_counts=True)[1]
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    held_out = []
    for positions in by_class:
        order = rng.permutation(positions)
        held_out.append(order[: round(HOLDOUT_FRACTION * len(order))])
    out = np.sort(np.concatenate(held_out))
    if not len(out):
        raise InputError("val=holdout: found no class of 3 or more images; pass val=none")
    return np.setdiff1d(np.arange(len(labels)), out), out


def index_digest(*positions: Ints | None) -> str:
    """Return a digest of index lists that shows whether two runs saw the same images."""
    digest = hashlib.sha256()
    for part in positions:
        digest.update(b"-" if part is None else part.astype("<i8").tobytes() + b"|")
    return digest.hexdigest()[:16]
