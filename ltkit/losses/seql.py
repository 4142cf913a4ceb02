"""SEQL: rare classes are randomly left out of the softmax of other classes' samples."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.losses import batch_seed, check_range

NEUTRAL = {"gamma": 0.0}


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    gamma: float = 0.9,
    threshold: float = 0.005,
    seed: int = 0,
) -> Tensor:
    r"""Mean cross-entropy with rare classes dropped from the denominator with probability gamma.

    .. math:: L(z, y) = -\log \frac{e^{z_y}}{\sum_k \omega_k e^{z_k}}, \quad
        \omega_k = 1 - \beta_k \, 1[\pi_k < \lambda] \, 1[k \ne y], \quad
        \beta_k \sim Bernoulli(\gamma)

    There is a draw for each sample and class, from a generator of its own that starts at each
    call from the seed and the batch's labels: fresh in every batch, and the same for the same one.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class.
        gamma: probability of being dropped, 0 to 1; 0 is cross-entropy, 0.9 as in the code below.
        threshold: lambda, the prior below which a class is rare, 0 to 1. To be chosen for the
            number of classes: 0.005 is for CIFAR-100-LT, where it means fewer than 55 images at
            imbalance 100; 0.00043 was used for ImageNet-LT.
        seed: seed of the draws, from 0; not set by `train --seed`.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when gamma, threshold or seed is out of range.

    Example:
        >>> import torch
        >>> labels, counts = torch.tensor([0, 1]), torch.tensor([999, 1])
        >>> value = loss(torch.zeros(2, 2), labels, counts, gamma=1.0)
        >>> round(value.item(), 4)  # (log 1 + log 2) / 2
        0.3466

    Source:
        Tan et al., CVPR 2020, arXiv:2003.05176 (softmax equalization loss, image classification).

        The authors released the sigmoid form for detection alone; defaults and the draw for each
        element follow the code of Zhang et al., AAAI 2021, a bag of tricks. Other code draws once
        a batch, or sets dropped logits to -1e7.
    """
    check_range("gamma", gamma, 0, 1)
    check_range("threshold", threshold, 0, 1)
    generator = torch.Generator(logits.device).manual_seed(batch_seed(labels, seed))
    drawn = torch.rand(logits.shape, generator=generator, device=logits.device) < gamma
    rare = class_counts < threshold * class_counts.sum()
    dropped = (drawn & rare).scatter(1, labels[:, None], False)  # (B, C)
    return functional.cross_entropy(logits.masked_fill(dropped, -torch.inf), labels)
