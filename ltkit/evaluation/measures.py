"""What a correction costs and gains beside accuracy, by class and by group.

Of predictions: recall, precision, F1, what a class takes from others, the worst class, harmonic
means. Of probabilities: areas under ROC and precision-recall curves, one class against the rest;
negative log-likelihood, Brier score, calibration error. `ltkit.settings.METRICS` has the names.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import SettingError, nearest
from ltkit.evaluation import calibration, choice, metrics, probabilities
from ltkit.numerals import shown
from ltkit.records import Classifier, ClassTable, FeatureSplit, Ints, ShotGroups
from ltkit.settings import GROUPS, METRICS, REPLICATES

Floats = NDArray[np.float64]

OF_CLASSES = ("recall", "precision", "f1", "taken", "auroc", "ap", "nll", "brier")
"""Figures that each class has."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What is measured of a setting; means over its runs.

    by_class: (C,) by name, NaN where there is none.
    by_group: for each name by group, None where there is none.
    worst: by group, the class with the lowest recall.
    interval: of a figure by group, where it has one.
    """

    by_class: Mapping[str, Floats]
    by_group: Mapping[str, Mapping[str, float | None]]
    worst: Mapping[str, int | None]
    interval: Mapping[str, Mapping[str, list[float]]]

    def row(self, classes: ClassTable) -> dict[str, Any]:
        """Return the entries of a document's row."""
        named = {
            group: None if c is None else {"id": c, "name": classes.name(c)}
            for group, c in self.worst.items()
        }
        return {
            "metrics": {name: dict(values) for name, values in self.by_group.items()},
            "worst_class": named,
            "metrics_interval": {name: dict(ends) for name, ends in self.interval.items()},
        }


@dataclass(frozen=True, eq=False)
class Judge:
    """Measures settings on one split.

    names: what is asked for; what needs no probabilities is always measured.
    weights: of `metrics.group_weights`.
    shares: (N,) weights of samples, of `priors.sample_weights`.
    """

    split: FeatureSplit
    groups: ShotGroups
    weights: Mapping[str, Floats]
    shares: Floats
    names: Sequence[str] = ()
    replicates: int = REPLICATES
    seed: int = 0

    def figures(
        self,
        predicted: NDArray[Any],
        confidence: Floats | None = None,
        classifiers: Iterable[Classifier] = (),
    ) -> Figures:
        """Measure a setting.

        Args:
            predicted: (S, N) class ids.
            confidence: (S, N) largest softmax probability, which a calibration error needs.
            classifiers: of the S runs; none is asked for where predictions suffice.
        """
        labels, size = self.split.labels, len(next(iter(self.weights.values())))
        by_class = of_predictions(predicted, labels, self.shares, size)
        if set(self.names) & {"auroc", "ap", "nll", "brier"}:
            every = [self._of_probabilities(one) for one in classifiers]
            by_class |= {name: np.mean([run[name] for run in every], axis=0) for name in every[0]}
        by_group = {n: dict(metrics.summarize(v, self.weights)) for n, v in by_class.items()}
        by_group["taken"] = self._taken(by_class["taken"])
        worst = worst_classes(by_class["recall"], self.weights)
        by_group |= averages(by_class["recall"], self.weights, worst)
        interval: dict[str, dict[str, list[float]]] = {}
        if "ece" in self.names and confidence is not None:
            by_group["ece"], interval["ece"] = self._error(predicted, confidence)
        asked = [name for name in METRICS if name in by_group]
        return Figures(by_class, {name: by_group[name] for name in asked}, worst, interval)

    def columns(self, row: str, found: Figures) -> dict[str, Floats]:
        """Return the figures of classes that were asked for, by the names of their columns."""
        asked = [name for name in OF_CLASSES if name in self.names and name != "recall"]
        return {f"{row} {name}": found.by_class[name] for name in asked}

    def _of_probabilities(self, classifier: Classifier) -> dict[str, Floats]:
        labels, size = self.split.labels, classifier.num_classes
        nll, brier, normaliser = probabilities.likelihoods(self.split, classifier)
        found = {
            name: metrics.class_accuracy(values, labels, size)
            for name, values in (("nll", nll), ("brier", brier))
            if name in self.names
        }
        if {"auroc", "ap"} & set(self.names):
            areas = probabilities.one_against_rest(self.split, classifier, normaliser, self.shares)
            pairs = zip(("auroc", "ap"), areas, strict=True)
            found |= {name: area for name, area in pairs if name in self.names}
        return found

    def _taken(self, by_class: Floats) -> dict[str, float | None]:
        """Return the share of all samples that each group's classes take from others."""
        sums = {name: float(by_class[ids].sum()) for name, ids in self.groups.items() if len(ids)}
        sums["all"] = float(by_class.sum())
        return {name: round(sums[name], 12) if name in sums else None for name in GROUPS}

    def _error(
        self, predicted: NDArray[Any], confidence: Floats
    ) -> tuple[dict[str, float | None], dict[str, list[float]]]:
        """Return the mean calibration error over runs, and the mean bounds of its interval."""
        right = predicted == self.split.labels
        found, ends = [], []
        for sure, hits in zip(confidence.astype(np.float64), right, strict=True):
            found.append(calibration.equal_mass_error(sure, hits, self.shares))
            ends.append(
                calibration.error_interval(
                    sure, hits, self.shares, replicates=self.replicates, seed=self.seed
                )
            )
        values = dict.fromkeys(GROUPS) | {"all": float(np.mean(found))}
        return values, {"all": np.mean(ends, axis=0).tolist()}


def of_predictions(
    predicted: NDArray[Any], labels: Ints, shares: Floats, num_classes: int
) -> dict[str, Floats]:
    """Return each class's recall, precision, F1, and the share of samples it takes from others.

    As in scikit-learn with ``zero_division=0``: a class that is never predicted has precision 0.
    Where a class has no sample, only what it takes is known.

    Args:
        predicted: (S, N) class ids; the figures are means over runs.
        labels: (N,) true classes.
        shares: (N,) weights of samples.
        num_classes: C.

    Example:
        >>> found = of_predictions(np.array([[0, 0, 1]]), np.array([0, 1, 1]), np.ones(3), 2)
        >>> {name: values.round(3).tolist() for name, values in found.items()}
        {'recall': [1.0, 0.5], 'precision': [0.5, 1.0], 'f1': [0.667, 0.667], 'taken': [0.333, 0.0]}
    """
    true = np.bincount(labels, shares, num_classes)
    there = np.bincount(labels, minlength=num_classes) > 0
    runs = []
    for row in predicted:
        hit = np.bincount(labels, shares * (row == labels), num_classes)
        said = np.bincount(row, shares, num_classes)
        runs.append(
            [
                _ratio(hit, true), _ratio(hit, said), _ratio(2 * hit, true + said),
                (said - hit).clip(0) / shares.sum(),
            ]
        )  # fmt: skip
    means = np.mean(runs, axis=0)
    means[:3, ~there] = np.nan
    return dict(zip(("recall", "precision", "f1", "taken"), means, strict=True))


def _ratio(part: NDArray[Any], whole: NDArray[Any]) -> Floats:
    """Return a quotient, 0 where there is nothing."""
    found: Floats = np.divide(part, whole, out=np.zeros(len(whole)), where=whole > 0)
    return found


def worst_classes(recall: Floats, weights: Mapping[str, Floats]) -> dict[str, int | None]:
    """Return the class of the lowest recall in each group, the first of equals.

    Example:
        >>> worst_classes(np.array([0.5, 0.2]), {"all": np.array([0.5, 0.5])})["all"]
        1
    """
    worst: dict[str, int | None] = dict.fromkeys(GROUPS)
    for name, weight in weights.items():
        ids = np.flatnonzero(weight > 0)
        worst[name] = int(ids[np.argmin(recall[ids])])
    return worst


def averages(
    recall: Floats, weights: Mapping[str, Floats], worst: Mapping[str, int | None]
) -> dict[str, dict[str, float | None]]:
    """Return what class recalls come to in each group: the lowest, and the harmonic mean.

    A class that is never right makes the harmonic mean 0. ``harmonic-groups`` is the harmonic mean
    of the shot groups' accuracies, which forgives that.

    Example:
        >>> weights = {"all": np.array([0.5, 0.5]), "few": np.array([1.0, 0.0]),
        ...            "many": np.array([0.0, 1.0])}
        >>> found = averages(np.array([0.2, 0.6]), weights, {"all": 0})
        >>> found["worst-class"]["all"], found["harmonic"]["all"], found["harmonic-groups"]["all"]
        (0.2, 0.3, 0.3)
    """
    harmonic: dict[str, float | None] = dict.fromkeys(GROUPS)
    for name, weight in weights.items():
        known = recall[weight > 0]
        mean = 1 / float(weight[weight > 0] @ (1 / known)) if known.all() else 0.0
        harmonic[name] = round(mean, 12)
    groups = choice.value(metrics.summarize(recall, weights), "harmonic")
    lowest = {name: None if (c := worst.get(name)) is None else float(recall[c]) for name in GROUPS}
    return {
        "worst-class": lowest,
        "harmonic": harmonic,
        "harmonic-groups": dict.fromkeys(GROUPS) | {"all": round(groups, 12)},
    }


def checked(names: Sequence[str], known: Sequence[str] = METRICS) -> Sequence[str]:
    """Return names of figures.

    Raises:
        SettingError: for another name; the nearest are suggested.
    """
    for name in names:
        if name not in known:
            raise SettingError("metrics", f"found {shown(name)}; {nearest(name, known)}")
    return names
