"""LDAM: a margin on the true logit of a cosine head, wider for rare classes."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_counts, check_range, effective_number_weights

NEUTRAL = {"max_margin": 0.0}
UNIFORM = {"beta": 0.0}
DEFERRED = {"beta": 0.9999}


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    max_margin: float = 0.5,
    scale: float = 30.0,
    beta: float = 0.0,
) -> Tensor:
    r"""Weighted mean of the cross-entropy after the true logit is lowered by its class's margin.

    .. math:: L(z, y) = -\log
        \frac{e^{z_y - s m_y}}{e^{z_y - s m_y} + \sum_{j \ne y} e^{z_j}},
        \quad m_c = m_{max} \left(\frac{n_{min}}{n_c}\right)^{1/4}

    The mean is weighted by the effective-number weights of beta and divided by those of the batch;
    with beta 0 it is plain.

    The logits are those of a cosine head, which has multiplied the cosines by the scale already
    (`train --cosine --scale`): only the margin is scaled here, the logits never again.

    Args:
        logits: (B, C), scale times cosine.
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        max_margin: margin of the rarest class in units of cosine, at least 0; 0 is cross-entropy,
            0.5 as in the released code.
        scale: at least 0, and that of the cosine head; 30 in the released code, and the default
            of `train --scale`. Change both together.
        beta: parameter of the class weights, 0 to 1; 0 gives weights 1. LDAM-DRW is `train --drw
            160` of 200 epochs: 0 until then, after it what is set, or else 0.9999, as in the
            released code.

    Returns:
        The weighted mean over the batch.

    Raises:
        InputError: when max_margin, scale or beta is out of range, or a class has no training
            image.

    Example:
        >>> import torch
        >>> counts = torch.tensor([16, 1])  # n^(-1/4) is 1/2, 1, so the margins are 1/4, 1/2
        >>> value = loss(torch.zeros(1, 2), torch.tensor([0]), counts, scale=4.0)
        >>> round(value.item(), 4)  # log(1 + e)
        1.3133

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 3.2.

        Their network gives cosines and their loss multiplies by the scale; the value is the same.
        Their schedule finds the weights as ``epoch // 160``, which fails from epoch 320 on.
    """
    check_range("max_margin", max_margin)
    check_range("scale", scale)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    margins = max_margin * (counts.min() / counts) ** 0.25  # (C,)
    positive = functional.one_hot(labels, logits.shape[1])  # (B, C)
    weights = effective_number_weights(counts, beta)
    return functional.cross_entropy(logits - scale * margins * positive, labels, weight=weights)
