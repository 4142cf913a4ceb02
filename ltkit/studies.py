"""AlphaNet over many settings at once: neighbours and joint fits, and the choice among them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import alphanet, evaluation
from ltkit.errors import InputError
from ltkit.evaluation import choice, metrics
from ltkit.files import classifiers, hdf5
from ltkit.files.scratch import Parts
from ltkit.neighbors import nearest_classes
from ltkit.neighbors.class_means import class_means
from ltkit.records import Correction, FeatureSet, Ints, Neighbors, ShotGroups, joined
from ltkit.settings import AlphaNetSettings, Metric, NeighborSettings, Select


@dataclass(frozen=True, eq=False)
class Study:
    """A features file with what every fit on it needs.

    of: (F,) classes to correct; among: classes that may be their neighbours.
    absent: classes that a fit must not know of.
    means: (C, D) float64 class means of the training features.
    """

    features: FeatureSet
    of: Ints
    among: Ints
    absent: Ints
    means: NDArray[np.float64]

    def neighbors(self, k: int, metric: Metric, seed: int) -> Neighbors:
        """Return the neighbours of the classes to correct.

        Raises:
            InputError: as `ltkit.neighbors.nearest_classes`.
        """
        return nearest_classes(
            self.features, self.means, self.of, self.among, NeighborSettings(k, metric, seed)
        )

    def fit(self, runs: Sequence[AlphaNetSettings], k: int, metric: Metric,
            device: str = "cpu") -> Correction:  # fmt: skip
        """Fit all runs together; the random control draws other neighbours for each seed."""
        base, train = self.features.classifier(), self.features.split("train")
        val = self.features.splits.get("val")
        seeds = sorted({run.seed for run in runs}) if metric == "random" else [runs[0].seed]
        corrections = []
        for seed in seeds:
            near = self.neighbors(k, metric, seed)
            own = [run for run in runs if metric != "random" or run.seed == seed]
            corrections.append(
                alphanet.fit(base, near, train, val, own, absent=self.absent, device=device)
            )
        return joined(corrections)


def study(features: FeatureSet, of: Ints, among: Ints, absent: Ints) -> Study:
    """Prepare a study: the class means are computed once.

    Raises:
        InputError: when there is no train split.
    """
    means, _ = class_means(features.split("train"), len(features.classes))
    return Study(features, np.setdiff1d(of, absent), among, absent, means)


@dataclass(frozen=True)
class Point:
    """One setting of a sweep, scored on the validation split.

    accuracy, std: by group, means and deviations over seeds; None where a group is absent, and
        for the deviation of a single seed.
    """

    k: int
    metric: str
    rho: float
    seeds: int
    accuracy: Mapping[str, float | None]
    std: Mapping[str, float | None]


def sweep(
    wanted: Study,
    ks: Iterable[int],
    metrics: Iterable[Metric],
    runs: Sequence[AlphaNetSettings],
    groups: ShotGroups,
    *,
    parts: Parts,
    device: str = "cpu",
    report: Callable[[str], None] = lambda message: None,
) -> tuple[list[Point], Point, list[Path]]:
    """Fit every k and metric with all runs, and score each setting on the validation split.

    Each joint fit is kept in a file as soon as it is done, so that a sweep that was stopped goes on
    where it was and gives the same table.

    Args:
        wanted: the features and the classes.
        ks: how many neighbours.
        metrics: which neighbours.
        runs: rhos times seeds.
        groups: shot groups for the scores.
        parts: for the finished fits; made with the first of them, and theirs to take.
        device: where to train.
        report: called with a line for each fit.

    Returns:
        The points in the order of metrics, ks and rhos; that of the file's own head (k 0, rho 0);
        and the files of the fits.

    Raises:
        InputError: without a validation split, when a k is out of range, or as `Study.fit`; then
            kept fits are as they were.
    """
    features = wanted.features
    val = features.splits.get("val")
    if val is None:
        raise InputError(
            f"{features.source}: no validation split to score a sweep on; extract one, or fit a "
            "single setting with alphanet fit"
        )
    settings = [(metric, k) for metric in metrics for k in ks]
    for metric, k in settings:  # all of them, before the first fit takes the place of kept ones
        wanted.neighbors(k, metric, runs[0].seed)
    score = _Score(features, groups)
    points, files = [], []
    with parts.locked():
        for metric, k in settings:
            file = parts.path(f"{metric}-{k}")
            correction = _kept(file, parts.run) if parts.has(file) else None
            if correction is None:
                correction = wanted.fit(runs, k, metric, device)
                parts.begin()
                classifiers.write(
                    file, correction, settings=parts.run, command="",
                    inputs={"features": features.digest},
                )  # fmt: skip
                report(f"{metric}, k {k}: {len(runs)} runs fitted")
            else:
                report(f"{metric}, k {k}: taken from {file}")
            files.append(file)
            points += score.points(correction, k, metric)
    return points, score.baseline(), files


def _kept(file: Path, identity: Mapping[str, Any]) -> Correction:
    """Return a finished fit of the same sweep."""
    if hdf5.read(file, hdf5.CLASSIFIER).settings != identity:
        raise InputError(
            f"{file}: belongs to a sweep with other settings; resume with the settings of the "
            "first run, or start again without --resume"
        )
    return classifiers.read(file)[0]


@dataclass(frozen=True, eq=False)
class _Score:
    """Scores corrections on the validation split."""

    features: FeatureSet
    groups: ShotGroups

    def points(self, correction: Correction, k: int, metric: str) -> list[Point]:
        accuracies = evaluation.run_accuracies(
            self.features.split("val"), self.features.classifier(), correction, self.groups
        )
        found = []
        for settings, runs in evaluation.settings_of(correction):
            rows = [accuracies[number] for number in runs]
            found.append(Point(k, metric, settings["rho"], len(rows), *_summary(rows)))
        return found

    def baseline(self) -> Point:
        base = self.features.classifier()
        own = Correction.baseline(base)
        rows = evaluation.run_accuracies(self.features.split("val"), base, own, self.groups)
        return Point(0, "none", 0.0, 1, *_summary(rows))


def _summary(
    rows: Sequence[Mapping[str, float | None]],
) -> tuple[dict[str, float | None], dict[str, float | None]]:
    mean = {
        name: None if value is None else float(np.mean([row[name] for row in rows]))
        for name, value in rows[0].items()
    }
    return mean, metrics.deviations(rows) or dict.fromkeys(mean)


def choose(
    points: Sequence[Point], baseline: Point, select: Select, at_most_loss: float | None
) -> Point:
    """Return the setting that is best on the validation split, the first of equals.

    Args:
        points: of `sweep`.
        baseline: of `sweep`.
        select: ``all``, ``balanced``, ``few``, or ``harmonic`` mean of the shot groups.
        at_most_loss: only settings whose overall accuracy is at most so far, 0..1, below the
            baseline's.

    Raises:
        InputError: when no setting loses so little, or `select` names an absent group.
    """
    if at_most_loss is not None:
        floor = (baseline.accuracy["all"] or 0.0) - at_most_loss
        kept = [p for p in points if (p.accuracy["all"] or 0.0) >= floor - 1e-12]
        if not kept:
            least = max(points, key=lambda p: p.accuracy["all"] or 0.0)
            lost = (baseline.accuracy["all"] or 0.0) - (least.accuracy["all"] or 0.0)
            raise InputError(
                f"--at-most-loss: found {100 * lost:.2f} points as the least loss of overall "
                f"accuracy, expected at most {100 * at_most_loss:g}; allow more, or a larger --rho"
            )
        points = kept
    return max(points, key=lambda point: choice.value(point.accuracy, select))


def only(correction: Correction, point: Point) -> Correction:
    """Return the runs of one setting."""
    return correction.only([n for n, run in enumerate(correction.runs) if run["rho"] == point.rho])
