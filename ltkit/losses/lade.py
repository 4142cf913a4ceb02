"""LADE: balanced softmax and a regulariser that frees the logits from the training prior."""

from math import log

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_choice, check_counts, check_range

NEUTRAL = {"alpha": 0.0}
VARIANTS = ("code", "paper")


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    alpha: float = 0.1,
    remine_lambda: float = 0.01,
    variant: str = "code",
) -> Tensor:
    r"""Balanced softmax plus alpha times a bound on each class's divergence from a uniform prior.

    .. math::
        L &= CE(z + \log \pi, y) + \alpha \sum_c \pi_c L_c, \quad
        L_c = -\frac{1}{B_c} \sum_{i: y_i = c} z_{ic} + S_c + \lambda S_c^2 \\
        S_c &= \log \frac{1}{B} \sum_i e^{z_{ic}} - \log \pi_c - \log C \quad \text{(code)} \\
        S_c &= \log \frac{1}{B} \sum_i \frac{1 / C}{\pi_{y_i}} e^{z_{ic}} \quad \text{(paper)}

    B_c is the number of the batch's samples of class c. A class that is not in the batch has no
    first term; its S_c counts all the same. Predict with the plain logits.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        alpha: weight of the regulariser, at least 0; 0 is balanced-softmax. Published: 0.1 for
            CIFAR-100-LT, 0.05 for ImageNet-LT and iNaturalist, 0.005 for Places-LT.
        remine_lambda: the lambda of the equation, at least 0. Published: 0.01 for CIFAR-100-LT, 0.5
            for ImageNet-LT and iNaturalist, 0.1 for Places-LT.
        variant: ``code``, which made the published numbers, or ``paper``.

    Returns:
        The mean over the batch, and the regulariser of the batch.

    Raises:
        InputError: when the variant is unknown, alpha or remine_lambda out of range, or a class
            has no training image.

    Example:
        >>> import torch
        >>> labels, counts = torch.tensor([0]), torch.tensor([3, 1])
        >>> value = loss(torch.zeros(1, 2), labels, counts, alpha=1.0, remine_lambda=0.0)
        >>> round(value.item(), 4)  # log 4/3 + 3/4 log 2/3 + 1/4 log 2
        0.1569

    Source:
        Hong et al., CVPR 2021, arXiv:2012.00321 (the LADE loss).

        The paper weights each sample by the inverse prior of its own label, inside the sum; the
        released code shifts a whole column by the prior of the class that is looked at.
    """
    check_choice("variant", variant, VARIANTS)
    check_range("alpha", alpha)
    check_range("remine_lambda", remine_lambda)
    check_counts(class_counts)
    counts = class_counts.to(logits.dtype)
    log_prior = (counts / counts.sum()).log()  # (C,)
    samples, classes = logits.shape
    if variant == "code":
        second = logits.logsumexp(dim=0) - log_prior
    else:
        second = (logits - log_prior[labels, None]).logsumexp(dim=0)
    second = second - log(samples) - log(classes)  # (C,)
    sums = torch.zeros_like(log_prior).index_add(0, labels, logits.gather(1, labels[:, None])[:, 0])
    first = sums / labels.bincount(minlength=classes).clamp(min=1)  # (C,)
    bounds = second - first + remine_lambda * second**2
    balanced = functional.cross_entropy(logits + log_prior, labels)
    return balanced + alpha * (log_prior.exp() * bounds).sum()
