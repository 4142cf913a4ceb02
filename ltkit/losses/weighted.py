"""Weighted cross-entropy: rare classes weigh more, by a power, log or effective number."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import (
    REDUCTIONS,
    check_choice,
    check_counts,
    check_range,
    effective_number_weights,
)

SCHEMES = ("inverse", "square-root", "logarithm", "effective-number")
UNIFORM = {"scheme": "square-root", "gamma": 0.0}


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    scheme: str = "inverse",
    gamma: float = 0.5,
    beta: float = 0.9999,
    reduction: str = "weights",
) -> Tensor:
    r"""Weighted mean of the cross-entropy; the weights of the batch sum to 1.

    .. math:: L = \frac{\sum_i w_{y_i} \, CE(z_i, y_i)}{\sum_i w_{y_i}}, \quad
        w_c = \frac{n_{min}}{n_c}, \; \left(\frac{n_{min}}{n_c}\right)^\gamma, \;
        1 - \log \frac{n_c}{n_{max}} \; \text{or} \; \frac{1 - \beta}{1 - \beta^{n_c}}

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        scheme: ``inverse``, ``square-root``, ``logarithm`` or ``effective-number``: the four
            weights above.
        gamma: exponent, only for ``square-root``, at least 0; 0.5 makes it one, 0 cross-entropy.
            With reduction ``batch`` it is generalised re-weighting with this exponent.
        beta: only for ``effective-number``, 0 to 1; 0 is cross-entropy, 1 the limit ``inverse``;
            0.9999 in the released code of Cao et al., NeurIPS 2019, arXiv:1906.07413.
        reduction: ``weights`` divides by the weights of the batch, as above, ``batch`` by its
            size, with weights scaled to sum C.

    Returns:
        The weighted mean over the batch.

    Raises:
        InputError: when the scheme or reduction is unknown, gamma or the beta of its scheme out of
            range, or a class has no training image.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[1.0, 1.0], [1.0, 3.0]]).log()  # costs log 2, log 4/3
        >>> value = loss(logits, torch.tensor([0, 1]), torch.tensor([90, 10]))  # weights 1/9, 1
        >>> round(value.item(), 4)  # (log 2 + 9 log 4/3) / 10
        0.3282

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 4 (its re-weighting baselines); effective
        number: Cui et al., CVPR 2019, arXiv:1901.05555; logarithm: the code of the survey of
        Zhang et al., 2021, arXiv:2110.04596; generalised re-weighting: Zhang et al., CVPR 2021,
        arXiv:2103.16370.

        The equations are written per sample and so divided by the batch size; the released code
        (as of Zhang et al., AAAI 2021, a bag of tricks) divides by the weights' sum, as here. The
        size of the weights then cancels and the learning rate keeps its meaning. class-balanced
        divides by the batch size.
    """
    check_choice("scheme", scheme, SCHEMES)
    check_choice("reduction", reduction, REDUCTIONS)
    check_range("gamma", gamma)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    if scheme == "effective-number":
        weights = effective_number_weights(counts, beta)
    elif scheme == "logarithm":
        weights = 1 - (counts / counts.max()).log()
    else:
        weights = (counts.min() / counts) ** (gamma if scheme == "square-root" else 1.0)
    if reduction == "batch":
        weights = (weights * len(weights) / weights.sum())[labels]
        return (weights * functional.cross_entropy(logits, labels, reduction="none")).mean()
    return functional.cross_entropy(logits, labels, weight=weights)
