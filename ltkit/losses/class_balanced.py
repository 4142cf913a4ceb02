"""Class-balanced loss: effective-number weights on a softmax, sigmoid, focal or binary cost."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_choice, check_counts, check_range, effective_number_weights

FORMS = ("softmax", "sigmoid", "focal", "binary")
NEUTRAL = {"beta": 0.0}
UNIFORM = {"beta": 0.0}


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    form: str = "softmax",
    beta: float = 0.9999,
    gamma: float = 0.5,
) -> Tensor:
    r"""Mean cost, weighted by one over the effective number of images of the class.

    .. math:: L = \frac{1}{B} \sum_i w_{y_i} \ell(z_i, y_i), \quad
        w_c = C \, \frac{1 / E_c}{\sum_j 1 / E_j}, \quad E_c = \frac{1 - \beta^{n_c}}{1 - \beta}

    with, for the signed logits t_j = z_j at the label and -z_j elsewhere, and p = softmax(z):

    - ``softmax``: -log p_y
    - ``sigmoid``: the sum over classes of -log sigmoid(t_j)
    - ``focal``: the sum over classes of -(1 - sigmoid(t_j))^gamma log sigmoid(t_j)
    - ``binary``: the mean over classes of the binary cross-entropy of p_j, against 1 at the label
      and 0 elsewhere. Its gradients are about C times smaller than those of ``softmax``.

    Args:
        logits: (B, C).
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        form: ``softmax``, ``sigmoid``, ``focal`` or ``binary``; the source picks one of the first
            three for each dataset.
        beta: 0 to 1; 0 gives weights 1, 1 the limit of weights in proportion to ``1 / n_c``. The
            source picks 0.9, 0.99, 0.999 or 0.9999 for each dataset, code after it 0.9999.
        gamma: only for ``focal``, at least 0; 0 is ``sigmoid``, 0.5 the usual choice on CIFAR.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when the form is unknown, beta or gamma out of range, or a class has no
            training image.

    Example:
        >>> import torch
        >>> value = loss(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([1, 2]), beta=0.5)
        >>> round(value.item(), 4)  # E = 1, 3/2, so w = 6/5, 4/5; 6/5 log 2
        0.8318

    Source:
        Cui et al., CVPR 2019, arXiv:1901.05555, sec. 4.

        The released code starts the last bias of the sigmoid forms at -log((1 - k) / k) and keeps
        weight decay off it; a loss cannot. ``binary`` comes from a port that is copied widely
        under the name of ``softmax``, and is not in the paper; its logs are clamped at -100, which
        stops the gradient of a sample that is far off, and are exact here.
    """
    check_choice("form", form, FORMS)
    check_range("gamma", gamma)
    check_counts(class_counts)
    weights = effective_number_weights(class_counts.to(logits.dtype), beta)[labels]  # (B,)
    if form == "softmax":
        costs = functional.cross_entropy(logits, labels, reduction="none")
    else:
        positive = torch.zeros_like(logits, dtype=torch.bool).scatter(1, labels[:, None], True)
        if form == "binary":
            costs = _binary(logits, positive).mean(dim=1)
        else:
            costs = _focal(logits, positive, gamma if form == "focal" else 0.0).sum(dim=1)
    return (weights * costs).mean()


def _focal(logits: Tensor, positive: Tensor, gamma: float) -> Tensor:
    """Return (B, C) focal costs of independent sigmoids; the logs keep them finite."""
    signed = torch.where(positive, logits, -logits)
    return (gamma * functional.logsigmoid(-signed)).exp() * -functional.logsigmoid(signed)


def _binary(logits: Tensor, positive: Tensor) -> Tensor:
    """Return (B, C) binary cross-entropy of softmax probabilities, from their logs."""
    log_p = logits.log_softmax(dim=1)
    # log(1 - p): all but the largest p are at most 1/2; there, it is the log of the others' sum
    largest = logits.argmax(dim=1, keepdim=True)  # (B, 1)
    others = logits.scatter(1, largest, -torch.inf).logsumexp(dim=1, keepdim=True)
    log_rest = (-log_p.exp().scatter(1, largest, 0.0)).log1p()
    log_rest = log_rest.scatter(1, largest, others - logits.logsumexp(dim=1, keepdim=True))
    return -torch.where(positive, log_p, log_rest)
