"""Predictions of classifiers on a split, read once, block by block."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import (
    CACHED_BYTES,
    Classifier,
    Correction,
    FeatureSplit,
    Floats,
    Ints,
    blocks,
    products,
    shifted,
)
from ltkit.threads import in_order

T = TypeVar("T")

PART_BYTES = 4 * CACHED_BYTES
"""Bytes of the logits that a thread reads off at a time; of fewer, threads wait for each other."""

READ_OFTEN = 4
"""Into so many blocks a wide one is cut: many runs read their products from the last cache."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for N samples, in S runs.

    predicted: (S, N) class ids; equal logits go to the lowest.
    rank: (S, N) number of classes ranked before the true one.
    confidence: (S, N) largest softmax probability.
    """

    predicted: Ints
    rank: Ints
    confidence: NDArray[np.float64]

    def of(self, runs: Sequence[int]) -> "Predictions":
        """Return the predictions of some runs."""
        return Predictions(self.predicted[runs], self.rank[runs], self.confidence[runs])


def predict(
    split: FeatureSplit, base: Classifier, corrections: Sequence[Correction]
) -> list[Predictions]:
    """Predict a split with every run of every correction.

    Args:
        split: N samples.
        base: what the corrections correct; `Correction.baseline` of it leaves it as it is.
        corrections: in one or more runs each.

    Raises:
        InputError: when a correction does not fit the features, or logits are not finite.
    """
    found = _over_blocks(split, base, corrections, _with_confidence)
    return [
        Predictions(*(np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True)))
        for blocks in found
    ]


def predict_classes(
    split: FeatureSplit, base: Classifier, corrections: Sequence[Correction]
) -> list[NDArray[np.int32]]:
    """Predict a split as `predict` does, without ranks and confidences.

    Of the classes that a correction leaves as they are only the best logit counts, which all its
    runs share.

    Returns:
        (S, N) class ids for each correction.

    Raises:
        InputError: as `predict`.
    """
    found = _over_blocks(split, base, corrections, _classes_alone)
    return [np.concatenate(blocks, axis=1) for blocks in found]


@dataclass(frozen=True, eq=False)
class _Block:
    """A block of samples, and one correction's logits for it.

    shared: (B, C) logits of the base.
    own: yields for each run (B, R) products with the corrected rows, and (R,) biases.
    """

    labels: Ints
    shared: Floats
    class_id: Ints
    own: Callable[[], Iterator[tuple[Floats, Floats]]]

    def parts(self) -> list[slice]:
        """Cut the samples into parts."""
        return _parts(*self.shared.shape)


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are refused
def _over_blocks(
    split: FeatureSplit,
    base: Classifier,
    corrections: Sequence[Correction],
    read_off: Callable[[_Block], T],
) -> list[list[T]]:
    """Return what is computed from each block's logits, for each correction.

    Where a correction changes some rows only, the base's logits serve for the others; a run that
    has the rows of the one before it, and another bias, shares its matrix product, and so does a
    correction whose rows lie where those of the last one lie.
    """
    for correction in corrections:
        check_fit(correction, base)
    repeats = [
        [False, *(np.array_equal(*pair) for pair in pairwise(c.weight))] for c in corrections
    ]
    kinds = {base.normalize_features, *(c.normalize_features for c in corrections)}

    def of_block(block: tuple[slice, Floats, Ints]) -> list[T]:
        _, features, labels = block
        prepared = {k: replace(base, normalize_features=k).prepare(features) for k in kinds}
        product = products(prepared[base.normalize_features], base.weight)
        shared = shifted(product, base.bias)  # (B, C)
        last = _Last(prepared[base.normalize_features], base.weight, product)
        owns = (_logits(c, prepared, r, last) for c, r in zip(corrections, repeats, strict=True))
        return [
            read_off(_Block(labels, shared, correction.class_id, own))
            for correction, own in zip(corrections, owns, strict=True)
        ]

    every = in_order(of_block, split.blocks(READ_OFTEN * base.num_classes))
    return [list(found) for found in zip(*every, strict=True)] or [[] for _ in corrections]


class _Last:
    """The product of a block's features with the last rows."""

    def __init__(self, features: Floats, rows: Floats, product: Floats) -> None:
        """Begin with that of the base."""
        self._of, self._product = (features, rows), product

    def with_rows(self, features: Floats, rows: Floats) -> Floats:
        """Return (B, R) products with (R, D) rows; not anew where the last lie."""
        if not all(map(_in_one_place, self._of, (features, rows))):
            self._product = products(features, rows)
        self._of = features, rows
        return self._product


def _in_one_place(first: Floats, second: Floats) -> bool:
    """Return whether two arrays are the same memory, read in the same way."""
    return bool(first.__array_interface__ == second.__array_interface__)


def _logits(
    correction: Correction, prepared: Mapping[bool, Floats], repeats: Sequence[bool], last: _Last
) -> Callable[[], Iterator[tuple[Floats, Floats]]]:
    features = prepared[correction.normalize_features]

    def own() -> Iterator[tuple[Floats, Floats]]:
        for weight, bias, again in zip(correction.weight, correction.bias, repeats, strict=True):
            if not again:
                product = last.with_rows(features, weight)
            yield product, bias

    return own


def check_fit(correction: Correction, base: Classifier) -> None:
    """Reject a correction made from other features.

    Raises:
        InputError: when its rows are not as long as the base's, or it has classes beyond them.
    """
    misfit = correction.misfit(base.num_classes, base.feature_size)
    if misfit is not None:
        raise InputError(f"{correction.method}: {misfit}; it was fitted on other features")


def _with_confidence(block: _Block) -> tuple[Ints, Ints, Floats]:
    """Return (S, B) predictions, ranks and confidences."""
    rows = []
    for product, bias in block.own():
        parts = [_read_off(_whole(block, product, bias, p), block.labels[p]) for p in block.parts()]
        rows.append([np.concatenate(column) for column in zip(*parts, strict=True)])
    predicted, rank, confidence = (np.stack(column) for column in zip(*rows, strict=True))
    return predicted, rank, confidence


def _parts(samples: int, classes: int) -> list[slice]:
    """Cut samples into parts whose logits stay in the caches while they are read off."""
    return list(blocks(samples, max(1, PART_BYTES // (4 * max(1, classes)))))


def _whole(block: _Block, product: Floats, bias: Floats, part: slice) -> Floats:
    """Return the logits of every class for some samples; those of the base are not a copy."""
    shared = block.shared[part]
    if not len(block.class_id):
        return shared
    own = shifted(product[part], bias)
    if len(block.class_id) == shared.shape[1]:
        return own
    logits = shared.astype(np.promote_types(shared.dtype, own.dtype))  # a copy
    logits[:, block.class_id] = own
    return logits


def _read_off(logits: NDArray[np.float32], labels: Ints) -> tuple[Ints, Ints, NDArray[np.float32]]:
    """Return predictions, ranks and confidences from (B, C) logits."""
    predicted = logits.argmax(axis=1)
    best = np.take_along_axis(logits, predicted[:, None], axis=1)
    if not np.isfinite(best).all():
        raise InputError("logits: not finite; the classifier is damaged, or the features too large")
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    rank = (logits > own).sum(axis=1)
    tied = (logits == own).sum(axis=1) > 1
    if tied.any():  # equal logits: the lower class id comes first
        before = np.arange(logits.shape[1]) < labels[tied, None]
        rank[tied] += ((logits[tied] == own[tied]) & before).sum(axis=1)
    confidence = 1 / np.exp(logits - best).sum(axis=1)
    return predicted, rank, confidence


def _classes_alone(block: _Block) -> NDArray[np.int32]:
    """Return (S, B) predictions."""
    kept = np.delete(np.arange(block.shared.shape[1]), block.class_id)
    parts = block.parts()
    shared = [best_logits(block.shared[part][:, kept], kept) for part in parts]
    best, at = (np.concatenate(column) for column in zip(*shared, strict=True))
    rows, scratch = [], None
    for product, bias in block.own():
        if scratch is None:
            scratch = np.empty_like(product[parts[0]])
        found = [
            best_logits(shifted(product[part], bias, scratch), block.class_id) for part in parts
        ]
        own, own_at = (np.concatenate(column) for column in zip(*found, strict=True))
        rows.append(np.where((own > best) | ((own == best) & (own_at < at)), own_at, at))
    return np.array(rows, np.int32)


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are refused
def predict_scaled(
    split: FeatureSplit, base: Classifier, scales: Floats, biases: Floats
) -> NDArray[np.int32]:
    """Predict a split with a classifier whose rows are scaled; they are multiplied once for all.

    Args:
        split: N samples.
        base: with C classes.
        scales: (S, C) factors of the rows.
        biases: (S, C) in the place of its own.

    Returns:
        (S, N) class ids, those of ``scale * product + bias``; scaled rows give the same logits up
        to rounding.

    Raises:
        InputError: when logits are not finite.

    Example:
        >>> split = FeatureSplit(np.float32([[2, 3]]), np.array([0]))
        >>> head = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
        >>> predict_scaled(split, head, np.float32([[1, 1], [2, 1]]), np.zeros((2, 2))).tolist()
        [[1], [0]]
    """
    ids = np.arange(base.num_classes)

    def of_block(block: tuple[slice, Floats, Ints]) -> NDArray[np.int32]:
        product = products(base.prepare(block[1]), base.weight)
        found = np.empty((len(scales), len(product)), np.int32)
        parts = _parts(*product.shape)
        scratch = np.empty_like(product[parts[0]], np.result_type(product, scales))
        for part in parts:
            for run, (scale, bias) in enumerate(zip(scales, biases, strict=True)):
                scaled = np.multiply(product[part], scale, out=scratch[: part.stop - part.start])
                found[run, part] = best_logits(shifted(scaled, bias, scratch), ids)[1]
        return found

    every = list(in_order(of_block, split.blocks(READ_OFTEN * base.num_classes)))
    return np.concatenate(every, axis=1) if every else np.empty((len(scales), 0), np.int32)


def best_logits(logits: NDArray[np.float32], ids: Ints) -> tuple[NDArray[np.float32], Ints]:
    """Return each row's largest logit and its class; minus infinity without columns.

    Args:
        logits: (B, R).
        ids: (R,) classes of the columns, ascending.

    Raises:
        InputError: when one is not finite.
    """
    if not len(ids):
        return np.full(len(logits), -np.inf, np.float32), np.zeros(len(logits), np.int64)
    column = logits.argmax(axis=1)
    best = np.take_along_axis(logits, column[:, None], axis=1)[:, 0]
    if not np.isfinite(best).all():
        raise InputError("logits: not finite; the classifier is damaged, or the features too large")
    return best, ids[column]
