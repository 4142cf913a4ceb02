"""CDT: cross-entropy on logits that are shrunk for rare classes in training."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_counts, check_range

NEUTRAL = {"gamma": 0.0}


def loss(logits: Tensor, labels: Tensor, class_counts: Tensor, *, gamma: float = 0.1) -> Tensor:
    r"""Mean cross-entropy of logits over class-dependent temperatures.

    .. math:: L(z, y) = -\log \frac{e^{a_y z_y}}{\sum_j e^{a_j z_j}},
        \quad a_c = \left(\frac{n_c}{n_{max}}\right)^\gamma

    Predict with the plain logits.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        gamma: at least 0; 0 is cross-entropy. The source searches 0 to 0.4 for CIFAR-10, 0 to 0.2
            for CIFAR-100; the default is the middle of the latter, for want of a value in it.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when gamma is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> logits, counts = torch.tensor([[1.0, 4.0]]).log(), torch.tensor([40, 10])
        >>> value = loss(logits, torch.tensor([1]), counts, gamma=0.5)
        >>> round(value.item(), 4)  # a = 1, 1/2, so the odds 1 : 4 become 1 : 2; -log 2/3
        0.4055

    Source:
        Ye et al., 2020, arXiv:2001.01385 (class-dependent temperatures).

        The source divides by 1 / a_c, which is the same.
    """
    check_range("gamma", gamma)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    return functional.cross_entropy(logits * (counts / counts.max()) ** gamma, labels)
