"""What every scale and prior offset of a composition scores on a split, without building heads.

A block of samples is reduced to the logits of the head and, for each run, to what it adds for the
corrected classes; all settings are then scored from these.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ltkit.alphanet.networks import added_rows
from ltkit.evaluation import choice, metrics
from ltkit.evaluation.prediction import best_logits
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSplit,
    Ints,
    ShotGroups,
    products,
    shifted,
)
from ltkit.settings import Select

Floats = NDArray[np.float64]


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are refused
def right_by_class(
    split: FeatureSplit,
    base: Classifier,
    head: Classifier,
    correction: Correction,
    scales: Sequence[float],
    offsets: Sequence[float],
    log_prior: Floats,
) -> NDArray[np.int32]:
    """Return how many samples of each class every setting predicts right.

    Args:
        split: N samples.
        base: what the correction was learned on.
        head: what gets it.
        correction: of F classes in S runs.
        scales: parts of it.
        offsets: of the prior.
        log_prior: (C,).

    Returns:
        (S, scales x offsets, C) counts.

    Raises:
        InputError: when logits are not finite.
    """
    few = correction.class_id
    others = np.setdiff1d(np.arange(base.num_classes), few)
    change = correction.bias - base.bias[few]
    shift = np.multiply.outer(offsets, log_prior).astype(np.float32)  # (offsets, C)
    right = np.zeros((len(change), len(scales) * len(offsets), base.num_classes), np.int32)
    for _, features, labels in split.blocks((1 + len(offsets)) * base.num_classes):
        prepared = base.prepare(features)
        logits = shifted(products(prepared, head.weight), head.bias)
        rest = [best_logits(logits[:, others] - s[others], others) for s in shift]
        for run, found in enumerate(right):
            added = products(prepared, _direction(correction, base, run)) + change[run]  # (B, F)
            for number, scale in enumerate(scales):
                own = logits[:, few] + np.float32(scale) * added
                for place, (best, at) in enumerate(rest):
                    hit = _predicted(own - shift[place, few], few, best, at) == labels
                    counts = np.bincount(labels[hit], minlength=base.num_classes)
                    found[number * len(offsets) + place] += counts
    return right


def _direction(correction: Correction, base: Classifier, run: int) -> NDArray[np.float32]:
    """Return the (F, D) rows that a run adds, whole."""
    alpha, near = (correction.extra[name][run] for name in ("alpha", "neighbor"))
    rows: NDArray[np.float32] = added_rows(base, near, alpha[None])[0].astype(np.float32)
    return rows


def _predicted(own: NDArray[np.float32], few: Ints, best: NDArray[np.float32], at: Ints) -> Ints:
    """Return the class with the largest logit, the first of equals."""
    most, which = best_logits(own, few)
    return np.where((most > best) | ((most == best) & (which < at)), which, at)


def score_of(right: NDArray[np.int32], labels: Ints, groups: ShotGroups, select: Select) -> Floats:
    """Return the (S, settings) selection scores of counts of right predictions.

    Args:
        right: (S, settings, C).
        labels: (N,) true classes.
        groups: the shot groups.
        select: what is scored, as `ltkit.evaluation.choice.value` has it.
    """
    size = right.shape[2]
    counts = np.bincount(labels, minlength=size)
    weights = metrics.group_weights(labels, size, groups)
    scores = np.empty(right.shape[:2])
    for run, hits in zip(scores, right, strict=True):
        by_class = hits / np.maximum(counts, 1)
        run[:] = [choice.value(metrics.summarize(row, weights), select) for row in by_class]
    return scores
