"""Fit many AlphaNet settings on a features file and choose one on validation data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ltkit import evaluation
from ltkit.alphanet.study import Study, runs_of, study_of_groups
from ltkit.errors import InputError, SettingError
from ltkit.evaluation import choice
from ltkit.evaluation import metrics as measures
from ltkit.files import classifiers
from ltkit.files.kept_fits import kept_or_made
from ltkit.files.scratch import Parts
from ltkit.records import Correction, FeatureSet, ShotGroups
from ltkit.settings import AlphaNetSettings, Metric, Select


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

    Each joint fit is saved as soon as it is done, so that an interrupted sweep can be resumed and
    gives the same table.

    Args:
        wanted: features and classes.
        ks: numbers of neighbours.
        metrics: distances between classes.
        runs: rhos times seeds.
        groups: shot groups for the scores.
        parts: folder of finished fits, created with the first of them and reused on resuming.
        device: device to train on.
        report: called with a line for each fit.

    Returns:
        The points in the order of metrics, ks and rhos; the point of the file's own head (k 0,
        rho 0); and the files of the fits.

    Raises:
        InputError: without a validation split, when a k is out of range, or as `Study.fit`; saved
            fits are then kept.
    """
    score = _Score(wanted.features, groups)
    points, files = [], []
    with parts.locked():
        for setting in _settings(wanted, ks, metrics, runs):
            file, correction = _fit(wanted, setting, runs, parts, device, report)
            files.append(file)
            points += score.points(correction, *setting)
    return points, score.baseline(), files


def _settings(
    wanted: Study, ks: Iterable[int], metrics: Iterable[Metric], runs: Sequence[AlphaNetSettings]
) -> list[tuple[int, Metric]]:
    """Return every k and metric, all checked before the first fit takes the place of kept ones.

    Raises:
        InputError: without a validation split, or when a k is out of range.
    """
    features = wanted.features
    if features.splits.get("val") is None:
        raise InputError(
            f"{features.source}: no validation split to score a sweep on; extract one, or fit a "
            "single setting with alphanet fit"
        )
    settings = [(k, metric) for metric in metrics for k in ks]
    for k, metric in settings:
        wanted.neighbors(k, metric, runs[0].seed)
    return settings


def _fit(
    wanted: Study,
    setting: tuple[int, Metric],
    runs: Sequence[AlphaNetSettings],
    parts: Parts,
    device: str,
    report: Callable[[str], None],
) -> tuple[Path, Correction]:
    """Return all runs of one k and metric, and the file that keeps them."""
    k, metric = setting
    file, correction, kept = kept_or_made(
        parts, f"{metric}-{k}", lambda: wanted.fit(runs, k, metric, device), wanted.features.inputs
    )
    told = f"taken from {file}" if kept else f"{len(runs)} runs fitted"
    report(f"{metric}, k {k}: {told}")
    return file, correction


@dataclass(frozen=True, eq=False)
class _Score:
    """Score corrections on the validation split."""

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
    mean = measures.means(rows)
    return mean, measures.deviations(rows) or dict.fromkeys(mean)


def choose(
    points: Sequence[Point], baseline: Point, select: Select, at_most_loss: float | None
) -> Point:
    """Return the setting that scores best on the validation split, the first of equals.

    Args:
        points: from `sweep`.
        baseline: from `sweep`.
        select: ``all``, ``balanced``, ``few``, or ``harmonic`` mean of the shot groups.
        at_most_loss: only settings whose overall accuracy is at most this much, 0..1, below
            the baseline's.

    Raises:
        InputError: when no setting loses so little, or `select` names an absent group.
    """
    if at_most_loss is not None:
        floor = (baseline.accuracy["all"] or 0.0) - at_most_loss
        kept = [p for p in points if (p.accuracy["all"] or 0.0) >= floor - 1e-12]
        if not kept:
            least = max(points, key=lambda p: p.accuracy["all"] or 0.0)
            lost = (baseline.accuracy["all"] or 0.0) - (least.accuracy["all"] or 0.0)
            raise SettingError(
                "at_most_loss",
                f"found {100 * lost:.2f} points as the least loss of overall "
                f"accuracy, expected at most {100 * at_most_loss:g}; allow more, or a larger rho",
            )
        points = kept
    return max(points, key=lambda point: choice.value(point.accuracy, select))


def only(correction: Correction, point: Point) -> Correction:
    """Keep the runs of one setting only."""
    return correction.only([n for n, run in enumerate(correction.runs) if run["rho"] == point.rho])


@dataclass(frozen=True, eq=False)
class Sweep:
    """The result of a sweep.

    points: of every setting; baseline: of the file's own head; chosen: one of the points.
    correction: the runs of the chosen setting.
    """

    points: Sequence[Point]
    baseline: Point
    chosen: Point
    correction: Correction


def sweep_features(
    features: FeatureSet,
    settings: AlphaNetSettings = AlphaNetSettings(),  # noqa: B008 - it is frozen
    *,
    ks: Sequence[int],
    metrics: Sequence[Metric],
    rhos: Sequence[float],
    seeds: int,
    parts: Parts,
    seed: int = 0,
    of: Sequence[str] = ("few",),
    bins: Sequence[int] | None = None,
    select: Select = "balanced",
    at_most_loss: float | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda message: None,
    note: Callable[[str], None] = lambda message: None,
) -> Sweep:
    """Fit many settings on a features file and choose one, as ``ltkit alphanet sweep`` does.

    Args:
        features: with a head, a train and a validation split.
        settings: settings of all runs; rho and seed are given below.
        ks: as `sweep`.
        metrics: as `sweep`.
        rhos: base samples per few-shot sample.
        seeds: number of seeds.
        parts: as `sweep`; remove it once the result is written.
        seed: the first seed.
        of: as `ltkit.alphanet.study.study_of_groups`.
        bins: as `ltkit.alphanet.study.study_of_groups`.
        select: as `choose`.
        at_most_loss: as `choose`.
        device: device to train on.
        report: called with a line for each fit.
        note: as `ltkit.alphanet.study.study_of_groups`.

    Raises:
        InputError: as `sweep` and `choose`.
    """
    wanted, groups = study_of_groups(features, of, bins=bins, note=note)
    points, baseline, files = sweep(
        wanted, ks, metrics, runs_of(settings, rhos, seeds, seed), groups,
        parts=parts, device=device, report=report,
    )  # fmt: skip
    chosen = choose(points, baseline, select, at_most_loss)
    file = files[points.index(chosen) * len(files) // len(points)]
    return Sweep(points, baseline, chosen, only(classifiers.read(file)[0], chosen))


def fit_shard(
    features: FeatureSet,
    settings: AlphaNetSettings = AlphaNetSettings(),  # noqa: B008 - it is frozen
    *,
    ks: Sequence[int],
    metrics: Sequence[Metric],
    rhos: Sequence[float],
    seeds: int,
    parts: Parts,
    seed: int = 0,
    of: Sequence[str] = ("few",),
    bins: Sequence[int] | None = None,
    device: str = "cpu",
    report: Callable[[str], None] = lambda message: None,
    note: Callable[[str], None] = lambda message: None,
) -> list[Path]:
    """Fit a shard's settings of a sweep, for `sweep_features` to take up with parts resumed.

    Args:
        features: as `sweep_features`; so are those below, but for `parts`.
        settings: settings of all runs.
        ks: numbers of neighbours.
        metrics: distances between classes.
        rhos: base samples per few-shot sample.
        seeds: number of seeds.
        parts: those of a shard.
        seed: the first seed.
        of: classes to correct.
        bins: of the shot groups.
        device: device to train on.
        report: called with a line for each fit.
        note: called with what was assumed.

    Returns:
        The files of the shard's fits.

    Raises:
        InputError: as `sweep`, or when another process is the same shard.
    """
    wanted, _ = study_of_groups(features, of, bins=bins, note=note)
    runs = runs_of(settings, rhos, seeds, seed)
    every = _settings(wanted, ks, metrics, runs)
    own = every if parts.shard is None else parts.shard.own(every)
    with parts.locked():
        return [_fit(wanted, setting, runs, parts, device, report)[0] for setting in own]
