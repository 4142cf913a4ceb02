"""KCL: supervised contrast to the own key and a few same-class keys, whatever the class's size."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.losses import batch_seed, check_range
from ltkit.training.methods import Seen
from ltkit.training.methods._keyed import Keyed
from ltkit.training.methods._supervised import supervised


class KCL(Keyed):
    r"""K-positive contrastive learning, and cross-entropy of a head that leaves it alone.

    .. math:: L_i = -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{e^{q_i \cdot v_p / t}}{\sum_{a \in A(i)} e^{q_i \cdot v_a / t}} + CE(z_i, y_i)

    q are the projections of the first views, of length 1; A(i) are the own key, which a momentum
    encoder gives of the second view, and the queue of earlier keys; P(i) are the own key and K keys
    of the class, drawn from the queue, or all where it has fewer. With all it is supervised
    contrast to the queue. The gradient of the cross-entropy ends at the features.

    Args:
        class_counts: (C,) training images per class.
        positives: K, at least 0; 6 in the source; 0 takes all.
        temperature: t, above 0; 0.07 in the source.
        queue: keys of earlier batches, from the batch size to the number of training images; 65,536
            in the source for ImageNet-LT.
        size: units of the projection; 128 in the source.
        momentum: of the key encoder, 0 to 1; 0.999.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in the source.
        seed: seed of the draws, from 0.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> kcl = loss(torch.tensor([5, 5]), queue=2, size=2)
        >>> unit = functional.normalize(torch.ones(2, 2))
        >>> kcl.queue.put(unit, torch.tensor([0, 1]))
        >>> value = kcl.contrast(torch.tensor([0, 1]), unit, unit)
        >>> round(value.item(), 4)  # the own key and two more, all equally near: log 3
        1.0986

    Source:
        Kang et al., ICLR 2021 (Exploring balanced feature spaces for representation learning),
        https://openreview.net/forum?id=OqtLIabPTit, sec. 3; the queue and its draws as in the
        released code of Li et al., CVPR 2022, arXiv:2111.13998.

        The source trains the head afterwards: ``--from-epoch N --then ce --freeze backbone``. That
        it learns beside, too, and the projection's batch norm, is a reading.
    """

    detached = True

    def __init__(
        self,
        class_counts: Tensor,
        *,
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
            size, momentum, second_view, temperature=temperature, queue=queue, least_queue=1
        )
        check_range("positives", positives)
        self.positives, self.seed = positives, seed

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queue."""
        queries, keys, logits = self.queries_and_keys(seen)
        value = self.contrast(seen.labels, queries, keys)
        self.queue.put(keys, seen.labels)
        return value + functional.cross_entropy(logits, seen.labels)

    def contrast(self, labels: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over the batch, given (B, d) queries and keys of length 1."""
        return supervised(*self.compared(labels, queries, keys)).mean()

    def compared(self, labels: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """Return (B, 1 + K) similarities to the own key and the queue, the positives, and all."""
        own = (queries * keys).sum(dim=1, keepdim=True)
        stored = self.queue.keys.clone()  # which the batch's keys are put into before its gradient
        similarity = torch.cat([own, queries @ stored.T], dim=1) / self.temperature
        there = self.queue.labels >= 0
        same = there & (labels[:, None] == self.queue.labels)  # (B, K)
        yes = torch.ones_like(labels, dtype=torch.bool)[:, None]
        positive = torch.cat([yes, self.drawn(same, labels)], dim=1)
        return similarity, positive, torch.cat([yes, there.expand_as(same)], dim=1)

    def drawn(self, same: Tensor, labels: Tensor) -> Tensor:
        """Return K of each row's true entries, or all where there are fewer, as (B, K) bool."""
        if not 0 < self.positives < same.shape[1]:
            return same
        generator = torch.Generator().manual_seed(batch_seed(labels, self.seed))
        chances = torch.rand(same.shape, generator=generator).to(same.device)
        best = chances.masked_fill(~same, -1.0).topk(self.positives, dim=1).indices
        return same & torch.zeros_like(same).scatter(1, best, True)


loss = KCL
