"""PaCo: balanced softmax in one softmax with a supervised contrast to keys of a slow encoder."""

import torch
from torch import Tensor

from ltkit.training.methods import Seen
from ltkit.training.methods._keyed import Keyed
from ltkit.training.methods._parametric import parametric, prior_of


class PaCo(Keyed):
    r"""Parametric contrastive learning, with class centres among the candidates.

    .. math:: L_i = -\frac{\beta (u_y - \log D_i) + \alpha \sum_{k \in P(i)} (u_k - \log D_i)}
        {\beta + \alpha |P(i)|}, \quad
        D_i = \sum_c e^{u_c} + \gamma \sum_{k \in A(i)} e^{u_k}, \quad
        u_c = z_c + \log \pi_c, \quad u_k = q_i \cdot v_k / t

    q are the projections of the first views, of length 1. A(i) are these without i, the keys that a
    momentum encoder gives of the second views, and the queue of earlier keys; P(i) are those of
    the class of i. With alpha and gamma 0 it is balanced softmax. Predict with the plain logits.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        alpha: weight of a pair, at least 0; 0.01 for CIFAR-100-LT, 0.05 for ImageNet-LT.
        beta: weight of the class centre, above 0; 1.
        gamma: of the candidates in the denominator, at least 0; 1.
        temperature: t, above 0; 0.05 for CIFAR-100-LT, 0.2 for ImageNet-LT. It does not divide the
            logits.
        queue: keys of earlier batches, from the batch size to the number of training images, or 0;
            1024 for CIFAR-100-LT, 8192 for ImageNet-LT.
        size: units of the projection; 32 for CIFAR-100-LT, 128 for ImageNet-LT.
        momentum: of the key encoder, 0 to 1; 0.999.
        second_view: the second view's augmentation; the first one's is the run's, which is
            autoaugment+cutout in the source.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> paco = loss(torch.tensor([90, 10]), alpha=0.0, gamma=0.0, queue=0)
        >>> unit = torch.ones(1, 32) / 32**0.5
        >>> value = paco.contrast(torch.zeros(1, 2), torch.tensor([1]), unit, unit)
        >>> round(value.item(), 4)  # balanced softmax: -log 0.1
        2.3026

    Source:
        Cui et al., ICCV 2021, arXiv:2107.12028, sec. 3; defaults of the released code for
        CIFAR-100-LT: 400 epochs, learning rate 0.05, weight decay 5e-4. Its loss gives the same
        values, to 3e-7 of them, and the same gradients, to 1e-6.

        Their queue starts with random keys and labels; here empty places are no candidates.
    """

    log_prior: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        alpha: float = 0.01,
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 0.05,
        queue: int = 1024,
        size: int = 32,
        momentum: float = 0.999,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters; compute the prior from the counts."""
        weights = {"alpha": alpha, "beta": beta, "gamma": gamma, "temperature": temperature}
        prior = prior_of(
            class_counts, second_view, **weights, queue=queue, size=size, momentum=momentum
        )
        super().__init__(size, momentum, second_view, temperature=temperature, queue=queue)
        self.weights = weights
        self.register_buffer("log_prior", prior, persistent=False)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queue."""
        queries, keys, logits = self.queries_and_keys(seen)
        value = self.contrast(logits, seen.labels, queries, keys)
        self.queue.put(keys, seen.labels)
        return value

    def contrast(self, logits: Tensor, labels: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over the batch, given (B, d) queries and keys of length 1."""
        candidates = torch.cat([queries, keys, self.queue.keys])
        of = torch.cat([labels, labels, self.queue.labels])
        adjusted = logits + self.log_prior.to(logits.dtype)
        return parametric(adjusted, queries, labels, candidates, of, **self.weights).mean()


loss = PaCo
