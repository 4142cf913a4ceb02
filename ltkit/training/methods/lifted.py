"""Lifted structured loss: each pair of a class is nearer than all that is near either of them."""

import torch
from torch import Tensor

from ltkit.training.methods._metric import Metric


class Lifted(Metric):
    r"""Cross-entropy and the lifted structured loss of the features.

    .. math:: L = CE + \lambda \frac{1}{2 |P|} \sum_{(i, j) \in P} \max\Bigl(0,\ D_{ij} + \log
        \bigl(\sum_{k \in N(i)} e^{m - D_{ik}} + \sum_{l \in N(j)} e^{m - D_{jl}}\bigr)\Bigr)^2

    D are Euclidean distances of features, P the pairs of one class in the batch, N(i) the images of
    other classes than that of i. Without pairs, or other classes, the sum is 0.

    Args:
        class_counts: (C,) training images per class.
        weight: lambda, at least 0; 1.
        margin: m, at least 0; 1 in the source.
        per_class: images of a class in a batch, a divisor of the batch size, from 2; 4. The run's
            sampler says how often classes are drawn.

    Raises:
        InputError: when a parameter is out of range, or no class has two images.

    Example:
        >>> import torch
        >>> lifted = loss(torch.tensor([5, 5]))
        >>> value = lifted.apart(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 0, 1]))
        >>> round(value.item(), 4)  # (1 + log(e^(1 - 2) + e^(1 - 1)))^2 / 2
        0.8623

    Source:
        Oh Song et al., CVPR 2016, arXiv:1511.06452, eq. 4; pytorch-metric-learning has the same
        values for raw features.

        Readings: in long-tailed tables it is added to cross-entropy with a weight that is not
        reported; features are taken as they are, as the source takes its embeddings; a class with
        fewer images than a batch wants of it is compared with itself, in other views.
    """

    def __init__(
        self,
        class_counts: Tensor,
        *,
        weight: float = 1.0,
        margin: float = 1.0,
        per_class: int = 4,
    ) -> None:
        """Check the parameters."""
        super().__init__(class_counts, per_class, weight=weight, margin=margin)
        self.weight, self.margin = weight, margin

    def apart(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum over the pairs of a class."""
        distances = torch.cdist(
            features, features, compute_mode="donot_use_mm_for_euclid_dist"
        )  # exact, also where they are small
        same = labels[:, None] == labels
        near = (self.margin - distances).masked_fill(same, -torch.inf).logsumexp(dim=1)  # (B,)
        first, second = same.triu(diagonal=1).nonzero(as_tuple=True)
        if not len(first) or same.all():
            return 0 * features.sum()
        both = torch.logaddexp(near[first], near[second])
        costs = (distances[first, second] + both).clamp(min=0).square()
        return self.weight * costs.mean() / 2


loss = Lifted
