"""Cross-entropy, and a loss of the distances between the features of a batch."""

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import check_range
from ltkit.training.methods import Method, Seen


class Metric(Method, nn.Module):
    """A method whose batches have several images of each of their classes."""

    def __init__(self, class_counts: Tensor, per_class: int, **weights: float) -> None:
        """Check the parameters.

        Args:
            class_counts: (C,) training images per class.
            per_class: images of a class in a batch, from 2.
            weights: other parameters, at least 0.

        Raises:
            InputError: when one is out of range, or no class has two images.
        """
        super().__init__()
        for name, value in weights.items():
            check_range(name, value)
        check_range("per_class", per_class, 2)
        if class_counts.max() < 2:
            raise InputError(
                "training images: found no class with two, of which this loss takes distances; "
                "choose another loss"
            )
        self.per_class = per_class

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch of cross-entropy, and what the distances cost."""
        features, logits = seen.encode(seen.views[0])
        return functional.cross_entropy(logits, seen.labels) + self.apart(features, seen.labels)

    @abstractmethod
    def apart(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return what the distances between (B, D) features cost, with its weight."""
