"""Several experts that do not all count alike: learned weights."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.architectures.heads import CosineHead, ExpertHeads, LinearHead, Values
from ltkit.errors import InputError
from ltkit.records import Classifier, Head
from ltkit.records.arrays import unit_rows

LEAST = 1e-4
"""Weight below which nothing can be written into an expert."""


def normalised(head: Head) -> Head:
    """Return a head whose rows have their lengths: a cosine head's are divided by them.

    Example:
        >>> cosine = Head(np.float32([[3, 4]]), np.float32([0]), 10, "cosine")
        >>> normalised(cosine).weight.round(3).tolist(), normalised(cosine).normalize
        ([[0.6000000238418579, 0.800000011920929]], 'features')
    """
    if head.normalize != "cosine":
        return head
    return Head(unit_rows(head.weight), head.bias, head.scale, "features")


class WeightedExperts(ExpertHeads):
    r"""Experts whose logits are added up with weights of sum 1.

    .. math:: z = \sum_i w_i z_i

    weights: (E,).

    Source:
        Zhang et al., NeurIPS 2022, arXiv:2107.09249, sec. 4.2 (test-time aggregation).
    """

    def __init__(self, experts: Sequence[LinearHead] | Sequence[CosineHead]) -> None:
        """Start from the mean."""
        super().__init__(experts)
        count = len(self.experts)
        self.weights = nn.Parameter(torch.full((count,), 1 / count))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, E * d) features."""
        return torch.einsum("e,ebc->bc", self.weights, torch.stack(self.each(features)))

    def record(self) -> Head:
        """Return the experts' heads with their rows multiplied by E w_i."""
        plain = normalised(super().record())
        factors = self._factors()
        weight, bias = plain.weight * factors[:, None, None], plain.bias * factors[:, None]
        return Head(weight, bias, plain.scale, plain.normalize)

    def hold(self, classifier: Classifier) -> Values:
        """Return each expert's values; the weights stay unchanged.

        Raises:
            InputError: when an expert has no weight, or its form cannot hold its part.
        """
        factors, count = self._factors(), len(self.experts)
        if factors.min() < LEAST * count:
            raise InputError(
                f"head: expert {int(factors.argmin())} has the weight {factors.min() / count:.2g}, "
                "so no row of it changes the logits; use --to npz"
            )
        parts = classifier.weight.reshape(len(classifier.weight), count, -1) / factors[:, None]
        weight = parts.reshape(classifier.weight.shape).astype(np.float32)
        own = Classifier(weight, classifier.bias, classifier.normalize_features, count)
        return ExpertHeads([*self.experts]).hold(own)

    def _factors(self) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """Return E w_i, (E,)."""
        factors: np.ndarray[tuple[int], np.dtype[np.float32]] = (
            self.weights.detach().float().cpu().numpy() * np.float32(len(self.experts))
        )
        return factors
