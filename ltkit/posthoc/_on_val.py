r"""Scales and offsets of logits that are learned from the validation split.

.. math:: \min_{a, b} \sum_i v_i (-\log p_{y_i}(a \odot z_i + b))
    + \frac{\lambda}{2} \left( \sum_c (b_c - \bar b_{g(c)})^2
    + \sigma^2 \sum_c (a_c - \bar a)^2 \right)

with the standard deviation of logits, so that the penalty of scales has no unit. All of it is
convex. Logits are held while they fit `ltkit.memory.budget`, and are otherwise computed again in
each pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.posthoc import check_choice, check_range, check_val, groups_within
from ltkit.posthoc._stacked import Double, Single, balanced_weights, logits_of
from ltkit.records import (
    BLOCK_BYTES,
    CACHED_BYTES,
    WIDE_BYTES,
    Classifier,
    FeatureSplit,
    Ints,
    Present,
    blocks,
)
from ltkit.records.progress import Report, silent
from ltkit.threads import in_order

WEIGHTINGS = ("classes", "samples")

LIMIT = 1e3
"""Scales are sought from one over so many to so many times the one that gives logits a standard
deviation of 1."""

ITERATIONS = 2000
FEW_BYTES = 4 * CACHED_BYTES
"""Bytes of the samples that are computed at a time; of fewer, threads wait for each other."""

OPTIONS: dict[str, Any] = {"ftol": 1e-13, "gtol": 1e-7, "maxcor": 20, "maxfun": 4 * ITERATIONS}


class ValLogits:
    """The logits of a split, which is mostly val, and the cost of scales and offsets on it.

    Args:
        base: the classifier to correct.
        val: the split.
        classes: those that logits are compared of; samples of others are left out.
        weighting: ``classes`` for equal weights of these classes, ``samples`` for equal ones of
            samples.
        report: called after each pass over the split.

    classes: as given.
    spread: the standard deviation of a sample's logits around their mean; 1 where it is 0.

    Raises:
        InputError: when no sample is left, or logits are too large or too small.
    """

    def __init__(
        self, base: Classifier, val: FeatureSplit, classes: Ints, weighting: str,
        report: Report = silent,
    ) -> None:  # fmt: skip
        """Read the split."""
        check_choice("weighting", weighting, WEIGHTINGS)
        some = Present(classes, base.num_classes)
        kept = some.split(val)
        if not len(kept):
            raise InputError(
                "val: no sample of a class that the classifier ever predicts; extract it again"
            )
        self.classes = classes
        self._passes, self._report = 0, report
        self._inputs = logits_of(some.classifier(base), kept, epochs=2)
        with np.errstate(divide="ignore"):  # classes without a sample
            weights = balanced_weights(kept.labels, len(classes))
        there = np.isfinite(weights)
        weights *= len(classes) / there.sum()
        self._weights = weights if weighting == "classes" else np.ones(len(classes))
        total, count = 0.0, 0
        for variances in in_order(_variances, self._blocks()):
            total += float(variances.sum())
            count += len(variances)
        self._inputs.check_size()
        self.spread = float(np.sqrt(total / count)) or 1.0

    def cost(self, scale: Double, shift: Double) -> tuple[float, Double, Double]:
        """Return the weighted sum of negative log-likelihoods, and its (C,) gradients."""
        value, by_scale, by_shift = 0.0, np.zeros(len(self.classes)), np.zeros(len(self.classes))
        work = partial(self._cost_of_block, scale, shift)
        for of_block, to_scale, to_shift in in_order(work, self._blocks()):
            value += of_block
            by_scale += to_scale
            by_shift += to_shift
        self._passes += 1
        self._report("pass over val", self._passes, 0)
        return value, by_scale, by_shift

    def _cost_of_block(
        self, scale: Double, shift: Double, block: tuple[Single, Ints]
    ) -> tuple[float, Double, Double]:
        """Return what a block adds to the cost and to its gradients.

        A few samples at a time, whose numbers stay in a core's cache. Each sum over samples goes on
        from the last one, in their order: one of all samples at once has the same bits.
        """
        logits, labels = block
        size = logits.shape[1]
        shares, own, total = self._weights[labels], np.empty(len(labels)), np.empty(len(labels))
        by_scale, by_shift = np.zeros(size), np.zeros(size)
        rows = min(max(1, FEW_BYTES // (8 * size)), len(labels))
        z, sums = np.empty((rows, size)), np.empty((rows + 1, size))
        for part in blocks(len(labels), rows):
            of, share = labels[part], shares[part]
            samples, upto = np.arange(len(of)), len(of) + 1
            some, p = z[: len(of)], sums[1:upto]
            some[:] = logits[part]
            np.multiply(some, scale, out=p)
            p += shift
            p -= p.max(axis=1, keepdims=True)
            own[part] = p[samples, of]
            np.exp(p, out=p)
            total[part] = p.sum(axis=1)
            p *= (share / total[part])[:, None]
            p[samples, of] -= share
            sums[0] = by_shift
            np.add.reduce(sums[:upto], axis=0, out=by_shift)
            p *= some
            sums[0] = by_scale
            np.add.reduce(sums[:upto], axis=0, out=by_scale)
        return float(shares @ (np.log(total) - own)), by_scale, by_shift

    def _blocks(self) -> Iterator[tuple[Single, Ints]]:
        """Yield (B, C) logits and (B,) labels, of a size that threads can hold several of."""
        return self._inputs.blocks(len(self.classes) * (WIDE_BYTES // (4 * BLOCK_BYTES)))


def _variances(block: tuple[Single, Ints]) -> Double:
    """Return (B,) variances of a block's logits."""
    found: Double = block[0].astype(np.float64).var(axis=1)
    return found


def told(base: Classifier) -> Ints:
    """Return the classes that a classifier ever predicts."""
    return np.flatnonzero(base.told)


def seen(base: Classifier, val: FeatureSplit) -> Ints:
    """Return the classes that a classifier ever predicts and that the split has samples of."""
    counts = np.bincount(val.labels, minlength=base.num_classes)
    return np.flatnonzero(base.told & (counts > 0))


def temperature(problem: ValLogits) -> float:
    """Return the one scale, 1 / T, that the logits of the split are most likely with."""
    unit = 1 / problem.spread
    zeros = np.zeros(len(problem.classes))

    def cost(free: Double) -> tuple[float, Double]:
        value, by_scale, _ = problem.cost(zeros + free[0] * unit, zeros)
        return value, np.array([by_scale.sum() * unit])

    return float(minimum(cost, np.ones(1), 1)[0]) * unit


def scaled_and_shifted(
    problem: ValLogits, groups: Ints, penalty: float, *, one_scale: bool, start: Double | None
) -> tuple[Double, Double, Double]:
    """Return (C,) scales and offsets that minimise the penalised cost, and what to start from.

    Args:
        problem: logits of C classes.
        groups: (C,) shot group of each class, as a number.
        penalty: the lambda.
        one_scale: whether all classes share a scale.
        start: where a stronger penalty's search ended.
    """
    size, scales = len(groups), 1 if one_scale else len(groups)
    unit = 1 / problem.spread
    members = np.equal.outer(np.unique(groups), groups).astype(float)  # (groups, C)
    members /= members.sum(axis=1, keepdims=True)
    place = np.searchsorted(np.unique(groups), groups)

    def cost(free: Double) -> tuple[float, Double]:
        scale, shift = free[:scales], free[scales:]
        value, by_scale, by_shift = problem.cost(np.broadcast_to(scale * unit, size), shift)
        of_scale = by_scale.sum(keepdims=True) if one_scale else by_scale
        apart, away = scale - scale.mean(), shift - (members @ shift)[place]
        value += penalty / 2 * float(apart @ apart + away @ away)
        gradient = np.concatenate([of_scale * unit + penalty * apart, by_shift + penalty * away])
        return value, gradient

    begin = np.concatenate([np.ones(scales), np.zeros(size)]) if start is None else start
    found = minimum(cost, begin, scales)
    return np.broadcast_to(found[:scales] * unit, size), found[scales:], found


def minimum(cost: Callable[[Double], tuple[float, Double]], start: Double, scales: int) -> Double:
    """Return where a convex cost is least; the first parameters are scales, which are above 0.

    Raises:
        InputError: when the iterations do not suffice.
    """
    from scipy.optimize import minimize

    bounds = [(1 / LIMIT, LIMIT)] * scales + [(None, None)] * (len(start) - scales)
    found = minimize(
        cost, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options={**OPTIONS, "maxiter": ITERATIONS},
    )  # fmt: skip
    if found.nit >= ITERATIONS:
        raise InputError(
            f"scales and offsets are not at their optimum after {ITERATIONS} iterations; set a "
            "stronger penalty"
        )
    best: Double = found.x
    return best


def group_numbers(class_counts: NDArray[Any], few_below: int, many_above: int) -> Ints:
    """Return (C,) the number of each class's shot group: few, medium, many.

    Raises:
        InputError: when the bounds are not ascending counts.
    """
    numbers = np.empty(len(class_counts), np.int64)
    groups = groups_within(class_counts, few_below, many_above)
    for number, (_, ids) in enumerate(groups.items()):
        numbers[ids] = number
    return numbers


def for_all(values: Double, classes: Ints, groups: Ints) -> Double:
    """Return values of some classes for all: of the others, their group's mean, or else the mean.

    Example:
        >>> for_all(np.array([1.0, 3.0]), np.array([0, 1]), np.array([0, 0, 0, 1])).tolist()
        [1.0, 3.0, 2.0, 2.0]
    """
    every = np.full(len(groups), values.mean())
    for group in np.unique(groups[classes]):
        every[groups == group] = values[groups[classes] == group].mean()
    every[classes] = values
    return every


def rescaled(base: Classifier, scale: Double, shift: Double) -> Classifier:
    """Return a classifier with logits scaled and shifted; classes never predicted stay so.

    Args:
        base: the classifier.
        scale: (C,).
        shift: (C,).
    """
    weight = (base.weight * scale[:, None]).astype(np.float32)
    bias = np.where(base.told, base.bias * scale + shift, base.bias).astype(np.float32)
    return Classifier(weight, bias, base.normalize_features, base.experts)


def learned(
    base: Classifier, val: FeatureSplit | None, class_counts: NDArray[Any],
    tried: Sequence[Mapping[str, Any]], *, one_scale: bool, report: Report = silent,
) -> list[Classifier]:  # fmt: skip
    """Return the classifier of each setting, each penalty's search from the next stronger's end.

    Args:
        base: the classifier to correct.
        val: the split to learn from.
        class_counts: (C,) training images per class.
        tried: settings that have a penalty, a weighting, and the bounds of the groups.
        one_scale: whether all classes share a scale.
        report: called after each pass over the split.
    """
    val, first = check_val(val), tried[0]
    for settings in tried:
        check_range("penalty", settings["penalty"], 1e-3, 1e9)
    groups = group_numbers(class_counts, first["few_below"], first["many_above"])
    problem = ValLogits(base, val, seen(base, val), first["weighting"], report)
    some, start = groups[problem.classes], None
    found: dict[int, Classifier] = {}
    for number in sorted(range(len(tried)), key=lambda n: -float(tried[n]["penalty"])):
        scale, shift, start = scaled_and_shifted(
            problem, some, float(tried[number]["penalty"]), one_scale=one_scale, start=start
        )
        scales, shifts = (for_all(v, problem.classes, groups) for v in (scale, shift))
        found[number] = rescaled(base, scales, shifts)
    return [found[number] for number in range(len(tried))]
