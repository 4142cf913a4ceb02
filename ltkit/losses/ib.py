"""IB: samples weigh less the more they move the decision boundary; with gamma 1, IB-focal."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.losses import (
    Moment,
    Stateful,
    check_choice,
    check_counts,
    check_range,
    effective_number_weights,
    log_wrong,
)

NEUTRAL = {"alpha": 1e9, "eps": 1e9, "gamma": 0.0}
FACTORS = ("attached", "detached")
FOCALS = ("weighted", "plain")


class IB(Stateful, nn.Module):
    r"""Mean cross-entropy divided by the sample's influence, from some epoch on.

    .. math:: L_i = (1 - q_i)^\gamma \, w_{y_i} CE(z_i, y_i) \frac{\alpha}{I_i + \epsilon},
        \quad q_i = e^{-w_{y_i} CE(z_i, y_i)},
        \quad I_i = \lVert p_i - onehot(y_i) \rVert_1 \, \lVert f_i \rVert_1, \quad p = softmax(z)

    Until then, plain cross-entropy. w are the effective-number weights, with sum C.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        alpha: above 0. It scales the learning rate, and what fits depends on the size of the
            features: 1000 on the released command line, for 64 of them.
        eps: above 0; 0.001 in the released code.
        gamma: at least 0; 0 is IB, 1 is IB-focal.
        beta: parameter of the weights, 0 to 1: 0 is no weights; 1, the usual choice, weights in
            proportion to ``1 / n_c``; 0.9999 the source's combination with class-balanced.
        start: the part of training before the loss starts, 0 to 1; 100 of 200 epochs in the source.
        focal: with a gamma, ``weighted``: q as above and in the released code, which is a
            probability where w is 1; ``plain``: q is p of the true class.
        factor: ``attached``, as in the released code: the gradient flows through I, too;
            ``detached``: the factor is a weight, as the source's text has it.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> from ltkit.losses import Moment
        >>> ib = loss(torch.tensor([5, 5]), alpha=6.0, eps=1.0)
        >>> ib.before_epoch(Moment(1, 2, None, lambda: torch.zeros(2, 2)))
        >>> value = ib(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([[-2.0, 3.0]]))
        >>> round(value.item(), 4)  # influence 1 * 5, so log 2 * 6 / (5 + 1)
        0.6931

    Source:
        Park et al., ICCV 2021, arXiv:2110.02444, sec. 3.

        The learning rate of the released code falls by 100 where the loss starts; the run's
        schedule is another matter here.
    """

    weights: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        alpha: float = 1000.0,
        eps: float = 1e-3,
        gamma: float = 0.0,
        beta: float = 1.0,
        start: float = 0.5,
        focal: str = "weighted",
        factor: str = "attached",
    ) -> None:
        """Compute the weights from the counts; start with cross-entropy."""
        super().__init__()
        check_range("alpha", alpha, 1e-12)
        check_range("eps", eps, 1e-12)
        check_range("gamma", gamma)
        check_range("start", start, 0, 1)
        check_choice("focal", focal, FOCALS)
        check_choice("factor", factor, FACTORS)
        check_counts(class_counts)
        self.alpha, self.eps, self.gamma, self.start = alpha, eps, gamma, start
        self.weighted = focal == "weighted"
        self.detached, self.active = factor == "detached", False
        weights = effective_number_weights(class_counts.double(), beta)
        self.register_buffer("weights", weights, persistent=False)

    def before_epoch(self, moment: Moment) -> None:
        """Check whether the loss starts."""
        self.active = moment.reached(self.start)

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if not self.active:
            return functional.cross_entropy(logits, labels)
        log_rest = log_wrong(logits, labels)
        influence = influences(log_rest.exp(), features)
        influence = influence.detach() if self.detached else influence
        costs = functional.cross_entropy(logits, labels, reduction="none")
        costs = self.weights.to(logits.dtype)[labels] * costs
        if self.gamma:
            log_hard = _log_complement(costs) if self.weighted else log_rest
            costs = costs * (self.gamma * log_hard).exp()
        return (costs * self.alpha / (influence + self.eps)).mean()


def influences(wrong: Tensor, features: Tensor) -> Tensor:
    """Return (B,) influences; all of p - onehot adds up to twice the probability of being wrong."""
    return 2 * wrong * features.abs().sum(dim=1)


def _log_complement(costs: Tensor) -> Tensor:
    """Return log(1 - exp(-costs)), finite where a cost has rounded to 0, which is then its part."""
    return (-(-costs).expm1()).clamp(min=torch.finfo(costs.dtype).tiny).log()


loss = IB
