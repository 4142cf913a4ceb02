"""Test-time weights of experts: those with which two views of an image are told alike."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.expert_heads import WeightedExperts
from ltkit.architectures.heads import ExpertHeads
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_choice, check_range
from ltkit.training.augment import VIEWS
from ltkit.training.methods import Method, Seen


class ExpertWeights(Method, nn.Module):
    r"""Weights of a network's experts from images without labels, by prediction stability.

    .. math:: \max_w \; \mathrm{mean} \cos\bigl(softmax(\textstyle\sum_i w_i z_i),
        softmax(\sum_i w_i z_i')\bigr), \quad w = softmax(v)

    z and z' are the logits of two views of an image: the run's own, and the second one. The network
    and its heads are held: ``train expert-weights --init CKPT --keep-head``, of cosine heads
    ``--cosine``, too. ``extract --head weighted`` takes the experts with these weights, which is
    what the log's accuracy is of.

    Args:
        class_counts: (C,) training images per class, which are not used.
        split: of the dataset, whose images are taken, and none of their labels; test, for weights
            of the images at hand. Nothing else learns from a test split.
        least: 0 to 1; the weights stay when an epoch ends with one below it; 0.05.
        second_view: augmentation of the second view; the run's, the first one, is ``--augment
            simclr`` in the source, too.

    Raises:
        InputError: when a parameter is out of range or unknown.

    Example:
        >>> import torch
        >>> method = loss(torch.tensor([1, 1]))
        >>> first = torch.tensor([[[5.0, 0.0], [0.0, 5.0]]])  # one image, two experts
        >>> second = torch.tensor([[[5.0, 0.0], [5.0, 0.0]]])  # of which the second one wavers
        >>> for weights in ([0.5, 0.5], [0.9, 0.1]):
        ...     round(method.stability(first, second, torch.tensor(weights)).item(), 3)
        0.712
        1.0

    Source:
        Zhang et al., NeurIPS 2022, arXiv:2107.09249, sec. 4.2; in the released code for CIFAR 5
        epochs of batches of 128, the learning rate 0.1, weight decay 5e-4 and Nesterov momentum.
        It blurs views, too.
    """

    freeze = "backbone"
    each = True
    chosen: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        split: str = "test",
        least: float = 0.05,
        second_view: str = "simclr",
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("least", least, 0, 1)
        check_choice("second_view", second_view, VIEWS)
        self.split, self.least, self.views = split, least, (VIEWS[second_view],)

    def attach(self, network: Network) -> None:
        """Start from the mean of the network's experts.

        Raises:
            SettingError: when it has one.
        """
        if not isinstance(network.head, ExpertHeads):
            said = "found a network of one, which has nothing to weigh; expected several"
            raise SettingError("experts", said)
        self._heads, count = (network.head,), len(network.head.experts)
        self.logits = nn.Parameter(torch.zeros(count))
        self.register_buffer("chosen", torch.full((count,), 1 / count))

    def before_epoch(self, moment: Moment) -> None:
        """Hold the head, too."""
        (head,) = self._heads
        head.requires_grad_(False)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return how unstable the predictions are, the mean over the batch."""
        _, logits = seen.encode(torch.cat(seen.views))
        first, second = logits.detach().chunk(2)
        return -self.stability(first, second, self.logits.softmax(dim=0))

    def stability(self, first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
        """Return the mean cosine of two views' predictions, of their (B, E, C) logits."""
        one, other = (
            torch.einsum("e,bec->bc", weights.to(z.dtype), z).softmax(dim=1)
            for z in (first, second)
        )
        return functional.cosine_similarity(one, other).mean()

    @torch.no_grad()
    def after_epoch(self) -> None:
        """Take the weights as they are now, unless one of those before was too small."""
        if self.chosen.min() >= self.least:
            self.chosen.copy_(self.logits.softmax(dim=0))

    def watched(self) -> dict[str, float]:
        """Return the weights."""
        return {f"expert {i}": float(w) for i, w in enumerate(self.chosen)}

    def evaluated(self, network: Network) -> nn.Module:
        """Return the network with its experts weighted."""
        (plain,) = self._heads
        head = WeightedExperts([*plain.experts])
        head.weights.data = self.chosen
        return Network(network.backbone, head, network.neck)

    def kept(self) -> dict[str, Tensor]:
        """Return the weights."""
        return {"weighted.weights": self.chosen}


loss = ExpertWeights
