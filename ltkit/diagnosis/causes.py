r"""What a rare class's error is made of, from what three heads predict, each better than the last.

The heads are the model's own, the same with the right offsets, and one fitted to balanced features
that the network was not trained on. For a rare class c, with errors :math:`e_0, e_1, e_2`:

.. math::
    prior &= (e_0 - e_1) - t_1, \qquad rows = (e_1 - e_2) - t_2 \\
    rest &= e_0 - prior - rows = confusion + separation \\
    confusion &= n - \frac{K}{B - K} f

- :math:`t_s` is what step s takes from frequent classes to give it to c: the shares of their
  samples that were right and now go to c, less those that come back. An offset moves a boundary;
  where it takes as much as it gives, the two overlap, and nothing is mended. It is at most what c
  gains, at least 0.
- :math:`n` and :math:`f` are the shares of the rest that are between c and its K nearest frequent
  classes, and between c and the other B - K of them. Who is lost everywhere is lost among the
  nearest, too: so much is not confusion.

A part is at least 0, and at most what is left: a step that a class is worse off with is no cause,
and what the last head gets wrong is not its rows' fault. The four add up to :math:`e_0`. For all
rare classes together the same is done with mean rates. Beside the dimensions of `ltkit.records`:
`U` distinct outcomes of a sample, `R` replicates.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from ltkit.evaluation.intervals import LEVEL
from ltkit.records import Ints, blocks

CAUSES = ("prior", "rows", "confusion", "separation")

COLUMNS = 9
"""Of a class's rates: its error; its gain in two steps; what these take from near frequent classes,
and from others, each; what is left with near ones, and with others."""

DRAWN_AT_ONCE = 1 << 23
Z = 1.959963984540054
"""Of two-sided 95 % intervals."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

Entries = tuple[Ints, Ints, Ints, Floats]
"""Of a sparse table: outcomes, places of rare classes, columns, values."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What three heads predict for samples, and what is asked of it.

    labels: (N,) true classes.
    predicted: (3, N) by the model's own head, with offsets, and fitted anew.
    rare: (F,) classes, each with a sample.
    near: (F, K) frequent classes near each.
    frequent: (B,) classes, all of them.
    """

    labels: Ints
    predicted: NDArray[np.int32]
    rare: Ints
    near: Ints
    frequent: Ints

    @property
    def even(self) -> float:
        """How much of an even confusion is with the near classes, for each with the others."""
        k, others = self.near.shape[1], len(self.frequent) - self.near.shape[1]
        return k / others if others else 0.0


@dataclass(frozen=True, eq=False)
class Found:
    """The causes of each rare class's error, and last of all these classes together.

    parts: (F + 1, 4) in the order of `CAUSES`.
    low, high: (F + 1, 4) ends of their 95 % intervals; NaN for a class with one sample, or for all
        together where one has one.
    wins: (F + 1, 4) share of the replicates in which each is the largest; NaN as there.
    gained, taken: (F + 1, 2) what each step gives the class, and what it takes from frequent ones.
    """

    parts: Floats
    low: Floats
    high: Floats
    wins: Floats
    gained: Floats
    taken: Floats


def find(outcomes: Outcomes, *, replicates: int, seed: int) -> Found:
    """Return the causes of rare classes' errors, with intervals.

    The intervals are percentiles of a bootstrap of each class's samples, for heads as they are,
    and at least Wilson's of as many samples: where all samples of a class agree, a bootstrap has
    nothing to draw.

    Args:
        outcomes: of a split.
        replicates: R.
        seed: of the draws.

    Example:
        >>> labels = np.repeat([0, 1, 2], 4)
        >>> own, offset = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 2]), labels.copy()
        >>> told = Outcomes(labels, np.array([own, offset, offset]), np.array([2]),
        ...                 np.array([[0]]), np.array([0, 1]))
        >>> find(told, replicates=100, seed=0).parts[0].tolist()
        [0.75, 0.0, 0.0, 0.0]
    """
    every = np.vstack([outcomes.labels, outcomes.predicted])
    pattern, times = np.unique(every, axis=1, return_counts=True)  # a class's stand together
    classes, starts = np.unique(pattern[0], return_index=True)
    samples = np.add.reduceat(times, starts)
    table = _table(outcomes, pattern)
    shares = times / samples[np.searchsorted(classes, pattern[0])]
    parts, done = np.empty((replicates, len(outcomes.rare) + 1, len(CAUSES))), 0
    for drawn in _resampled(np.split(times, starts[1:]), replicates, max(table.shape), seed):
        parts[done : done + len(drawn)] = split_up(_with_mean(drawn @ table), outcomes.even)
        done += len(drawn)
    n = samples[np.searchsorted(classes, outcomes.rare)]
    return _found(_with_mean(shares[None] @ table)[0], parts, n, outcomes.even)


def _found(rates: Floats, drawn: Floats, n: Ints, even: float) -> Found:
    """Return the causes of (F + 1, 9) rates, with intervals from (R, F + 1, 4) replicates.

    Args:
        rates: by class, and of all together.
        drawn: parts in each replicate.
        n: (F,) samples of each class.
        even: of `Outcomes`.
    """
    parts, single = split_up(rates, even), n == 1
    low, high, wins = (np.empty_like(parts) for _ in range(3))
    for some in blocks(len(parts), max(1, DRAWN_AT_ONCE // drawn[:, 0].size)):
        own = drawn[:, some]
        ends = np.quantile(own, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
        low[some], high[some] = ends
        wins[some] = (own.argmax(axis=2)[..., None] == np.arange(len(CAUSES))).mean(axis=0)
    least, most = wilson(parts, np.append(n, len(n) ** 2 / (1 / n).sum())[:, None])
    low, high = np.minimum(low, least), np.maximum(high, most)
    for values in (low, high, wins):
        values[np.append(single, single.any())] = np.nan
    taken = rates[:, 3:7].reshape(-1, 2, 2).sum(axis=2)
    return Found(parts, low, high, wins, rates[:, 1:3], taken)


def split_up(rates: Floats, even: float) -> Floats:
    """Return (..., 4) parts of the error, of (..., 9) rates in the order of `COLUMNS`.

    Args:
        rates: of classes, or means of these.
        even: of `Outcomes`.

    Example:
        >>> half_taken = np.array([1, 0.5, 0, 0.5, 0, 0, 0, 0.5, 0])  # from a near class
        >>> split_up(half_taken, 0.5).tolist()
        [0.0, 0.0, 1.0, 0.0]
    """
    error, near, far = rates[..., 0], rates[..., 7], rates[..., 8]
    mended = list[Floats]()
    for gain, of_near, of_far in ((1, 3, 4), (2, 5, 6)):
        gained, taken = rates[..., gain], rates[..., of_near] + rates[..., of_far]
        cost = np.clip(taken, 0, np.maximum(gained, 0))
        both = np.maximum(rates[..., [of_near, of_far]], 0)
        share = both[..., 0] / np.maximum(both.sum(axis=-1), np.finfo(float).tiny)
        near, far = near + cost * share, far + cost * (1 - share)
        mended.append(np.maximum(gained - cost, 0))
    prior, rows = mended
    rows = np.clip(rows, 0, np.maximum(rates[..., 1] + rates[..., 2] - prior, 0))
    rest = error - prior - rows
    confusion = np.clip(near - even * far, 0, rest)
    found: Floats = np.stack([prior, rows, confusion, rest - confusion], axis=-1).round(12)
    return found + 0.0  # no minus before 0


def wilson(value: Floats, n: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return Wilson's 95 % interval of proportions; of a number out of 0..1, of the nearer end.

    Example:
        >>> low, high = wilson(np.array(0.0), np.array(20.0))  # z² / (20 + z²)
        >>> round(float(low), 4), round(float(high), 4)
        (0.0, 0.1611)
    """
    p = np.clip(value, 0, 1)
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n * n)) / (1 + Z**2 / n)
    return np.maximum(centre - half, 0), np.minimum(centre + half, 1)


def _with_mean(rates: Floats) -> Floats:
    """Return (R, F + 1, 9) rates, the mean over classes last, of (R, 9 F)."""
    by_class = rates.reshape(len(rates), -1, COLUMNS)
    return np.concatenate([by_class, by_class.mean(axis=1, keepdims=True)], axis=1)


def _resampled(times: Sequence[Ints], replicates: int, width: int, seed: int) -> Iterator[Floats]:
    """Yield (R', U) rates of outcomes within their class, n - 1 of n samples drawn for each class.

    Args:
        times: how many samples have each outcome, for each class.
        replicates: R.
        width: most numbers of a replicate.
        seed: of the draws.
    """
    rng = np.random.default_rng(seed)
    for rows in blocks(replicates, max(1, DRAWN_AT_ONCE // width)):
        drawn = []
        for of_class in times:
            n = int(of_class.sum())
            draws = max(1, n - 1)
            some = rng.multinomial(draws, of_class / n, size=rows.stop - rows.start)
            drawn.append(some / draws)
        yield np.concatenate(drawn, axis=1)


def _table(outcomes: Outcomes, pattern: NDArray[np.int64]) -> csr_array:
    """Return (U, 9 F) what an outcome adds to rates, for (4, U) labels and predictions."""
    size = 1 + int(max(pattern.max(), outcomes.rare.max(), outcomes.frequent.max()))
    place = np.full(size, -1)
    place[outcomes.rare] = np.arange(len(outcomes.rare))
    frequent = np.isin(np.arange(size), outcomes.frequent)
    entries = [
        *_own(outcomes, pattern, place, frequent),
        *_moved(outcomes, pattern, place, frequent),
    ]
    rows, of, columns, values = (np.concatenate(each) for each in zip(*entries, strict=True))
    shape = (pattern.shape[1], COLUMNS * len(outcomes.rare))
    return csr_array((values, (rows, of * COLUMNS + columns)), shape=shape)


def _own(outcomes: Outcomes, pattern: Ints, place: Ints, frequent: Bools) -> Iterator[Entries]:
    """Yield what the outcomes of rare samples add to their own class's rates."""
    label, *said = pattern
    own = np.flatnonzero(place[label] >= 0)
    of, last = place[label[own]], said[2][own]
    right = [1.0 * (head[own] == label[own]) for head in said]
    near = _is_near(outcomes, of, last)
    far = frequent[last] & ~near
    columns = {
        0: 1 - right[0], 1: right[1] - right[0], 2: right[2] - right[1], 7: 1.0 * near,
        8: 1.0 * far,
    }  # fmt: skip
    for column, values in columns.items():
        yield own, of, np.full(len(own), column), values


def _moved(outcomes: Outcomes, pattern: Ints, place: Ints, frequent: Bools) -> Iterator[Entries]:
    """Yield what frequent samples that a step moves to rare classes, or back, add to theirs."""
    label, *said = pattern
    for step in (1, 2):
        before, after = said[step - 1], said[step]
        for kept, gone, sign in ((before, after, 1.0), (after, before, -1.0)):
            moved = np.flatnonzero(frequent[label] & (kept == label) & (place[gone] >= 0))
            of = place[gone[moved]]
            far = ~_is_near(outcomes, of, label[moved])
            yield moved, of, 1 + 2 * step + far, np.full(len(moved), sign)


def _is_near(outcomes: Outcomes, of: Ints, other: Ints) -> Bools:
    """Return whether a class is among the near ones of a rare class, by its place."""
    found: Bools = (outcomes.near[of] == other[:, None]).any(axis=1)
    return found
