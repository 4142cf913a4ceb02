"""AlphaNet on a features file: the classes, their neighbours, and all runs together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ltkit.alphanet.composition import Chosen, planned
from ltkit.alphanet.fitting import fit
from ltkit.errors import InputError, SettingError
from ltkit.files.bases import Start
from ltkit.neighbors import mean_features, nearest_classes
from ltkit.records import (
    Correction,
    FeatureSet,
    Ints,
    Neighbors,
    ShotGroups,
    joined,
    members,
    note_of_left_out,
    shot_groups,
)
from ltkit.records.progress import Report, silent
from ltkit.settings import AlphaNetSettings, Auto, Metric, NeighborSettings, Select


@dataclass(frozen=True, eq=False)
class Study:
    """A features file with what every fit on it needs.

    of: (F,) classes to correct; among: classes that may be their neighbours.
    absent: classes hidden from a fit.
    means: (C, D) float64, `ltkit.neighbors.mean_features` of every metric but ``raw``.
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
        means = self.raw_means if metric == "raw" else self.means
        return nearest_classes(
            self.features, means, self.of, self.among, NeighborSettings(k, metric, seed)
        )

    @cached_property
    def raw_means(self) -> NDArray[np.float64]:
        """(C, D) float64 class means of the training features as they are stored."""
        return mean_features(self.features, "raw")

    def fit(self, runs: Sequence[AlphaNetSettings], k: int, metric: Metric,
            device: str = "cpu", report: Report = silent) -> Correction:  # fmt: skip
        """Fit all runs together; ``random`` draws new neighbours for each seed.

        ``random-once`` draws once with the first seed, as the released code does.
        """
        base, train = self.features.classifier(), self.features.split("train")
        val = self.features.splits.get("val")
        seeds = sorted({run.seed for run in runs}) if metric == "random" else [runs[0].seed]
        corrections = []
        for seed in seeds:
            near = self.neighbors(k, metric, seed)
            own = [run for run in runs if metric != "random" or run.seed == seed]
            corrections.append(
                fit(base, near, train, val, own, absent=self.absent, device=device, report=report)
            )
        return joined(corrections)


def study(features: FeatureSet, of: Ints, among: Ints, absent: Ints) -> Study:
    """Prepare a study of these classes; class means are computed once.

    Raises:
        InputError: when there is no train split.
    """
    means = mean_features(features)
    return Study(features, np.setdiff1d(of, absent), among, absent, means)


def study_of_groups(
    features: FeatureSet,
    of: Sequence[str] = ("few",),
    *,
    bins: Sequence[int] | None = None,
    leave_out: Sequence[int] = (),
    note: Callable[[str], None] = lambda message: None,
) -> tuple[Study, ShotGroups]:
    """Prepare a study of shot groups whose neighbours are the other base classes.

    Classes without training images are not corrected; their logits stay in the loss, as those of
    every class that is not.

    Args:
        features: with a train split.
        of: shot groups of the classes to correct.
        bins: bounds of the medium shot group; None: the file's own.
        leave_out: ids of classes to correct that are hidden from the fit.
        note: called with a note on classes without training images.

    Raises:
        InputError: for an unknown group, no class to correct or none to be a neighbour, a class
            left out that is not to be corrected, or no train split.
    """
    counts = features.classes.train_count
    bins = features.bins if bins is None else bins
    groups = shot_groups(counts, bins)
    wanted = np.concatenate([members(groups, part, "of") for part in of])
    empty = np.intersect1d(wanted, features.without_images)
    corrected = np.setdiff1d(wanted, empty)
    among = np.setdiff1d(groups.base, wanted)
    asked = "+".join(of)
    for name, ids in (("few-shot" if asked == "few" else asked, corrected), ("base", among)):
        if not len(ids):
            named = f"{name} class with training images" if len(empty) else f"{name} class"
            raise InputError(
                f"{features.source}: found no {named}: training counts {counts.min()} to "
                f"{counts.max()}, few below {bins[0]}; set other bins"
            )
    absent = np.unique(np.array(leave_out, np.int64))
    outside = np.setdiff1d(absent, wanted)
    if len(outside):
        raise SettingError(
            "leave_out", f"class {outside[0]} is not among the corrected classes ({asked})"
        )
    unsaid = np.setdiff1d(empty, absent)
    if len(unsaid):
        note(note_of_left_out(features.classes, unsaid, "their rows stay as they are"))
    return study(features, corrected, among, absent), groups


def runs_of(
    settings: AlphaNetSettings, rhos: Sequence[float], seeds: int, seed: int = 0
) -> list[AlphaNetSettings]:
    """Return one run per rho and seed, with seeds counted up from the first.

    Example:
        >>> [(run.rho, run.seed) for run in runs_of(AlphaNetSettings(), [0.5, 1.0], 2, seed=7)]
        [(0.5, 7), (0.5, 8), (1.0, 7), (1.0, 8)]
    """
    return [
        replace(settings, rho=rho, seed=seed + number) for rho in rhos for number in range(seeds)
    ]


def fit_features(
    features: FeatureSet,
    settings: AlphaNetSettings = AlphaNetSettings(),  # noqa: B008 - it is frozen
    *,
    k: int = NeighborSettings.k,
    metric: Metric = NeighborSettings.metric,
    rhos: Sequence[float] = (AlphaNetSettings.rho,),
    seeds: int = 1,
    seed: int = 0,
    of: Sequence[str] = ("few",),
    bins: Sequence[int] | None = None,
    leave_out: Sequence[int] = (),
    onto: Start | None = None,
    scale: float | Auto = 1.0,
    prior_offset: float | Auto = 0.0,
    select: Select = "balanced",
    device: str = "cpu",
    note: Callable[[str], None] = lambda message: None,
    report: Report = silent,
    chosen: Chosen = lambda choice: None,
) -> Correction:
    """Correct the rare classes of a features file, as ``ltkit alphanet fit`` does.

    Args:
        features: with a head and a train split.
        settings: settings of all runs; rho and seed are given below.
        k: neighbours per class.
        metric: distance between classes.
        rhos: base samples per few-shot sample, one run each.
        seeds: number of seeds.
        seed: the first seed.
        of: as `study_of_groups`.
        bins: as `study_of_groups`.
        leave_out: as `study_of_groups`.
        onto: the head that gets the correction; see `ltkit.alphanet.compose`.
        scale: as `ltkit.alphanet.compose`.
        prior_offset: as `ltkit.alphanet.compose`.
        select: as `ltkit.alphanet.compose`.
        device: device to train on.
        note: called with notes for the user.
        report: called after each epoch, with their number.
        chosen: as `ltkit.alphanet.compose`.

    Raises:
        InputError: as `study_of_groups`, `ltkit.alphanet.fit` and `ltkit.alphanet.compose`.
    """
    composition = planned(features, onto, scale, prior_offset, select, bins, note)
    wanted, _ = study_of_groups(features, of, bins=bins, leave_out=leave_out, note=note)
    if "val" not in features.splits and settings.epoch_choice == "best":
        note("no validation split, so the last epoch is taken")
    if k == 1:
        note("with k = 1 every alpha is 1 or -1 and nothing is learned")
    if (wanted.means[wanted.among] == wanted.means[wanted.among[0]]).all():
        note("all class means are the same, so no class is nearer than another")
    found = wanted.fit(runs_of(settings, rhos, seeds, seed), k, metric, device, report)
    return composition.of(found, chosen)
