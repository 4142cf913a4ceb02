"""Seesaw: penalises rare rivals less, and rivals that score too high more, by running counts."""

from math import log

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.losses import Stateful, check_choice, check_counts, check_range

COUNTS = ("online", "dataset")
NEUTRAL = {"p": 0.0, "q": 0.0}


class Seesaw(Stateful, nn.Module):
    r"""Mean cross-entropy with a factor on each rival of the true class.

    .. math::
        L(z, y) &= -\log \frac{e^{z_y}}{e^{z_y} + \sum_{j \ne y} S_{yj} e^{z_j}}, \quad
        S_{yj} = M_{yj} R_{yj} \\
        M_{yj} &= \min\bigl(1, (N_j / N_y)^p\bigr), \quad
        R_{yj} = \max\bigl(1, (p_j / \max(p_y, \epsilon))^q\bigr), \quad p = softmax(z)

    N_c counts the labels met so far, this batch included, at least 1. No gradient flows through S.
    Predict with the plain logits.

    Args:
        class_counts: (C,) training images per class.
        p: at least 0; a rival that is rarer than the true class is punished less by this power of
            the ratio of their counts; 0.8 in the source.
        q: at least 0; a rival that scores above the true class is punished more by this power of
            the ratio of their probabilities; 2 in the source.
        eps: least p_y in that ratio, above 0 and at most 1; 0.01 in the released code.
        counts: ``online``, as above and in the source, or ``dataset``: the class counts. They
            differ under a sampler that balances.

    Raises:
        InputError: when a parameter is out of range or unknown, or, with counts of the dataset, a
            class has no training image.

    Example:
        >>> labels, features = torch.tensor([0, 0, 1]), torch.zeros(3, 1)
        >>> seesaw = loss(torch.tensor([9, 9]), p=1.0)
        >>> value = seesaw(torch.zeros(3, 2), labels, features)  # met: 2, 1; M = 1/2 and 1
        >>> round(value.item(), 4)  # (2 log 3/2 + log 2) / 3
        0.5014

    Source:
        Wang et al., CVPR 2021, arXiv:2008.10032, sec. 3.2.

        The detector's normalised head and its objectness branch are not part of it.
    """

    seen: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        counts: str = "online",
    ) -> None:
        """Start with no label met, or with the dataset's counts."""
        super().__init__()
        check_range("p", p)
        check_range("q", q)
        check_range("eps", eps, 1e-12, 1)
        check_choice("counts", counts, COUNTS)
        self.p, self.q, self.eps, self.online = p, q, eps, counts == "online"
        self.mixable = not self.online
        if not self.online:
            check_counts(class_counts)
        start = torch.zeros_like(class_counts) if self.online else class_counts
        self.register_buffer("seen", start.clone())

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if self.online:
            self.seen += labels.bincount(minlength=len(self.seen))
        factors = log_factors(logits, labels, self.seen, self.p, self.q, self.eps)
        return functional.cross_entropy(logits + factors, labels)


def log_factors(
    logits: Tensor, labels: Tensor, seen: Tensor, p: float, q: float, eps: float
) -> Tensor:
    """Return (B, C) log S, without gradient; both parts are 0 for the true class."""
    log_seen = seen.clamp(min=1).to(logits.dtype).log()
    log_p = logits.detach().log_softmax(dim=1)
    own = log_p.gather(1, labels[:, None]).clamp(min=log(eps))  # (B, 1)
    mitigation = p * (log_seen - log_seen[labels, None]).clamp(max=0)
    compensation = q * (log_p - own).clamp(min=0)
    return mitigation + compensation


loss = Seesaw
