"""What a new correction comes to on the validation split, beside the model's own head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltkit.evaluation import choice, metrics
from ltkit.evaluation.entries import settings_of
from ltkit.records import Correction, FeatureSet

Accuracies = Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class OnVal:
    """Accuracies on the validation split, by group; None for an absent one.

    own: of the features' own head; None without one.
    settings: of the correction, without seeds; runs: how many each has.
    accuracies, deviations: of each setting, over its runs; a single run has no deviation.
    scores: balanced accuracy of each setting; best: the one with the highest.
    """

    own: Accuracies | None
    settings: Sequence[Mapping[str, Any]]
    runs: Sequence[int]
    accuracies: Sequence[Accuracies]
    deviations: Sequence[Accuracies | None]
    scores: Sequence[float]
    best: int


def on_val(
    features: FeatureSet, correction: Correction, bins: Sequence[int] | None = None
) -> OnVal | None:
    """Return a correction's accuracies on the validation split; None without that split.

    Args:
        features: whose head is corrected.
        correction: with one or more runs.
        bins: bounds of the medium shot group; None: the file's own.

    Raises:
        InputError: when the correction does not fit.
    """
    val, groups = features.splits.get("val"), features.groups(bins)
    if val is None or not len(val):
        return None
    known = features.head is not None or features.base is not None
    base = features.classifier() if known else features.empty_classifier()
    wanted = [Correction.baseline(base), correction] if known else [correction]
    *owns, every = choice.accuracies_of_each(val, base, wanted, groups)
    own = owns[0][0] if known else None
    settings = list(settings_of(correction))
    scores = [choice.value(found, "balanced") for found in every]
    best, scores = choice.best(scores, [runs for _, runs in settings])
    each = [[every[run] for run in runs] for _, runs in settings]
    return OnVal(
        own, [of for of, _ in settings], [len(runs) for _, runs in settings],
        [metrics.means(found) for found in each], [metrics.deviations(found) for found in each],
        scores, best,
    )  # fmt: skip
