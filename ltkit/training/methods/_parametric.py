"""Parametric contrastive learning: logits and similarities in one softmax."""

from collections.abc import Mapping
from math import log

import torch
from torch import Tensor

from ltkit.losses import check_choice, check_counts, check_range
from ltkit.training.augment import VIEWS

BETWEEN: Mapping[str, tuple[float, float]] = {
    "alpha": (0, 1e6), "beta": (1e-6, 1e6), "gamma": (0, 1e6), "temperature": (1e-4, 1e6),
    "smoothing": (0, 1), "queue": (0, 1e9), "size": (1, 1e6), "momentum": (0, 1),
}  # fmt: skip
"""What the parameters may be."""


def prior_of(class_counts: Tensor, second_view: str, **parameters: float) -> Tensor:
    """Check what a method is made with; return the (C,) log prior.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.
    """
    for name, value in parameters.items():
        check_range(name, value, *BETWEEN[name])
    check_choice("second_view", second_view, VIEWS)
    check_counts(class_counts)
    return (class_counts.double() / class_counts.sum()).log()


def parametric(
    logits: Tensor,
    queries: Tensor,
    labels: Tensor,
    candidates: Tensor,
    candidate_labels: Tensor,
    *,
    alpha: float,
    beta: float = 1.0,
    gamma: float = 1.0,
    temperature: float,
    smoothing: float = 0.0,
) -> Tensor:
    r"""Return the (B,) costs of queries among class centres and candidates.

    .. math:: L_i = -\frac{\beta \sum_c y_c (u_c - \log D_i) + \alpha \sum_{k \in P(i)}
        (u_k - \log D_i)}{\beta + \alpha |P(i)|}, \quad
        D_i = \sum_c e^{u_c} + \gamma \sum_{k \in A(i)} e^{u_k}, \quad u_k = q_i \cdot v_k / t

    A(i) are the candidates without i itself, P(i) those of its class; y is the label, smoothed.

    Args:
        logits: (B, C), u_c, with the log prior.
        queries: (B, d) of length 1; they are the first B candidates.
        labels: (B,) int64.
        candidates: (M, d) of length 1.
        candidate_labels: (M,) int64; -1 for what is none.
        alpha: weight of the pairs, at least 0.
        beta: weight of the class centre, above 0.
        gamma: of the candidates in the denominator, at least 0.
        temperature: t, above 0.
        smoothing: part of the label that the other classes share, 0 to 1.

    Example:
        >>> logits, one, none = torch.zeros(1, 2), torch.ones(1, 1), torch.tensor([0])
        >>> both = torch.cat([one, one])
        >>> costs = parametric(logits, one, none, both, torch.tensor([0, 0]), alpha=1.0, gamma=0.0,
        ...                    temperature=1.0)
        >>> costs.item()  # ((log 2 - 0) + (log 2 - 1)) / 2, the pair's similarity being 1
        0.193...
    """
    count, classes = logits.shape
    similarity = queries @ candidates.T / temperature  # (B, M)
    other = torch.ones_like(similarity, dtype=torch.bool)
    other[:, :count].fill_diagonal_(False)
    other &= candidate_labels >= 0
    positive = other & (labels[:, None] == candidate_labels)
    scaled = similarity + log(gamma) if gamma else similarity
    within = scaled.masked_fill(~other if gamma else torch.ones_like(other), -torch.inf)
    total = torch.cat([logits, within], dim=1).logsumexp(dim=1)  # (B,)
    centre = logits.gather(1, labels[:, None])[:, 0]
    if smoothing:
        rest = (logits.sum(dim=1) - centre) / (classes - 1)
        centre = (1 - smoothing) * centre + smoothing * rest
    pairs = positive.sum(dim=1)
    near = similarity.masked_fill(~positive, 0.0).sum(dim=1)
    said = beta * (centre - total) + alpha * (near - pairs * total)
    return -said / (beta + alpha * pairs)
