r"""Conformity scores: how little a class suits an image, from its probability and those of others.

A set has the classes whose score is at most a threshold. No score draws at random, so that an image
has the same set each time: of APS and RAPS, a set has the class that passes the threshold's
probability only if all of its own fits.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints
from ltkit.settings import ConformalSettings, SetScore

Floats = NDArray[np.float64]

SCORES: Mapping[SetScore, str] = {
    "softmax": "the probability itself",
    "aps": "the probability of all classes that are at least as likely, together",
    "raps": "the same, and a price for each class beyond the first few",
    "pas": "the probability over the class's share in training: rare classes sooner",
}
"""What each compares, in words."""


@dataclass(frozen=True, eq=False)
class Score:
    """A score with what it needs.

    prior: (C,) shares of the classes in training, of ``pas``; others do not look at them.
    penalty, free: of ``raps``: the price of each class beyond the `free` most likely ones.
    """

    name: SetScore
    prior: Floats
    penalty: float = ConformalSettings.rank_penalty
    free: int = ConformalSettings.free_ranks

    @property
    def most(self) -> float:
        """The largest score that any class can have: a threshold of it lets all of them in."""
        beyond = max(len(self.prior) - self.free, 0)
        return {"softmax": 1.0, "aps": 1.0, "raps": 1 + self.penalty * beyond, "pas": 0.0}[
            self.name
        ]

    def of(self, p: Floats) -> Floats:
        r"""Return the (B, C) score of each class, from (B, C) probabilities.

        .. math:: 1 - p_y, \quad \sum_{p_c \geq p_y} p_c, \quad
            \sum_{p_c \geq p_y} p_c + \lambda \max(0, |\{c: p_c \geq p_y\}| - k), \quad
            -p_y / \pi_y

        Example:
            >>> p, prior = np.array([[0.5, 0.2, 0.3]]), np.array([0.6, 0.1, 0.3])
            >>> for name in SCORES:
            ...     Score(name, prior, 0.1, 1).of(p).round(4).tolist()
            [[0.5, 0.8, 0.7]]
            [[0.5, 1.0, 0.8]]
            [[0.5, 1.2, 0.9]]
            [[-0.8333, -2.0, -1.0]]

        Source:
            Sadinle et al., JASA 2019; Romano et al., NeurIPS 2020 (APS); Angelopoulos et al., ICLR
            2021 (RAPS), both without the random number; Ding et al. 2025, arXiv:2507.06867 (PAS).
        """
        return next(scored([self], p))

    def of_labels(self, p: Floats, labels: Ints) -> Floats:
        """Return the (B,) score of each image's true class."""
        found: Floats = self.of(p)[np.arange(len(labels)), labels]
        return found


def scored(scores: Iterable[Score], p: Floats) -> Iterator[Floats]:
    """Yield (B, C) what each score is of (B, C) probabilities, which are sorted once for all."""
    reached: tuple[Floats, Ints] | None = None
    for score in scores:
        if score.name == "softmax":
            yield 1 - p
        elif score.name == "pas":
            yield -p / score.prior
        else:
            reached = reached or _reached(p)
            mass, rank = reached
            beyond = np.maximum(rank - score.free, 0)
            yield mass + score.penalty * beyond if score.name == "raps" else mass


def _reached(p: Floats) -> tuple[Floats, Ints]:
    """Return (B, C) the probability of all classes at least as likely, and how many they are.

    Classes of the same probability have the same of both, whatever their order.

    Example:
        >>> reached, rank = _reached(np.array([[0.25, 0.5, 0.25]]))
        >>> reached.tolist(), rank.tolist()
        ([[1.0, 0.5, 1.0]], [[3, 1, 3]])
    """
    order = np.argsort(-p, axis=1)
    ordered = np.take_along_axis(p, order, axis=1)
    size = p.shape[1]
    last = np.full(p.shape, size - 1)
    last[:, :-1] = np.where(ordered[:, :-1] != ordered[:, 1:], np.arange(size - 1), size - 1)
    last = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1]  # of those that are as likely
    sums = np.minimum(np.take_along_axis(ordered.cumsum(axis=1), last, axis=1), 1.0)
    reached, rank = np.empty_like(p), np.empty(p.shape, np.int64)
    np.put_along_axis(reached, order, sums, axis=1)
    np.put_along_axis(rank, order, last + 1, axis=1)
    return reached, rank


def training_shares(train_count: Ints) -> Floats:
    """Return (C,) shares of the classes in training; one image is assumed where there is none.

    Example:
        >>> training_shares(np.array([3, 0])).tolist()
        [0.75, 0.25]
    """
    counts = np.maximum(train_count, 1).astype(np.float64)
    shares: Floats = counts / counts.sum()
    return shares
