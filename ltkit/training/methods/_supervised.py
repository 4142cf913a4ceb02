"""Supervised contrast: same-class samples are near, all others far."""

import torch
from torch import Tensor


def supervised(similarity: Tensor, positive: Tensor, other: Tensor) -> Tensor:
    r"""Return the (B,) costs of anchors; 0 for one without a partner.

    .. math:: L_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{e^{s_{ip}}}{\sum_{a \in A(i)} e^{s_{ia}}}

    Args:
        similarity: (B, M), s: cosines over the temperature.
        positive: (B, M) bool, P, a part of A.
        other: (B, M) bool, A: all candidates but the anchor itself.

    Example:
        >>> none = torch.zeros(1, 3)
        >>> p, a = torch.tensor([[True, True, False]]), torch.ones(1, 3, dtype=torch.bool)
        >>> supervised(none, p, a).exp()  # three that are equally near
        tensor([3.])
    """
    total = similarity.masked_fill(~other, -torch.inf).logsumexp(dim=1)
    pairs = positive.sum(dim=1)
    near = similarity.masked_fill(~positive, 0.0).sum(dim=1)
    total = total.masked_fill(pairs == 0, 0.0)
    return total - near / pairs.clamp(min=1)
