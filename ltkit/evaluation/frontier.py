"""Curves of few-shot against overall accuracy: which points matter, which method leads where.

A method's points are its settings. Those on the upper hull are worth having; between two of them,
taking each of both classifiers for its share of the samples at random gives every accuracy on the
straight line. So a curve is a walk over points, from the best few-shot to the best overall
accuracy, with straight lines between. Where the points were chosen and where they are measured are
two things: chosen on validation data and measured on test data, a walk has no luck of its own.

`P` points, `H` points of a walk, `L` levels of overall accuracy, `R` replicates of both, worked out
together.
"""

from collections.abc import Sequence
from itertools import combinations, pairwise
from math import floor

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


def height(overall: Floats, few: Floats, levels: Floats) -> Floats:
    """Return the few-shot accuracy of a walk where its overall accuracy first reaches a level.

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
    reached = overall[:, :1]  # so far
    found: Floats = np.where(levels <= reached, few[:, :1], -np.inf)
    points = zip(overall.T[..., None], few.T[..., None], strict=True)  # H of (R, 1)
    for (x0, y0), (x1, y1) in pairwise(points):
        first = (levels > reached) & (levels <= x1)
        share = np.divide(levels - x0, x1 - x0, out=np.zeros_like(levels), where=first)
        found = np.where(first, y0 + share * (y1 - y0), found)
        reached = np.maximum(reached, x1)
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
        >>> [(a, round(b, 3), who) for a, b, who in leaders([one, other])]
        [(None, 0.41, 0), (0.41, 0.43, 1)]
    """

    def heights(level: float) -> Floats:
        at = np.array([[level]])
        return np.array([height(x[None], y[None], at)[0, 0] for x, y in walks])

    bends = np.unique(np.concatenate([x for x, _ in walks])).tolist()
    cuts = set(bends)
    for start, stop in pairwise(bends):  # between two bends every curve is a straight line
        middle, end = heights((start + stop) / 2), heights(stop)
        for i, j in combinations(np.flatnonzero(np.isfinite(end)), 2):
            half, full = middle[i] - middle[j], end[i] - end[j]
            if (2 * half - full) * full < 0:
                share = (2 * half - full) / (2 * half - 2 * full)
                cuts.add(float(start + share * (stop - start)))
    ends = sorted(cuts)
    found: list[tuple[float | None, float, int]] = []
    places = [ends[0], *((a + b) / 2 for a, b in pairwise(ends))]
    for place, start, stop in zip(places, [None, *ends[:-1]], ends, strict=True):
        who = int(heights(place).round(12).argmax())
        since = found.pop()[0] if found and found[-1][2] == who else start
        found.append((since, stop, who))
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
