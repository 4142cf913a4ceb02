"""What a model's own head says of the features that were taken: a check on everything before it.

Features times head agree with the model whatever it was shown: pictures of another size, classes in
another order, a head whose rows were exchanged. Its accuracy does not.
"""

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation.prediction import predict_classes
from ltkit.records import Correction, FeatureSet, FeatureSplit, automatic_bins, shot_groups

DEVIATIONS = 3.0
"""Accuracy within so many standard deviations of chance is near it."""

LIFT = 0.2
"""How much another order of classes must lift accuracy to be named."""

EACH = 4
"""Samples of each class, on average, that it takes to see another order."""

MOST = 2000
"""Classes, up to which another order is looked for: a matrix of them is kept."""


def verdict(features: FeatureSet) -> list[str]:
    """Return lines on the accuracy of a file's own head on every split.

    A line warns where it is near chance, or where another order of the classes, found on one half
    of the samples, gives far more on the other half.

    Args:
        features: with a head.
    """
    base = features.classifier()
    found: dict[str, tuple[FeatureSplit, NDArray[np.int64]]] = {}
    for name, split in features.splits.items():
        if len(split):
            ((predicted,),) = predict_classes(split, base, [Correction.baseline(base)])
            found[name] = split, predicted
    if not found:
        return []
    parts = [f"{name} {100 * _mean(p == s.labels):.1f} %" for name, (s, p) in found.items()]
    lines = [f"accuracy of the model's own head: {', '.join(parts)}"]
    name = max(found, key=lambda name: (name != "train", len(found[name][0])))
    split, predicted = found[name]
    right = predicted == split.labels
    order = _other_order(predicted, split.labels, base.num_classes)
    if order is not None:
        lines.append(_of_order(features, name, *order))
    elif _near_chance(right, split.labels, base.num_classes):
        lines.append(
            f"warning: {name}: {100 * _mean(right):.1f} % is near chance; check the size and the "
            "statistics of the pictures (--image-size, --mean, --std) and the order of the classes "
            "(--classes), or whether this is the model's data"
        )
    return lines


def of_groups(features: FeatureSet) -> list[str]:
    """Return a line on the groups that a file keeps, or where one of the usual ones is empty."""
    if "bins" in features.settings:
        sizes = ", ".join(f"{name} {len(ids)}" for name, ids in features.groups().items())
        return [f"shot groups: {sizes} classes, with bins {','.join(map(str, features.bins))}"]
    empty = [name for name, ids in features.groups().items() if not len(ids)]
    counts = features.classes.train_count
    others = shot_groups(counts, automatic_bins(counts))
    if not empty or not all(len(ids) for _, ids in others.items()):
        return []
    low, high = features.bins
    return [
        f"note: no {' and no '.join(empty)} class with bins {low},{high}, of classes with "
        f"{counts.min()} to {counts.max()} training images; --bins auto makes three groups of them"
    ]


def _mean(hits: NDArray[np.bool_]) -> float:
    return float(hits.mean())


def _near_chance(right: NDArray[np.bool_], labels: NDArray[np.int64], num_classes: int) -> bool:
    """Tell whether a head is right about as often as one that always says one class."""
    counts = np.bincount(labels, minlength=num_classes)
    each = np.bincount(labels, right, minlength=num_classes)[counts > 0] / counts[counts > 0]
    chance = 1 / num_classes
    deviation = np.sqrt(chance * (1 - chance) / len(labels))
    return num_classes > 1 and float(each.mean()) < chance + max(DEVIATIONS * deviation, chance / 2)


def _other_order(
    predicted: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int
) -> tuple[float, float, NDArray[np.int64]] | None:
    """Return accuracy as it is and in another order, and that order: of each output, its class.

    None where no other order gives far more.
    """
    from scipy.optimize import linear_sum_assignment

    if num_classes > MOST or len(labels) < EACH * num_classes:
        return None
    half = np.arange(len(labels)) % 2 == 0
    table = np.zeros((num_classes, num_classes))
    np.add.at(table, (predicted[half], labels[half]), 1)
    table /= np.maximum(table.sum(axis=0), 1)  # rare classes count as much
    _, order = linear_sum_assignment(-table)
    there, guess = labels[~half], predicted[~half]
    own, other = _mean(guess == there), _mean(order[guess] == there)
    return (own, other, order) if other > max(own + LIFT, 2 * own) else None


def _of_order(
    features: FeatureSet, name: str, own: float, other: float, order: NDArray[np.int64]
) -> str:
    """Return a warning that names the first outputs and the classes that they seem to be."""
    moved = np.flatnonzero(order != np.arange(len(order)))[:3].tolist()
    pairs = ", ".join(f"output {i} is {features.classes.name(int(order[i]))[:20]}" for i in moved)
    return (
        f"warning: {name}: {100 * own:.1f} %, but {100 * other:.1f} % if {pairs} ...: the classes "
        "seem to be in another order than the head's; say it with --classes FILE"
    )
