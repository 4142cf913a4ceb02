"""The shares of classes by one of the estimators, and how sure they are."""

from dataclasses import dataclass

import numpy as np

from ltkit.adaptation import estimators
from ltkit.adaptation.estimators import Columns, Drawn, LeftOut, Tail
from ltkit.adaptation.likelihoods import Doubles, Likelihoods
from ltkit.adaptation.validation import ValDraws
from ltkit.errors import InputError
from ltkit.records import stratified_folds
from ltkit.settings import FOLDS, AdaptSettings


@dataclass(frozen=True, eq=False)
class Estimate:
    """The shares of classes.

    shares: (C,); drawn: (C, R) of draws of the target and of validation samples.
    slope: of a tail, with the ends of its interval.
    """

    shares: Doubles
    drawn: Doubles
    slope: tuple[float, float, float] | None = None

    @property
    def ends(self) -> tuple[Doubles, Doubles]:
        """(C,) ends of the shares' 95 % intervals."""
        low, high = np.quantile(self.drawn, (0.025, 0.975), axis=1)
        return low, high


def estimate(
    samples: Likelihoods,
    tail: Tail,
    val: ValDraws,
    settings: AdaptSettings,
    columns: Drawn,
) -> Estimate:
    """Estimate the shares of classes, and what draws of both samples give.

    Args:
        samples: N.
        tail: of the training counts.
        val: R draws of validation samples.
        settings: which estimator, and its strength.
        columns: R draws of the samples, with the offsets of the draws of validation samples.

    Raises:
        InputError: for a tail of counts that are all alike.
    """
    how = settings.estimator
    if how == "bbse":
        return _by_bbse(samples, val, columns)
    if how == "tail" and tail.flat:
        raise InputError(
            "estimator: found tail, which follows training counts, and all of these are alike; "
            "choose map-em, which finds a share for each class"
        )
    slope = tail.slope(samples)
    slopes = tail.slopes(samples, columns, slope)
    shares, drawn = tail.shares(slope), tail.shares(slopes)
    if how == "tail":
        low, high = np.quantile(slopes, (0.025, 0.975))
        return Estimate(shares[:, 0], drawn, (slope, float(low), float(high)))
    strength = settings.strength if how == "map-em" else 0.0
    shares = estimators.em(samples, Columns.of(samples.num_classes), shares, strength)
    return Estimate(shares[:, 0], estimators.em(samples, columns, drawn, strength))


def _by_bbse(samples: Likelihoods, val: ValDraws, columns: Drawn) -> Estimate:
    """Estimate shares by mean probabilities; draws are of the target's samples alone."""
    total, drawn, size = np.zeros(samples.num_classes), np.zeros_like(val.odds), 0.0
    for start, p, _ in samples.blocks():
        w = columns.weights(start, len(p))
        total += p.sum(axis=0, dtype=np.float64)
        drawn += p.T.astype(np.float64) @ w
        size = size + np.sum(w, axis=0)
    means = np.column_stack([total / len(samples), drawn / np.maximum(size, 1)])
    found = estimators.bbse(means, val.confusion, val.there)
    return Estimate(found[:, 0], found[:, 1:])


def gain_of_classes(samples: Likelihoods, tail: Tail, seed: int = 0) -> float:
    """Return what shares of single classes gain over a tail, in log-likelihood of held-out samples.

    Both are learned from the other folds.

    Args:
        samples: N.
        tail: of the training counts.
        seed: of the folds.
    """
    fold = stratified_folds(np.zeros(len(samples), np.int64), FOLDS, seed)
    rest = LeftOut(np.ones((samples.num_classes, FOLDS)), fold)
    first = tail.shares(tail.slopes(samples, rest, tail.slope(samples)))
    second = estimators.em(samples, rest, first, AdaptSettings.strength)
    gained = 0.0
    for start, p, _ in samples.blocks():
        held = np.eye(FOLDS)[fold[start : start + len(p)]]
        both = (np.log(p @ q.astype(np.float32)) for q in (second, first))
        gained += float((held * (next(both) - next(both))).sum())
    return gained / len(samples)
