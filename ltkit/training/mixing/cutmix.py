"""CutMix: a box of one image pasted into another; the losses are mixed by area."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ltkit.training.mixing import Mixed, Mixing, pasted


@dataclass(frozen=True, kw_only=True)
class CutMix(Mixing):
    r"""Pastes a box from another image of the batch, the same box for all of its pairs.

    .. math:: \tilde x = M x_a + (1 - M) x_b, \quad
        L = \lambda L(z, y_a) + (1 - \lambda) L(z, y_b), \quad \lambda = mean(M)

    M is 0 in a box of area 1 - Beta(alpha, alpha) before it is cut at the border.

    Args:
        alpha: above 0; 1 in the source.
        probability: probability that a batch is mixed; 0.5 on the source's command line for CIFAR,
            1 for ImageNet.
        first: plain epochs at the beginning.
        last: plain epochs at the end.

    Example:
        >>> import torch
        >>> a, b, y = torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8), torch.tensor([0])
        >>> mixed = mix()(a, y, b, y + 1, torch.ones(2), np.random.default_rng(0))
        >>> mixed.weight == 1 - mixed.images.mean().item()  # what is left of the first image
        True

    Source:
        Yun et al., ICCV 2019, arXiv:1905.04899, eq. 1 and 2. Their weight follows the box that was
        pasted, as here, not the one that was drawn.
    """

    probability: float = 0.5

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
        result, weight = pasted(images, partners, self.alpha, rng)
        return Mixed(result, labels, partner_labels, weight)


mix = CutMix
