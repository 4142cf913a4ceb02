"""SSP: pre-training by rotations that are to be found; the head learns beside it."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import batch_seed
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import width


class SSP(Method, nn.Module):
    r"""Self-supervised pre-training: which quarter turn was an image given?

    .. math:: L = -\frac{1}{B} \sum_i \log p_{r_i}(x_i^{r_i}) + \frac{1}{|U|} \sum_{i \in U} CE(z_i,
        y_i), \quad U = \{i : r_i = 0\}

    Each image of a batch gets one of the turns by 0, 90, 180 and 270 degrees, r, and each turn is
    given to a quarter of the batch, or to one image more; p are the probabilities of a linear layer
    on the features. The network's own head learns the classes of the upright images alone, and its
    gradient ends at the features: they are the turns' alone. Train on with any loss:
    ``train LOSS --init CKPT``.

    Args:
        class_counts: (C,) training images per class.
        seed: seed of the turns, from 0.

    Example:
        >>> ssp = loss(torch.tensor([5, 5]))
        >>> turns = ssp.turns(torch.tensor([0, 1, 0, 1, 1, 0]))  # six images: two turns come twice
        >>> sorted(turns.bincount(minlength=4).tolist())
        [1, 1, 2, 2]

    Source:
        Yang and Xu, NeurIPS 2020, arXiv:2006.07529, sec. 4: 200 epochs, then the usual training of
        all but the last layer's weights. MoCo, SimSiam and BYOL stand beside
        it here: they learn from batches of usual size.

        The released code cuts a shuffled list to the batch, so that turns may differ by up to four
        images; here they differ by one at most. That the head learns beside is a reading.
    """

    detached = True

    def __init__(self, class_counts: Tensor, *, seed: int = 0) -> None:
        """Keep the seed."""
        super().__init__()
        self.seed = seed

    def attach(self, network: Network) -> None:
        """Build the layer that finds the turns."""
        self.turn = nn.Linear(width(network), 4)

    def turns(self, labels: Tensor) -> Tensor:
        """Return the (B,) quarter turns of a batch; the same batch has the same."""
        generator = torch.Generator().manual_seed(batch_seed(labels, self.seed))
        first = torch.randperm(4, generator=generator)  # which of them come once more
        order = torch.randperm(len(labels), generator=generator)
        return first[order % 4].to(labels.device)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch.

        Raises:
            SettingError: when the images are not square.
        """
        (images,) = seen.views
        turns = self.turns(seen.labels)
        features, logits = seen.encode(turned(images, turns))
        upright = turns == 0
        beside = functional.cross_entropy(logits[upright], seen.labels[upright], reduction="sum")
        found = functional.cross_entropy(self.turn(features), turns)
        return found + beside / upright.sum().clamp(min=1)


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Return images, each turned by so many right angles, counter-clockwise.

    Args:
        images: (B, channels, H, W).
        turns: (B,) int64, 0 to 3.

    Raises:
        SettingError: when they are not square.

    Example:
        >>> turned(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1])).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    height, width = images.shape[2:]
    if height != width:
        said = f"found images of {height} x {width} pixels, expected square ones to turn"
        raise SettingError("method ssp", said)
    every = torch.stack([images.rot90(turn, (2, 3)) for turn in range(4)])  # (4, B, ...)
    return every[turns, torch.arange(len(images), device=images.device)]


loss = SSP
