"""Which classes are taken for which: the whole table, one pair a line."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltkit.evaluation import metrics
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.evaluation.networks import own_head, predict_entries
from ltkit.evaluation.prediction import predict_classes
from ltkit.records import FeatureSet

HEADING = (
    "classifier", "true", "true_name", "predicted", "predicted_name", "samples", "share",
)  # fmt: skip


def confusion_table(
    features: FeatureSet, split: str, entries: Sequence[Entry]
) -> tuple[list[str], list[list[Any]]]:
    """Return the heading and the rows of a table of the pairs that occur, diagonal and all.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections.

    Returns:
        For the head and each setting, the samples of a true class that are given a class, means
        over runs, and their share of the true class's samples.
    """
    data, classes = features.split(split), features.classes
    every = [own_head(features), *entries]
    counts = np.bincount(data.labels, minlength=len(classes))
    table = []
    for entry, predicted in zip(
        every, predict_entries(features, split, every, predict_classes), strict=True
    ):
        settings = list(settings_of(entry.correction))
        for setting, runs in settings:
            told = label(entry.name, setting, [other for other, _ in settings])
            pairs = zip(*metrics.confusions(predicted[runs], data.labels), strict=True)
            table += [
                [
                    told, true, classes.name(int(true)), other, classes.name(int(other)), mean,
                    mean / counts[true],
                ]
                for true, other, mean in pairs
            ]  # fmt: skip
    return list(HEADING), table
