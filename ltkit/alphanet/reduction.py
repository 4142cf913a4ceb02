"""The samples a fit draws, each reduced once to a few numbers."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ltkit.errors import InputError, SettingError
from ltkit.records import Classifier, FeatureSplit, Floats, Ints, Neighbors, blocks
from ltkit.settings import AlphaNetSettings


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


def reduce(
    base: Classifier, neighbors: Neighbors, split: FeatureSplit, used: Ints | None, absent: Ints
) -> Reduced:
    """Compute the reduced quantities of the rows `used` (all if None), block by block."""
    few = torch.from_numpy(neighbors.few_class)
    near = torch.from_numpy(neighbors.base_class)
    left_out = np.concatenate([neighbors.few_class, absent])
    others = torch.from_numpy(np.setdiff1d(np.arange(base.num_classes), left_out))
    place = torch.full((base.num_classes,), -1)
    place[few] = torch.arange(len(few))
    weight, bias, parts = torch.from_numpy(base.weight), torch.from_numpy(base.bias), []
    for features, label_array in _blocks_with(split, used):
        labels = torch.from_numpy(label_array)
        raw = torch.from_numpy(base.prepare(features)) @ weight.T  # (B, C)
        logits = raw + bias
        rest, target = logits[:, others], place[labels]
        best, position = rest.max(dim=1)
        own = logits.gather(1, labels[:, None])[:, 0]
        parts.append(
            Reduced(
                few=raw[:, few],
                near=raw[:, near],
                base_lse=rest.logsumexp(dim=1),
                base_best=best,
                base_right=others[position] == labels,
                target=target,
                base_target=torch.where(target < 0, own, 0.0),
            )
        )
    return Reduced(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Reduced)))


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


def sample_losses(data: Reduced, index: Tensor, alpha: Tensor, bias: Tensor) -> Tensor:
    """Return the cross-entropy over all classes of (S, B) samples.

    Args:
        data: reduced quantities of N samples.
        index: (S, B) sample indices.
        alpha: (S, F, K) coefficients.
        bias: (S, F) biases of the few classes.
    """
    few = data.few[index] + (data.near[index] * alpha[:, None]).sum(dim=3) + bias[:, None]
    every = torch.cat([few, data.base_lse[index][:, :, None]], dim=2)  # (S, B, F + 1)
    target = data.target[index]
    own = few.gather(2, target.clamp_min(0)[:, :, None])[:, :, 0]
    own = torch.where(target < 0, data.base_target[index], own)
    return every.logsumexp(dim=2) - own


def accuracy_of(data: Reduced, alpha: Tensor, bias: Tensor) -> Tensor:
    """Return the (S,) overall accuracy on all samples of `data`."""
    count = len(data.target)
    right = torch.zeros(len(alpha), device=alpha.device)
    step = max(1, (1 << 22) // (alpha.numel() // alpha.shape[2]))
    for rows in blocks(count, step):
        near = torch.einsum("nfk,sfk->snf", data.near[rows], alpha)
        best, position = (data.few[rows] + near + bias[:, None]).max(dim=2)  # (S, B)
        wins = best > data.base_best[rows]
        hit = torch.where(wins, position == data.target[rows], data.base_right[rows])
        right += hit.sum(dim=1)
    return right / count
