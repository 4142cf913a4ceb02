r"""Rejectors: which samples are handed over, and what is answered to the others.

.. math::
    h(x) = \arg\max_y p_y / \alpha_{[y]}, \qquad
    s(x) = \sum_y (1 / \alpha_{[y]} - \mu_{[y]}) p_y - \max_y p_y / \alpha_{[y]}

with [y] the shot group of class y; x is handed over when s(x) is above the threshold. With α = 1
and μ = 0 it is :math:`1 - \max_y p_y`: Chow's rule, the max softmax.

Source:
    Narasimhan et al., Learning to Reject Meets Long-Tail Learning, ICLR 2024.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.abstention.posteriors import Floats, Groups, Posteriors
from ltkit.errors import FormatError
from ltkit.records import Rule

KIND = "rejector"


@dataclass(frozen=True, eq=False)
class Costs:
    """How a rejector weights the shot groups.

    alpha: (G,) positive.
    mu: (G,).
    """

    alpha: Floats
    mu: Floats

    @classmethod
    def none(cls, size: int) -> "Costs":
        """Return those of the max softmax."""
        return cls(np.ones(size), np.zeros(size))

    def scores(self, found: Posteriors) -> Floats:
        """Return (N,) scores; the greater, the sooner a sample is handed over.

        Example:
            >>> one = Posteriors(np.array([[0.7, 0.3]]), np.array([[0.6, 0.3]]), np.zeros((1, 2)))
            >>> Costs.none(2).scores(one).round(2).tolist()  # 1 - 0.6
            [0.4]
            >>> costs = Costs(np.array([2.0, 0.5]), np.array([0.0, 1.0]))
            >>> costs.scores(one).round(2).tolist()  # 0.7 / 2 + 0.3 * (2 - 1) - 0.3 * 2
            [0.05]
        """
        scores: Floats = found.mass @ (1 / self.alpha - self.mu)
        scores -= (found.top / self.alpha).max(axis=1)
        return scores

    def answers(self, found: Posteriors) -> NDArray[np.int32]:
        """Return (N,) the class that is answered, of equal ones that of the first group."""
        best = (found.top / self.alpha).argmax(axis=1)
        answers: NDArray[np.int32] = found.leader[np.arange(len(found)), best]
        return answers


def threshold_for(scores: Floats, budget: float) -> float:
    """Return the least threshold above which at most a share of the scores is.

    Example:
        >>> threshold_for(np.array([0.1, 0.4, 0.3, 0.2]), 0.25), threshold_for(np.ones(4), 0.5)
        (0.3, 1.0)
    """
    handed = int(np.floor(budget * len(scores) + 1e-9))
    return float(np.partition(scores, len(scores) - 1 - handed)[len(scores) - 1 - handed])


@dataclass(frozen=True, eq=False)
class Rejector:
    """Costs, and the threshold of their scores."""

    groups: Groups
    costs: Costs
    threshold: float

    def content(self) -> dict[str, Any]:
        """Return it as the plain data of a rule."""
        return {
            "groups": list(self.groups.names), "group_of_class": self.groups.of_class.tolist(),
            "alpha": self.costs.alpha.tolist(), "mu": self.costs.mu.tolist(),
            "threshold": self.threshold,
        }  # fmt: skip

    @classmethod
    def of_rule(cls, rule: Rule) -> "Rejector":
        """Return the rejector of a rule.

        Raises:
            FormatError: when its content is none, or a group of it has no class.
        """
        content = rule.content
        names = content.get("groups")
        size = len(names) if isinstance(names, list) else 0
        numbers = {of: _numbers(content, of, size) for of in ("alpha", "mu")}
        of_class = content.get("group_of_class")
        places = of_class if isinstance(of_class, list) else []
        every = all(type(g) is int for g in places) and set(places) == set(range(size))
        if not size or len(places) != rule.num_classes or not every:
            raise FormatError(
                f"{rule.source}: group_of_class: expected a group from 0 to {max(size - 1, 0)} for "
                f"each of {rule.num_classes} classes; make the rule again"
            )
        threshold = _numbers({"threshold": [content.get("threshold")]}, "threshold", 1)
        alpha, mu = (numbers[of] for of in ("alpha", "mu"))
        if alpha is None or mu is None or threshold is None or min(alpha) <= 0:
            raise FormatError(
                f"{rule.source}: alpha, mu, threshold: expected {size} positive numbers, {size} "
                "numbers and a number; make the rule again"
            )
        groups = Groups(tuple(map(str, names or ())), np.array(places))
        return cls(groups, Costs(np.array(alpha), np.array(mu)), threshold[0])


def _numbers(content: Mapping[str, Any], name: str, size: int) -> list[float] | None:
    """Return a list of so many finite numbers; None where there is none."""
    found = content.get(name)
    if not isinstance(found, list) or len(found) != size:
        return None
    if not all(type(v) in (int, float) and isfinite(v) for v in found):
        return None
    return [float(v) for v in found]
