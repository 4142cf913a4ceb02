"""Cross-entropy (CE), the plain baseline."""

from torch import Tensor
from torch.nn import functional


def loss(logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
    r"""Mean cross-entropy.

    .. math:: L(z, y) = -\log \frac{e^{z_y}}{\sum_j e^{z_j}}

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class; not used, every loss takes them.

    Returns:
        The mean over the batch.

    Example:
        >>> import torch
        >>> round(loss(torch.zeros(1, 4), torch.tensor([1]), torch.ones(4)).item(), 4)  # log 4
        1.3863

    Source:
        Methods that follow are measured against it; Cao et al., NeurIPS 2019, arXiv:1906.07413.
    """
    return functional.cross_entropy(logits, labels)
