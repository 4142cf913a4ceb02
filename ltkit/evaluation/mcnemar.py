"""McNemar's test: are two classifiers right equally often on the same samples.

For one run each. A majority over seeds is another classifier than any of the runs: it wins by
itself where errors are scattered, and the test would reject for that alone. Differences of means
over seeds have the p of `ltkit.evaluation.intervals`.
"""

from dataclasses import dataclass
from math import comb, erfc, sqrt

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]

EXACT_BELOW = 25
"""Of fewer samples on which two classifiers differ, McNemar's test is exact: there the chi-square
distribution is no good approximation."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """A test of whether two classifiers are right equally often.

    only_first, only_second: samples on which only that one is right.
    statistic: chi-square with one degree of freedom; None where the test is exact.
    p: two-sided.
    """

    only_first: int
    only_second: int
    statistic: float | None
    p: float


def mcnemar(first: Bools, second: Bools) -> McNemar:
    r"""Test whether two classifiers are right equally often on the same samples.

    With b and c samples on which only the first and only the second is right,

    .. math:: \chi^2 = (|b - c| - 1)^2 / (b + c)

    with one degree of freedom; the correction is at most the difference, so that b = c gives 0.
    Below `EXACT_BELOW` such samples, the two-sided binomial test of b out of b + c against 1/2.

    Args:
        first: (N,) whether the first is right.
        second: (N,) likewise.

    Example:
        >>> one, other = np.array([True] * 5 + [False]), np.array([False] * 5 + [True])
        >>> mcnemar(one, other)  # 2 * (1 + 6) / 2**6
        McNemar(only_first=5, only_second=1, statistic=None, p=0.21875)

    Source:
        McNemar, Psychometrika 12, 1947; the correction: Edwards, Psychometrika 13, 1948.
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    differ = b + c
    if differ < EXACT_BELOW:
        tail = sum(comb(differ, i) for i in range(min(b, c) + 1)) / 2**differ
        return McNemar(b, c, None, min(1.0, 2 * tail))
    statistic = max(abs(b - c) - 1, 0) ** 2 / differ
    return McNemar(b, c, statistic, erfc(sqrt(statistic / 2)))
