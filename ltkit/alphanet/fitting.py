"""AlphaNet: corrects rare classes with neighbours' classifiers, on cached features.

Everything is linear in cached logits, so training never touches features or weights:
``f . w'_c = f . w_c + sum_i alpha_ci (f . v_ci)``. A sample is reduced once to its few-class
logits, its neighbour scores, its target's logit and the log-sum-exp over the base classes, which is
constant; all runs (seeds x rhos) are then trained together as one stack of small networks.

Source:
    Chang et al., AlphaNet, arXiv:2008.07073; where their released code does otherwise,
    `AlphaNetSettings` has a choice and docs/decisions.md the reason for its default.
"""

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from threading import Event
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltkit import threads
from ltkit.alphanet.limits import check_cost, check_runs, check_sizes
from ltkit.alphanet.networks import Learner, Networks, combine
from ltkit.alphanet.reduction import Draws, Samples, accuracy_of, reduce, sample_losses
from ltkit.errors import InputError
from ltkit.records import Classifier, Correction, FeatureSplit, Ints, Neighbors, blocks
from ltkit.records.progress import Report, silent
from ltkit.settings import AlphaNetSettings, as_json

SHARED_PRODUCTS = 1 << 25
"""Products in a step's first layer above which several threads are used.

Threads that wait for each other on a busy machine cost far more than they save in smaller ones.
"""


def fit(
    base: Classifier,
    neighbors: Neighbors,
    train: FeatureSplit,
    val: FeatureSplit | None,
    runs: Sequence[AlphaNetSettings],
    *,
    absent: Ints | None = None,
    device: str = "cpu",
    report: Report = silent,
) -> Correction:
    """Fit AlphaNet, all runs together.

    Every epoch a run sees all samples of the few classes and ``floor(rho * F)`` base samples, drawn
    with replacement so that base classes are equally likely (F: samples of few classes). The epoch
    with the best overall validation accuracy is kept, the first of equals, not before
    `min_epochs`; without a validation split it is the last.

    Args:
        base: the classifier to correct; its classes other than ``neighbors.few_class`` stay as
            they are, bit for bit.
        neighbors: of every class to correct.
        train: (N, D) features.
        val: samples that the epoch is chosen on.
        runs: settings that differ only in `seed` and `rho`.
        absent: classes to ignore: no samples, no logits; for a later `apply`.
        device: device to train on.
        report: called after each epoch, with their number.

    Returns:
        A correction of the few classes, with ``extra``: ``alpha`` (S, F, K) with
        ``sum_i |alpha_ci| = 1``, ``neighbor`` (S, F, K), ``epoch`` (S,) the chosen one from 1,
        ``val_accuracy`` (S, epochs), absent without a validation split, and the networks,
        ``network.0`` (S, 32, K D) and so on, weights and biases in turn.

    Raises:
        InputError: for settings out of range, few classes without training samples, a
            loss that is not finite.
    """
    check_runs(runs)
    check_cost(base, neighbors, train, runs, device)
    runs = sorted(runs, key=lambda run: (-run.rho, run.seed))  # longer epochs first
    few, settings = neighbors.few_class, runs[0]
    absent = np.arange(0) if absent is None else absent
    draws = [Draws(train.labels, few, base.num_classes, run, absent) for run in runs]
    used = np.unique(np.concatenate([np.unique(d.rows) for d in draws]))
    network = Networks(base, neighbors, runs, device)
    scaled = _times(base, settings.logit_scale)
    data = reduce(scaled, neighbors, train, used, absent)
    check_sizes(network.inputs, data, settings.logit_scale)
    data = data.to(device)
    watched = _watched(scaled, neighbors, val, settings, absent, device)

    wide = len(runs) * network.inputs.numel() * settings.hidden[0] >= SHARED_PRODUCTS
    learners = _learners(network, np.array([d.rows.shape[1] for d in draws]), wide=wide)
    kept, log = _Kept(network, len(runs), settings.epochs), []
    for epoch in range(settings.epochs):
        _train(learners, data, [d.epoch(epoch, used) for d in draws], epoch, wide=wide)
        report("epoch", epoch + 1, settings.epochs)
        if watched is None:
            kept.take(network)
            continue
        alpha = network.alphas().detach()
        log.append(accuracy_of(watched, alpha, network.few_bias))
        if epoch + 1 >= min(settings.min_epochs, settings.epochs):
            kept.take_better(network, alpha, log[-1], epoch + 1)

    extra = kept.as_arrays()
    extra["neighbor"] = np.repeat(neighbors.base_class[None], len(runs), axis=0)
    if log:
        extra["val_accuracy"] = torch.stack(log, dim=1).cpu().numpy()
    return Correction(
        "alphanet",
        few,
        combine(base, neighbors, extra["alpha"]),
        (kept.bias.cpu().numpy() / settings.logit_scale).astype(np.float32),
        tuple({"k": neighbors.k, "metric": neighbors.metric} | as_json(run) for run in runs),
        base.normalize_features,
        extra,
    )


def _watched(
    base: Classifier, neighbors: Neighbors, val: FeatureSplit | None, settings: AlphaNetSettings,
    absent: Ints, device: str,
) -> Samples | None:  # fmt: skip
    """Return what accuracy after each epoch is measured on; None where no epoch is chosen."""
    if val is None or settings.epoch_choice != "best":
        return None
    there = np.flatnonzero(~np.isin(val.labels, absent)) if len(absent) else None
    return reduce(base, neighbors, val, there, absent).to(device)


class _Kept:
    """The networks of each run's best epoch, the first of equals; initially the starting ones.

    alpha: (S, F, K); bias: (S, F); parameters: of the networks; epoch: (S,) from 1.
    """

    def __init__(self, network: Networks, runs: int, epochs: int) -> None:
        self.take(network)
        self.epoch = torch.full((runs,), epochs, device=self.alpha.device)
        self._best = torch.full((runs,), -1.0, device=self.alpha.device)

    def take(self, network: Networks) -> None:
        """Keep all runs in their current state."""
        self.alpha, self.bias = network.alphas().detach(), network.few_bias
        self.parameters = network.parameters

    def take_better(self, network: Networks, alpha: Tensor, accuracy: Tensor, epoch: int) -> None:
        """Keep the runs whose (S,) accuracy exceeds every earlier one."""
        better = accuracy > self._best
        self._best = torch.where(better, accuracy, self._best)
        self.epoch = torch.where(better, epoch, self.epoch)
        self.alpha = torch.where(better[:, None, None], alpha, self.alpha)
        self.bias = torch.where(better[:, None], network.few_bias, self.bias)
        self.parameters = [
            torch.where(better.view(-1, *[1] * (now.ndim - 1)), now, old)
            for now, old in zip(network.parameters, self.parameters, strict=True)
        ]

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that a correction keeps."""
        parameters = enumerate(self.parameters)
        return {
            "alpha": self.alpha.cpu().numpy(),
            "epoch": self.epoch.cpu().numpy(),
        } | {f"network.{i}": p.cpu().numpy().copy() for i, p in parameters}


def _times(base: Classifier, factor: float) -> Classifier:
    if factor == 1:
        return base
    with np.errstate(over="ignore", invalid="ignore"):  # `check_sizes` refuses what comes of it
        scaled = (base.weight * np.float32(factor), base.bias * np.float32(factor))
    return Classifier(*scaled, base.normalize_features, base.experts)


def _learners(network: Networks, lengths: Ints, *, wide: bool) -> list[Learner]:
    """Divide runs among the threads, which need not wait for each other within an epoch.

    Runs stay together where they are fewer than threads, which share each step's products then,
    and where they have too few products.

    Args:
        network: of all runs.
        lengths: (S,) samples of an epoch of each run.
        wide: whether a step has products to share.
    """
    alone = wide and len(lengths) >= threads.count() and network.inputs.device.type == "cpu"
    parts = threads.count() if alone else 1
    middles = np.cumsum(lengths) - lengths / 2
    cuts = np.searchsorted(middles, lengths.sum() * np.arange(1, parts) / parts)
    bounds = np.unique([0, *cuts, len(lengths)]).tolist()
    return [Learner(network, slice(*ends), alone=alone) for ends in itertools.pairwise(bounds)]


def _train(
    learners: list[Learner], data: Samples, rows: list[Ints], epoch: int, *, wide: bool
) -> None:
    """Train all runs on their samples of one epoch, each learner in a thread.

    A single learner uses PyTorch's threads if a step has products for them.
    """
    stop = Event()
    work = partial(_train_epoch, data=data, rows=rows, epoch=epoch, stop=stop)
    with threads.one_of_torch() if learners[0].alone or not wide else nullcontext():
        list(threads.in_order(work, learners, stop))


def _train_epoch(
    learner: Learner, data: Samples, rows: list[Ints], epoch: int, stop: Event
) -> None:
    """Train runs on their samples of one epoch; the longest epochs come first in the stack.

    Args:
        learner: of some runs.
        data: reduced samples.
        rows: positions in the data, for each of all runs.
        epoch: from 0.
        stop: set when the rest of the epoch is no longer wanted.
    """
    settings, rows = learner.settings, rows[learner.runs]
    rate = settings.learning_rate * settings.decay_factor ** (epoch // settings.decay_every)
    device = learner.trained[0].device
    lengths = torch.tensor([len(r) for r in rows], device=device)
    table = torch.zeros((len(rows), len(rows[0])), dtype=torch.int64)
    for number, positions in enumerate(rows):
        table[number, : len(positions)] = torch.from_numpy(positions)
    table = table.to(device)
    total = torch.zeros((), device=device)
    for batch in blocks(table.shape[1], settings.batch_size):
        if stop.is_set():
            return
        active = sum(len(r) > batch.start for r in rows)
        index = table[:active, batch]  # (S', B)
        inside = torch.arange(batch.start, batch.stop, device=device) < lengths[:active, None]
        trained = [p[:active].detach().requires_grad_() for p in learner.trained]
        losses = sample_losses(data, index, *learner.alphas_and_biases(trained))
        loss = ((losses * inside).sum(dim=1) / inside.sum(dim=1)).sum()
        learner.step(torch.autograd.grad(loss, trained), rate)
        total += loss.detach()
    if not torch.isfinite(total):
        raise InputError(
            f"loss: not finite in epoch {epoch + 1} at learning rate {rate:g}; lower it, and "
            "check the features with ltkit validate"
        )
