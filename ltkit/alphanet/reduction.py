"""The samples a fit draws, each reduced once to a few numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ltkit import memory, threads
from ltkit.errors import InputError, SettingError
from ltkit.records import WIDE_BYTES, Classifier, FeatureSplit, Floats, Ints, Neighbors, blocks
from ltkit.settings import AlphaNetSettings

AT_ONCE = 1 << 20
"""Logits of all runs that accuracy is taken from at a time."""


def _check_samples(few: Ints, counts: Ints) -> None:
    """Reject classes to correct that have no training sample."""
    empty = few[counts[few] == 0]
    if len(empty):
        raise InputError(
            f"class {empty[0]}: no training sample; {len(empty)} such classes cannot be "
            "corrected; extract the train split, or leave them out"
        )


class Draws:
    """The samples that a run sees, in order: (epochs, few samples + drawn base samples)."""

    def __init__(
        self, labels: Ints, few: Ints, num_classes: int, run: AlphaNetSettings, absent: Ints
    ) -> None:
        """Draw the samples of all epochs from the run's seed."""
        counts = np.bincount(labels, minlength=num_classes)
        _check_samples(few, counts)
        few_rows = np.flatnonzero(np.isin(labels, few))
        base = np.setdiff1d(np.flatnonzero(counts), np.concatenate([few, absent]))
        number = int(run.rho * len(few_rows))
        if number < 1 or not len(base):
            raise SettingError(
                "rho",
                f"found {run.rho:g}, no base sample drawn for {len(few_rows)} few-shot "
                f"samples; expected at least {1 / len(few_rows):.2g}",
            )
        order = np.argsort(labels, kind="stable")
        start = np.cumsum(counts) - counts
        rng = np.random.default_rng(run.seed)
        epochs = []
        share = counts[base] / counts[base].sum() if run.base_sampling == "uniform" else None
        for _ in range(run.epochs):
            classes = rng.choice(base, number, p=share)
            within = (rng.random(number) * counts[classes]).astype(np.int64)
            rows = np.concatenate([few_rows, order[start[classes] + within]])
            epochs.append(rng.permutation(rows))
        self.rows = np.stack(epochs)

    def epoch(self, epoch: int, used: Ints) -> Ints:
        """Return the positions within `used` of one epoch's samples."""
        positions: Ints = np.searchsorted(used, self.rows[epoch])
        return positions


@dataclass(frozen=True)
class Reduced:
    """What the loss and the prediction of a sample need, whatever the alphas are.

    few: (N, F) f . w_c of the few classes; near: (N, F, K) f . v_ci; neither has a bias.
    base_lse: (N,) log-sum-exp of the base logits; base_best: (N,) the greatest of them.
    base_right: (N,) whether the greatest is the true class's.
    target: (N,) the true class's place among the few, -1 for a base class.
    base_target: (N,) the logit of a true class that is base, else 0.
    """

    few: Tensor
    near: Tensor
    base_lse: Tensor
    base_best: Tensor
    base_right: Tensor
    target: Tensor
    base_target: Tensor

    def to(self, device: str) -> "Reduced":
        """Move everything to a device."""
        return Reduced(*(getattr(self, f.name).to(device) for f in fields(self)))

    def at(self, index: Tensor) -> "tuple[Reduced, Tensor]":
        """Return samples that include those of an index, and where these are among them."""
        return self, index

    def parts(self, size: int) -> Iterator["Reduced"]:
        """Yield the samples in parts of a size at most."""
        for rows in blocks(len(self.target), size):
            yield Reduced(*(getattr(self, f.name)[rows] for f in fields(self)))

    @property
    def largest(self) -> float:
        """The greatest absolute logit."""
        logits = (self.few, self.near, self.base_best, self.base_target)
        ends = [part.aminmax() for part in logits if part.numel()]
        return max((float(end.abs()) for pair in ends for end in pair), default=0.0)

    def __len__(self) -> int:
        """N."""
        return len(self.target)


@dataclass(frozen=True, eq=False)
class Reducer:
    """Computes the reduced quantities of samples.

    base: the classifier to correct; neighbors: of the few classes; absent: without logits.
    """

    base: Classifier
    neighbors: Neighbors
    absent: Ints

    @cached_property
    def _others(self) -> Tensor:
        left_out = np.concatenate([self.neighbors.few_class, self.absent])
        return torch.from_numpy(np.setdiff1d(np.arange(self.base.num_classes), left_out))

    @cached_property
    def _place(self) -> Tensor:
        place = torch.full((self.base.num_classes,), -1)
        place[torch.from_numpy(self.neighbors.few_class)] = torch.arange(
            len(self.neighbors.few_class)
        )
        return place

    @property
    def width(self) -> int:
        """Numbers of a reduced sample."""
        return len(self.neighbors.few_class) * (1 + self.neighbors.k) + 8

    def __call__(self, features: Floats, label_array: Ints) -> Reduced:
        """Reduce (B, D) features as stored, with (B,) labels."""
        base, labels = self.base, torch.from_numpy(label_array)
        few, near = map(torch.from_numpy, (self.neighbors.few_class, self.neighbors.base_class))
        raw = torch.from_numpy(base.prepare(features)) @ torch.from_numpy(base.weight).T  # (B, C)
        logits = raw + torch.from_numpy(base.bias)
        rest, target = logits.index_select(1, self._others), self._place[labels]
        best, position = rest.max(dim=1)
        own = logits.gather(1, labels[:, None])[:, 0]
        return Reduced(
            few=raw.index_select(1, few),  # as raw[:, few], but faster
            near=raw.index_select(1, near.ravel()).view(-1, *near.shape),
            base_lse=rest.logsumexp(dim=1),
            base_best=best,
            base_right=self._others[position] == labels,
            target=target,
            base_target=torch.where(target < 0, own, 0.0),
        )


@dataclass(frozen=True, eq=False)
class Streamed:
    """Samples that are reduced whenever they are asked for: all at once would take too much memory.

    features: (N, D) as stored; labels: (N,).
    """

    reducer: Reducer
    features: Floats
    labels: Ints
    device: str = "cpu"
    largest: float = field(default=0.0)

    def to(self, device: str) -> "Streamed":
        """Let reduced samples go to a device."""
        return replace(self, device=device)

    def at(self, index: Tensor) -> tuple[Reduced, Tensor]:
        """Reduce the samples of an index, each once; return where they are among them."""
        rows, places = torch.unique(index.cpu(), return_inverse=True)
        found = self.reducer(self.features[rows.numpy()], self.labels[rows.numpy()])
        return found.to(self.device), places.to(self.device)

    def parts(self, size: int) -> Iterator[Reduced]:
        """Reduce all samples, in parts of a size at most."""
        for rows in blocks(len(self.labels), min(size, _at_once(self.reducer))):
            yield self.reducer(self.features[rows], self.labels[rows]).to(self.device)

    def __len__(self) -> int:
        """N."""
        return len(self.labels)


Samples = Reduced | Streamed


def _at_once(reducer: Reducer) -> int:
    """Return how many samples are reduced at a time."""
    return max(1, WIDE_BYTES // (4 * (3 * reducer.base.num_classes + reducer.width)))


def reduce(
    base: Classifier, neighbors: Neighbors, split: FeatureSplit, used: Ints | None, absent: Ints
) -> Samples:
    """Compute the reduced quantities of the rows `used` (all if None), block by block.

    Blocks are read while earlier ones are reduced in threads.

    Where they take more than `ltkit.memory.budget`, the features of the rows are kept in their
    place, and reduced when they are asked for.
    """
    reducer = Reducer(base, neighbors, absent)
    count, size = len(split) if used is None else len(used), _at_once(reducer)
    if 4 * count * reducer.width <= memory.budget():
        every = (
            (features[rows], labels[rows])
            for features, labels in _blocks_with(split, used)
            for rows in blocks(len(labels), size)
        )
        with threads.one_of_torch():
            parts = list(threads.in_order(lambda block: reducer(*block), every))
        return Reduced(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Reduced)))
    some = split if used is None else split.at(used)
    streamed = Streamed(reducer, some.features[0:count], some.labels)
    return replace(streamed, largest=max(part.largest for part in streamed.parts(size)))


def _blocks_with(split: FeatureSplit, used: Ints | None) -> Iterator[tuple[Floats, Ints]]:
    """Yield the (B, D) features and (B,) labels of the rows `used`, read block by block."""
    for rows in split.slices():
        if used is None:
            yield split.features[rows], split.labels[rows]
            continue
        first, last = np.searchsorted(used, (rows.start, rows.stop))
        if first < last:
            within = used[first:last] - rows.start
            yield split.features[rows][within], split.labels[rows][within]


def sample_losses(samples: Samples, index: Tensor, alpha: Tensor, bias: Tensor) -> Tensor:
    """Return the cross-entropy over all classes of (S, B) samples.

    Args:
        samples: reduced quantities of N samples.
        index: (S, B) sample indices.
        alpha: (S, F, K) coefficients.
        bias: (S, F) biases of the few classes.
    """
    data, index = samples.at(index)
    few = data.few[index] + (data.near[index] * alpha[:, None]).sum(dim=3) + bias[:, None]
    every = torch.cat([few, data.base_lse[index][:, :, None]], dim=2)  # (S, B, F + 1)
    target = data.target[index]
    own = few.gather(2, target.clamp_min(0)[:, :, None])[:, :, 0]
    own = torch.where(target < 0, data.base_target[index], own)
    return every.logsumexp(dim=2) - own


def accuracy_of(samples: Samples, alpha: Tensor, bias: Tensor) -> Tensor:
    """Return the (S,) overall accuracy on all samples."""
    right = torch.zeros(len(alpha), device=alpha.device)
    for data in samples.parts(max(1, AT_ONCE // (alpha.numel() // alpha.shape[2]))):
        logits = torch.einsum("nfk,sfk->snf", data.near, alpha)  # in a core's cache
        logits += data.few
        logits += bias[:, None]
        best, position = logits.max(dim=2)  # (S, B)
        wins = best > data.base_best
        right += torch.where(wins, position == data.target, data.base_right).sum(dim=1)
    return right / len(samples)
