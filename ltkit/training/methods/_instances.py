"""Contrast of images without their labels: an image's two views are near, other images are far."""

import torch
from torch import Tensor
from torch.nn import functional


def instances(
    queries: Tensor, keys: Tensor, others: Tensor, negative: Tensor, temperature: float
) -> Tensor:
    r"""Return the (B,) costs of queries whose own keys are to be found among others.

    .. math:: L_i = -\log \frac{e^{q_i \cdot v_i / t}}
        {e^{q_i \cdot v_i / t} + \sum_{k \in N(i)} e^{q_i \cdot v_k / t}}

    Args:
        queries: (B, d) of length 1.
        keys: (B, d) of length 1, v_i: of the queries' images.
        others: (M, d) of length 1, v_k.
        negative: (B, M) bool, N.
        temperature: t, above 0.

    Example:
        >>> one, yes = torch.ones(1, 1), torch.tensor([[True, True, False]])
        >>> instances(one, one, one.expand(3, 1), yes, 1.0).exp().round()  # three equally near
        tensor([3.])
    """
    own = (queries * keys).sum(dim=1, keepdim=True) / temperature
    far = (queries @ others.T / temperature).masked_fill(~negative, -torch.inf)
    return torch.cat([own, far], dim=1).logsumexp(dim=1) - own[:, 0]


def disagreement(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the mean cosine of (B, d) predictions and targets, which have no gradient.

    Example:
        >>> first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
        >>> disagreement(first, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).item()  # cosines 1 and 0
        0.5
    """
    return 1 - functional.cosine_similarity(predictions, targets.detach()).mean()
