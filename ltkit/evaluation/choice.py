"""How a setting is chosen on validation data."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import SettingError
from ltkit.evaluation import metrics
from ltkit.evaluation.prediction import predict_classes
from ltkit.records import Classifier, Correction, FeatureSplit, Ints, ShotGroups
from ltkit.settings import SHOT_GROUPS, Select


def value(accuracy: Mapping[str, float | None], select: Select) -> float:
    """Return the selection score of accuracies.

    ``all``: accuracy over samples; ``balanced``: mean over classes; ``few``: mean over few-shot
    classes; ``harmonic``: harmonic mean of the shot groups' accuracies.

    Args:
        accuracy: by group, None where it is absent.
        select: see above.

    Raises:
        SettingError: when `select` names an absent group.

    Example:
        >>> value({"few": 0.2, "medium": None, "many": 0.6}, "harmonic")  # 2 / (5 + 5 / 3)
        0.3
    """
    if select == "harmonic":
        present = [v for name in SHOT_GROUPS if (v := accuracy[name]) is not None]
        return len(present) / sum(1 / v for v in present) if present and all(present) else 0.0
    found = accuracy[select]
    if found is None:
        raise SettingError("select", f"{select}: no such class in the validation split; use all")
    return found


def objective(
    predicted: Ints,
    labels: Ints,
    num_classes: int,
    groups: ShotGroups,
    select: Select,
    prior: NDArray[np.float64] | None = None,
) -> float:
    """Return the selection score of (N,) predictions on the validation split; see `value`.

    Under a prior, ``balanced`` is accuracy over samples, too: there is a balance no more.
    """
    by_class = metrics.class_accuracy(predicted == labels, labels, num_classes)
    weights = metrics.group_weights(labels, num_classes, groups, prior)
    wanted = "all" if prior is not None and select == "balanced" else select
    return value(metrics.summarize(by_class, weights), wanted)


def run_accuracies(
    split: FeatureSplit, base: Classifier, correction: Correction, groups: ShotGroups
) -> list[dict[str, float | None]]:
    """Return every group's accuracy for each run of a correction; None for an absent group."""
    return accuracies_of_each(split, base, [correction], groups)[0]


def accuracies_of_each(
    split: FeatureSplit, base: Classifier, corrections: Sequence[Correction], groups: ShotGroups
) -> list[list[dict[str, float | None]]]:
    """Return `run_accuracies` of several corrections, for which the split is read once."""
    weights = metrics.group_weights(split.labels, base.num_classes, groups)
    found = []
    for predicted in predict_classes(split, base, corrections):
        right = predicted == split.labels
        every = metrics.class_accuracy(right, split.labels, base.num_classes)
        found.append([metrics.summarize(by_class, weights) for by_class in every])
    return found


def best(scores: Sequence[float], settings: Sequence[Sequence[int]]) -> tuple[int, list[float]]:
    """Return the setting that scores best, the first of equals, and each setting's mean score.

    Args:
        scores: score of every run.
        settings: the runs of each setting.

    Example:
        >>> best([0.1, 0.3, 0.4, 0.0], [[0, 1], [2, 3]])
        (0, [0.2, 0.2])
    """
    means = [float(np.mean([scores[run] for run in runs])) for runs in settings]
    return int(np.argmax(means)), means
