"""The choice among candidates on validation data, estimated outside the folds it was made in.

Beside the dimensions of `ltkit.records`: `K` candidates, the first of which is the baseline; `M`
methods; `R` repeats of the folds; `F` folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltkit.recommendation.objectives import Aim, Floats, Limit, Tally
from ltkit.records import Ints, stratified_folds
from ltkit.settings import AHEAD

Bools = NDArray[np.bool_]
Gains = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Choice:
    """What is chosen, how often in the folds, and what it gains in samples it was not chosen on.

    candidate: the chosen one. best: the one with the highest objective, before the simpler is
        preferred.
    picks: (R * F,) the choice without each fold.
    of_folds: (M, R * F) likewise, within each method.
    gains: (R, N) gains over the baseline of the choice without a sample's fold, in each repeat.
    of_method: (M, R, N) likewise, of the choice within each method.
    settings: (M,) each method's best candidate; the baseline where none keeps the limits.
    """

    candidate: int
    best: int
    picks: Ints
    of_folds: Ints
    gains: Gains
    of_method: Gains
    settings: Ints


@dataclass(frozen=True, eq=False)
class Chooser:
    """Chooses among candidates by the samples they are right on.

    right: (K, N) whether a candidate is right; the first is the baseline.
    labels: (N,) true classes.
    method: (K,) each candidate's method, by simplicity: 0 for the baseline.
    aim, limits, confidence: what is maximised, and what must be kept with which confidence.
    """

    right: Bools
    labels: Ints
    method: Ints
    aim: Aim
    limits: Sequence[Limit]
    confidence: float

    @cached_property
    def gains(self) -> Gains:
        """(K, N) -1, 0 or 1: right over the baseline."""
        found: Gains = self.right.astype(np.int8) - self.right[0].astype(np.int8)
        return found

    def choose(self, repeats: int, folds: int, seed: int) -> Choice:
        """Choose on all samples, and in repeated stratified folds for an estimate.

        In each fold the choice is made on the other folds, by the same rule, and its gain is taken
        from the fold itself, so that the luck of the choice is in no gain.
        """
        methods, count = np.unique(self.method), len(self.labels)
        gains = np.zeros((repeats, count), np.int8)
        by_method, picks = np.zeros((len(methods), repeats, count), np.int8), []
        of_folds = []
        for repeat in range(repeats):
            dealt = stratified_folds(self.labels, folds, seed + repeat)
            for fold in range(folds):
                inside = dealt == fold
                picked, settings, _ = self._pick(~inside)
                picks.append(picked)
                of_folds.append(settings)
                gains[repeat, inside] = self.gains[picked, inside]
                by_method[:, repeat, inside] = self.gains[np.ix_(settings, np.flatnonzero(inside))]
        candidate, settings, best = self._pick(np.ones(count, bool))
        within = np.array(of_folds).T
        return Choice(candidate, best, np.array(picks), within, gains, by_method, settings)

    def spread(self, picks: Ints, weights: Floats, others: Ints | None = None) -> float:
        """Return the variance of the gains of (P,) candidates on all samples, or over P others.

        Where folds choose differently, the choice that is shipped may gain as much more or less
        than the mean over folds.
        """
        tally = self._tally(np.ones(len(self.labels), bool))
        gains, _ = tally.gains(weights)
        found = gains[picks] - (0 if others is None else gains[others])
        return float(found.round(12).var())

    def _pick(self, rows: Bools) -> tuple[int, Ints, int]:
        """Return the choice on some samples, each method's best candidate, and the best of all.

        Of candidates with one objective, the one with the better balanced accuracy is taken, then
        the simpler method, then the first setting.
        """
        tally = self._tally(rows)
        accuracy = tally.accuracy
        score = self.aim.value(accuracy).round(12)
        held = tally.holds(self.limits, self.aim.weights, self.confidence)
        score[~held] = -np.inf
        even = (accuracy @ self.aim.weights["balanced"]).round(12)
        order = np.lexsort((-np.arange(len(score)), -self.method, even, score))[::-1]
        best = int(order[0]) if held.any() else 0
        settings = []
        for method in np.unique(self.method):
            first = int(order[self.method[order] == method][0])
            settings.append(first if held[first] else 0)
        found = np.array(settings)
        simpler = found[(self.method[found] < self.method[best]) & held[found]]
        return self._simpler(best, simpler, rows, accuracy), found, best

    def _simpler(self, best: int, others: Ints, rows: Bools, accuracy: Floats) -> int:
        """Return the first of some that the best is not clearly ahead of, or the best."""
        slope = self.aim.slope(accuracy[best])
        value = float(self.aim.value(accuracy[best]))
        for other in others:
            lead = value - float(self.aim.value(accuracy[other]))
            if lead <= AHEAD * self._error(best, int(other), rows, slope):
                return int(other)
        return best

    def _error(self, first: int, second: int, rows: Bools, weights: Floats) -> float:
        """Return the standard error of two candidates' difference, weighted over the classes."""
        difference = self.gains[first, rows] - self.gains[second, rows]
        labels, size = self.labels[rows], len(weights)
        samples, gain, square = (
            np.asarray(np.bincount(labels, values, minlength=size), np.float64)
            for values in (np.ones(len(labels)), difference, np.square(difference))
        )
        tally = Tally(samples, np.zeros(size), gain[None], square[None])
        return float(tally.gains(weights)[1][0])

    @cached_property
    def _by_class(self) -> tuple[Ints, Ints, Ints]:
        """The samples in the order of their classes, the classes that have any, their starts."""
        order = np.argsort(self.labels, kind="stable")
        classes, starts = np.unique(self.labels[order], return_index=True)
        return order, classes, starts

    def _tally(self, rows: Bools) -> Tally:
        order, classes, starts = self._by_class
        size = len(self.aim.weights["balanced"])
        kept = rows[order]
        gains = self.gains[:, order] * kept

        def summed(values: NDArray[np.int8]) -> Floats:
            found = np.zeros((*values.shape[:-1], size))
            found[..., classes] = np.add.reduceat(values, starts, axis=-1, dtype=np.int32)
            return found

        base = summed(self.right[0, order].astype(np.int8) * kept)
        return Tally(summed(kept.astype(np.int8)), base, summed(gains), summed(gains * gains))
