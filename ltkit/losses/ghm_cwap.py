"""GHM-CWAP: within a class, samples share their weight with equally hard ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import (
    Moment,
    Stateful,
    check_counts,
    check_range,
    effective_number_weights,
    log_wrong,
)

NEUTRAL = {"max_bins": 1}


class GHMCWAP(Stateful, nn.Module):
    r"""Mean cross-entropy, balanced between classes and, in each, over bins of difficulty.

    .. math::
        L &= \frac{1}{B} \sum_i u_{y_i} v_i \, CE(z_i, y_i), \quad
        v_i = \frac{\sum_b D_{y_i b}}{K_{y_i} D_{y_i b_i}} \\
        b_i &= \lfloor M_{y_i} g_i \rfloor, \quad g_i = 1 - p_{y_i}, \quad
        M_c = \operatorname{clip}\bigl(\operatorname{round}(\kappa \sqrt{n_c}), 1, M_{max}\bigr)

    D_cb is a running count of the samples of class c in its bin b, K_c the number of bins of c in
    use: every bin has the same weight, and the mean of v over D is 1. u are the effective-number
    weights, with sum C. Before a part of the training is over, plain cross-entropy.

    The rows of D that belong to the batch's classes move on with each batch, D becoming momentum D
    + (1 - momentum) times the batch's counts; a bin is in use until a hundredth of one sample is
    left. No gradient flows through v.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        max_bins: the most bins of a class, at least 1; 30 is the usual number of gradient
            harmonising (Li et al., AAAI 2019, arXiv:1811.05181).
        kappa: bins for the root of a count, at least 0; 1 is a choice.
        momentum: momentum of D, at least 0, below 1; 0.75 as in the code of gradient harmonising.
        beta: parameter of the weights u, 0 to 1; 0 gives weights 1, 0.9999 is the field's.
        start: the part of training before the loss starts, 0 to 1; 160 of 200 epochs, as for
            weights that are deferred, is a choice.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> from ltkit.losses import Moment
        >>> ghm = loss(torch.tensor([4, 4]), start=0.0)  # two bins a class
        >>> ghm.before_epoch(Moment(0, 1, None, lambda: torch.zeros(2, 2)))
        >>> logits = torch.tensor([[3.0, 1], [3, 1], [1, 3]]).log()  # g = 1/4, 1/4, 3/4
        >>> round(ghm(logits, torch.tensor([0, 0, 0]), torch.zeros(3, 2)).item(), 4)
        ... # v = 3/4, 3/4, 3/2, so (3/2 log 4/3 + 3/2 log 4) / 3
        0.837

    Source:
        Zhang et al., ICASSP 2022, arXiv:2204.09234.

        No code was released. The form of the bins, the running counts and the defaults are our
        reading of the text, and no published number has been reproduced with them.
    """

    mixable = False
    density: Tensor
    bins: Tensor
    weights: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        max_bins: int = 30,
        kappa: float = 1.0,
        momentum: float = 0.75,
        beta: float = 0.9999,
        start: float = 0.8,
    ) -> None:
        """Start with cross-entropy and empty bins."""
        super().__init__()
        check_range("max_bins", max_bins, 1)
        check_range("kappa", kappa)
        check_range("momentum", momentum, 0, 1)
        if momentum == 1:
            raise InputError("momentum: found 1, expected below 1, or nothing would be counted")
        check_range("start", start, 0, 1)
        check_counts(class_counts)
        self.momentum, self.start, self.active = momentum, start, False
        counts = class_counts.double()
        bins = (kappa * counts.sqrt()).round().clamp(1, max_bins).long()
        self.register_buffer("bins", bins, persistent=False)
        self.register_buffer("weights", effective_number_weights(counts, beta), persistent=False)
        self.register_buffer("density", torch.zeros(len(bins), int(bins.max())))

    def before_epoch(self, moment: Moment) -> None:
        """Check whether the loss starts."""
        self.active = moment.reached(self.start)

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if not self.active:
            return functional.cross_entropy(logits, labels)
        costs = functional.cross_entropy(logits, labels, reduction="none")
        wrong = log_wrong(logits.detach(), labels).exp()
        bins = self.bins[labels]
        at = (bins * wrong).long().minimum(bins - 1)  # (B,)
        self.density = updated(self.density, labels, at, self.momentum)
        balance = harmony(self.density, 0.01 * (1 - self.momentum))[labels, at]
        return (self.weights[labels].to(logits.dtype) * balance * costs).mean()


def updated(density: Tensor, labels: Tensor, bins: Tensor, momentum: float) -> Tensor:
    """Return the running counts (C, M) after a batch; classes not in it keep theirs."""
    classes, size = density.shape
    batch = (labels * size + bins).bincount(minlength=classes * size).view(classes, size)
    present = batch.sum(dim=1, keepdim=True) > 0
    return torch.where(present, momentum * density + (1 - momentum) * batch, density)


def harmony(density: Tensor, least: float) -> Tensor:
    """Return the (C, M) factors that give each bin in use, above least, the same weight.

    Example:
        >>> harmony(torch.tensor([[3.0, 1.0, 0.0]]), 0.1)[0, :2]
        tensor([0.6667, 2.0000])
    """
    used = density > least
    return density.sum(dim=1, keepdim=True) / (
        used.sum(dim=1, keepdim=True).clamp(min=1) * density.clamp(min=least)
    )


loss = GHMCWAP
