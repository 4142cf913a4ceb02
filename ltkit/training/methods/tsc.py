"""TSC: KCL, with a target on the sphere for each class, as far from the others as can be."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.losses import Moment, check_range
from ltkit.training.methods import Seen
from ltkit.training.methods._sphere import apart, drawn, matched
from ltkit.training.methods._supervised import supervised
from ltkit.training.methods.kcl import KCL

DECAY = 0.9
"""Of the centroids at each batch."""

SPREAD = 0.07
"""The temperature with which the targets are solved."""


class TSC(KCL):
    r"""Targeted supervised contrast, and cross-entropy of a head that leaves it alone.

    .. math:: L_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log \frac{e^{q_i \cdot v_p / t}}{S_i}
        - \lambda \log \frac{e^{q_i \cdot c_{y_i} / t}}{S_i} + CE(z_i, y_i), \quad
        S_i = \sum_{a \in A(i)} e^{q_i \cdot v_a / t} + \sum_c e^{q_i \cdot c / t}

    As KCL, with C targets c among the candidates, of which each class is drawn to its own. They are
    solved once, before training:

    .. math:: c^* = \arg\min_{\|c_k\| = 1} \frac{1}{C} \sum_k \log \sum_j e^{c_k \cdot c_j / 0.07}

    Up to d + 1 of them are the corners of a regular simplex. Which class has which target is
    settled before each epoch, by the assignment with the greatest sum of cosines between targets
    and classes' centroids, which are running means of the queries. Before the targets come, and
    with a weight of 0, it is KCL.

    Args:
        class_counts: (C,) training images per class.
        weight: lambda, at least 0; 0.2 in the source.
        start: part of the epochs without targets, 0 to 1; half in the source.
        positives: K, at least 0; 6 in the source; 0 takes all.
        temperature: t, above 0; 0.07 in the source.
        queue: keys of earlier batches, from the batch size to the number of training images; 65,536
            in the source for ImageNet-LT.
        size: d, units of the projection; 128 in the source.
        momentum: of the key encoder, 0 to 1; 0.999.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in the source.
        seed: seed of the draws, from 0.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> tsc = loss(torch.tensor([5, 5]), queue=1, size=2, weight=0.5, start=0.0)
        >>> unit = functional.normalize(torch.ones(2, 2))
        >>> tsc.targets, tsc.targeted = unit, True
        >>> value = tsc.contrast(torch.tensor([0, 1]), unit, unit)
        >>> round(value.item(), 4)  # its key and two targets, equally near: 1.5 log 3
        1.6479

    Source:
        Li et al., CVPR 2022, arXiv:2111.13998, eq. 2 and 3; the centroids as in the released code,
        whose two terms are the same, to 3e-7 of them, and their gradients, to 1e-6.

        That code settles the targets at each step, starts with random centroids when the targets
        come, and divides both terms by the number of all positives, the target included; here
        the assignment holds for an epoch, centroids are kept from the beginning, and the terms are
        those of eq. 3. The source trains the head afterwards: ``--from-epoch N --then ce --freeze
        backbone``. That it learns beside, too, and the projection's batch norm, is a reading.
    """

    targets: Tensor
    centroids: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        weight: float = 0.2,
        start: float = 0.5,
        positives: int = 6,
        temperature: float = 0.07,
        queue: int = 1024,
        size: int = 128,
        momentum: float = 0.999,
        second_view: str = "simclr",
        seed: int = 0,
    ) -> None:
        """Check the parameters."""
        super().__init__(
            class_counts, positives=positives, temperature=temperature, queue=queue, size=size,
            momentum=momentum, second_view=second_view, seed=seed,
        )  # fmt: skip
        check_range("weight", weight)
        check_range("start", start, 0, 1)
        self.weight, self.start, self.targeted = weight, start, False
        self.register_buffer("targets", torch.zeros(len(class_counts), size))
        self.register_buffer("centroids", torch.zeros(len(class_counts), size))
        self.own = torch.arange(len(class_counts))  # each class's target

    def attach(self, network: Network) -> None:
        """Build the projection and the key encoder; draw what the targets are solved from."""
        super().attach(network)
        self.origin = drawn(len(self.targets), self.size)

    def before_epoch(self, moment: Moment) -> None:
        """Solve the targets where the state has none; settle which one each class is drawn to."""
        self.targeted = self.weight > 0 and moment.reached(self.start)
        if self.targeted:
            if not self.targets.any():
                self.targets.copy_(apart(self.origin, SPREAD))
            self.own = matched(self.centroids, self.targets)

    def contrast(self, labels: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over the batch, given (B, d) queries and keys of length 1."""
        if not self.targeted:
            return super().contrast(labels, queries, keys)
        similarity, positive, other = self.compared(labels, queries, keys)
        near = queries @ self.targets.T / self.temperature  # (B, C)
        none, yes = (
            torch.zeros_like(near, dtype=torch.bool),
            torch.ones_like(near, dtype=torch.bool),
        )
        target = none.scatter(1, self.own.to(labels.device)[labels][:, None], True)
        similarity, other = torch.cat([similarity, near], 1), torch.cat([other, yes], 1)
        costs = supervised(similarity, torch.cat([positive, none], 1), other)
        drawn = supervised(similarity, torch.cat([torch.zeros_like(positive), target], 1), other)
        return (costs + self.weight * drawn).mean()

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queue, follow the centroids."""
        queries, keys, logits = self.queries_and_keys(seen)
        value = self.contrast(seen.labels, queries, keys)
        self.queue.put(keys, seen.labels)
        self.follow(seen.labels, queries.detach())
        return value + functional.cross_entropy(logits, seen.labels)

    @torch.no_grad()
    def follow(self, labels: Tensor, queries: Tensor) -> None:
        """Move the centroids of the batch's classes towards the direction of their (B, d) queries.

        Example:
            >>> import torch
            >>> tsc = loss(torch.tensor([5, 5]), size=2)
            >>> for queries in ([[1.0, 0.0]], [[0.0, 1.0]]):
            ...     tsc.follow(torch.tensor([1]), torch.tensor(queries))
            >>> tsc.centroids.tolist()[0]  # which was not met
            [0.0, 0.0]
            >>> round(float(tsc.centroids[1, 0] / tsc.centroids[1, 1]), 4)  # 0.9 to 0.1
            9.0
        """
        sums = torch.zeros_like(self.centroids).index_add_(0, labels, queries)
        met = torch.zeros_like(sums[:, :1]).index_fill_(0, labels, 1.0)
        moved = DECAY * self.centroids + (1 - DECAY) * functional.normalize(sums)
        self.centroids = torch.where(met > 0, functional.normalize(moved), self.centroids)


loss = TSC
