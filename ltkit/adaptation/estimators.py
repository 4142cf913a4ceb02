r"""How often each class occurs among samples without labels.

With :math:`p_{ic}` the probability of class c for sample i under equal priors, the samples are most
likely where :math:`\sum_i w_i \log \sum_c p_{ic} q_c` is greatest. Four answers:

- ``tail``: of the shares :math:`q_c \propto n_c^s`, with the training counts n: s = 1 is the
  training prior, 0 the uniform one, below 0 the tail is reversed. One number is learned, so some
  hundred samples suffice, and errors of single classes' calibration hardly matter;
- ``map-em``: a share for each class, with a Dirichlet prior around those of ``tail``;
- ``em``: without it;
- ``bbse``: shares under which validation samples have the same mean probabilities.

Each is computed for R weightings of the samples at once, which are the columns of arrays (C, R).
Replicates differ in their offsets, too: with :math:`p_{ic} e^{d_c}` in the place of p, a sample's
normaliser makes no difference.

Source:
    Saerens, Latinne and Decaestecker, Neural Computation 14, 2002 (em); Alexandari et al., ICML
    2020, arXiv:1901.06852 (on calibrated probabilities); Lipton et al., ICML 2018,
    arXiv:1802.03916 (bbse). The tail is that of LADE's shifted test sets, arXiv:2012.00321, by
    counts in the place of ranks.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ltkit.adaptation.likelihoods import Doubles, Likelihoods
from ltkit.records import Ints

SLOPES = (-3.0, 3.0)
"""Between which s is sought."""

STEPS = 4
"""Newton's steps."""

ITERATIONS, NEAR = 500, 1e-4
"""Most iterations of EM, and the change of shares, in L1, at which it ends."""


@dataclass(frozen=True, eq=False)
class Columns:
    """R weightings of N samples; in these, each sample counts 1.

    odds: (C, R) factors of each class's probabilities.
    """

    odds: Doubles

    @classmethod
    def of(cls, num_classes: int) -> Self:
        """Return one weighting, without factors."""
        return cls(np.ones((num_classes, 1)))

    def weights(self, start: int, count: int) -> Doubles:
        """Return (B, R) or (B, 1) weights of B samples from a row on."""
        return np.ones((count, 1))


@dataclass(frozen=True, eq=False)
class Drawn(Columns):
    """R draws of the samples with replacement: their numbers are Poisson's.

    seed: of the draws, which are the same in each pass.
    """

    seed: int

    def weights(self, start: int, count: int) -> Doubles:
        """Return (B, R) how often samples are drawn."""
        rng = np.random.default_rng([self.seed, start])
        return rng.poisson(1.0, (count, self.odds.shape[1])).astype(np.float64)


@dataclass(frozen=True, eq=False)
class LeftOut(Columns):
    """R weightings that leave out a fold each.

    fold: (N,) of the samples.
    """

    fold: Ints

    def weights(self, start: int, count: int) -> Doubles:
        """Return (B, R) 1, and 0 of the fold that is left out."""
        own = self.fold[start : start + count, None]
        kept: Doubles = (own != np.arange(self.odds.shape[1])).astype(np.float64)
        return kept


@dataclass(frozen=True, eq=False)
class Tail:
    """Shares in proportion to a power of the training counts.

    log_counts: (C,) of classes that are ever predicted, minus infinity for others.
    """

    log_counts: Doubles

    @classmethod
    def of(cls, counts: Ints, told: NDArray[np.bool_]) -> "Tail":
        """Return the tail of training counts; a class without an image has the share of one."""
        return cls(np.where(told, np.log(np.maximum(counts, 1)), -np.inf))

    @property
    def flat(self) -> bool:
        """Whether all counts are alike, so that there is no tail."""
        return not np.ptp(self.log_counts[np.isfinite(self.log_counts)])

    def shares(self, slope: Doubles | float) -> Doubles:
        """Return (C, R) shares of R slopes.

        Example:
            >>> Tail(np.log([9.0, 1.0])).shares(0.5).round(3).ravel().tolist()
            [0.75, 0.25]
        """
        there = np.isfinite(self.log_counts)
        logs = np.where(there, self.log_counts, 0)[:, None] * np.atleast_1d(slope)
        found = np.where(there[:, None], np.exp(logs - logs.max(axis=0)), 0)
        shares: Doubles = found / found.sum(axis=0)
        return shares

    def slopes(self, target: Likelihoods, columns: Columns, start: float) -> Doubles:
        """Return (R,) most likely slopes, by a few of Newton's steps from one that is near."""
        found = np.full(columns.odds.shape[1], start)
        for _ in range(STEPS):
            score, information = self._derivatives(target, columns, found)
            step = score / np.maximum(information, 1e-3 * len(target))
            found = np.clip(found + np.clip(step, -0.5, 0.5), *SLOPES)
        return found

    def slope(self, target: Likelihoods) -> float:
        """Return the most likely slope: the best of a grid, and Newton's steps from there."""
        grid = np.linspace(*SLOPES, 25)
        best = grid[mean_log_likelihood(target, self.shares(grid)).argmax()]
        return float(self.slopes(target, Columns.of(target.num_classes), float(best))[0])

    def _derivatives(
        self, target: Likelihoods, columns: Columns, slope: Doubles
    ) -> tuple[Doubles, Doubles]:
        """Return (R,) first and, with the other sign, second derivatives of the log-likelihood.

        With t the log counts, of a sample they are the mean of t given it less that under the
        shares, and the variance of t under the shares less that given the sample.
        """
        t = np.where(np.isfinite(self.log_counts), self.log_counts, 0)[:, None]
        shares = self.shares(slope)
        centre = (shares * t).sum(axis=0)
        spread = (shares * t**2).sum(axis=0) - centre**2
        mixed = columns.odds * shares
        three = np.hstack([mixed, mixed * t, mixed * t**2]).astype(np.float32)
        score, information = np.zeros(len(slope)), np.zeros(len(slope))
        for start, p, _ in target.blocks():
            w = columns.weights(start, len(p))
            total, first, second = np.split((p @ three).astype(np.float64), 3, axis=1)
            mean = first / total
            score += (w * (mean - centre)).sum(axis=0)
            information += (w * (spread - (second / total - mean**2))).sum(axis=0)
        return score, information


def em(target: Likelihoods, columns: Columns, start: Doubles, strength: float) -> Doubles:
    """Return (C, R) shares by EM, from shares that are also the centre of a Dirichlet prior.

    Args:
        target: N samples.
        columns: R weightings of them.
        start: (C, R) shares.
        strength: samples that the prior counts as, for each class; 0: none.
    """
    pseudo = strength * (start > 0).sum(axis=0) * start
    found = start
    for _ in range(ITERATIONS):
        mixed = columns.odds * found
        counts = np.zeros_like(found)
        for start_row, p, _ in target.blocks():
            shares = columns.weights(start_row, len(p)) / (p @ mixed.astype(np.float32))
            counts += p.T @ shares.astype(np.float32)
        new = mixed * counts + pseudo
        new /= new.sum(axis=0)
        change, found = float(np.abs(new - found).sum(axis=0).max()), new
        if change < NEAR:
            break
    return found


def bbse(means: Doubles, confusion: Doubles, there: NDArray[np.bool_]) -> Doubles:
    """Return (C, R) shares by least squares, none below 0.

    Args:
        means: (C, R) mean probabilities of the samples.
        confusion: (C, C) mean probabilities of validation samples, by true class in columns.
        there: (C,) which classes have validation samples; the others get no share.

    Example:
        >>> confusion = np.array([[0.8, 0.4], [0.2, 0.6]])
        >>> found = bbse(confusion @ [[0.75], [0.25]], confusion, np.ones(2, bool))
        >>> found.round(3).ravel().tolist()
        [0.75, 0.25]
    """
    from scipy.optimize import nnls

    found = np.zeros_like(means)
    for column in range(means.shape[1]):
        found[there, column] = nnls(confusion[:, there], means[:, column])[0]
    shares: Doubles = found / np.maximum(found.sum(axis=0), np.finfo(float).tiny)
    return shares


def mean_log_likelihood(target: Likelihoods, shares: Doubles) -> Doubles:
    """Return (R,) mean log-likelihood of the samples under (C, R) shares."""
    total = np.zeros(shares.shape[1])
    for _, p, _ in target.blocks():
        total += np.log(p @ shares.astype(np.float32)).sum(axis=0)
    return total / len(target)
