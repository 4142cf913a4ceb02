"""Remix: mixup whose label is that of the rarer class where the two classes differ much."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ltkit.errors import InputError
from ltkit.training.mixing import Mixed, Mixing


@dataclass(frozen=True, kw_only=True)
class Remix(Mixing):
    r"""Mean of two images of the batch; the loss's weight may differ from the images'.

    .. math::
        \tilde x &= \lambda x_a + (1 - \lambda) x_b, \quad
        L = \mu L(z, y_a) + (1 - \mu) L(z, y_b), \quad \lambda \sim Beta(\alpha, \alpha) \\
        \mu &= 0 \text{ if } n_a / n_b \ge \kappa \text{ and } \lambda < \tau, \quad
        1 \text{ if } n_b / n_a \ge \kappa \text{ and } 1 - \lambda < \tau, \quad
        \lambda \text{ otherwise}

    Args:
        alpha: above 0; 1 in the source.
        probability: probability that a batch is mixed.
        first: plain epochs at the beginning.
        last: plain epochs at the end.
        kappa: how many times as frequent the other class has to be, at least 1; 3 in the source.
        tau: the largest share of the frequent class that is given up, 0 to 1; 0 is mixup, 0.5 in
            the source.

    Example:
        >>> a, y = torch.zeros(2, 1, 1, 1), torch.tensor([0, 1])
        >>> rng = np.random.default_rng(0)
        >>> mixed = mix(tau=1.0)(a, y, a, y.flip(0), torch.tensor([30, 10]), rng)
        >>> mixed.labels.tolist(), mixed.others.tolist()  # both pairs count as the rarer class
        ([1, 1], [1, 1])

    Source:
        Chou et al., ECCV 2020 workshops, arXiv:2007.03943, sec. 3.

        Here a pair's weight is 0 or 1 by giving it the same label twice; the batch keeps one weight
        and so works with every loss.
    """

    kappa: float = 3.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        """Reject parameters out of range."""
        super().__post_init__()
        if self.kappa < 1:
            raise InputError(f"kappa: found {self.kappa}, expected at least 1")
        if self.tau > 1:
            raise InputError(f"tau: found {self.tau}, expected from 0 to 1")

    def __call__(
        self,
        images: Tensor,
        labels: Tensor,
        partners: Tensor,
        partner_labels: Tensor,
        class_counts: Tensor,
        rng: np.random.Generator,
    ) -> Mixed:
        """Return the mixed batch."""
        weight = float(rng.beta(self.alpha, self.alpha))
        own, other = class_counts[labels], class_counts[partner_labels]
        never = torch.zeros_like(own, dtype=torch.bool)
        all_other = own >= self.kappa * other if weight < self.tau else never
        all_own = other >= self.kappa * own if 1 - weight < self.tau else never
        all_own = all_own & ~all_other  # equal counts and a kappa of 1
        first = torch.where(all_other, partner_labels, labels)
        second = torch.where(all_own, labels, partner_labels)
        return Mixed(partners.lerp(images, weight), first, second, weight)


mix = Remix
