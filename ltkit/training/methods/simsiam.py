"""SimSiam: pre-training by predicting one view from the other; the head learns beside it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.losses import check_choice, check_range
from ltkit.training.augment import VIEWS
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._instances import disagreement
from ltkit.training.momentum import projection, width


class SimSiam(Method, nn.Module):
    r"""Each view's projection is predicted from the other's, and a head that leaves them alone.

    .. math:: L = 1 - \frac{1}{2} (\cos(h(q_1), \bar q_2) + \cos(h(q_2), \bar q_1)) + CE(z, y)

    q are the projections of both views, h is the predictor, and no gradient goes through what is
    predicted, which has a bar: without this all images would end in one place. There are no
    negatives, no momentum encoder and no queue, so that batches may be small. The gradient of the
    cross-entropy ends at the features. Train on with any loss: ``train LOSS --init CKPT``.

    Args:
        class_counts: (C,) training images per class.
        size: units of the projection, at least 4; the predictor has a quarter of it between its
            layers, as in the source, where it is 2048.
        second_view: the second view's augmentation; the first one's is the run's, which is simclr
            in the source.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> simsiam = loss(torch.tensor([5, 5]))
        >>> right, up = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> simsiam.agreement((right, up), (right, right)).item()  # cosines 1 and 0
        0.5

    Source:
        Chen and He, CVPR 2021, arXiv:2011.10566, eq. 2 and algorithm 1, plus one, so that it falls
        to 0. CIFAR-10: 800 epochs, learning rate 0.03 for 256 images.

        The source gives the views to the network one after the other, here both are one batch, of
        which batch norm takes its statistics; its projection ends in batch norm. That is a reading,
        as is the head beside.
    """

    detached = True

    def __init__(
        self, class_counts: Tensor, *, size: int = 128, second_view: str = "simclr"
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("size", size, 4)
        check_choice("second_view", second_view, VIEWS)
        self.size, self.views = size, (VIEWS[second_view],)

    def attach(self, network: Network) -> None:
        """Build the projection and the predictor."""
        self.projection = projection(width(network), self.size)
        self.predictor = projection(self.size, self.size, self.size // 4)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over both views."""
        features, logits = seen.encode(torch.cat(seen.views))
        projected = self.projection(features)
        value = self.agreement(self.predictor(projected).chunk(2), projected.chunk(2))
        return value + functional.cross_entropy(logits, seen.labels.repeat(2))

    def agreement(self, predictions: tuple[Tensor, ...], targets: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cost of both predictions, each (B, d), of the other view's target."""
        (first, second), (one, two) = predictions, targets
        return (disagreement(first, two) + disagreement(second, one)) / 2


loss = SimSiam
