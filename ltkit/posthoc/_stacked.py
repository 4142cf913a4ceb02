"""Heads trained on cached inputs, with several learning rates and seeds in one pass.

The runs of a seed are one stack: a step is one product of its samples with all their rows, (B, W)
by (L C, W), the gradients of all runs another, and SGD works in place. Seeds see other samples, so
each has its own stack; the inputs are shared.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import memory
from ltkit.posthoc import check_choice, check_range, check_size
from ltkit.records import Classifier, FeatureSplit, Ints, blocks, wide_rows
from ltkit.records.progress import Report, silent
from ltkit.row_cache import RowCache

Single = NDArray[np.float32]
Double = NDArray[np.float64]

MOMENTUM = np.float32(0.9)
"""Momentum of SGD, the same in all of the released codes."""

LEARNING_RATES = (0.002, 0.006, 0.02, 0.06, 0.2, 0.6, 2.0)
"""Values around the 0.2 of Kang et al.; the best depends on the size of the features."""


EPOCH_LENGTHS = ("data", "released")


@dataclass(frozen=True)
class Run:
    """One run of SGD with momentum, the learning rate falling to 0 along a cosine.

    The defaults are those of the cRT of Kang et al. 2020 on ImageNet-LT, in their released code,
    but for the length of a class-balanced epoch.

    epoch_length: class-balanced draws of an epoch: ``data``, N; or ``released``, as the released
        sampler has it, all classes as often as the largest has samples.
    """

    learning_rate: float = 0.2
    epochs: int = 10
    batch_size: int = 512
    weight_decay: float = 5e-4
    seed: int = 0
    epoch_length: str = "data"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("learning_rate", self.learning_rate, 0)
        check_range("epochs", self.epochs, 0)
        check_range("batch_size", self.batch_size, 1)
        check_range("weight_decay", self.weight_decay, 0)
        check_range("seed", self.seed, 0, 2**32 - 1)
        check_choice("epoch_length", self.epoch_length, EPOCH_LENGTHS)


def runs_of(tried: Sequence[Mapping[str, Any]]) -> list[Run]:
    """Return the runs for settings that may include other parameters."""
    names = [field.name for field in fields(Run)]
    return [Run(**{n: settings[n] for n in names if n in settings}) for settings in tried]


@dataclass
class _Measured:
    """Computes inputs of features, and records the largest.

    It knows nothing of who asks, so that these are let go, and what they hold, when they are done.

    made_of: see `Inputs`.
    width: how many of the first columns count; None: all.
    """

    made_of: Callable[[NDArray[Any]], Single]
    width: int | None
    largest: float = 0.0

    def __call__(self, features: NDArray[Any]) -> Single:
        """Return (B, W) inputs."""
        made = self.made_of(features)
        self.largest = max(self.largest, float(np.abs(made[:, : self.width]).max(initial=0)))
        return made


class Inputs:
    """(N, W) float32 inputs computed from a split's features, held if they fit the budget.

    Args:
        split: the samples.
        width: W.
        made_of: returns the (B, W) inputs of (B, D) stored features.
        once: each drawn row is needed once, as in a single epoch; nothing is held.
        what: the first columns are, for messages: features, beside which a 1 may stand, or logits.
    """

    def __init__(
        self,
        split: FeatureSplit,
        width: int,
        made_of: Callable[[NDArray[Any]], Single],
        *,
        once: bool = False,
        what: str = "features",
    ) -> None:
        """Read the split if it fits."""
        self.labels, self.width = split.labels, width
        self._split, self._made_of, self._what = split, made_of, what
        self._measured = _Measured(made_of, split.features.shape[1] if what != "logits" else None)
        self._rows: RowCache[Single] = RowCache(
            split, width, np.dtype(np.float32), budget=memory.budget(), place=lambda values: values,
            made_of=self._measured, once=once,
        )  # fmt: skip

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def blocks(self, width: int = 1) -> Iterator[tuple[Single, Ints]]:
        """Yield (B, W) inputs and (B,) labels in order.

        Args:
            width: float32 numbers that are computed of each row, beside the inputs.
        """
        held, width = self._rows.held, max(width, self.width)
        if held is not None:
            for rows in self._split.slices(width):
                yield held[rows], self.labels[rows]
            return
        few = wide_rows(width)  # in the same places as `slices`
        many = max(1, wide_rows(self.width) // few) * few
        for _, features, labels in self._split.blocks():
            for rows in blocks(len(labels), many):
                made = self._made_of(features[rows])
                for part in blocks(len(made), few):
                    yield made[part], labels[rows][part]

    def draws_at_once(self, orders: int) -> int:
        """Return how many draws, for each of several orders, can share the inputs at a time.

        Inputs are let go when the next are read, so half of the budget is for each.
        """
        return self._rows.room // 2 // orders if self._rows.held is None else sys.maxsize

    def taker(self, drawn: Sequence[Ints]) -> Callable[[Ints], Single]:
        """Return a function that returns the inputs of any of the drawn rows."""
        if self._rows.held is not None:
            return self._rows.held.__getitem__
        stretch = self._rows.stretch(np.concatenate(drawn))
        return lambda rows: stretch.values[stretch.places(rows)]

    def check_size(self) -> None:
        """Reject inputs read so far whose size SGD cannot learn from.

        Raises:
            InputError: when the largest is far too large or too small.
        """
        check_size(
            self._what, self._measured.largest,
            "multiply the head's weight and bias by a number"
            if self._what == "logits"
            else "import them in another unit, or use ridge or blend, which have none",
        )  # fmt: skip


def features_and_one(base: Classifier, split: FeatureSplit) -> Inputs:
    """Return (N, D + 1) inputs: the features as the classifier sees them, and a 1 for the bias."""

    def made_of(features: NDArray[Any]) -> Single:
        return np.hstack([base.prepare(features), np.ones((len(features), 1), np.float32)])

    return Inputs(split, base.feature_size + 1, made_of)


def logits_of(base: Classifier, split: FeatureSplit, epochs: int) -> Inputs:
    """Return (N, C) inputs: the classifier's logits, for a single epoch only those drawn."""
    return Inputs(split, base.num_classes, base.logits, once=epochs == 1, what="logits")


def softmax(logits: Single) -> Single:
    """Turn logits into probabilities over the last axis, in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=-1, keepdims=True)
    return logits


Cost = Callable[[Single, Ints], Single]
"""Computes, from the (B, L, C) logits of L runs, which it may overwrite, and (B,) labels, the
gradients of each run's mean cost over the batch."""


def cross_entropy(logits: Single, labels: Ints) -> Single:
    """Return the gradients of the mean cross-entropy."""
    gradients = softmax(logits)
    gradients[np.arange(len(labels)), :, labels] -= 1
    gradients /= len(labels)
    return gradients


@dataclass(frozen=True)
class Linear:
    """Logits are products with whole rows: parameters (L, C, W)."""

    def logits(self, parameters: Single, inputs: Single) -> Single:
        """Return (B, L, C)."""
        runs, classes, width = parameters.shape
        logits: Single = inputs @ parameters.reshape(-1, width).T
        return logits.reshape(-1, runs, classes)

    def gradients(self, of_logits: Single, inputs: Single, out: Single) -> None:
        """Write the parameters' gradients (L, C, W) given those of the logits (B, L, C)."""
        by_run = of_logits.reshape(len(inputs), -1)
        np.matmul(by_run.T, inputs, out=out.reshape(-1, out.shape[2]))

    def classifier(self, base: Classifier, parameters: Single) -> Classifier:
        """Return the classifier with (C, D + 1) parameters, for features as the base has them."""
        weight, bias = parameters[:, :-1].copy(), parameters[:, -1].copy()
        return Classifier(weight, bias, base.normalize_features, base.experts)


@dataclass(frozen=True)
class ScaleAndShift:
    """Logits are cached ones scaled, then shifted in units of a size: parameters (L, C, 2).

    unit: (C,) size of a shift of 1; 0 for no shift.
    """

    unit: Single

    def logits(self, parameters: Single, inputs: Single) -> Single:
        """Return (B, L, C)."""
        scale, shift = parameters[..., 0], parameters[..., 1]
        logits: Single = inputs[:, None] * scale + shift * self.unit
        return logits

    def gradients(self, of_logits: Single, inputs: Single, out: Single) -> None:
        """Write the parameters' gradients (L, C, 2) given those of the logits (B, L, C)."""
        np.einsum("blc,bc->lc", of_logits, inputs, out=out[..., 0])
        np.multiply(of_logits.sum(axis=0), self.unit, out=out[..., 1])

    def start(self) -> Single:
        """Return the (C, 2) parameters that change nothing."""
        return np.stack([np.ones_like(self.unit), np.zeros_like(self.unit)], axis=1)

    def classifier(self, base: Classifier, parameters: Single) -> Classifier:
        """Return the classifier that scales and shifts the base's logits."""
        scale, shift = parameters[:, 0], parameters[:, 1]
        bias = base.bias * scale
        if self.unit.any():
            bias = bias + shift * self.unit
        weight = base.weight * scale[:, None]
        return Classifier(weight, bias, base.normalize_features, base.experts)


def train(
    inputs: Inputs,
    start: Single,
    runs: Sequence[Run],
    form: Linear | ScaleAndShift,
    cost: Cost = cross_entropy,
    *,
    balanced: bool,
    after_epoch: Callable[[Single], None] | None = None,
    report: Report = silent,
) -> list[Single]:
    """Train the parameters of every run from the same start.

    A run's result depends on nothing but its own settings and, in the last bits, on how many runs
    share its products. The budget decides how often inputs are read, never what is learned.

    Args:
        inputs: inputs of N samples.
        start: (C, W') parameters, as `form` has them.
        runs: settings that differ in learning rate and seed only.
        form: how logits are computed from parameters and inputs.
        cost: what is minimised, beside weight decay.
        balanced: whether an epoch has equally many samples of each class, or each sample once.
        after_epoch: changes (L, C, W') parameters in place after each epoch.
        report: called after each step, with their number.

    Returns:
        (C, W') parameters of each run.
    """
    first = runs[0]
    if any(replace(r, learning_rate=0.0, seed=0) != replace(first, learning_rate=0.0, seed=0)
           for r in runs):  # fmt: skip
        raise ValueError("runs differ in more than learning rate and seed")
    seeds = {run.seed: [n for n, r in enumerate(runs) if r.seed == run.seed] for run in runs}
    stacks = [_Stack(form, cost, start, [runs[n] for n in own]) for own in seeds.values()]
    draw = partial(_balanced, length=first.epoch_length) if balanced else _shuffled
    generators = [np.random.default_rng(seed) for seed in seeds]
    size = first.batch_size
    with np.errstate(over="ignore", invalid="ignore"):  # whoever uses the parameters checks them
        for epoch in range(first.epochs):
            orders = [draw(inputs.labels, generator) for generator in generators]
            steps = -(-len(orders[0]) // size)
            at_once = max(1, inputs.draws_at_once(len(orders)) // size) * size
            for part in blocks(len(orders[0]), at_once):
                take = inputs.taker([order[part] for order in orders])
                inputs.check_size()
                for batch in blocks(part.stop - part.start, size):
                    done = epoch + (part.start + batch.start) / (steps * size)
                    factor = 0.5 + 0.5 * np.cos(np.pi * done / first.epochs)
                    for stack, order in zip(stacks, orders, strict=True):
                        rows = order[part][batch]
                        stack.step(take(rows), inputs.labels[rows], factor)
                    finished = epoch * steps + (part.start + batch.start) // size + 1
                    report("step", finished, first.epochs * steps)
            if after_epoch is not None:
                for stack in stacks:
                    after_epoch(stack.parameters)
    found = {n: p for stack, own in zip(stacks, seeds.values(), strict=True)
             for n, p in zip(own, stack.parameters, strict=True)}  # fmt: skip
    return [found[n] for n in range(len(runs))]


class _Stack:
    """L runs of one seed: their parameters (L, C, W) and SGD's velocity."""

    def __init__(
        self, form: Linear | ScaleAndShift, cost: Cost, start: Single, runs: Sequence[Run]
    ) -> None:
        self._form, self._cost = form, cost
        self.parameters = np.repeat(start[None], len(runs), axis=0)
        self._velocity = np.zeros_like(self.parameters)
        self._scratch = np.empty_like(self.parameters)
        self._decay = np.float32(runs[0].weight_decay)
        self._rates = np.array([run.learning_rate for run in runs])[:, None, None]

    def step(self, inputs: Single, labels: Ints, factor: float) -> None:
        """Take one step; the learning rate is `factor` of the first."""
        of_logits = self._cost(self._form.logits(self.parameters, inputs), labels)
        self._velocity *= MOMENTUM
        self._form.gradients(of_logits, inputs, self._scratch)
        self._velocity += self._scratch
        np.multiply(self.parameters, self._decay, out=self._scratch)
        self._velocity += self._scratch
        np.multiply(self._velocity, (factor * self._rates).astype(np.float32), out=self._scratch)
        self.parameters -= self._scratch


def _shuffled(labels: Ints, generator: np.random.Generator) -> Ints:
    return generator.permutation(len(labels))


def _balanced(labels: Ints, generator: np.random.Generator, length: str = "data") -> Ints:
    """Draw N / C samples per class, rounded up, each of a class's samples equally often.

    Of the released length, as many as the largest class has.

    The draws do not depend on how classes are numbered.
    """
    shuffled = generator.permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    present, counts = np.unique(labels, return_counts=True)
    each = int(counts.max()) if length == "released" else -(-len(labels) // len(present))
    within = np.arange(each) * counts[:, None] // each  # (C, each)
    rows = by_class[(np.cumsum(counts) - counts)[:, None] + within]
    order: Ints = np.sort(rows, axis=None)[generator.permutation(rows.size)]
    return order


def balanced_weights(labels: Ints, num_classes: int) -> Double:
    """Return (C,) sample weights with which every class has the same sum, N in total."""
    weights: Double = len(labels) / (num_classes * np.bincount(labels, minlength=num_classes))
    return weights


def balanced_moments(
    rows: Iterator[tuple[Single, Ints]], size: int, weights: Double
) -> tuple[Double, Double, Double]:
    """Return class means and the class-balanced mean and covariance of features, in one pass.

    Args:
        rows: (B, D) features and (B,) labels, block by block.
        size: D.
        weights: (C,) of a class's samples, as from `balanced_weights`.

    Returns:
        (C, D) means, (D,) mean of the means, and the (D, D) covariance around it, with the
        weights.
    """
    from scipy.sparse import csr_array

    classes = len(weights)
    sums, products, counts = np.zeros((classes, size)), np.zeros((size, size)), np.zeros(classes)
    first = np.zeros(0)  # taken off all rows: what they have in common cancels no digits
    for features, labels in rows:
        x = features.astype(np.float64)
        first = first if len(first) else x[0].copy()
        x -= first
        members = csr_array(
            (np.ones(len(labels)), (labels, np.arange(len(labels)))), (classes, len(labels))
        )
        sums += members @ x
        counts += np.bincount(labels, minlength=classes)
        x *= np.sqrt(weights[labels])[:, None]
        products += x.T @ x
    means = sums / counts[:, None]
    centre = means.mean(axis=0)
    covariance = products / counts.sum() - np.outer(centre, centre)
    return means + first, centre + first, covariance
