r"""The error among the answered samples, by shot group, and how sure it is.

.. math::
    e_g = \frac{\sum_{i \in g} w_i [i\ answered, wrong]}{\sum_{i \in g} w_i [i\ answered]}, \qquad
    balanced = \sum_g u_g e_g

with :math:`w_i = 1 / (C_g n_{y_i})`, so that the classes of a group count alike, and
:math:`u_g` the group's share of the classes that have samples. Where all is answered, it is one
less the balanced accuracy; a group of which nothing is answered counts as wrong, so that handing
over the rare classes is no way to a low error. ``all`` is the error among all answered samples.

Beside the dimensions of `ltkit.records`: `G` shot groups.

Source:
    Narasimhan et al., Learning to Reject Meets Long-Tail Learning, ICLR 2024 (there with
    :math:`u_g = 1 / G`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.abstention.posteriors import Floats, Groups
from ltkit.evaluation.intervals import LEVEL
from ltkit.records import Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Sample:
    """Whose errors are counted.

    labels: (N,) true classes.
    group: (N,) place of each one's group.
    weight: (N,) w, whose sum over a group is 1.
    share: (G,) u; 0 for a group without a sample.
    names: G.
    num_classes: C.
    """

    labels: Ints
    group: Ints
    weight: Floats
    share: Floats
    names: tuple[str, ...]
    num_classes: int

    @classmethod
    def of(cls, labels: Ints, groups: Groups) -> "Sample":
        """Return what errors are weighted by.

        Example:
            >>> found = Sample.of(np.array([0, 0, 1, 2]), Groups(("few", "many"), np.array([1, 0, 0])))
            >>> found.weight.tolist(), found.share.round(2).tolist()
            ([0.5, 0.5, 0.5, 0.5], [0.67, 0.33])
        """  # noqa: E501
        num_classes = len(groups.of_class)
        counts = np.bincount(labels, minlength=num_classes)
        there = np.bincount(groups.of_class[counts > 0], minlength=len(groups))
        group = groups.of_class[labels]
        weight = 1.0 / (there[group] * counts[labels])
        return cls(labels, group, weight, there / there.sum(), groups.names, num_classes)

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def at(self, rows: Ints) -> "Sample":
        """Return some samples, weighted anew."""
        of_class = np.zeros(self.num_classes, np.int64)
        of_class[self.labels] = self.group
        return Sample.of(self.labels[rows], Groups(self.names, of_class))

    def answered(self, kept: Bools) -> Floats:
        """Return (G,) the share of each group that is answered, its classes alike."""
        return np.bincount(self.group, self.weight * kept, len(self.names)).astype(np.float64)

    def errors(self, kept: Bools, wrong: Bools) -> Floats:
        """Return (G,) e; 1 where nothing of a group is answered.

        Args:
            kept: (N,) whether a sample is answered.
            wrong: (N,) whether its answer is wrong.
        """
        answered = self.answered(kept)
        lost = np.bincount(self.group, self.weight * (kept & wrong), len(self.names))
        return np.divide(lost, answered, out=np.ones(len(answered)), where=answered > 0)

    def balanced(self, kept: Bools, wrong: Bools) -> float:
        """Return the balanced error among the answered samples."""
        return float(self.errors(kept, wrong) @ self.share)

    def figures(self) -> tuple[str, ...]:
        """Return the names of the figures: of each group with samples, all, balanced."""
        there = [name for name, share in zip(self.names, self.share, strict=True) if share > 0]
        return (*there, "all", "balanced")


@dataclass(frozen=True, eq=False)
class Risk:
    """A figure, and what each sample adds to it.

    value: the error; 1 where nothing is answered.
    parts: (N,) first-order change of the figure with a sample; their sum is 0.
    size: as how many answered samples of equal weight it is of; 0 where nothing is answered.
    """

    value: float
    parts: Floats
    size: float


def risks(sample: Sample, kept: Bools, wrong: Bools) -> dict[str, Risk]:
    """Return each figure of `Sample.figures`.

    Example:
        >>> one = Sample.of(np.array([0, 0, 1]), Groups(("few", "many"), np.array([1, 0])))
        >>> kept, wrong = np.array([True, True, False]), np.array([True, False, True])
        >>> {name: found.value for name, found in risks(one, kept, wrong).items()}
        {'few': 1.0, 'many': 0.5, 'all': 0.5, 'balanced': 0.75}
    """
    found = {
        name: _ratio(np.where(sample.group == g, sample.weight, 0.0), kept, wrong)
        for g, name in enumerate(sample.names)
        if sample.share[g] > 0
    }
    shares = {name: u for name, u in zip(sample.names, sample.share, strict=True) if u > 0}
    together = _weighted(found, shares)
    return found | {"all": _ratio(np.full(len(sample), 1 / len(sample)), kept, wrong),
                    "balanced": together}  # fmt: skip


def _ratio(weight: Floats, kept: Bools, wrong: Bools) -> Risk:
    """Return the weighted share of wrong answers among the answers."""
    inside = weight * kept
    total = float(inside.sum())
    if total == 0:
        return Risk(1.0, np.zeros(len(weight)), 0.0)
    value = float(inside @ wrong) / total
    return Risk(value, inside * (wrong - value) / total, total**2 / float(inside @ inside))


def _weighted(found: Mapping[str, Risk], shares: Mapping[str, float]) -> Risk:
    """Return a weighted sum of figures of different samples."""
    value = float(sum(shares[name] * risk.value for name, risk in found.items()))
    parts = sum((shares[name] * risk.parts for name, risk in found.items()), np.float64(0))
    sizes = [shares[name] ** 2 / risk.size if risk.size else np.inf for name, risk in found.items()]
    return Risk(value, np.asarray(parts), 1 / float(sum(sizes)))


def variance(parts: Floats, sample: Sample) -> tuple[float, float]:
    r"""Return the variance of a figure over new samples of the same classes, and its freedom.

    .. math:: \sum_c \frac{n_c}{n_c - 1} \sum_{i \in c} (z_i - \bar z_c)^2

    A class with one sample has :math:`z^2` in place of it.
    """
    size = sample.num_classes
    counts = np.bincount(sample.labels, minlength=size)
    sums, squares = (np.bincount(sample.labels, v, size) for v in (parts, parts**2))
    inside = np.maximum(counts, 1)
    spread = np.maximum(squares - sums**2 / inside, 0) * inside / np.maximum(counts - 1, 1)
    spread = np.where(counts == 1, squares, spread)
    used = squares > 0
    freedom = max(float((np.maximum(counts - 1, 0) * used).sum()), 1.0)
    return float(spread.sum()), freedom


def interval(risk: Risk, sample: Sample, fits: Floats | None = None) -> list[float] | None:
    """Return the 95 % interval of an error: Wilson's, of as many samples as give its variance.

    Args:
        risk: the error.
        sample: whose it is.
        fits: (K,) the same error by the costs found without each of K parts; half-widths add in
            squares. None: the costs are given.

    Returns:
        None where fewer than two samples are answered.

    Source:
        Korn and Graubard, Survey Methodology 24, 1998 (proportions of weighted samples).
    """
    if risk.size <= 1:
        return None
    spread, freedom = variance(risk.parts, sample)
    odds = risk.value * (1 - risk.value)
    n = min(odds / spread, risk.size) if spread > 0 and odds > 0 else risk.size
    t2 = _quantile(freedom if spread > 0 else risk.size - 1) ** 2
    centre = (risk.value + t2 / (2 * n)) / (1 + t2 / n)
    half = sqrt(t2 * (odds / n + t2 / (4 * n * n))) / (1 + t2 / n)
    more = of_fits(fits)
    below = sqrt(max(risk.value - centre + half, 0) ** 2 + more)
    above = sqrt(max(centre + half - risk.value, 0) ** 2 + more)
    ends = max(risk.value - below, 0.0), min(risk.value + above, 1.0)
    return [round(end, 12) for end in ends]


def spread_interval(
    value: float, parts: Floats, sample: Sample, fits: Floats | None = None
) -> list[float]:
    """Return the 95 % interval of what is linear in errors: an area, a paired difference."""
    spread, freedom = variance(parts, sample)
    half = sqrt(_quantile(freedom) ** 2 * spread + of_fits(fits))
    return [round(value - half, 12), round(value + half, 12)]


def of_fits(fits: Floats | None) -> float:
    r"""Return the square of the half-width that costs found on other samples give a figure.

    .. math:: t_{K - 1}^2 \frac{K - 1}{K} \sum_k (e_k - \bar e)^2

    Args:
        fits: (K,) the figure by the costs found without each of K parts of val; None: no costs.

    Source:
        Quenouille's jackknife that leaves out groups; Tukey, Annals of Mathematical Statistics 29,
        1958.
    """
    if fits is None:
        return 0.0
    count = len(fits)
    return (
        _quantile(count - 1) ** 2 * (count - 1) / count * float(((fits - fits.mean()) ** 2).sum())
    )


def _quantile(freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))


def share_interval(count: Any, total: Any) -> list[float]:
    """Return the exact 95 % interval of a share of equal samples.

    Source:
        Clopper and Pearson, Biometrika 26, 1934.

    Example:
        >>> [round(end, 3) for end in share_interval(0, 10)]  # 1 - 0.025 ** (1 / 10)
        [0.0, 0.308]
    """
    from scipy.special import betaincinv

    tail = (1 - LEVEL) / 2
    low = betaincinv(count, total - count + 1, tail) if count else 0.0
    high = betaincinv(count + 1, total - count, 1 - tail) if count < total else 1.0
    return [round(float(low), 12), round(float(high), 12)]
