"""GPaCo: PaCo without a momentum encoder: both views are trained on, labels may be smoothed."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.training.augment import VIEWS
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._parametric import parametric, prior_of
from ltkit.training.momentum import Queue, projection, width


class GPaCo(Method, nn.Module):
    r"""Generalised parametric contrastive learning.

    .. math:: L_i = -\frac{\beta \sum_c y_c (u_c - \log D_i) + \alpha \sum_{k \in P(i)}
        (u_k - \log D_i)}{\beta + \alpha |P(i)|}, \quad
        D_i = \sum_c e^{u_c} + \gamma \sum_{k \in A(i)} e^{u_k}, \quad
        u_c = z_c + \log \pi_c, \quad u_k = q_i \cdot v_k / t

    As PaCo, but the trained network sees both views, i is any of the two, and A(i) are the
    projections of both without i, and the queue; y is the label, smoothed.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        alpha: weight of a pair, at least 0; 0.01 for CIFAR-100, 0.045 for ImageNet-LT.
        beta: weight of the class centre, above 0; 1.
        gamma: of the candidates in the denominator, at least 0; 1.
        temperature: t, above 0; 0.07 for CIFAR-100, 0.2 for ImageNet-LT. It does not divide the
            logits.
        smoothing: part of the label that the other classes share, 0 to 1; 0 in the released
            scripts of long-tailed data.
        queue: projections of earlier second views, as in PaCo; 0 for none, as in the paper's text;
            1024 in the released script for CIFAR-100, 8192 for ImageNet-LT.
        size: units of the projection; 32 as in PaCo, 128 for ImageNet-LT.
        second_view: the second view's augmentation; the first one's is the run's.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> gpaco = loss(torch.tensor([90, 10]), alpha=0.0, gamma=0.0, smoothing=0.5)
        >>> unit = torch.ones(2, 32) / 32**0.5
        >>> value = gpaco.contrast(torch.zeros(2, 2), torch.tensor([1, 1]), unit)
        >>> round(value.item(), 4)  # half of -log 0.1 and half of -log 0.9
        1.204

    Source:
        Cui et al., TPAMI 2023, arXiv:2209.12400, sec. 3; defaults of the released code for
        CIFAR-100. Its loss gives the same values, to 3e-7 of them, and gradients, to 1e-6.

        Their code gives the views to the network one after the other, here both are one batch, of
        which batch norm takes its statistics; their projection has three layers without batch norm.
    """

    log_prior: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        alpha: float = 0.01,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 0.07,
        smoothing: float = 0.0,
        queue: int = 0,
        size: int = 32,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters; compute the prior from the counts."""
        super().__init__()
        self.weights = {"alpha": alpha, "beta": beta, "gamma": gamma, "temperature": temperature,
                        "smoothing": smoothing}  # fmt: skip
        prior = prior_of(class_counts, second_view, **self.weights, queue=queue, size=size)
        self.size, self.views, self.queue_size = size, (VIEWS[second_view],), queue
        self.queue = Queue(queue, size)
        self.register_buffer("log_prior", prior, persistent=False)

    def attach(self, network: Network) -> None:
        """Build the projection."""
        self.projection = projection(width(network), self.size)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over both views; put the second ones into the queue."""
        features, logits = seen.encode(torch.cat(seen.views))
        unit = functional.normalize(self.projection(features))
        value = self.contrast(logits, seen.labels.repeat(2), unit)
        self.queue.put(unit[len(seen.labels) :], seen.labels)
        return value

    def contrast(self, logits: Tensor, labels: Tensor, unit: Tensor) -> Tensor:
        """Return the mean over the rows, given (N, d) projections of length 1."""
        candidates = torch.cat([unit, self.queue.keys])
        of = torch.cat([labels, self.queue.labels])
        adjusted = logits + self.log_prior.to(logits.dtype)
        return parametric(adjusted, unit, labels, candidates, of, **self.weights).mean()


loss = GPaCo
