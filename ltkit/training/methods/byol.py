"""BYOL: pre-training by predicting a slow encoder's other view; the head learns beside it."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.losses import Moment
from ltkit.training.methods import Seen
from ltkit.training.methods._instances import disagreement
from ltkit.training.methods._keyed import Keyed
from ltkit.training.momentum import projection


class BYOL(Keyed):
    r"""Each view's key is predicted from the other view, and a head that leaves it alone.

    .. math:: L = 2 - 2 \cos(h(q_1), v_2) + 2 - 2 \cos(h(q_2), v_1) + CE(z, y), \quad
        m_e = 1 - (1 - m) \frac{\cos(\pi e / E) + 1}{2}

    q are the projections of both views, h is the predictor, and v are the keys that a momentum
    encoder gives of both, which has no gradient. Its momentum rises from m to 1 over the E epochs.
    There are no negatives, so that batches may be small. The gradient of the cross-entropy ends at
    the features. Train on with any loss: ``train LOSS --init CKPT``.

    Args:
        class_counts: (C,) training images per class.
        size: units of the projection; 256 in the source. The predictor has as many between its
            layers, where the source has 4096.
        momentum: m, of the key encoder, 0 to 1; 0.996 in the source for 1000 epochs, 0.99 for 300.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in the source.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> byol = loss(torch.tensor([5, 5]))
        >>> right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> byol.agreement((right, up), (right, right)).item()  # cosines 1 and 0: 0 and 2
        2.0

    Source:
        Grill et al., NeurIPS 2020, arXiv:2006.07733, eq. 2 and sec. 3.2 (the momentum, which rises
        with each step there, and here with each epoch: a reading, as is the head beside).

        The source gives the views to the networks one after the other, here both are one batch, of
        which batch norm takes its statistics.
    """

    detached = True

    def __init__(
        self,
        class_counts: Tensor,
        *,
        size: int = 128,
        momentum: float = 0.99,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters."""
        super().__init__(size, momentum, second_view)

    def attach(self, network: Network) -> None:
        """Build the projection, the key encoder and the predictor."""
        super().attach(network)
        self.predictor = projection(self.size, self.size)

    def before_epoch(self, moment: Moment) -> None:
        """Set the momentum of this epoch."""
        left = (math.cos(math.pi * moment.epoch / moment.epochs) + 1) / 2
        self.keys.momentum = 1 - (1 - self.momentum) * left

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        both = torch.cat(seen.views)
        features, logits = seen.encode(both)
        predictions = self.predictor(self.projection(features))
        self.keys.follow(seen.network.backbone, self.projection)
        value = self.agreement(predictions.chunk(2), self.keys(both, seen.amp).chunk(2))
        return value + functional.cross_entropy(logits, seen.labels.repeat(2))

    def agreement(self, predictions: tuple[Tensor, ...], keys: tuple[Tensor, ...]) -> Tensor:
        """Return the sum of both costs, of (B, d) predictions of the other view's keys."""
        (first, second), (one, two) = predictions, keys
        return 2 * disagreement(first, two) + 2 * disagreement(second, one)


loss = BYOL
