"""Risk-coverage curves: the error among the answers, by how much is handed over.

On val a sample is judged by costs that were found without its fold; another split by costs that
were found on val. Each part's own scores say who is handed over at a budget, which needs no labels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ltkit.abstention.fitting import fit
from ltkit.abstention.posteriors import Floats, Posteriors
from ltkit.abstention.rejectors import Costs, threshold_for
from ltkit.abstention.risks import (
    Bools,
    Risk,
    Sample,
    interval,
    risks,
    share_interval,
    spread_interval,
)
from ltkit.records import Ints
from ltkit.settings import Rejection

METHODS: tuple[Rejection, ...] = ("max-softmax", "plug-in")

BUDGETS = tuple(step / 10 for step in range(10))
"""Shares handed over, of a curve."""


@dataclass(frozen=True, eq=False)
class Judge:
    """Decides on samples with what was learned from others.

    found, sample: of the judged split.
    learned, taught: of the split that costs are found on.
    counts: (G,) mean training counts of the groups.
    fold: (N,) of the judged samples, where both splits are one; None: all are judged alike.
    """

    found: Posteriors
    sample: Sample
    learned: Posteriors
    taught: Sample
    counts: Floats
    fold: Ints | None = None
    _costs: dict[float, list[tuple[Ints, Costs]]] = field(default_factory=dict, init=False)

    def parts(self) -> Iterator[tuple[Ints, Posteriors, Sample]]:
        """Yield the judged rows of each part, and what its costs are found on."""
        if self.fold is None:
            yield np.arange(len(self.sample)), self.learned, self.taught
            return
        for number in range(int(self.fold.max()) + 1):
            rest = np.flatnonzero(self.fold != number)
            yield np.flatnonzero(self.fold == number), self.learned.at(rest), self.taught.at(rest)

    def costs(self, method: Rejection, budget: float) -> list[tuple[Ints, Costs]]:
        """Return the costs that judge each part's rows."""
        if method == "max-softmax":
            none = Costs.none(len(self.sample.names))
            return [(rows, none) for rows, _, _ in self.parts()]
        if budget not in self._costs:
            self._costs[budget] = [
                (rows, fit(learned, taught, self.counts, budget))
                for rows, learned, taught in self.parts()
            ]
        return self._costs[budget]

    def decide(self, method: Rejection, budget: float) -> tuple[Bools, Bools]:
        """Return (N,) whether each sample is answered, and whether its answer is wrong."""
        kept, wrong = (np.empty(len(self.sample), np.bool_) for _ in range(2))
        for rows, costs in self.costs(method, budget):
            some = self.found.at(rows)
            scores = costs.scores(some)
            kept[rows] = scores <= threshold_for(scores, budget)
            wrong[rows] = costs.answers(some) != self.sample.labels[rows]
        return kept, wrong

    def fits(self, method: Rejection, budget: float) -> dict[str, Floats]:
        """Return, by figure, (K,) what the costs found without each fold come to on all samples.

        Returns:
            Nothing where one set of costs judges all samples: it is the one that is shipped.
        """
        if self.fold is None or method == "max-softmax":
            return {}
        rows = []
        for _, costs in self.costs(method, budget):
            scores = costs.scores(self.found)
            kept = scores <= threshold_for(scores, budget)
            wrong = costs.answers(self.found) != self.sample.labels
            rows.append({name: r.value for name, r in risks(self.sample, kept, wrong).items()})
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def point(
    sample: Sample, kept: Bools, found: Mapping[str, Risk], fits: Mapping[str, Floats]
) -> dict[str, Any]:
    """Return what a document says of one point of a curve.

    Args:
        sample: the judged samples.
        kept: (N,) whether they are answered.
        found: the errors.
        fits: of `Judge.fits`.
    """
    handed = int((~kept).sum())
    by_group = zip(sample.names, sample.share, sample.answered(~kept), strict=True)
    return {
        "rejected": round(handed / len(kept), 12),
        "rejected_interval": share_interval(handed, len(kept)),
        "rejected_by_group": {name: round(float(r), 12) for name, share, r in by_group if share},
        "risk": {name: round(float(risk.value), 12) for name, risk in found.items()},
        "interval": {n: interval(risk, sample, fits.get(n)) for n, risk in found.items()},
    }


@dataclass(frozen=True, eq=False)
class Curve:
    """The points of a method, and the area below its curves.

    points: one a budget, by `point`.
    area: by figure, the mean error over the budgets.
    fits: by figure, (K,) the same by the costs found without each fold; empty, as in `Judge.fits`.
    """

    points: list[dict[str, Any]]
    area: dict[str, Risk]
    fits: dict[str, Floats]


def curve(judge: Judge, method: Rejection, budgets: Sequence[float] = BUDGETS) -> Curve:
    """Return a method's curves over ascending budgets."""
    points, sums, areas = list[dict[str, Any]](), dict[str, Risk](), dict[str, Floats]()
    for budget, weight in zip(budgets, _weights(budgets), strict=True):
        kept, wrong = judge.decide(method, budget)
        found = risks(judge.sample, kept, wrong)
        fits = judge.fits(method, budget)
        points.append({"budget": budget, **point(judge.sample, kept, found, fits)})
        areas = {name: areas.get(name, 0.0) + weight * values for name, values in fits.items()}
        for name, risk in found.items():
            old = sums.get(name, Risk(0.0, np.zeros(len(kept)), 0.0))
            sums[name] = Risk(
                old.value + weight * risk.value, old.parts + weight * risk.parts, old.size
            )
    return Curve(points, sums, areas)


def _weights(budgets: Sequence[float]) -> Floats:
    """Return the weights by which values at budgets have a mean: trapezes.

    Example:
        >>> _weights((0.0, 0.1, 0.2)).round(2).tolist()
        [0.25, 0.5, 0.25]
    """
    at = np.asarray(budgets)
    steps = np.diff(at)
    weights: Floats = (np.append(steps, 0) + np.append(0, steps)) / 2 / (at[-1] - at[0])
    return weights


def as_row(name: str, found: Curve, sample: Sample) -> dict[str, Any]:
    """Return what a document says of a method."""
    return {
        "method": name,
        "area": {of: round(float(risk.value), 12) for of, risk in found.area.items()},
        "area_interval": {
            of: spread_interval(float(risk.value), risk.parts, sample, found.fits.get(of))
            for of, risk in found.area.items()
        },
        "points": found.points,
    }


def difference(one: Curve, other: Curve, sample: Sample) -> dict[str, Any]:
    """Return how much less area one curve has than that of the max softmax, on the same samples."""
    values = {of: float(risk.value - other.area[of].value) for of, risk in one.area.items()}
    parts = {of: risk.parts - other.area[of].parts for of, risk in one.area.items()}
    return {
        "area": {of: round(value, 12) for of, value in values.items()},
        "area_interval": {
            of: spread_interval(value, parts[of], sample, one.fits.get(of))
            for of, value in values.items()
        },
    }
