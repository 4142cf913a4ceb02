"""CMO: a box from an image drawn in favour of rare classes, pasted into the ordinary batch."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ltkit.training.mixing import Mixed, Mixing, pasted


@dataclass(frozen=True, kw_only=True)
class CMO(Mixing):
    r"""CutMix with partners from a second sampler that favours rare classes.

    .. math:: \tilde x = M x_b + (1 - M) x_f, \quad
        L = \lambda L(z, y_b) + (1 - \lambda) L(z, y_f), \quad \lambda = mean(M)

    The background b is what the run's sampler draws; an image of class c is the foreground f with
    a weight of :math:`n_c^{-r}`, so that its class is with :math:`n_c^{1 - r}`.

    Args:
        alpha: parameter of the box's area, above 0; 1 in the source.
        probability: probability that a batch is mixed; 0.5 in the source.
        first: plain epochs at the beginning; 3 in the source.
        last: plain epochs at the end; 3 in the source.
        r: at least 0; 0 draws evenly among images, 1, as in the source, among classes, 2 classes
            in proportion to ``1 / n_c``.

    Example:
        >>> import torch
        >>> mix(r=1.0).chances(torch.tensor([90, 10])), mix(r=2.0).chances(torch.tensor([90, 10]))
        (tensor([0.5000, 0.5000], ...), tensor([0.1000, 0.9000], ...))

    Source:
        Park et al., CVPR 2022, arXiv:2112.00412, sec. 3.2 and 4.1.

        Their text calls the weights those of classes; their code, which made the numbers, gives
        them to images, as here. It mixes from the fifth epoch on, and in all but the last three.
    """

    probability: float = 0.5
    first: int = 3
    last: int = 3
    r: float = 1.0

    def chances(self, class_counts: Tensor) -> Tensor:
        """Return the (C,) probabilities of the foreground's classes."""
        counts = class_counts.double()
        weights = (counts ** (1 - self.r)).where(counts > 0, 0.0)
        return weights / weights.sum()

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


mix = CMO
