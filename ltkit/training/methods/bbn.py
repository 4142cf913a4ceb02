"""BBN: two branches, one for ordinary batches and one for batches of rare classes."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.architectures.two_branch_resnet import TwoBranchResNet
from ltkit.errors import SettingError
from ltkit.losses import Moment, check_choice
from ltkit.training.methods import Method, Seen

STRATEGIES: Mapping[str, Callable[[float], float]] = {
    "parabolic": lambda part: 1 - part**2,
    "linear": lambda part: 1 - part,
    "cosine": lambda part: math.cos(part * math.pi / 2),
    "increment": lambda part: part**2,
    "equal": lambda part: 0.5,
}
"""mu after a part of the epochs, 0 to 1."""


class BBN(Method, nn.Module):
    r"""Cross-entropy of two batches, one a branch, whose shares change over the run.

    .. math:: z = W\, [2 \mu f_c;\ 2 (1 - \mu) f_r] + b, \quad
        L = \mu\, CE(z, y_c) + (1 - \mu)\, CE(z, y_r), \quad \mu = 1 - (e / E)^2

    The images of f_c are those that the run's sampler draws, those of f_r others, of classes in
    proportion to 1 / n_c. Each goes through the shared part and its own branch, so that batch norm
    sees one kind at a time. With e finished epochs of E the first epoch is cross-entropy of the
    first branch. A tested image goes through both branches, each with the factor 1. The network has
    two branches: ``--arch resnet32_two_branch``.

    Args:
        class_counts: (C,) training images per class.
        strategy: ``parabolic``, as above; ``linear``, 1 - e / E; ``cosine``, a quarter of its
            period; ``increment``, (e / E)^2; ``equal``, 1/2. They are those of the source's
            ablation.

    Raises:
        InputError: for an unknown strategy.

    Example:
        >>> method = loss(torch.tensor([9, 1]))
        >>> [method.share(part) for part in (0.0, 0.5, 1.0)]  # 1 - part^2
        [1.0, 0.75, 0.0]

    Source:
        Zhou et al., CVPR 2020, arXiv:1912.02413, sec. 4 and 5.4 (strategies). Their released code
        gives the same losses and gradients in float64, bit for bit. For 90 and 180 epochs it
        divides by 100 and 200; here E is the run's in all cases.
    """

    second = "reversed"

    def __init__(self, class_counts: Tensor, *, strategy: str = "parabolic") -> None:
        """Check the strategy."""
        super().__init__()
        check_choice("strategy", strategy, STRATEGIES)
        self.share = STRATEGIES[strategy]
        self.mu = self.share(0.0)

    def attach(self, network: Network) -> None:
        """Find the branches.

        Raises:
            SettingError: when the network has none.
        """
        if not isinstance(network.backbone, TwoBranchResNet):
            said = "bbn trains two branches, found a network without; expected resnet32_two_branch"
            raise SettingError("arch", said)
        self._backbones = (network.backbone,)  # which is not this module's

    def before_epoch(self, moment: Moment) -> None:
        """Set the branches' shares."""
        self.mu = self.share(moment.epoch / moment.epochs)
        shares = torch.tensor([2 * self.mu, 2 * (1 - self.mu)], dtype=torch.float64)
        self._backbones[0].shares.copy_(shares)

    def watched(self) -> dict[str, float]:
        """Return the first branch's share."""
        return {"mu": self.mu}

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the two batches."""
        others, their_labels = seen.second  # type: ignore[misc]  # it was asked for
        _, logits = seen.encode(torch.stack([seen.views[0], others], dim=1))
        first = functional.cross_entropy(logits, seen.labels)
        return self.mu * first + (1 - self.mu) * functional.cross_entropy(logits, their_labels)


loss = BBN
