"""Training losses, one file each; the file's ``loss`` is one of two things.

- A function of a batch: ``loss(logits, labels, class_counts, **parameters)``. Most are.
- Where a batch is not enough, a class (`Stateful`) built as ``loss(class_counts, **parameters)``.

The keyword-only parameters are those of ``--set``. A module may say ``NEUTRAL``, the parameters
with which, at equal counts, it is cross-entropy, and ``UNIFORM`` and ``DEFERRED``, the parameters
before and after the epoch of `train --drw`.

What several of them need is here, for they know nothing of each other. torch is not imported, so
that listing their names stays quick.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf, isfinite, log
from typing import TYPE_CHECKING

from ltkit.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
else:
    Module = object

SIMILARITIES = ("one-plus-distance", "inverse", "exponential")
BORDERS = ("clip", "shift")
UNITS = ("gap", "raw")
SCALES = ("raw", "sum")
REDUCTIONS = ("batch", "weights")


@dataclass(frozen=True)
class Moment:
    """The state of a run before an epoch.

    epoch: finished epochs, from 0.
    epochs: of the whole run.
    accuracy: gives the (C,) accuracy of each class on the validation split, NaN for a class
        without images there; None where the dataset has no such split.
    class_means: gives the (C, D) mean features of each class, on training images as they are.
    blocks: gives the training images as they are, in blocks, with their (B,) labels.
    """

    epoch: int
    epochs: int
    accuracy: "Callable[[], Tensor] | None"
    class_means: "Callable[[], Tensor]"
    blocks: "Callable[[], Iterable[tuple[Tensor, Tensor]]]" = tuple

    def reached(self, start: float) -> bool:
        """Return whether a part of the run, 0 to 1, is over: 0.8 of 200 is 160 finished epochs."""
        return self.epoch >= round(start * self.epochs)


class Stateful(Module):
    """A loss that needs more than a batch: features, the epoch, or earlier batches.

    It is a torch module, too, called as ``loss(logits, labels, features)`` with (B, C), (B,) and
    (B, D), and gives the mean over the batch. Its buffers are saved with an interrupted run, its
    parameters are trained beside the network's, without weight decay. All else it keeps has to
    follow from the last `before_epoch`, which a resumed run calls, too.

    takes_class_means: whether it asks for `Moment.class_means`.
    mixable: whether a batch of mixed images has the mean of its values for both labels, which is
        not so where it counts the labels that it meets.
    """

    takes_class_means = False
    mixable = True

    if TYPE_CHECKING:

        def __call__(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
            """Return the mean over the batch."""

    def before_epoch(self, moment: Moment) -> None:
        """Note the state of the run; called before each epoch."""

    def watched(self) -> dict[str, float]:
        """Return numbers for the log."""
        return {}

    def kept(self) -> "dict[str, Tensor]":
        """Return what stays in the finished checkpoint beside the network."""
        return {}


def check_range(name: str, value: float, least: float = 0.0, most: float = inf) -> None:
    """Reject a parameter that is not a finite number from least to most.

    Raises:
        InputError: naming the parameter, what was found and what was expected.
    """
    if not (least <= value <= most and isfinite(value)):
        expected = f"at least {least:g}" if most == inf else f"from {least:g} to {most:g}"
        raise InputError(f"{name}: found {value}, expected a finite number {expected}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Reject a parameter that is not one of the known words.

    Raises:
        InputError: naming the nearest words.
    """
    known = list(known)
    if value not in known:
        raise InputError(f"{name}: found {value!r}, unknown; {nearest(value, known)}")


def check_counts(class_counts: "Tensor") -> None:
    """Reject a class without training images, whose logarithm or power is needed.

    Raises:
        InputError: naming the first such class.
    """
    if class_counts.min() < 1:
        empty = (class_counts < 1).nonzero().flatten().tolist()
        raise InputError(
            f"class {empty[0]}: found no training image, expected at least 1 in every class for "
            f"this loss; {len(empty)} such classes"
        )


def effective_number_weights(class_counts: "Tensor", beta: float) -> "Tensor":
    r"""Return (C,) weights with sum C, one over the effective number of images.

    .. math:: E_c = \frac{1 - \beta^{n_c}}{1 - \beta}, \quad w_c = C\, E_c^{-1} / \sum_j E_j^{-1}

    Args:
        class_counts: (C,) floating point, at least 1.
        beta: 0 gives weights 1; 1 gives the limit, weights in proportion to ``1 / n_c``.

    Source:
        Cui et al., CVPR 2019, arXiv:1901.05555, sec. 3 and 4.
    """
    check_range("beta", beta, 0, 1)
    if beta == 0:
        return class_counts.new_ones(len(class_counts))
    # expm1 keeps the digits of 1 - beta^n that a beta near 1 would lose; 1 - beta cancels.
    effective = class_counts if beta == 1 else -(class_counts * log(beta)).expm1()
    weights = 1 / effective
    return weights * len(weights) / weights.sum()


def log_wrong(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Return the (B,) logs of the probability of being wrong, finite even if p_y rounds to 1."""
    others = logits.scatter(1, labels[:, None], -inf).logsumexp(dim=1)
    return others - logits.logsumexp(dim=1)


def check_window(
    class_counts: "Tensor",
    window: int,
    beta: float,
    borders: str,
    sign: int,
    weights: str,
    reduction: str,
) -> None:
    """Reject parameters for which classes have no similarity window.

    Raises:
        InputError: naming the first such parameter, or a class without a training image.
    """
    if not 1 <= window <= len(class_counts) or len(class_counts) < 2:
        raise InputError(
            f"window: found {window}, expected from 1 to the number of classes, "
            f"{len(class_counts)}, of which there have to be two; set another window"
        )
    check_range("beta", beta)
    check_choice("borders", borders, BORDERS)
    if sign not in (1, -1):
        raise InputError(f"sign: found {sign}, expected 1 or -1")
    check_choice("weights", weights, SCALES)
    check_choice("reduction", reduction, REDUCTIONS)
    check_counts(class_counts)


def similarity_window(
    class_counts: "Tensor",
    positions: "Tensor",
    *,
    window: int,
    beta: float,
    similarity: str = "one-plus-distance",
    borders: str = "clip",
    by_rank: bool = True,
    own: bool = True,
    unit: str = "gap",
) -> "tuple[Tensor, Tensor]":
    r"""Return the (C,) weights and margins of classes on a line, from their neighbours on it.

    .. math:: w_c = \log\Bigl(1 + \frac{n_{max}}{n_c}
        \operatorname{mean}_{i \in W_c} \frac{n_i}{n_c}\Bigr), \quad
        m_c = \log \operatorname{mean}_{i \in W_c} sim(i, c)^{-\beta}

    W_c are the classes at most h = floor(window / 2) ranks from c, 2 h + 1 with c: for an even
    window one more than the printed sums are divided by, so that their means are (window + 1) /
    window times a mean here, too. With d the distance of two positions in units of the median gap
    between neighbours, sim is 1 + d (``one-plus-distance``: for an odd window, margins from
    -log(window) to 0), 1 / (1 + d) (``inverse``) or exp(-d) (``exponential``: like ``inverse``,
    margins from 0 without bound).

    Args:
        class_counts: (C,) floating point, at least 1.
        positions: (C,) of the classes; margins are differentiable in them.
        window: 1 to C.
        beta: 0 gives margins 0 for an odd window, log(1 + 1 / window) for an even one.
        similarity: one of `SIMILARITIES`.
        borders: where a window reaches beyond the line, ``clip`` leaves out what is missing,
            ``shift`` moves the window inwards.
        by_rank: windows of ranks by position; otherwise, of class ids.
        own: whether the class is in its own window.
        unit: unit of distance, ``gap`` as above, or ``raw``.

    Example:
        >>> import torch
        >>> counts, line = torch.tensor([4.0, 2.0, 1.0]), torch.tensor([0.0, 2.0, 1.0])
        >>> weights, margins = similarity_window(counts, line, window=3, beta=1.0)
        >>> weights.exp() - 1  # the line is 0, 2, 1: (4/4)(5/2)/4, (4/2)(3/2)/2, (4/1)(7/3)/1
        tensor([0.6250, 1.5000, 9.3333])
        >>> margins.exp()  # (1 + 1/2) / 2, (1 + 1/2) / 2, (1 + 1/2 + 1/2) / 3
        tensor([0.7500, 0.7500, 0.6667])
    """
    import torch

    size, half = len(positions), window // 2
    ids = torch.arange(size, device=positions.device)
    sorted_ids = positions.detach().argsort(stable=True)
    line = sorted_ids if by_rank else ids
    rank = line.argsort()  # (C,)
    centre = rank.clamp(half, size - 1 - half) if borders == "shift" else rank
    at = centre[:, None] + torch.arange(-half, half + 1, device=positions.device)
    inside = (at >= 0) & (at < size)  # (C, 2 h + 1)
    members = line[at.clamp(0, size - 1)]  # (C, 2 h + 1) class ids
    if not own:
        inside = inside & (members != ids[:, None])
    number = inside.sum(dim=1).to(positions.dtype)
    if own and window % 2 == 0:
        number = number * (window / (window + 1))  # printed: window + 1 terms, over window

    neighbours = (class_counts[members] * inside).sum(dim=1) / number
    weights = (class_counts.max() / class_counts * neighbours / class_counts).log1p()

    distances = (positions[members] - positions[:, None]).abs()
    if unit == "gap":
        gap = positions[sorted_ids].diff().quantile(0.5)
        spread = (positions.max() - positions.min()).detach()
        distances = distances / gap.clamp(min=1e-6 * spread + 1e-30)  # positions may coincide
    log_similarity = {
        "one-plus-distance": distances.log1p(),
        "inverse": -distances.log1p(),
        "exponential": -distances,
    }[similarity]
    powers = (-beta * log_similarity).masked_fill(~inside, -inf)
    return weights, powers.logsumexp(dim=1) - number.log()


def window_loss(
    logits: "Tensor", labels: "Tensor", weights: "Tensor", margins: "Tensor", reduction: str
) -> "Tensor":
    r"""Return the weighted mean cross-entropy after margins are added to the true logits.

    .. math:: L = -\frac{1}{B} \sum_i w_{y_i} \log
        \frac{e^{z_y + m_y}}{e^{z_y + m_y} + \sum_{j \ne y} e^{z_j}}

    Args:
        logits: (B, C).
        labels: (B,) int64.
        weights: (C,).
        margins: (C,), below 0 to make the task harder, above to make it easier.
        reduction: ``batch``, as above, or ``weights``, which divides by the weights' sum.
    """
    true = labels[:, None]
    shifted = logits.scatter_add(1, true, margins[true])
    weights = weights[labels]
    costs = -weights * shifted.log_softmax(dim=1).gather(1, true)[:, 0]
    return costs.mean() if reduction == "batch" else costs.sum() / weights.sum()


def batch_seed(labels: "Tensor", seed: int) -> int:
    """Return the seed of a batch's draws, from the run's seed and the labels in order.

    A loss with fresh draws at every step keeps no state this way: batches differ, so their draws
    do; the same batch has the same draws, in a run repeated or resumed.

    Args:
        labels: (B,) int64.
        seed: 0 to 2^31 - 1.
    """
    check_range("seed", seed, 0, 2**31 - 1)
    return seed + int(labels.cumsum(0).sum())
