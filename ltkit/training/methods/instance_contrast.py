"""Cross-entropy, and contrast to images of other classes alone: the first stage of SSD."""

from torch import Tensor
from torch.nn import functional

from ltkit.losses import check_range
from ltkit.training.methods import Seen
from ltkit.training.methods._instances import instances
from ltkit.training.methods._keyed import Keyed


class InstanceContrast(Keyed):
    r"""Cross-entropy, guided by momentum contrast without negatives of the own class.

    .. math:: L_i = CE(z_i, y_i) - w \log \frac{e^{q_i \cdot v_i / t}}
        {e^{q_i \cdot v_i / t} + \sum_{k : y_k \ne y_i} e^{q_i \cdot v_k / t}}

    q are the projections of the first views, of length 1; v_i is the key that a momentum encoder
    gives of the image's second view, the others are keys in the queue. Both terms train the
    network. It is the first stage of ``train ssd``.

    Args:
        class_counts: (C,) training images per class.
        weight: w, at least 0; 1.
        temperature: t, above 0; 0.2 in the source.
        queue: keys of earlier batches, from the batch size to the number of training images;
            115,712 in the source for ImageNet-LT, which is nearly all of them.
        size: units of the projection; 128 in the source.
        momentum: of the key encoder, 0 to 1; 0.999.
        second_view: the second view's augmentation; the first one's is the run's.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> method = loss(torch.tensor([5, 5]), queue=3, size=2)
        >>> unit = functional.normalize(torch.ones(3, 2))
        >>> method.queue.put(unit, torch.tensor([0, 1, 1]))
        >>> value = method.contrast(torch.tensor([0]), unit[:1], unit[:1])
        >>> round(value.item(), 4)  # its key, and two of the other class: log 3
        1.0986

    Source:
        Li et al. (SSD), ICCV 2021, arXiv:2109.04075, sec. 3.1. A released form of the contrast
        gives the same values, to 3e-7 of them, and gradients, to 1e-6.

        The projection's batch norm is a reading. Their queue starts with random keys of the class
        0; here empty places are none.
    """

    def __init__(
        self,
        class_counts: Tensor,
        *,
        weight: float = 1.0,
        temperature: float = 0.2,
        queue: int = 1024,
        size: int = 128,
        momentum: float = 0.999,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters."""
        super().__init__(
            size, momentum, second_view, temperature=temperature, queue=queue, least_queue=1
        )
        check_range("weight", weight)
        self.weight = weight

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch; put its keys into the queue."""
        queries, keys, logits = self.queries_and_keys(seen)
        value = self.contrast(seen.labels, queries, keys)
        self.queue.put(keys, seen.labels)
        return functional.cross_entropy(logits, seen.labels) + self.weight * value

    def contrast(self, labels: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the mean over the batch, given (B, d) queries and keys of length 1."""
        of = self.queue.labels
        negative = (of >= 0) & (labels[:, None] != of)  # (B, K)
        stored = self.queue.keys.clone()  # which the batch's keys are put into before its gradient
        return instances(queries, keys, stored, negative, self.temperature).mean()


loss = InstanceContrast
