"""Change of accuracy against rho: ``ltkit analyze deltas``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, listed
from ltkit.evaluation import metrics
from ltkit.evaluation.analysis.subject import Case, Note, Subject, known, mean_and_std, silent
from ltkit.evaluation.intervals import difference_estimate, moments
from ltkit.records import Ints, ShotGroups
from ltkit.settings import GROUPS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RhoCurve:
    """Change of accuracy against rho, for fits that differ only in rho and seed.

    name: metric and k, and the fits' name where that is not enough.
    files: the fits' files.
    metric, k: the fits' metric and k.
    rho: (P,) ascending.
    runs: (P,) int64 seeds.
    change, std: by group of `ltkit.metrics.group_weights`, (P,) mean over runs of the change of
        accuracy from the model's own head, and its deviation, NaN for a single run.
    interval: (P, 2) by group, of the change as in ``evaluate``; NaN for a single sample.
    """

    name: str
    files: tuple[str, ...]
    metric: str
    k: int
    rho: Floats
    runs: Ints
    change: Mapping[str, Floats]
    std: Mapping[str, Floats]
    interval: Mapping[str, Floats]


def rho_curves(
    found: Iterable[Case], before: Ints, labels: Ints, num_classes: int, groups: ShotGroups
) -> list[RhoCurve]:
    """Return accuracy changes against rho, one curve for all fits that agree otherwise.

    A run that is in several files counts once.

    Args:
        found: the fits' settings.
        before: (N,) predictions of the model's own head.
        labels: (N,) true classes.
        num_classes: C.
        groups: the shot groups.

    Raises:
        InputError: for a correction without rho.

    Source:
        Chang et al., arXiv:2008.07073, figure 3 (nearest and random neighbours).
    """
    together: dict[str, list[Case]] = {}
    for case in found:
        if not {"rho", "k", "metric"} <= case.settings.keys():
            raise InputError(
                f"{case.file}: found a correction without rho, expected fits of alphanet fit; "
                "leave it out"
            )
        rest = {name: value for name, value in case.settings.items() if name != "rho"}
        if case.entry.correction.composed:  # a file's own choice for each rho is one curve
            every = case.entry.correction.runs
            rest |= {n: sorted({run[n] for run in every}) for n in ("scale", "prior_offset")}
        together.setdefault(repr((rest, case.class_id.tolist())), []).append(case)
    names = [f"{c[0].settings['metric']}, k {c[0].settings['k']}" for c in together.values()]
    weights = metrics.group_weights(labels, num_classes, groups)

    def accuracies(predicted: NDArray[Any]) -> Floats:  # (S, N) -> (S, G)
        by_class = metrics.class_accuracy(predicted == labels, labels, num_classes)
        return np.stack([np.nan_to_num(by_class) @ w for w in weights.values()], axis=-1)

    def ends(predicted: NDArray[Any]) -> list[tuple[float, float]]:  # (S, N) -> G intervals
        gains = moments((predicted == labels) - 1.0 * (before == labels), labels, num_classes)
        every = [difference_estimate(gains, w).interval for w in weights.values()]
        return [(np.nan, np.nan) if one is None else one for one in every]

    own, curves = accuracies(before[None]), []
    for name, same in zip(names, together.values(), strict=True):
        runs: dict[float, dict[int | None, NDArray[Any]]] = {}
        for case in same:
            at = runs.setdefault(float(case.settings["rho"]), {})
            for seed, predicted in zip(case.seeds, case.predicted, strict=True):
                at.setdefault(seed, predicted)
        rhos = sorted(runs)
        stacks = [np.stack(list(runs[rho].values())) for rho in rhos]
        points = [accuracies(stack) - own for stack in stacks]
        bounds = np.array([ends(stack) for stack in stacks])  # (P, G, 2)
        change, std = (
            np.stack(part).round(12) for part in zip(*map(mean_and_std, points), strict=True)
        )  # (P, G)
        curves.append(
            RhoCurve(
                name if names.count(name) == 1 else f"{name} ({same[0].name})",
                tuple(dict.fromkeys(case.file for case in same)),
                same[0].settings["metric"],
                same[0].settings["k"],
                np.array(rhos),
                np.array([len(runs[rho]) for rho in rhos]),
                dict(zip(weights, change.T, strict=True)),
                dict(zip(weights, std.T, strict=True)),
                dict(zip(weights, bounds.transpose(1, 0, 2), strict=True)),
            )
        )
    return curves


def analyze_deltas(subject: Subject, *, strict: bool = True, note: Note = silent) -> dict[str, Any]:
    """Return the change of accuracy against rho, for fits with several rhos.

    Args:
        subject: from `observe`, with fits only.
        strict: refuse a fit with a single rho, which is otherwise left out.
        note: called with what is left out.

    Returns:
        The document of ``analyze deltas --json``.

    Raises:
        InputError: for a correction without rho, and when no fit has several rhos.
    """
    labels, count = subject.labels, len(subject.classes)
    every = rho_curves(subject.cases, subject.before, labels, count, subject.groups)
    curves = [curve for curve in every if len(curve.rho) > 1]
    for curve in every:
        if curve not in curves and (strict or not curves):
            raise InputError(
                f"{listed(curve.files)}: found one rho ({curve.rho[0]:g}) of {curve.name}, "
                "expected several for a curve; fit with several rhos"
            )
        if curve not in curves:
            note(f"{listed(curve.files)}: one rho of {curve.name}: left out")
    if not curves:
        raise InputError(
            f"{subject.features.source}: found no fit beside it, expected one of several rho; make "
            "it with ltkit alphanet fit --rho 0.5,1,1.5 --seeds 5"
        )
    own = metrics.class_accuracy(subject.before == labels, labels, count)
    weights = metrics.group_weights(labels, count, subject.groups)
    return {
        "schema": "ltkit.analyze-deltas/1", **subject.described,
        "baseline": metrics.summarize(own, weights), "curves": [curve_row(c) for c in curves],
    }  # fmt: skip


def curve_row(curve: RhoCurve) -> dict[str, Any]:
    """Return a curve as an entry of the document."""
    return {
        "name": curve.name, "files": list(curve.files), "metric": curve.metric, "k": curve.k,
        "points": [_point(curve, place) for place in range(len(curve.rho))],
    }  # fmt: skip


def _point(curve: RhoCurve, place: int) -> dict[str, Any]:
    change, std = (
        {g: known(parts[g][place]) if g in parts else None for g in GROUPS}
        for parts in (curve.change, curve.std)
    )
    return {
        "rho": float(curve.rho[place]), "runs": int(curve.runs[place]), "change": change,
        "std": std if curve.runs[place] > 1 else None,
        "interval": {g: _ends(curve, g, place) for g in GROUPS},
    }  # fmt: skip


def _ends(curve: RhoCurve, group: str, place: int) -> list[float] | None:
    if group not in curve.interval or np.isnan(curve.interval[group][place]).any():
        return None
    low, high = curve.interval[group][place].tolist()
    return [low, high]
