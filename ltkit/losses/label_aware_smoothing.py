"""Label-aware smoothing: labels are smoothed more for frequent classes."""

from collections.abc import Callable
from math import pi

from torch import Tensor

from ltkit.losses import check_choice, check_range

NEUTRAL = {"eps_head": 0.0, "eps_tail": 0.0}
SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "concave": lambda rank: (rank * pi / 2).sin(),
    "linear": lambda rank: rank,
    "convex": lambda rank: 1 - (rank * pi / 2).cos(),
}


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    eps_head: float = 0.4,
    eps_tail: float = 0.1,
    shape: str = "concave",
) -> Tensor:
    r"""Mean cross-entropy against labels smoothed by an amount that grows with the class's count.

    .. math:: L(z, y) = -(1 - \epsilon_y) \log p_y - \frac{\epsilon_y}{C} \sum_k \log p_k, \quad
        \epsilon_c = \epsilon_{tail} + (\epsilon_{head} - \epsilon_{tail}) \, g(r_c), \quad
        r_c = \frac{n_c - n_{min}}{n_{max} - n_{min}}

    with p = softmax(z) and g(r) of the shape: sin(pi r / 2), r or 1 - cos(pi r / 2). With equal
    counts, r is 0. The true class is in the sum too: its weight is 1 - eps + eps / C.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class.
        eps_head: smoothing of the most frequent class, 0 to 1. Published for CIFAR-100-LT at
            imbalance 100, 50, 10: 0.4, 0.3, 0.2; for ImageNet-LT and iNaturalist: 0.3.
        eps_tail: smoothing of the rarest class, 0 to 1. Published: 0.1 where eps_head is 0.4, else
            0. Both 0 is cross-entropy.
        shape: ``concave``, the source's default, ``linear`` or ``convex``.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when the shape is unknown, or eps_head or eps_tail out of range.

    Example:
        >>> import torch
        >>> logits, counts = torch.tensor([[1.0, 3.0]]).log(), torch.tensor([11, 1])
        >>> round(loss(logits, torch.tensor([0]), counts).item(), 4)  # 0.8 log 4 + 0.2 log 4/3
        1.1666

    Source:
        Zhong et al., CVPR 2021, arXiv:2104.00466, sec. 3.2.

        The source trains a classifier with it in a second stage, on balanced batches of frozen
        features.
    """
    check_choice("shape", shape, SHAPES)
    check_range("eps_head", eps_head, 0, 1)
    check_range("eps_tail", eps_tail, 0, 1)
    above = (class_counts - class_counts.min()).to(logits.dtype)
    rank = above / above.max().clamp(min=1)  # (C,) 0 to 1
    smoothing = (eps_tail + (eps_head - eps_tail) * SHAPES[shape](rank))[labels]  # (B,)
    costs = -logits.log_softmax(dim=1)  # (B, C)
    true = costs.gather(1, labels[:, None])[:, 0]
    return ((1 - smoothing) * true + smoothing * costs.mean(dim=1)).mean()
