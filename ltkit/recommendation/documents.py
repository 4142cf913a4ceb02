"""The document of a recommendation: plain data, what ``ltkit recommend --json`` prints."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from ltkit.evaluation import label
from ltkit.evaluation.documents import untested
from ltkit.evaluation.intervals import Estimate, accuracy_estimate, moments
from ltkit.evaluation.resampling import bootstrap_jointly, interval
from ltkit.recommendation.choosing import Choice, Chooser, Picked
from ltkit.recommendation.family import Candidate, Family
from ltkit.recommendation.objectives import Floats
from ltkit.recommendation.wanted import Wanted
from ltkit.records import FeatureSet
from ltkit.settings import GROUPS, REPLICATES

SCHEMA = "ltkit.recommend/1"

Figures = dict[str, float | None]
Intervals = dict[str, list[float] | None]


def of_choice(
    features: FeatureSet, wanted: Wanted, chooser: Chooser, choice: Choice, family: Family
) -> dict[str, Any]:
    """Return the document of a choice made on the validation split.

    Args:
        features: with the split.
        wanted: what was asked for.
        chooser: what chose.
        choice: what it chose.
        family: what it chose among.
    """
    labels = chooser.labels
    gain, ends = _gains(chooser, choice.chosen)
    value, value_ends = _objective(chooser, choice.chosen)
    candidate = family.candidates[choice.chosen.candidate]
    return _opening(features, wanted) | {
        "n": len(labels),
        "untested_classes": untested(labels, len(features.classes)),
        "limits": [asdict(x) | {"confidence": chooser.confidence} for x in chooser.limits],
        "choice": _described(candidate, family) | {
            "keep": candidate.method == family.order[0] or not _above(value_ends),
            "reason": _reason(candidate, family, value, value_ends),
            "wins": _wins(choice, chooser, candidate, family),
        },
        "gain": gain, "interval": ends,
        "objective_gain": value, "objective_interval": value_ends,
        "accuracy": _accuracies(chooser, gain),
        "runner_up": _runner_up(chooser, choice, family),
        "rows": _rows(chooser, choice, family),
        "notes": list(family.notes),
    }  # fmt: skip


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file with the recommended correction keeps of a document, for later pages."""
    names = ("n", "objective", "limits", "folds", "objective_gain", "objective_interval")
    other = document["runner_up"]
    told = ("label", "behind", "interval", "within_noise")
    return {
        "choice": document["choice"],
        "estimate": {name: document[name] for name in names}
        | {"runner_up": None if other is None else {name: other[name] for name in told}},
    }


def without_val(features: FeatureSet, wanted: Wanted, chosen: Candidate) -> dict[str, Any]:
    """Return the document of what is recommended where there is nothing to choose on."""
    return _opening(features, wanted) | {
        "n": 0,
        "untested_classes": len(features.classes),
        "limits": [],
        "choice": {
            "method": chosen.method,
            "label": label(chosen.method, chosen.settings, []),
            "settings": chosen.settings,
            "keep": False,
            "reason": "no validation split to choose on, so what needs no choice is taken: the "
            "training frequency goes out of the logits; its gain is not estimated",
            "wins": None,
        },
        "gain": None,
        "interval": None,
        "objective_gain": None,
        "objective_interval": None,
        "accuracy": None,
        "runner_up": None,
        "rows": [],
        "notes": [
            "train cannot stand for val: a network is right on nearly all images that it has seen; "
            "hold some out, or name other labelled features to recalibrate on"
        ],
    }


def _opening(features: FeatureSet, wanted: Wanted) -> dict[str, Any]:
    groups = features.groups(wanted.bins)
    return {
        "schema": SCHEMA,
        "features": features.source,
        "split": "val",
        "bins": list(features.bins if wanted.bins is None else wanted.bins),
        "groups": {name: len(ids) for name, ids in groups.items()},
        "objective": wanted.aim,
        "prior": wanted.prior,
        "folds": {"repeats": wanted.repeats, "folds": wanted.folds, "seed": wanted.seed},
    }


def _by_group(estimates: Mapping[str, Estimate]) -> tuple[Figures, Intervals]:
    """Return the estimates of all groups, None where there is none."""
    return (
        {name: estimates[name].value if name in estimates else None for name in GROUPS},
        {name: _ends(estimates[name]) if name in estimates else None for name in GROUPS},
    )


def _gains(chooser: Chooser, picked: Picked) -> tuple[Figures, Intervals]:
    """Return what is gained in every group, and its interval."""
    weights = chooser.aim.weights
    return _by_group({name: chooser.estimate(picked, w) for name, w in weights.items()})


def _ends(estimate: Estimate) -> list[float] | None:
    return None if estimate.interval is None else list(estimate.interval)


def _objective(
    chooser: Chooser, picked: Picked, over: Picked | None = None
) -> tuple[float, list[float] | None]:
    """Return what is gained in the objective, over the baseline or another, and its interval.

    Where the objective is no weighted mean of class accuracies, the interval is of a bootstrap of
    the samples within their classes, with the gains of the first repeat, about the mean over all.
    """
    aim, labels = chooser.aim, chooser.labels
    if aim.name in aim.weights:
        found = chooser.estimate(picked, aim.weights[aim.name], over)
        return found.value, _ends(found)
    gains = picked.gains
    rival = np.zeros_like(gains) if over is None else over.gains
    both = np.stack([rival, gains]) + chooser.right[0].astype(np.int8)  # (2, R, N)
    size = len(aim.weights["balanced"])
    counts = np.maximum(np.bincount(labels, minlength=size), 1)

    def change(of: Floats) -> float:
        old, new = (aim.value(np.bincount(labels, v, minlength=size) / counts) for v in of)
        return float(new - old)

    value, first = change(both.mean(axis=1)), both[:, 0].astype(np.float64)
    drawn = bootstrap_jointly(first, labels, size, replicates=REPLICATES, seed=0)
    ends = interval(aim.value(drawn[1]) - aim.value(drawn[0]))
    return value, [float(end or 0) + value - change(first) for end in ends]


def _described(candidate: Candidate, family: Family) -> dict[str, Any]:
    others = [c.settings for c in family.candidates if c.method == candidate.method]
    return {
        "method": candidate.method,
        "label": label(candidate.method, candidate.settings, others),
        "settings": candidate.settings,
    }


def _above(ends: list[float] | None) -> bool:
    """Return whether an interval lies above 0."""
    return ends is not None and ends[0] > 0


def _reason(candidate: Candidate, family: Family, gain: float, ends: list[float] | None) -> str:
    """Return why the candidate is recommended, or the baseline kept, in a few words."""
    if candidate.method == family.order[0]:
        return "no correction is ahead of the baseline within the limits"
    if _above(ends):
        return "its gain is beyond noise"
    low, high = (f"{100 * end:+.1f}" for end in ends or (-1.0, 1.0))
    return (
        f"the best, {candidate.method}, changes the objective by {100 * gain:+.1f} points "
        f"[{low}, {high}], which is within noise"
    )


def _wins(choice: Choice, chooser: Chooser, candidate: Candidate, family: Family) -> float:
    """Return the share of the folds in which a candidate's method is chosen."""
    place = family.order.index(candidate.method)
    return float(np.mean(chooser.method[choice.chosen.picks] == place))


def _accuracies(chooser: Chooser, gain: Mapping[str, float | None]) -> dict[str, Figures]:
    """Return the baseline's accuracies on the validation split, and those that are expected."""
    size = len(chooser.aim.weights["balanced"])
    own = moments(chooser.right[:1], chooser.labels, size)
    weights = chooser.aim.weights
    before, _ = _by_group({name: accuracy_estimate(own, w) for name, w in weights.items()})
    after = {
        name: None if value is None else value + (gain[name] or 0.0)
        for name, value in before.items()
    }
    return {"baseline": before, "expected": after}


def _rows(chooser: Chooser, choice: Choice, family: Family) -> list[dict[str, Any]]:
    """Return a row for each method: its best setting, and its gain outside the folds."""
    rows = []
    for number, own in enumerate(choice.of_method[1:], start=1):
        candidate, name = family.candidates[own.candidate], family.order[number]
        gain, ends = _gains(chooser, own)
        within = candidate.method == name
        rows.append(
            {"method": name, "within_limits": within}
            | (_described(candidate, family) if within else {"label": name, "settings": {}})
            | {
                "gain": gain,
                "interval": ends,
                "objective_gain": _objective(chooser, own)[0],
                "wins": float(np.mean(chooser.method[choice.chosen.picks] == number)),
            }
        )
    return rows


def _runner_up(chooser: Chooser, choice: Choice, family: Family) -> dict[str, Any] | None:
    """Return the next best method, and how far behind it is: None where there is none."""
    own = family.candidates[choice.chosen.candidate].method
    gains = [_objective(chooser, each)[0] for each in choice.of_method]
    others = [n for n, name in enumerate(family.order) if n and name != own]
    if not others:
        return None
    best = max(others, key=lambda number: gains[number])
    behind, ends = _objective(chooser, choice.chosen, choice.of_method[best])
    candidate = family.candidates[choice.of_method[best].candidate]
    return _described(candidate, family) | {
        "behind": behind,
        "interval": ends,
        "within_noise": not _above(ends),
        "simpler": best < family.order.index(own),
    }
