"""The choice among candidates on validation data, estimated outside the folds it was made in.

Beside the dimensions of `ltkit.records`: `K` candidates, the first of which is the baseline; `M`
methods; `R` repeats of the folds; `F` folds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation.intervals import Estimate, difference_estimate, moments, of_one_run
from ltkit.recommendation.objectives import Aim, Floats, Limit, Tally
from ltkit.records import Ints, stratified_folds
from ltkit.settings import AHEAD

Bools = NDArray[np.bool_]
Gains = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Picked:
    """What a rule picks, and what that gains in samples it was not picked on.

    candidate: picked on all samples.
    picks: (R * F,) picked without each fold.
    gains: (R, N) over the baseline, of what is picked without a sample's fold, in each repeat.
    """

    candidate: int
    picks: Ints
    gains: Gains


@dataclass(frozen=True, eq=False)
class Choice:
    """What is chosen.

    chosen: by the rule.
    best: the candidate with the highest objective, before the simpler is preferred.
    of_method: M, each method's best candidate; the baseline where none keeps the limits.
    """

    chosen: Picked
    best: int
    of_method: Sequence[Picked]


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
        rules = 1 + len(methods)  # the choice, and that within each method
        picks = np.zeros((rules, repeats, folds), np.int64)
        gains = np.zeros((rules, repeats, count), np.int8)
        for repeat in range(repeats):
            dealt = stratified_folds(self.labels, folds, seed + repeat)
            for fold in range(folds):
                inside = dealt == fold
                picked, settings, _ = self._pick(~inside)
                picks[:, repeat, fold] = picked, *settings
                gains[:, repeat, inside] = self.gains[
                    np.ix_(picks[:, repeat, fold], np.flatnonzero(inside))
                ]
        candidate, settings, best = self._pick(np.ones(count, bool))
        chosen, *within = (
            Picked(int(final), every.ravel(), gained)
            for final, every, gained in zip((candidate, *settings), picks, gains, strict=True)
        )
        return Choice(chosen, best, within)

    def estimate(self, own: Picked, weights: Floats, over: Picked | None = None) -> Estimate:
        """Return the weighted mean gain of what is picked with its interval, or over another's.

        The interval is of one choice, not of the mean over all folds: the variance within a class
        is that of a single repeat, or that of the candidate itself where it is more; where folds
        pick differently, what is picked on all samples may gain as much more or less than their
        mean, so the variance of what the picks gain on all samples is added.

        Args:
            own: what is picked.
            weights: (C,) with sum 1.
            over: what else is picked; None for the baseline.
        """
        size, every = len(weights), self.gains
        gained, final = own.gains, every[own.candidate]
        mean, _ = self._whole.gains(weights)
        between = mean[own.picks]
        if over is not None:
            gained, final = gained - over.gains, final - every[over.candidate]
            between = between - mean[over.picks]
        found = of_one_run(moments(gained, self.labels, size))
        itself = moments(final[None], self.labels, size)
        found = replace(found, spread=np.maximum(found.spread, itself.spread))
        spread = float(between.round(12).var()), float(len(between) - 1)
        return difference_estimate(found, weights, others=[spread])

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
    def _whole(self) -> Tally:
        """The tally of all samples."""
        return self._tally(np.ones(len(self.labels), bool))

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
