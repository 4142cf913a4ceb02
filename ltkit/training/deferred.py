"""A loss that is replaced by another from an epoch on."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ltkit.losses import Moment, Stateful

OfBatch = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss that is a function of (B, C) logits, (B,) labels and (C,) training counts."""


class Deferred(Stateful, nn.Module):
    """A loss that is replaced by another from an epoch on.

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 3.3 (deferred re-weighting: the second is
        the first with class weights).
    """

    class_counts: Tensor
    last: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        first: OfBatch | Stateful,
        then: OfBatch | Stateful,
        epoch: int,
        *,
        held: bool = False,
    ) -> None:
        """Start with the first loss; use the second after this many finished epochs.

        Args:
            class_counts: (C,) training images per class.
            first: until then.
            then: afterwards.
            epoch: finished epochs.
            held: whether the features stay as they are with the second, so that what the first
                learnt of them still holds.

        Raises:
            InputError: immediately, when a parameter of the second is out of range.
        """
        super().__init__()
        if then is not first and not isinstance(then, Stateful):
            one = class_counts.argmax()[None]  # a class that has images
            then(torch.zeros(1, len(class_counts), device=one.device), one, class_counts)
        self.first, self.then, self.epoch, self.reached = first, then, epoch, False
        self.held = held
        self.takes_class_means = any(getattr(x, "takes_class_means", False) for x in (first, then))
        self.mixable = all(getattr(x, "mixable", True) for x in (first, then))
        self.register_buffer("class_counts", class_counts, persistent=False)
        self.register_buffer("last", torch.tensor(-1))  # epoch that was begun

    @property
    def current(self) -> OfBatch | Stateful:
        """The loss in use."""
        return self.then if self.reached else self.first

    def before_epoch(self, moment: Moment) -> None:
        """Choose which loss to use."""
        self.reached = moment.epoch >= self.epoch
        self.last.fill_(moment.epoch)
        if isinstance(self.current, Stateful):
            self.current.before_epoch(moment)

    @property
    def parts(self) -> tuple[OfBatch | Stateful, ...]:
        """Both losses, or the only one."""
        return (self.first,) if self.then is self.first else (self.first, self.then)

    def watched(self) -> dict[str, float]:
        """Return the numbers of the loss in use."""
        return self.current.watched() if isinstance(self.current, Stateful) else {}

    def kept(self) -> dict[str, Tensor]:
        """Return what the loss in use leaves in the checkpoint, and the first of held features.

        One that put a head of its own in the network says in all cases what the head is.
        """
        latest = self.then if self.last >= self.epoch else self.first
        parts = [
            part for part in self.parts
            if self.held or part is latest or getattr(part, "own_head", False)
        ]  # fmt: skip
        every = [part.kept() for part in parts if isinstance(part, Stateful)]
        return {name: value for one in every for name, value in one.items()}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if isinstance(self.current, Stateful):
            return self.current(logits, labels, features)
        return self.current(logits, labels, self.class_counts)
