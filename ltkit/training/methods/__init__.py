"""Training methods that need more than a loss of a batch is given, one file each.

The file's ``loss`` is a `Method`, built as ``loss(class_counts, **parameters)`` like a loss of
`ltkit.losses`, and named on the command line in the same way. It asks for parts of the loop:
further views of each image, a momentum encoder with a queue. torch is not imported here, so that
listing the names stays quick.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from ltkit.errors import SettingError
from ltkit.losses import Stateful
from ltkit.settings import Amp, Augment, Freeze, Sampler, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ltkit.architectures.network import Network
    from ltkit.training.teachers import Teacher


@dataclass(frozen=True)
class Seen:
    """A batch as a method sees it.

    views: a view of each image after another, (B, channels, H, W): the run's own, then those that
        the method asks for.
    labels: (B,) int64.
    network: that is trained.
    encode: gives its (N, D) features and (N, C) logits of (N, channels, H, W) images, those of all
        processes in each of them; to be called once a batch. See `Method.each`.
    amp: the run's mixed precision, for other networks.
    second: images and labels of another batch as large, for a method that asks for it.
    """

    views: "tuple[Tensor, ...]"
    labels: "Tensor"
    network: "Network"
    encode: "Callable[[Tensor], tuple[Tensor, Tensor]]"
    amp: Amp
    second: "tuple[Tensor, Tensor] | None" = None


class Method(Stateful, ABC):
    """A loss that sees more than the logits, labels and features of a batch.

    What it holds is saved with an interrupted run, as that of a `Stateful` loss.

    views: augmentations of the further views that it asks for.
    queue: keys of earlier batches that it keeps.
    weight_decay: whether its parameters have the run's.
    detached: whether the head learns from features without moving them.
    experts: of the network, where none are asked for; 0: whatever it has.
    each: whether it is given the logits of each expert, (N, E, C), instead of their mean.
    freeze: what of the network is held, as a second stage may hold it, and its head, which the
        method may change itself.
    own_head: whether it puts a head of its own in the network, so that none is kept of a start.
    takes_teacher: whether it learns from another checkpoint; teacher: that, of the run;
        needs_teacher: whether it does nothing without one.
    per_class: images that a batch has of each of its classes; 0: as they are drawn. It may change
        between epochs, as the two that follow.
    sampler: how often classes are drawn; None: as the run says.
    second: the sampler of another batch beside each; None: there is none.
    split: whose images are drawn; of another than train, their labels serve for nothing.
    rates: factors on the run's learning rate of parts, by the beginning of their parameters' names:
        ``backbone``, ``head``, or such of its own; which parts have one does not change.
    """

    mixable = False
    weight_decay = True
    views: tuple[Augment, ...] = ()
    queue_size = 0
    detached = False
    each = False
    experts = 0
    freeze: Freeze | None = None
    own_head = False
    takes_teacher = False
    needs_teacher = False
    teacher: "Teacher | None" = None
    per_class = 0
    sampler: Sampler | None = None
    second: Sampler | None = None
    split = "train"
    rates: Mapping[str, float] = MappingProxyType({})

    def attach(self, network: "Network") -> None:
        """Build what depends on the network, on its device; called once, before training."""

    @abstractmethod
    def of_batch(self, seen: Seen) -> "Tensor":
        """Return the mean over the batch."""

    def after_epoch(self) -> None:
        """Give the network what is kept apart from it; called after each epoch's batches."""

    def evaluated(self, network: "Network") -> "nn.Module":
        """Return what is evaluated on the validation split: the network, or a model around it."""
        return network

    def check(self, settings: TrainSettings, samples: int) -> None:
        """Reject a run that has no room for the queue, or no batches of the wanted form.

        Raises:
            SettingError: naming ``queue``, or ``per_class``.
        """
        least, size = settings.batch_size, self.per_class
        if size and (least % size or not 2 <= size <= least // 2):
            raise SettingError(
                "parameters per_class",
                f"found {size}, expected from 2 to {least // 2} images of a class, a divisor of "
                f"{least}, the batch size",
            )
        if self.queue_size and not least <= self.queue_size <= samples:
            raise SettingError(
                "parameters queue",
                f"found {self.queue_size}, expected from {least}, the batch size, to {samples}, "
                "the training images",
            )
