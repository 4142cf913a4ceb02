"""VS: vector scaling, logits shrunk for rare classes and shifted by the log prior."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_counts, check_range


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    gamma: float = 0.3,
    tau: float = 1.0,
) -> Tensor:
    r"""Mean cross-entropy of logits with a factor and a shift for each class.

    .. math:: L(z, y) = -\log \frac{e^{a_y z_y + b_y}}{\sum_j e^{a_j z_j + b_j}},
        \quad a_c = \left(\frac{n_c}{n_{max}}\right)^\gamma, \quad b_c = \tau \log \pi_c

    Predict with the plain logits.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        gamma: at least 0; 0 is logit-adjusted; 0.3 is the default of the released code.
        tau: at least 0; 0 is cdt; 1 is the default of the released code.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when gamma or tau is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> logits, counts = torch.tensor([[1.0, 4.0]]).log(), torch.tensor([40, 10])
        >>> value = loss(logits, torch.tensor([1]), counts, gamma=0.5)
        >>> round(value.item(), 4)  # odds 1 : 4, scaled 1 : 2, times 4 : 1 are 2 : 1; -log 1/3
        1.0986

    Source:
        Kini et al., NeurIPS 2021, arXiv:2103.01550 (the VS-loss for label imbalance).

        The best gamma and tau of the source depend on the dataset.
    """
    check_range("gamma", gamma)
    check_range("tau", tau)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    factors = (counts / counts.max()) ** gamma
    shifts = tau * (counts / counts.sum()).log()
    return functional.cross_entropy(factors * logits + shifts, labels)
