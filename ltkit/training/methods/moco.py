"""MoCo: pre-training on an image's two views and a queue of others; the head learns beside it."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.training.methods import Seen
from ltkit.training.methods._instances import instances
from ltkit.training.methods._keyed import Keyed


class MoCo(Keyed):
    r"""Momentum contrast without labels, and cross-entropy of a head that leaves it alone.

    .. math:: L_i = -\log \frac{e^{q_i \cdot v_i / t}}
        {e^{q_i \cdot v_i / t} + \sum_{k \in N} e^{q_i \cdot v_k / t}} + CE(z_i, y_i)

    q are the projections of the first views, of length 1; v_i is the key that a momentum encoder
    gives of the image's second view, N are the keys in the queue, whatever their class. Without a
    queue they are the other keys of the batch. The gradient of the cross-entropy ends at the
    features: they are the contrast's alone. Train on with any loss: ``train LOSS --init CKPT``.

    Args:
        class_counts: (C,) training images per class.
        temperature: t, above 0; 0.07 in the source, 0.2 with a projection (MoCo v2).
        queue: keys of earlier batches, from the batch size to the number of training images, or 0;
            65,536 in the source for ImageNet.
        size: units of the projection; 128 in the source.
        momentum: of the key encoder, 0 to 1; 0.999 in the source.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in MoCo v2.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> moco = loss(torch.tensor([5, 5]), queue=0, size=2)
        >>> unit = functional.normalize(torch.ones(3, 2))
        >>> round(moco.contrast(unit, unit).item(), 4)  # three equally near keys: log 3
        1.0986

    Source:
        He et al., CVPR 2020, arXiv:1911.05722, eq. 1; the projection and its temperature: Chen et
        al. 2020, arXiv:2003.04297. A released form of it gives the same values, to 3e-7 of them.

        Yang and Xu, NeurIPS 2020, arXiv:2006.07529, pre-train with it on ImageNet-LT and
        iNaturalist. The projection's batch norm, and the head beside, are readings; their queue
        starts with random keys, here empty places are none.
    """

    detached = True

    def __init__(
        self,
        class_counts: Tensor,
        *,
        temperature: float = 0.2,
        queue: int = 1024,
        size: int = 128,
        momentum: float = 0.999,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters."""
        super().__init__(size, momentum, second_view, temperature=temperature, queue=queue)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queue."""
        queries, keys, logits = self.queries_and_keys(seen)
        value = self.contrast(queries, keys)
        self.queue.put(keys, seen.labels)
        return value + functional.cross_entropy(logits, seen.labels)

    def contrast(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over the batch, given (B, d) queries and keys of length 1."""
        if self.queue_size:
            others = self.queue.keys.clone()  # which the keys are put into before the gradient
            negative = (self.queue.labels >= 0).expand(len(queries), -1)
        else:
            others = keys
            negative = ~torch.eye(len(keys), dtype=torch.bool, device=keys.device)
        return instances(queries, keys, others, negative, self.temperature).mean()


loss = MoCo
