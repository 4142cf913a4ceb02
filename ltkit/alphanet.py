"""AlphaNet: rare classifiers corrected by their neighbours', learned on cached features.

Everything is linear in cached logits, so training never touches features or weights:
``f . w'_c = f . w_c + sum_i alpha_ci (f . v_ci)``. A sample is reduced once to its few-class
logits, its neighbour scores, its target's logit and the log-sum-exp over the base classes, which is
constant; all runs (seeds x rhos) are then trained together as one stack of small networks.

Source:
    Chang et al., AlphaNet, arXiv:2008.07073; where their released code does otherwise,
    `AlphaNetSettings` has a choice and docs/decisions.md the reason for its default.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.optim.adamw import adamw

from ltkit.errors import InputError, SettingError
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSplit,
    Floats,
    Ints,
    Neighbors,
    blocks,
)
from ltkit.settings import Activation, AlphaNetSettings, as_json
from ltkit.settings import check as check_ranges

BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Of AdamW: PyTorch's defaults, as in the released code."""

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "leaky_relu": functional.leaky_relu,  # slope 0.01, PyTorch's default, as in the released code
    "relu": functional.relu,
    "tanh": torch.tanh,
}

MOST_HOURS = 100.0
"""How long a fit may be expected to take."""

MOST_BYTES = 16 << 30
"""Memory that networks and drawn samples may take."""

MOST_LAYERS = 16
"""Hidden layers of a network."""

STEP_SECONDS, PRODUCTS_PER_SECOND = 1e-3, {"cpu": 2e10, "cuda": 2e12}
"""What a step takes at least, and how many products a device makes, for the estimate: roughly."""

SHARED_PRODUCTS = 1 << 25
"""Products of a step's first layer from which several threads are used."""


def fit(
    base: Classifier,
    neighbors: Neighbors,
    train: FeatureSplit,
    val: FeatureSplit | None,
    runs: Sequence[AlphaNetSettings],
    *,
    absent: Ints | None = None,
    device: str = "cpu",
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
        val: what the epoch is chosen on.
        runs: settings that differ in nothing but `seed` and `rho`.
        absent: classes that are taken not to be there: no sample, no logit; for `apply` later.
        device: where to train.

    Returns:
        A correction of the few classes, with ``extra``: ``alpha`` (S, F, K) with
        ``sum_i |alpha_ci| = 1``, ``neighbor`` (S, F, K), ``epoch`` (S,) the chosen one from 1,
        ``val_accuracy`` (S, epochs), absent without a validation split, and the networks,
        ``network.0`` (S, 32, K D) and so on, weights and biases in turn.

    Raises:
        InputError: for settings out of range, few classes without training samples, a
            loss that is not finite.
    """
    _check(runs)
    _check_cost(base, neighbors, train, runs, device)
    runs = sorted(runs, key=lambda run: (-run.rho, run.seed))  # longer epochs first
    few, settings = neighbors.few_class, runs[0]
    absent = np.arange(0) if absent is None else absent
    draws = [_Draws(train.labels, few, base.num_classes, run, absent) for run in runs]
    used = np.unique(np.concatenate([np.unique(d.rows) for d in draws]))
    network = _Networks(base, neighbors, runs, device)
    scaled = _times(base, settings.logit_scale)
    data = _reduce(scaled, neighbors, train, used, absent)
    _check_sizes(network.inputs, data, settings.logit_scale)
    data = data.to(device)
    watched = None
    if val is not None and settings.epoch_choice == "best":
        there = np.flatnonzero(~np.isin(val.labels, absent)) if len(absent) else None
        watched = _reduce(scaled, neighbors, val, there, absent).to(device)

    alpha, bias = network.alphas().detach(), network.few_bias
    kept = network.parameters
    epoch_kept = torch.full((len(runs),), settings.epochs, device=device)
    best = torch.full((len(runs),), -1.0, device=device)
    log = []
    for epoch in range(settings.epochs):
        with _threads(len(runs) * network.inputs.numel() * settings.hidden[0]):
            _train_epoch(network, data, [d.epoch(epoch, used) for d in draws], settings, epoch)
        alpha_now, bias_now = network.alphas().detach(), network.few_bias.clone()
        if watched is None:
            alpha, bias, kept = alpha_now, bias_now, network.parameters
            continue
        accuracy = _accuracy(watched, alpha_now, bias_now)
        log.append(accuracy)
        if epoch + 1 < min(settings.min_epochs, settings.epochs):
            continue
        better = accuracy > best
        best = torch.where(better, accuracy, best)
        epoch_kept = torch.where(better, epoch + 1, epoch_kept)
        alpha = torch.where(better[:, None, None], alpha_now, alpha)
        bias = torch.where(better[:, None], bias_now, bias)
        kept = [
            torch.where(better.view(-1, *[1] * (now.ndim - 1)), now, old)
            for now, old in zip(network.parameters, kept, strict=True)
        ]

    extra: dict[str, NDArray[Any]] = {
        "alpha": alpha.cpu().numpy(),
        "neighbor": np.repeat(neighbors.base_class[None], len(runs), axis=0),
        "epoch": epoch_kept.cpu().numpy(),
    }
    extra |= {f"network.{i}": p.cpu().numpy().copy() for i, p in enumerate(kept)}
    if log:
        extra["val_accuracy"] = torch.stack(log, dim=1).cpu().numpy()
    return Correction(
        "alphanet",
        few,
        combine(base, neighbors, extra["alpha"]),
        (bias.cpu().numpy() / settings.logit_scale).astype(np.float32),
        tuple({"k": neighbors.k, "metric": neighbors.metric} | as_json(run) for run in runs),
        base.normalize_features,
        extra,
    )


def apply(correction: Correction, base: Classifier, neighbors: Neighbors) -> Correction:
    """Let trained networks correct classes that they may never have seen.

    A network reads the neighbours' rows (and the class's own, where it was trained so) and nothing
    else, so a class needs no samples of its own but those of its mean feature and its row.

    Args:
        correction: of `fit`, with its networks.
        base: the classifier to correct.
        neighbors: of the classes to correct, as many as in the fit, in the same order of distance.

    Returns:
        A correction of ``neighbors.few_class`` with the same runs; biases are the base's.

    Raises:
        InputError: when the correction has no networks, or they take other inputs.
    """
    parameters = [
        torch.from_numpy(np.array(correction.extra[name], np.float32))
        for name in sorted(
            (n for n in correction.extra if n.startswith("network.")),
            key=lambda name: int(name.partition(".")[2]),
        )
    ]
    if not parameters:
        raise InputError(f"{correction.method}: holds no network to apply; fit it again")
    run = correction.runs[0]
    inputs = _network_inputs(base, neighbors, str(run["network_input"]))
    expected = (parameters[0].shape[2], parameters[-1].shape[1])
    if (inputs.shape[1], neighbors.k) != expected:
        raise InputError(
            f"alphanet: found {inputs.shape[1]} inputs and {neighbors.k} neighbours a class, the "
            f"networks take {expected[0]} and {expected[1]}; give features of the same model and k"
        )
    alpha = _alphas(inputs, parameters, run["activation"]).numpy()
    shape = (len(correction.runs), len(neighbors.few_class))
    return Correction(
        correction.method,
        neighbors.few_class,
        combine(base, neighbors, alpha),
        np.broadcast_to(base.bias[neighbors.few_class], shape).copy(),
        correction.runs,
        base.normalize_features,
        {"alpha": alpha, "neighbor": np.repeat(neighbors.base_class[None], shape[0], axis=0)},
    )


def _times(base: Classifier, factor: float) -> Classifier:
    if factor == 1:
        return base
    with np.errstate(over="ignore", invalid="ignore"):  # `_check_sizes` refuses what comes of it
        scaled = (base.weight * np.float32(factor), base.bias * np.float32(factor))
    return Classifier(*scaled, base.normalize_features, base.experts)


def _network_inputs(base: Classifier, neighbors: Neighbors, network_input: str) -> Tensor:
    """Return the (F, K D) rows that the networks read, the class's own first where it is read."""
    near = base.weight[neighbors.base_class]  # (F, K, D)
    if network_input == "own+neighbors":
        near = np.concatenate([base.weight[neighbors.few_class][:, None], near], axis=1)
    return torch.from_numpy(np.ascontiguousarray(near.reshape(len(near), -1)))


def _alphas(inputs: Tensor, parameters: Sequence[Tensor], activation: Activation) -> Tensor:
    """Return (S, F, K) coefficients with unit absolute sum."""
    weight, bias = parameters[0], parameters[1]
    hidden = inputs @ weight.flatten(0, 1).T  # one product for all runs: (F, S * 32)
    hidden = hidden.view(len(inputs), *bias.shape).transpose(0, 1) + bias[:, None]
    for weight, bias in zip(parameters[2::2], parameters[3::2], strict=False):
        hidden = ACTIVATIONS[activation](hidden)
        hidden = torch.baddbmm(bias[:, None], hidden, weight.transpose(1, 2))  # (S, F, size)
    size = hidden.abs().sum(dim=2, keepdim=True)
    return hidden / torch.where(size > 0, size, 1)


def combine(base: Classifier, neighbors: Neighbors, alpha: NDArray[Any]) -> NDArray[np.float32]:
    """Return the corrected rows ``w_c + sum_i alpha_ci v_ci``.

    Args:
        base: with the rows w and v.
        neighbors: (F, K) whose rows are added.
        alpha: (S, F, K).

    Returns:
        (S, F, D) float32.

    Example:
        >>> base = Classifier(np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32))
        >>> near = Neighbors(np.array([2]), np.array([[0, 1]]), np.ones((1, 2)))
        >>> combine(base, near, np.array([[[0.75, -0.25]]])).tolist()
        [[[0.75, -0.25, 1.0]]]

    Source:
        Chang et al., arXiv:2008.07073, the definition of the corrected classifier.
    """
    rows = base.weight.astype(np.float64)
    added = np.einsum("sfk,fkd->sfd", alpha.astype(np.float64), rows[neighbors.base_class])
    combined: NDArray[np.float32] = (rows[neighbors.few_class] + added).astype(np.float32)
    return combined


LOGITS, ROWS = (1e-6, 1e6), (1e-9, 1e9)
"""The largest logit, and the largest number of a row of the head, with which a fit learns."""


def _check_sizes(inputs: Tensor, data: "_Reduced", logit_scale: float) -> None:
    """Refuse logits and rows of a size at which a network learns nothing, or not to a finite loss.

    All zeros are as good as any: there is nothing to learn.

    Raises:
        InputError: saying what to multiply with what.
    """
    size = float(inputs.abs().max()) if inputs.numel() else 0.0
    if size and not ROWS[0] <= size <= ROWS[1]:
        raise InputError(
            f"head: found {size:.2g} as the largest number of the rows that the networks read, "
            f"expected {ROWS[0]:g} to {ROWS[1]:g}; multiply the head by a number, and divide the "
            "features by it"
        )
    parts = (data.few, data.near, data.base_best, data.base_target)
    most = max(float(part.abs().max()) if part.numel() else 0.0 for part in parts)
    if (most or logit_scale != 1) and not LOGITS[0] <= most <= LOGITS[1]:
        usual = logit_scale / most if 0 < most < math.inf else 1.0
        way_out = f"set it to about {usual:.0e}"
        if not 1e-30 < usual < 1e30:
            way_out = "import the features in another unit"
        raise InputError(
            f"--logit-scale: found {logit_scale:g}, with which the largest logit is {most:.2g}, "
            f"expected {LOGITS[0]:g} to {LOGITS[1]:g}; {way_out}"
        )


def _check(runs: Sequence[AlphaNetSettings]) -> None:
    if not runs:
        raise InputError("--seeds: found 0 runs, expected at least one seed and one rho")
    for run in runs:
        check_ranges(run)
        if not 1 <= len(run.hidden) <= MOST_LAYERS:
            raise SettingError(
                "hidden", f"found {len(run.hidden)} layers, expected 1 to {MOST_LAYERS}, as 32,32"
            )
        for field in fields(run):
            if field.name not in ("rho", "seed") and getattr(run, field.name) != getattr(
                runs[0], field.name
            ):
                raise ValueError(f"runs differ in {field.name}; only rho and seed may differ")


def _check_cost(
    base: Classifier,
    neighbors: Neighbors,
    train: FeatureSplit,
    runs: Sequence[AlphaNetSettings],
    device: str,
) -> None:
    """Refuse what would take too long or too much memory, before any of it is made."""
    settings, samples = runs[0], int(np.isin(train.labels, neighbors.few_class).sum())
    own = settings.network_input == "own+neighbors"
    sizes = ((neighbors.k + own) * base.feature_size, *settings.hidden, neighbors.k)
    weights = sum((size_in + 1) * size for size_in, size in itertools.pairwise(sizes))
    rows = [int((1 + run.rho) * samples) for run in runs]
    networks = weights * 5 + sum(sizes) * len(neighbors.few_class)  # gradients, averages, the best
    needed = 4 * len(runs) * networks + 16 * settings.epochs * sum(rows)
    what = f"{len(runs)} runs of {settings.epochs} epochs"
    less = "take fewer seeds, rhos or epochs, or smaller hidden layers"
    if needed > MOST_BYTES:
        raise InputError(
            f"{what}: need about {needed / 2**30:.3g} GiB of memory, expected at most "
            f"{MOST_BYTES / 2**30:.3g}; {less}"
        )
    steps = settings.epochs * math.ceil(max(rows) / settings.batch_size)
    products = 3 * len(runs) * len(neighbors.few_class) * weights  # forward, and twice backward
    each = max(
        STEP_SECONDS,
        products / PRODUCTS_PER_SECOND["cpu" if torch.device(device).type == "cpu" else "cuda"],
    )
    if (hours := steps * each / 3600) > MOST_HOURS:
        raise InputError(
            f"{what}: would take about {hours:.3g} hours, expected at most {MOST_HOURS:g}; {less}"
        )


class _Draws:
    """Which samples a run sees, in which order: (epochs, few samples + drawn base samples)."""

    def __init__(
        self, labels: Ints, few: Ints, num_classes: int, run: AlphaNetSettings, absent: Ints
    ) -> None:
        counts = np.bincount(labels, minlength=num_classes)
        empty = few[counts[few] == 0]
        if len(empty):
            raise InputError(
                f"class {empty[0]}: no training sample; {len(empty)} such classes cannot be "
                "corrected; extract the train split, or leave them out"
            )
        few_rows = np.flatnonzero(np.isin(labels, few))
        base = np.setdiff1d(np.flatnonzero(counts), np.concatenate([few, absent]))
        number = int(run.rho * len(few_rows))
        if number < 1 or not len(base):
            raise InputError(
                f"--rho: found {run.rho:g}, no base sample drawn for {len(few_rows)} few-shot "
                f"samples; expected at least {1 / len(few_rows):.2g}"
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
        """Return the positions within `used` of an epoch's samples."""
        positions: Ints = np.searchsorted(used, self.rows[epoch])
        return positions


@dataclass(frozen=True)
class _Reduced:
    """What a sample needs for the loss and for its prediction, whatever the alphas are.

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

    def to(self, device: str) -> "_Reduced":
        return _Reduced(*(getattr(self, f.name).to(device) for f in fields(self)))


def _reduce(
    base: Classifier, neighbors: Neighbors, split: FeatureSplit, used: Ints | None, absent: Ints
) -> _Reduced:
    """Compute the reduced quantities of the rows `used` (all when None), block by block."""
    few = torch.from_numpy(neighbors.few_class)
    near = torch.from_numpy(neighbors.base_class)
    left_out = np.concatenate([neighbors.few_class, absent])
    others = torch.from_numpy(np.setdiff1d(np.arange(base.num_classes), left_out))
    place = torch.full((base.num_classes,), -1)
    place[few] = torch.arange(len(few))
    weight, bias = torch.from_numpy(base.weight), torch.from_numpy(base.bias)
    parts = []
    for features, label_array in _blocks_with(split, used):
        labels = torch.from_numpy(label_array)
        raw = torch.from_numpy(base.prepare(features)) @ weight.T  # (B, C)
        logits = raw + bias
        best, position = logits[:, others].max(dim=1)
        target = place[labels]
        own = logits.gather(1, labels[:, None])[:, 0]
        parts.append(
            _Reduced(
                few=raw[:, few],
                near=raw[:, near],
                base_lse=logits[:, others].logsumexp(dim=1),
                base_best=best,
                base_right=others[position] == labels,
                target=target,
                base_target=torch.where(target < 0, own, 0.0),
            )
        )
    return _Reduced(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(_Reduced)))


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


class _Networks:
    """S networks with three hidden layers as one stack of parameters, and their AdamW state."""

    def __init__(
        self, base: Classifier, neighbors: Neighbors, runs: Sequence[AlphaNetSettings], device: str
    ) -> None:
        settings, few = runs[0], neighbors.few_class
        self.activation = settings.activation
        self.inputs = _network_inputs(base, neighbors, settings.network_input).to(device)
        sizes = (self.inputs.shape[1], *settings.hidden, neighbors.k)
        layers = list(itertools.pairwise(sizes))
        self.parameters: list[Tensor] = []
        for size_in, size in layers:
            self.parameters.append(torch.empty(len(runs), size, size_in))
            self.parameters.append(torch.empty(len(runs), size))
        for number, run in enumerate(runs):
            generator = torch.Generator().manual_seed(run.seed)
            for layer, (size_in, _) in enumerate(layers):
                for stack in self.parameters[2 * layer : 2 * layer + 2]:
                    stack[number].uniform_(-(size_in**-0.5), size_in**-0.5, generator=generator)
        bias = torch.from_numpy(base.bias[few]).repeat(len(runs), 1) * settings.logit_scale
        self.few_bias = bias.to(device)  # (S, F)
        self.parameters = [p.to(device) for p in self.parameters]
        self.trained = list(self.parameters)
        if settings.few_biases == "learned":
            self.trained.append(self.few_bias)
        self._averages = [torch.zeros_like(p) for p in self.trained]
        self._squares = [torch.zeros_like(p) for p in self.trained]
        self._steps = [[torch.zeros((), device=device) for _ in runs] for _ in self.trained]
        self._weight_decay = settings.weight_decay

    def alphas(self, parameters: Sequence[Tensor] | None = None) -> Tensor:
        """Return (S, F, K) coefficients with unit absolute sum, of these or of all networks."""
        return _alphas(
            self.inputs, self.parameters if parameters is None else parameters, self.activation
        )

    def step(self, gradients: Sequence[Tensor], rate: float) -> None:
        """Take one AdamW step of the first S' runs, those the gradients are of."""
        active = len(gradients[0])

        def each(stacks: Sequence[Tensor]) -> list[Tensor]:
            return [one for stack in stacks for one in stack[:active].unbind()]

        adamw(
            each(self.trained),
            each([g.contiguous() for g in gradients]),  # the fused kernel takes no strides
            each(self._averages),
            each(self._squares),
            [],
            [one for steps in self._steps for one in steps[:active]],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate,
            weight_decay=self._weight_decay,
            eps=EPSILON,
            maximize=False,
        )


@contextmanager
def _threads(products: int) -> Iterator[None]:
    """Use one thread where a step's first layer has too few products to share.

    Threads that wait for each other on a busy machine cost far more than they save there.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if products < SHARED_PRODUCTS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train_epoch(
    network: _Networks, data: _Reduced, rows: list[Ints], settings: AlphaNetSettings, epoch: int
) -> None:
    """Train every run on its samples of one epoch; longer epochs come first in the stack."""
    rate = settings.learning_rate * settings.decay_factor ** (epoch // settings.decay_every)
    device = data.few.device
    lengths = torch.tensor([len(r) for r in rows], device=device)
    table = torch.zeros((len(rows), len(rows[0])), dtype=torch.int64)
    for number, positions in enumerate(rows):
        table[number, : len(positions)] = torch.from_numpy(positions)
    table = table.to(device)
    total = torch.zeros((), device=device)
    for batch in blocks(table.shape[1], settings.batch_size):
        active = sum(len(r) > batch.start for r in rows)
        index = table[:active, batch]  # (S', B)
        inside = torch.arange(batch.start, batch.stop, device=device) < lengths[:active, None]
        trained = [p[:active].detach().requires_grad_() for p in network.trained]
        stack = len(network.parameters)
        bias = trained[stack] if len(trained) > stack else network.few_bias[:active]
        losses = sample_losses(data, index, network.alphas(trained[:stack]), bias)
        loss = ((losses * inside).sum(dim=1) / inside.sum(dim=1)).sum()
        network.step(torch.autograd.grad(loss, trained), rate)
        total += loss.detach()
    if not torch.isfinite(total):
        raise InputError(
            f"loss: not finite in epoch {epoch + 1} at learning rate {rate:g}; lower --lr, and "
            "check the features with ltkit validate"
        )


def sample_losses(data: _Reduced, index: Tensor, alpha: Tensor, bias: Tensor) -> Tensor:
    """Return the cross-entropy over all classes of (S, B) samples.

    Args:
        data: reduced quantities of N samples.
        index: (S, B) which of them.
        alpha: (S, F, K) coefficients.
        bias: (S, F) of the few classes.
    """
    few = data.few[index] + (data.near[index] * alpha[:, None]).sum(dim=3) + bias[:, None]
    every = torch.cat([few, data.base_lse[index][:, :, None]], dim=2)  # (S, B, F + 1)
    target = data.target[index]
    own = few.gather(2, target.clamp_min(0)[:, :, None])[:, :, 0]
    own = torch.where(target < 0, data.base_target[index], own)
    return every.logsumexp(dim=2) - own


def _accuracy(data: _Reduced, alpha: Tensor, bias: Tensor) -> Tensor:
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
