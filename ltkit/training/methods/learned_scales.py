"""Learned scales: a factor for each class's logit, learned on a network that is held as it is."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.heads import LinearHead
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_choice, check_range, label_aware_smoothing
from ltkit.settings import Freeze
from ltkit.training.methods import Method, Seen

BATCH_NORM: dict[str, Freeze] = {"held": "backbone", "shifted": "weights"}
"""What of the backbone is frozen."""


class LearnedScales(Method, nn.Module):
    r"""Cross-entropy of a trained head's logits, each with a factor of its class.

    .. math:: L = CE(s \odot (W f + b), y)

    The factors s start at 1 and are all that is trained: the backbone is held, with its batch norm
    statistics, and so are W and b. The head that is written has the rows s W and s b. Start from a
    trained network: ``--init CKPT --keep-head``. It is the second stage of ``train ssd``, and with
    the parameters below, of ``train mislas``.

    Args:
        class_counts: (C,) training images per class.
        per_class: images of each class in a batch, of which classes are equally likely; 2 in the
            source; 0: images one by one, as ``--sampler`` says.
        head_rate: factor on the run's learning rate with which W and b are trained, too, at least
            0, which holds them.
        eps_head: label-aware smoothing of the most frequent class, 0 to 1; 0 is cross-entropy.
        eps_tail: of the rarest class.
        batch_norm: ``held``, or ``shifted``: in training mode, so that its statistics become those
            of these batches.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> method = loss(torch.tensor([9, 1]))
        >>> method.scales.data = torch.tensor([1.0, 3.0])
        >>> method.scaled(torch.tensor([[2.0, 1.0]])).tolist()
        [[2.0, 3.0]]

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4.2 (LWS); the factor of the bias, and the
        batches of SSD: the released code of Li et al., ICCV 2021, arXiv:2109.04075. There batch
        norm goes on in training mode; that it is held with the rest is a reading. The other
        parameters: Zhong et al. (MiSLAS), CVPR 2021, arXiv:2104.00466, sec. 3.2 and 3.3.
    """

    weight: Tensor
    bias: Tensor
    begun: Tensor
    class_counts: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        per_class: int = 2,
        head_rate: float = 0.0,
        eps_head: float = 0.0,
        eps_tail: float = 0.0,
        batch_norm: str = "held",
    ) -> None:
        """Check the parameters; start with factors of 1."""
        super().__init__()
        check_range("per_class", per_class)
        check_range("head_rate", head_rate)
        check_choice("batch_norm", batch_norm, BATCH_NORM)
        for name, value in (("eps_head", eps_head), ("eps_tail", eps_tail)):
            check_range(name, value, 0, 1)
        self.per_class, self.sampler = per_class, "class-balanced" if per_class else None
        self.freeze, self.smoothing = BATCH_NORM[batch_norm], (eps_head, eps_tail)
        self.rates = {"weight": head_rate, "bias": head_rate} if head_rate else {}
        self.scales = nn.Parameter(torch.ones(len(class_counts)))
        self.register_buffer("begun", torch.tensor(False))
        self.register_buffer("class_counts", class_counts, persistent=False)

    def attach(self, network: Network) -> None:
        """Make room for the head, which is taken when it is this loss's turn.

        Raises:
            SettingError: when the head is not a linear one.
        """
        head = network.head
        if not isinstance(head, LinearHead) or head.bias is None:
            said = "found a head whose logits have no rows of their own, expected a linear head"
            raise SettingError("method learned-scales", said)
        for name, value in (("weight", head.weight), ("bias", head.bias)):
            room = torch.zeros_like(value.detach())
            if self.rates:
                self.register_parameter(name, nn.Parameter(room))
            else:
                self.register_buffer(name, room)
        self._heads = (head,)  # which is not this module's

    @torch.no_grad()
    def before_epoch(self, moment: Moment) -> None:
        """Hold the head; take it as it is before the first epoch."""
        (head,) = self._heads
        head.requires_grad_(False)
        if not self.begun:
            self.weight.copy_(head.weight)
            self.bias.copy_(head.bias)
            self.begun.fill_(True)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        features, _ = seen.encode(seen.views[0])
        logits = self.scaled(functional.linear(features, self.weight, self.bias))
        head, tail = self.smoothing
        return label_aware_smoothing.loss(
            logits, seen.labels, self.class_counts, eps_head=head, eps_tail=tail
        )

    def scaled(self, logits: Tensor) -> Tensor:
        """Return (B, C) logits with the factors of their classes."""
        return self.scales * logits

    @torch.no_grad()
    def after_epoch(self) -> None:
        """Give the network's head the factors."""
        (head,) = self._heads
        head.weight.copy_(self.scales[:, None] * self.weight)
        head.bias.copy_(self.scales * self.bias)


loss = LearnedScales
