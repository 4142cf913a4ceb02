"""The rejector that is shipped: its costs and threshold, for a budget or a wanted error."""

from typing import Any

import numpy as np

from ltkit.abstention.fitting import fit
from ltkit.abstention.measuring import Curve, Judge, curve, point
from ltkit.abstention.posteriors import Floats, Groups
from ltkit.abstention.rejectors import Costs, Rejector, threshold_for
from ltkit.abstention.risks import risks
from ltkit.errors import SettingError
from ltkit.evaluation.intervals import LEVEL
from ltkit.settings import Rejection, RiskOf

FINE = 10
"""Steps between two budgets of the curve, among which that of a wanted error is sought."""


def rejector_at(
    judge: Judge, groups: Groups, method: Rejection, budget: float
) -> tuple[Rejector, dict[str, Any]]:
    """Return the rejector for a budget, and what a document says of it.

    Args:
        judge: of val, in folds.
        groups: the shot groups of its classes.
        method: how samples are ranked.
        budget: the share that is handed over.
    """
    costs = Costs.none(len(groups))
    if method == "plug-in":
        costs = fit(judge.learned, judge.taught, judge.counts, budget)
    scores = costs.scores(judge.learned)
    made = Rejector(groups, costs, threshold_for(scores, budget))
    kept, wrong = judge.decide(method, budget)
    said = {
        "method": method, "budget": budget, "threshold": made.threshold,
        "threshold_interval": order_interval(scores, budget),
        "alpha": dict(zip(groups.names, costs.alpha.tolist(), strict=True)),
        "mu": dict(zip(groups.names, costs.mu.tolist(), strict=True)),
        "val": point(
            judge.sample, kept, risks(judge.sample, kept, wrong), judge.fits(method, budget)
        ),
    }  # fmt: skip
    return made, said


def order_interval(scores: Floats, budget: float) -> list[float | None]:
    """Return the 95 % interval of the score that a share of new samples is above.

    Its ends are two of the scores, by how many of N can be above the true one. None is an end that
    lies beyond all of them.

    Example:
        >>> order_interval(np.arange(100.0), 0.1)  # of 100, 5 to 16 are above the true one
        [83.0, 95.0]
    """
    from scipy.stats import binom

    tail = (1 - LEVEL) / 2
    size, ordered = len(scores), np.sort(scores)[::-1]
    fewest, most = (int(binom.ppf(level, size, budget)) for level in (tail, 1 - tail))
    low = float(ordered[most]) if most < size else None
    return [low, float(ordered[fewest - 1]) if fewest else None]


def budget_for(
    judge: Judge, method: Rejection, found: Curve, risk: float, of: RiskOf
) -> tuple[float, list[float | None]]:
    """Return the least budget at which an error is small enough, and the interval of it.

    The interval is of the budgets at which the ends of the error's interval are small enough; None
    is an end that no budget of the curve reaches.

    Args:
        judge: of val, in folds.
        method: how samples are ranked.
        found: its curve there.
        risk: the wanted error.
        of: which error.

    Raises:
        SettingError: when no budget reaches it.
    """
    budgets = [one["budget"] for one in found.points]
    values = [one["risk"][of] for one in found.points]
    place = _first(values, risk)
    if place is None:
        best = int(np.argmin(values))
        raise SettingError(
            "risk",
            f"found {risk:g}, the {of} error is at least {values[best]:.3f} on val, with "
            f"{budgets[best]:.0%} handed over; ask for more, or correct the head first",
        )
    ends = [_end(found, of, end, risk) for end in (0, 1)]
    if place == 0:
        return budgets[0], ends
    fine = np.linspace(budgets[place - 1], budgets[place], FINE + 1)[1:].round(6).tolist()
    between = [one["risk"][of] for one in curve(judge, method, fine).points]
    return fine[_first(between, risk) or 0], ends


def _first(values: list[float], most: float) -> int | None:
    """Return the place of the first value that is small enough; None where none is."""
    return next((n for n, value in enumerate(values) if value <= most), None)


def _end(found: Curve, of: RiskOf, end: int, risk: float) -> float | None:
    """Return the first budget at which an end of the error's interval is small enough."""
    ends = [
        (one["interval"][of] or [0.0, 1.0])[end] for one in found.points
    ]  # a figure without an interval may be anything
    place = _first(ends, risk)
    return None if place is None else float(found.points[place]["budget"])
