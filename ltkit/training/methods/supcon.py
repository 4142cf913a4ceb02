"""SupCon: supervised contrastive learning on two views; the head learns beside it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.losses import check_choice, check_range
from ltkit.training.augment import VIEWS
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._supervised import supervised
from ltkit.training.momentum import projection, width


class SupCon(Method, nn.Module):
    r"""Supervised contrast of both views, and cross-entropy of a head that leaves them alone.

    .. math:: L = \frac{1}{2B} \sum_i -\frac{1}{|P(i)|} \sum_{p \in P(i)} \log
        \frac{e^{q_i \cdot q_p / t}}{\sum_{a \ne i} e^{q_i \cdot q_a / t}} + CE(z, y)

    q are the projections of both views, of length 1; P(i) are those of the class of i, its other
    view among them. The gradient of the cross-entropy ends at the features: they are the contrast's
    alone, and the head is a linear classifier of them.

    Args:
        class_counts: (C,) training images per class.
        temperature: t, above 0; 0.1 in the source.
        size: units of the projection; 128 in the source.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in the source.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> from torch.nn import functional
        >>> supcon = loss(torch.tensor([5, 5]))
        >>> unit = functional.normalize(torch.ones(4, 2))
        >>> value = supcon.contrast(torch.tensor([0, 1, 0, 1]), unit)
        >>> round(value.item(), 4)  # three others that are equally near: log 3
        1.0986

    Source:
        Khosla et al., NeurIPS 2020, arXiv:2004.11362, eq. 2 (the sum outside the logarithm).
        A released form of it gives the same values, to 3e-7 of them.

        The source trains the head afterwards: ``--from-epoch N --then ce --freeze backbone``. That
        it learns beside, too, and the projection's batch norm, is a reading.
    """

    detached = True

    def __init__(
        self,
        class_counts: Tensor,
        *,
        temperature: float = 0.1,
        size: int = 128,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("temperature", temperature, 1e-4)
        check_range("size", size, 1)
        check_choice("second_view", second_view, VIEWS)
        self.temperature, self.size, self.views = temperature, size, (VIEWS[second_view],)

    def attach(self, network: Network) -> None:
        """Build the projection."""
        self.projection = projection(width(network), self.size)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over both views."""
        features, logits = seen.encode(torch.cat(seen.views))
        labels = seen.labels.repeat(2)
        value = self.contrast(labels, functional.normalize(self.projection(features)))
        return value + functional.cross_entropy(logits, labels)

    def contrast(self, labels: Tensor, unit: Tensor) -> Tensor:
        """Return the mean over the rows, given (N, d) projections of length 1."""
        other = ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        positive = other & (labels[:, None] == labels)
        return supervised(unit @ unit.T / self.temperature, positive, other).mean()


loss = SupCon
