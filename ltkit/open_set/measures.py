"""How well a score tells new samples from known ones, and what that costs the known ones."""

from collections.abc import Sequence
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation.resampling import interval
from ltkit.records import Ints

Z2 = 1.959963984540054**2
"""Square of the normal quantile of two-sided 95 % intervals."""

NOVEL = -1
"""The class of what is taken for novel, as in OLTR."""

Floats = NDArray[np.float64]


def auroc(known: Floats, outsiders: Floats) -> tuple[float, list[float]]:
    """Return the chance that an outsider has the greater score, and its 95 % interval.

    It is Wilson's interval, of as many samples as give DeLong's variance: so one of a perfect score
    has a length, too.

    Args:
        known: (N,) scores of known samples.
        outsiders: (M,) scores of others.

    Example:
        >>> value, ends = auroc(np.array([1.0, 2.0]), np.array([2.0, 3.0]))
        >>> value, [round(end, 2) for end in ends]  # 3 of 4 pairs, and half of one
        (0.875, [0.37, 0.99])

    Source:
        DeLong et al., Biometrics 44, 1988; Korn and Graubard, Survey Methodology 24, 1998.
    """
    above = 1 - _below(np.sort(outsiders), known)  # (N,) share of outsiders above each
    below = _below(np.sort(known), outsiders)  # (M,)
    value = float(below.mean())
    variance = sum(float(v.var(ddof=1)) / len(v) for v in (above, below) if len(v) > 1)
    odds, most = value * (1 - value), min(len(known), len(outsiders))
    n = odds / variance if variance > 0 and odds > 0 else most
    centre, half = (value + Z2 / (2 * n)), sqrt(Z2 * (odds / n + Z2 / (4 * n * n)))
    ends = ((centre - half) / (1 + Z2 / n), (centre + half) / (1 + Z2 / n))
    return round(value, 12), [round(max(ends[0], 0.0), 12), round(min(ends[1], 1.0), 12)]


def _below(ordered: Floats, values: Floats) -> Floats:
    """Return what share of ordered values is below each value; equal ones count half."""
    left, right = np.searchsorted(ordered, values), np.searchsorted(ordered, values, "right")
    share: Floats = (left + right) / (2 * len(ordered))
    return share


def threshold_keeping(known: Floats, kept: float) -> float:
    """Return the least score that at least a share of known samples does not exceed.

    Example:
        >>> threshold_keeping(np.arange(1.0, 21.0), 0.95)
        19.0
    """
    return float(np.sort(known)[_place(len(known), kept)])


def _place(size: int, kept: float) -> int:
    return max(ceil(kept * size - 1e-9) - 1, 0)


def false_positives(
    known: Floats, outsiders: Floats, kept: float, *, replicates: int, seed: int
) -> tuple[float, list[float | None]]:
    """Return the share of outsiders that are taken for known, and its 95 % interval.

    The threshold keeps a share of the known samples, and is uncertain itself: in a bootstrap, the
    order statistic's place is a draw from a beta distribution, and so nothing is sorted anew.

    Example:
        >>> value, ends = false_positives(
        ...     np.arange(20.0), np.array([3.0, 30.0]), 0.95, replicates=100, seed=0
        ... )
        >>> value, ends
        (0.5, [0.0, 1.0])
    """
    ordered, others = np.sort(known), np.sort(outsiders)
    size, place = len(known), _place(len(known), kept)
    value = np.searchsorted(others, ordered[place], side="right") / len(others)
    rng = np.random.default_rng(seed)
    drawn = np.ceil(size * rng.beta(place + 1, size - place, replicates)).astype(int) - 1
    shares = np.searchsorted(others, ordered[np.clip(drawn, 0, size - 1)], side="right")
    found = rng.binomial(len(others), shares / len(others)) / len(others)
    return float(value), interval(found)


def open_set_f(predicted: Ints, labels: Ints) -> float | None:
    """Return the open-set F-measure of OLTR: how well known classes are told, and outsiders left.

    Precision is the share of known samples that are right, those taken for novel among the wrong;
    recall is the share of the right among them and the outsiders that are taken for known.

    Args:
        predicted: (N,) classes, `NOVEL` for what is taken for novel.
        labels: (N,) true classes, `NOVEL` for outsiders.

    Returns:
        None where it is not defined: without known samples, or with nothing right.

    Example:
        >>> open_set_f(np.array([0, 1, -1, 0]), np.array([0, 0, -1, -1]))  # 1 of 2, 1 of 2
        0.5

    Source:
        Liu et al., CVPR 2019, arXiv:1904.05160; its code's ``F_measure(openset=True)``, which adds
        1e-12 to the denominator. An outsider taken for known counts as a false negative there.
    """
    known, right = labels != NOVEL, predicted == labels
    hits = int((right & known).sum())
    missed, accepted = int((~right & known).sum()), int((~right & ~known).sum())
    if not hits:
        return None
    precision, recall = hits / (hits + missed), hits / (hits + accepted)
    return round(2 * precision * recall / (precision + recall), 12)


def flagged(scores: Floats, threshold: float) -> NDArray[np.bool_]:
    """Return (N,) whether samples are taken for novel."""
    return scores > threshold


def as_answers(predicted: Sequence[Ints], novel: Sequence[NDArray[np.bool_]]) -> Ints:
    """Return the predictions of several splits as one, `NOVEL` where they are taken for it."""
    return np.concatenate(
        [np.where(of, NOVEL, said) for said, of in zip(predicted, novel, strict=True)]
    )
