"""Focal loss, softmax form: well-classified samples count for less."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_range, log_wrong

NEUTRAL = {"gamma": 0.0}


def loss(logits: Tensor, labels: Tensor, class_counts: Tensor, *, gamma: float = 1.0) -> Tensor:
    r"""Mean cross-entropy, times the probability of being wrong to the power gamma.

    .. math:: L(z, y) = -(1 - p_y)^\gamma \log p_y, \quad p = softmax(z)

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class; not used, every loss takes them.
        gamma: at least 0; 0 is cross-entropy, 1 is hard-wired in the released code of Cao et al.
            (arXiv:1906.07413) and its descendants, 2 is the source's choice for detection.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when gamma is out of range.

    Example:
        >>> import torch
        >>> round(loss(torch.zeros(1, 4), torch.tensor([1]), torch.ones(4)).item(), 4)  # 3/4 log 4
        1.0397

    Source:
        Lin et al., ICCV 2017, arXiv:1708.02002, sec. 3.2.

        The source sums a sigmoid form over the classes, with a factor alpha; that form is
        class-balanced with form=focal. Code for long-tailed CIFAR uses the softmax form, and
        with class weights takes p of the weighted cost, which is no probability; there are no
        weights here. One released code keeps the factor out of the gradient; it is in here.
    """
    check_range("gamma", gamma)
    costs = functional.cross_entropy(logits, labels, reduction="none")  # (B,)
    return ((gamma * log_wrong(logits, labels)).exp() * costs).mean()
