"""mixup: the weighted mean of two images and of their losses."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ltkit.training.mixing import Mixed, Mixing


@dataclass(frozen=True, kw_only=True)
class Mixup(Mixing):
    r"""Weighted mean of two images of the batch, with one weight for all of its pairs.

    .. math:: \tilde x = \lambda x_a + (1 - \lambda) x_b, \quad
        L = \lambda L(z, y_a) + (1 - \lambda) L(z, y_b), \quad \lambda \sim Beta(\alpha, \alpha)

    Args:
        alpha: above 0; 1 in the source's code for CIFAR, 0.2 for ImageNet.
        probability: probability that a batch is mixed.
        first: plain epochs at the beginning.
        last: plain epochs at the end.

    Example:
        >>> import torch
        >>> a, b, y = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2), torch.tensor([0])
        >>> mixed = mix(alpha=1e9)(a, y, b, y + 1, torch.ones(2), np.random.default_rng(0))
        >>> round(mixed.weight, 3), round(mixed.images.mean().item(), 3)  # an even mean
        (0.5, 0.5)

    Source:
        Zhang et al., ICLR 2018, arXiv:1710.09412, eq. 1.
    """

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
        return Mixed(partners.lerp(images, weight), labels, partner_labels, weight)


mix = Mixup
