"""Distillation: the head learns what a teacher says, and another head the labels."""

from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.errors import InputError
from ltkit.losses import check_range
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._divergence import divergence
from ltkit.training.momentum import width


class Distill(Method, nn.Module):
    r"""Knowledge distillation from a checkpoint, with a soft head and a hard one.

    .. math:: L = a\, T^2\, KL(softmax(v / T) \,\|\, softmax(z / T)) + b\, CE(z, y)
        + c\, CE(z^h, y)

    v are the teacher's logits of the same view, z those of the network's own head, which is the
    soft one and the checkpoint's, and z^h those of a hard head, a linear layer on the same
    features, which is trained beside it and left behind. ``soft=1, labels=1, hard=0`` is plain
    distillation on one head. The teacher is named with ``--teacher CKPT``.

    Args:
        class_counts: (C,) training images per class.
        temperature: T, above 0; 2 in the source.
        soft: a, at least 0; 1.
        labels: b, at least 0; 0 in the source. a and b are not both 0.
        hard: c, at least 0; 1 in the source, 0 for none.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> distill = loss(torch.tensor([5, 5]))
        >>> teacher = torch.tensor([[2 * torch.tensor(3.0).log(), 0.0]])  # 3/4 and 1/4 at T = 2
        >>> value = distill.taught(torch.zeros(1, 2), teacher)
        >>> round(value.item(), 4)  # 4 (3/4 log 3/2 + 1/4 log 1/2)
        0.5232

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531, sec. 2; the two heads: Li et al. (SSD),
        ICCV 2021, arXiv:2109.04075, sec. 3.3. Their released loss gives the same values, to 3e-7 of
        them, and gradients, to 1e-6.

        In that code the teacher's batch norm takes the statistics of the batch; here it has its
        own, so that what it says of an image does not depend on others.
    """

    takes_teacher = needs_teacher = True

    def __init__(
        self,
        class_counts: Tensor,
        *,
        temperature: float = 2.0,
        soft: float = 1.0,
        labels: float = 0.0,
        hard: float = 1.0,
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("temperature", temperature, 1e-4)
        for name, value in (("soft", soft), ("labels", labels), ("hard", hard)):
            check_range(name, value)
        if not soft and not labels:
            raise InputError(
                "soft: found 0, and labels 0, too, with which the network's head learns nothing; "
                "expected one of them above 0"
            )
        self.temperature, self.soft, self.labels, self.hard = temperature, soft, labels, hard
        self.classes = len(class_counts)

    def attach(self, network: Network) -> None:
        """Build the hard head, where it has a weight."""
        if self.hard:
            self.beside = nn.Linear(width(network), self.classes)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        (images,) = seen.views
        features, logits = seen.encode(images)
        value = logits.new_zeros(())
        if self.soft and self.teacher is not None:
            value = self.soft * self.taught(logits, self.teacher(images, seen.amp))
        if self.labels:
            value = value + self.labels * functional.cross_entropy(logits, seen.labels)
        if self.hard:
            hard = functional.cross_entropy(self.beside(features), seen.labels)
            value = value + self.hard * hard
        return value

    def taught(self, logits: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean cost of (B, C) logits that should be the teacher's."""
        return self.temperature**2 * divergence(logits, teacher, self.temperature)


loss = Distill
