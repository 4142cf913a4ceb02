"""Balanced softmax: cross-entropy on logits shifted by the log of the training counts."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_counts


def loss(logits: Tensor, labels: Tensor, class_counts: Tensor) -> Tensor:
    r"""Mean cross-entropy of logits shifted by the log of each class's training count.

    .. math:: L(z, y) = -\log \frac{n_y e^{z_y}}{\sum_j n_j e^{z_j}}

    Predict with the plain logits; a prior taken off after training would correct twice.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when a class has no training image.

    Example:
        >>> import torch
        >>> value = loss(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([90, 10]))
        >>> round(value.item(), 4)  # -log 0.1
        2.3026

    Source:
        Ren et al., NeurIPS 2020, arXiv:2007.10740, sec. 3.1 (balanced softmax).

        It is logit-adjusted with tau 1: log counts and log priors differ by a constant. The meta
        sampler of the same paper is not part of it.
    """
    check_counts(class_counts)
    return functional.cross_entropy(logits + class_counts.to(logits.dtype).log(), labels)
