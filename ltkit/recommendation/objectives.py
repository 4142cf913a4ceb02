"""What a recommendation maximises, and what it must not cost: functions of class accuracies.

Beside the dimensions of `ltkit.records`: `K` candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import SettingError
from ltkit.settings import GROUPS, SHOT_GROUPS, Objective

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Limit:
    """The least gain over the baseline, in 0..1, that a group's accuracy must have."""

    group: str
    least: float


@dataclass(frozen=True, eq=False)
class Aim:
    """An objective on a split: which classes it weighs, and how.

    weights: of `ltkit.evaluation.metrics.group_weights`, (C,) each.
    """

    name: Objective
    weights: Mapping[str, Floats]

    def __post_init__(self) -> None:
        """Refuse an objective without classes.

        Raises:
            SettingError: when the split has no class of its group.
        """
        if self.name in GROUPS and self.name not in self.weights:
            raise SettingError(
                "objective", f"{self.name}: no such class in the validation split; use balanced"
            )

    @property
    def groups(self) -> list[Floats]:
        """The (C,) weights of the shot groups that there are."""
        return [self.weights[name] for name in SHOT_GROUPS if name in self.weights]

    def value(self, accuracy: Floats) -> Floats:
        """Return the (...) objective of (..., C) class accuracies.

        Example:
            >>> weights = {"few": np.array([1.0, 0.0]), "many": np.array([0.0, 1.0])}
            >>> float(Aim("harmonic", weights).value(np.array([0.2, 0.6])))  # 2 / (5 + 5 / 3)
            0.3
        """
        if self.name in self.weights:
            found: Floats = accuracy @ self.weights[self.name]
        elif self.name == "worst-class":
            found = accuracy[..., self.weights["balanced"] > 0].min(axis=-1)
        else:
            by_group = np.stack([accuracy @ weight for weight in self.groups])
            found = by_group.min(axis=0)
            if self.name == "harmonic":
                inverse = np.divide(1, by_group, out=np.full_like(by_group, np.inf),
                                    where=by_group > 0)  # fmt: skip
                found = len(by_group) / inverse.sum(axis=0)
        return found

    def slope(self, accuracy: Floats) -> Floats:
        """Return how much the objective moves with each class's accuracy: (C,) of (C,).

        Example:
            >>> weights = {"few": np.array([1.0, 0.0]), "many": np.array([0.0, 1.0])}
            >>> Aim("worst-group", weights).slope(np.array([0.2, 0.6])).tolist()
            [1.0, 0.0]
        """
        if self.name in self.weights:
            return self.weights[self.name]
        if self.name == "worst-class":
            known = np.where(self.weights["balanced"] > 0, accuracy, np.inf)
            return np.asarray(np.arange(len(accuracy)) == known.argmin(), np.float64)
        by_group = np.array([accuracy @ weight for weight in self.groups])
        if self.name == "worst-group" or by_group.min() == 0:
            return self.groups[int(by_group.argmin())]
        shares = float(self.value(accuracy)) ** 2 / len(by_group) / by_group**2
        return np.asarray(shares @ np.stack(self.groups))


@dataclass(frozen=True, eq=False)
class Tally:
    """How often each of K candidates is right where the baseline is not, by class.

    samples: (C,) samples. base: (C,) of them the baseline is right on.
    gain: (K, C) sums of the gains -1, 0 and 1 of right over the baseline; square: of their squares.
    """

    samples: Floats
    base: Floats
    gain: Floats
    square: Floats

    @property
    def accuracy(self) -> Floats:
        """(K, C) class accuracies; 1 for a class without samples, which so favours no candidate."""
        n = np.maximum(self.samples, 1)
        return np.where(self.samples > 0, (self.base + self.gain) / n, 1.0)

    def gains(self, weights: Floats) -> tuple[Floats, Floats]:
        """Return the (K,) weighted mean gains over the classes, and their standard errors.

        The variance within a class is the unbiased one; of a single sample, its square.

        Example:
            >>> t = Tally(np.array([2.0]), np.array([1.0]), np.array([[1.0]]), np.array([[1.0]]))
            >>> [v.round(3).tolist() for v in t.gains(np.array([1.0]))]  # of 0 and 1
            [[0.5], [0.5]]
        """
        n = np.maximum(self.samples, 1)
        spread = self.square - np.where(n > 1, self.gain**2 / n, 0)
        variance = spread / np.maximum(n - 1, 1) / n
        return self.gain / n @ weights, np.sqrt(np.maximum(variance, 0) @ weights**2)

    def holds(self, limits: Sequence[Limit], weights: Mapping[str, Floats],
              confidence: float) -> NDArray[np.bool_]:  # fmt: skip
        """Return the (K,) candidates that keep every limit with a confidence.

        Raises:
            SettingError: for a limit on a group without classes.
        """
        held = np.ones(len(self.gain), bool)
        factor = NormalDist().inv_cdf(confidence)
        for limit in limits:
            if limit.group not in weights:
                said = f"{limit.group}: no such class in the validation split; leave it out"
                raise SettingError("keep", said)
            gain, error = self.gains(weights[limit.group])
            held &= gain - factor * error >= limit.least - 1e-12
        return held
