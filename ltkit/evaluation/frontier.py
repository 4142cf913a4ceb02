"""Curves of few-shot against overall accuracy: which points matter, which method leads where.

A method's points are its settings; between two of them, taking each of both classifiers for its
share of the samples at random gives every accuracy on the straight line. A method with one knob has
a curve through all its settings in the knob's order, whatever was chosen. The settings of several
knobs have no order: there the curve is a walk over the upper hull, from the best few-shot to the
best overall accuracy. Where a hull is chosen and where it is measured are two things: chosen on
validation data and measured on test data, it has no luck of its own.

`P` points, `H` points of a walk, `L` levels of overall accuracy, `R` replicates of both, worked out
together.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 8
"""Most overall accuracies at which curves are tabulated, if none are given."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def dominated_by(overall: Floats, few: Floats) -> Ints:
    """Return, for each point, one as good in both and better in one; -1 if there is none.

    Of several, the one with the highest few-shot accuracy.

    Args:
        overall: (P,) accuracies.
        few: (P,) few-shot accuracies.

    Example:
        >>> dominated_by(np.array([0.40, 0.42, 0.41]), np.array([0.20, 0.10, 0.10])).tolist()
        [-1, -1, 1]
    """
    as_good = (overall >= overall[:, None]) & (few >= few[:, None])  # row: the point beaten
    better = as_good & ((overall > overall[:, None]) | (few > few[:, None]))
    which = np.where(better, few, -np.inf).argmax(axis=1)
    found: Ints = np.where(better.any(axis=1), which, -1)
    return found


def corners(overall: Floats, few: Floats) -> Ints:
    """Walk the upper hull of points from the best few-shot to the best overall accuracy.

    Args:
        overall: (P,) accuracies.
        few: (P,) few-shot accuracies.

    Returns:
        (H,) point numbers; the first of equal points.

    Example:
        >>> x, y = np.array([0.42, 0.40, 0.41, 0.39]), np.array([0.10, 0.20, 0.14, 0.05])
        >>> corners(x, y).tolist()  # at 0.41 the straight line is at 0.15, above 0.14
        [1, 0]
    """
    at = int(np.lexsort((-np.arange(len(few)), overall, few))[-1])
    walk = [at]
    while (overall > overall[at]).any():
        run, rise = overall - overall[at], few - few[at]
        slope = np.divide(rise, run, out=np.full_like(run, -np.inf), where=run > 0)
        at = int(np.lexsort((-np.arange(len(few)), run, slope))[-1])  # the farthest of a line
        walk.append(at)
    return np.array(walk)


def knob_of(settings: Sequence[Mapping[str, Any]]) -> str | None:
    """Return the one number that settings differ in; None if there is no such, or several.

    Example:
        >>> knob_of([{"tau": 2.0, "k": 5}, {"tau": 0.5, "k": 5}])
        'tau'
        >>> knob_of([{"tau": 2.0, "k": 5}, {"tau": 0.5, "k": 1}]) is None
        True
    """
    every = dict.fromkeys(knob for each in settings for knob in each)
    knobs = [k for k in every if len({repr(each.get(k)) for each in settings}) > 1]
    if len(knobs) != 1:
        return None
    numbers = all(isinstance(each.get(knobs[0]), int | float) for each in settings)
    return knobs[0] if numbers else None


def height(overall: Floats, few: Floats, levels: Floats) -> Floats:
    """Return the highest few-shot accuracy of a walk where its overall accuracy is a level or more.

    Args:
        overall: (R, H) accuracies of the walk's points, in its order; they need not ascend.
        few: (R, H) their few-shot accuracies.
        levels: (R, L) overall accuracies.

    Returns:
        (R, L); minus infinity where no point reaches the level.

    Example:
        >>> x, y = np.array([[0.40, 0.42]]), np.array([[0.20, 0.10]])
        >>> height(x, y, np.array([[0.39, 0.41, 0.43]])).round(3).tolist()
        [[0.2, 0.15, -inf]]
    """
    found = np.full(levels.shape, -np.inf)
    points = list(zip(overall.T[..., None], few.T[..., None], strict=True))  # H of (R, 1)
    for x, y in points:
        found = np.where(x >= levels, np.maximum(found, y), found)
    for (x0, y0), (x1, y1) in pairwise(points):  # a line that crosses the level
        crosses = (x0 < levels) != (x1 < levels)
        share = np.divide(levels - x0, x1 - x0, out=np.zeros_like(levels), where=crosses)
        found = np.where(crosses, np.maximum(found, y0 + share * (y1 - y0)), found)
    return found


def leaders(walks: Sequence[tuple[Floats, Floats]]) -> list[tuple[float | None, float, int]]:
    """Return the method with the highest few-shot accuracy at each overall accuracy.

    Args:
        walks: (overall (H,), few (H,)) of each method.

    Returns:
        (from, to, method number), ascending and without gaps; `from` is None for the first, which
        holds down to 0. The first of methods that are equal.

    Example:
        >>> one = np.array([0.40, 0.42]), np.array([0.20, 0.10])
        >>> other = np.array([0.43]), np.array([0.15])  # as high as the first's line at 0.41
        >>> [(a and round(a, 3), round(b, 3), who) for a, b, who in leaders([one, other])]
        [(None, 0.41, 0), (0.41, 0.43, 1)]
    """
    ends = np.unique(np.concatenate([_bends(walks), _crossings(walks)])).tolist()
    places = np.array([[ends[0], *((a + b) / 2 for a, b in pairwise(ends))]])
    heights = np.concatenate([height(x[None], y[None], places) for x, y in walks])  # (M, L)
    found: list[tuple[float | None, float, int]] = []
    starts = [None, *ends[:-1]]
    for who, start, stop in zip(heights.round(12).argmax(axis=0), starts, ends, strict=True):
        since = found.pop()[0] if found and found[-1][2] == who else start
        found.append((since, stop, int(who)))
    return found


def _bends(walks: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the overall accuracies of all points."""
    return np.concatenate([x for x, _ in walks])


def _crossings(walks: Sequence[tuple[Floats, Floats]]) -> Floats:
    """Return the overall accuracies at which two walks may change places.

    Those where two of their lines cross, or a line has the few-shot accuracy of a point: a curve is
    level where a point is the highest that reaches so far.
    """
    lines = [
        (x[a], x[a + 1], y[a], y[a + 1])
        for x, y in walks
        for a in range(len(x) - 1)
        if x[a] != x[a + 1]
    ]
    lines += [(0.0, a, b, b) for x, y in walks for a, b in zip(x, y, strict=True)]
    x0, x1, y0, y1 = np.array(lines).T
    slope = np.divide(y1 - y0, x1 - x0, out=np.zeros_like(x0), where=x1 != x0)
    across = slope[:, None] - slope
    meet = np.divide(
        (y0 - slope * x0) - (y0 - slope * x0)[:, None], across,
        out=np.full_like(across, np.nan), where=across != 0,
    )  # fmt: skip
    low, high = np.minimum(x0, x1), np.maximum(x0, x1)
    inside = (meet > np.maximum(low[:, None], low)) & (meet < np.minimum(high[:, None], high))
    found: Floats = meet[inside]
    return found


def round_levels(low: float, high: float) -> list[float]:
    """Return at most `LEVELS` round accuracies, from at or below low to at most high.

    Example:
        >>> round_levels(0.394, 0.422)
        [0.39, 0.395, 0.4, 0.405, 0.41, 0.415, 0.42]
    """
    for step in (1000, 500, 200, 100, 50, 20, 10, 5):  # so many to 1
        first, last = floor(low * step + 1e-9), floor(high * step + 1e-9)
        if last - first < LEVELS:
            break
    return [i / step for i in range(first, last + 1)]
