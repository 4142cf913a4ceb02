"""Logit-adjusted cross-entropy: tau times the log prior is added to the logits in training."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_counts, check_range


def loss(logits: Tensor, labels: Tensor, class_counts: Tensor, *, tau: float = 1.0) -> Tensor:
    r"""Mean cross-entropy of logits plus tau times the log of the class's prior.

    .. math:: L(z, y) = -\log \frac{\pi_y^\tau e^{z_y}}{\sum_j \pi_j^\tau e^{z_j}},
        \quad \pi_c = n_c / \sum_j n_j

    Predict with the plain logits: `posthoc logit-adjust` on top would correct twice.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        tau: at least 0; 0 is cross-entropy, 1 the value of the theory and the source's default.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when tau is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> value = loss(torch.zeros(1, 2), torch.tensor([1]), torch.tensor([30, 10]), tau=2.0)
        >>> round(value.item(), 4)  # priors 3 : 1, squared 9 : 1, so log 10
        2.3026

    Source:
        Menon et al., ICLR 2021, arXiv:2007.07314, eq. 10.

        The released code adds 1e-12 to the prior; here a class without images is refused.
    """
    check_range("tau", tau)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    return functional.cross_entropy(logits + tau * (counts / counts.sum()).log(), labels)
