"""RIDE's routers: how many of a network's experts an image needs, learned in a second stage."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.expert_heads import RoutedExperts, Routers, means_so_far
from ltkit.architectures.heads import ExpertHeads
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_range
from ltkit.training.methods import Method, Seen
from ltkit.training.momentum import width


class Router(Method, nn.Module):
    r"""Routers that say, after each expert, whether a later one would put the answer right.

    .. math:: L = \frac{1}{E - 1} \sum_{i < E} BCE_p(r_i, t_i), \quad
        t_i = [\bar z_i \text{ is wrong, and a later } \bar z_j \text{ right}]

    r_i are the routers' scores, and the means of the first i experts' logits are what is right or
    wrong. The network and its heads are held, images are drawn class-balanced: ``train router
    --init CKPT --keep-head``, of cosine heads ``--cosine``, too. ``extract --head router`` takes
    the experts behind their routers, which is what the log's accuracy is of; its ``experts asked``
    is how many an image of the epoch was shown to.

    Args:
        class_counts: (C,) training images per class, which are not used.
        top: how many of the largest logits a router sees, from 1; 30, or all of fewer classes.
        hidden: units of what it makes of the features, at least 1; 16.
        positive: p, weight of the images that need another expert, at least 0; 100.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> router = loss(torch.tensor([1, 1]), positive=3.0)
        >>> logits = torch.tensor([[[1.0, 0.0], [0.0, 4.0]]])  # the second expert is right
        >>> value = router.of_scores(torch.zeros(1, 1), logits, torch.tensor([1]))
        >>> round(value.item(), 4)  # 3 log 2
        2.0794

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 3.3; in the released code for CIFAR-100-LT 5
        epochs of batches of 512, the learning rate 0.01 with a cosine, weight decay 5e-4 and
        Nesterov momentum. Its network with routers gives the same logits, to 6e-7 of them, losses,
        to 5e-7, and gradients, to 3e-5.
    """

    freeze = "backbone"
    each = True
    sampler = "class-balanced"

    def __init__(
        self,
        class_counts: Tensor,
        *,
        top: int = 30,
        hidden: int = 16,
        positive: float = 100.0,
    ) -> None:
        """Check the parameters."""
        super().__init__()
        check_range("top", top, 1)
        check_range("hidden", hidden, 1)
        check_range("positive", positive)
        self.top, self.hidden, self.positive = min(top, len(class_counts)), hidden, positive
        self._asked: list[Tensor] = []

    def attach(self, network: Network) -> None:
        """Build the routers of the network's experts.

        Raises:
            SettingError: when it has one.
        """
        if not isinstance(network.head, ExpertHeads):
            said = "found a network of one, after which nobody can be asked; expected several"
            raise SettingError("experts", said)
        self._heads, count = (network.head,), len(network.head.experts)
        self.routers = Routers(count, width(network) // count, self.top, self.hidden)

    def before_epoch(self, moment: Moment) -> None:
        """Hold the head, too; count anew."""
        (head,) = self._heads
        head.requires_grad_(False)
        self._asked = []

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        features, logits = seen.encode(seen.views[0])
        scores = self.routers(features.detach(), logits.detach())
        further = (scores.detach() > 0).cumprod(dim=1).sum(dim=1)
        self._asked.append(1 + further.float().mean())
        return self.of_scores(scores, logits, seen.labels)

    def of_scores(self, scores: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cost of (B, E - 1) scores, given the experts' (B, E, C) logits."""
        right = means_so_far(logits).argmax(dim=2) == labels[:, None]  # (B, E)
        later = right.flip(1).cummax(dim=1).values.flip(1)
        helps = (~right[:, :-1] & later[:, 1:]).to(scores.dtype)
        weight = scores.new_tensor(self.positive)
        return functional.binary_cross_entropy_with_logits(scores, helps, pos_weight=weight)

    def watched(self) -> dict[str, float]:
        """Return how many experts an image of the epoch was shown to."""
        return {"experts asked": float(torch.stack(self._asked).mean())} if self._asked else {}

    def evaluated(self, network: Network) -> nn.Module:
        """Return the network with its routers."""
        (plain,) = self._heads
        head = RoutedExperts([*plain.experts], self.routers)
        return Network(network.backbone, head, network.neck)

    def kept(self) -> dict[str, Tensor]:
        """Return the routers."""
        return {f"router.routers.{name}": t for name, t in self.routers.state_dict().items()}


loss = Router
