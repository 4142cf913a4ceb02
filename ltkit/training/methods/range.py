"""Range loss: the widest pairs of a class come together, the nearest class centres part.

Importing this module makes it the name ``range`` of its package, whose ``__init__`` and this file
therefore do without the built-in one.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.errors import SettingError
from ltkit.losses import check_range
from ltkit.settings import TrainSettings
from ltkit.training.methods._metric import Metric

CLOSEST = 1e-6
"""Distances below are taken for it; they have no gradient."""


class Range(Metric):
    r"""Cross-entropy and the range loss of the features.

    .. math:: L = CE + \lambda \Bigl(a \sum_c \frac{k}{\sum_{r=1}^{k} 1 / D_r(c)}
        + b \max\bigl(0,\ m - \min_{c \ne d} \lVert \mu_c - \mu_d \rVert\bigr)\Bigr)

    D_r(c) are the k largest Euclidean distances between features of a class in the batch, or all
    where there are fewer; mu are the mean features of the batch's classes. The middle term is the
    sum of their harmonic means: k equal distances have just that one. A class with one image in the
    batch has no such part, a batch of one class no last term.

    Args:
        class_counts: (C,) training images per class.
        weight: lambda, at least 0; 0.01.
        within: a, weight of the distances within classes, at least 0; 0.5.
        between: b, weight of the nearest centres, at least 0; 0.5.
        margin: m, from which centres are far enough, at least 0; 0.1.
        k: how many distances of a class, at least 1; 2.
        per_class: images of a class in a batch, a divisor of the batch size, from 2; 4, in batches
            of 32 classes. The run's sampler says how often classes are drawn.

    Raises:
        InputError: when a parameter is out of range, or no class has two images.

    Example:
        >>> import torch
        >>> ranged = loss(torch.tensor([5, 5]), weight=1.0)
        >>> features = torch.tensor([[0.0], [1.0], [3.0], [1.25], [1.35]])
        >>> value = ranged.apart(features, torch.tensor([0, 0, 0, 1, 1]))
        >>> round(value.item(), 4)  # (2 / (1/3 + 1/2) + 0.1) / 2 + (0.1 - |1.3 - 4/3|) / 2
        1.2833

    Source:
        Zhang et al., ICCV 2017, arXiv:1611.08976, sec. 3; defaults of the form that is used for
        re-identification, whose values and gradients these are, to 4e-7 of them.

        Readings: lambda, which long-tailed tables do not report; at 1 the sum over the classes of a
        batch leaves the features no room, and all become the same. Distances are not squared, and
        features are taken as they are. A class with fewer images than a batch wants of it is
        compared with itself, in other views.
    """

    def __init__(
        self,
        class_counts: Tensor,
        *,
        weight: float = 0.01,
        within: float = 0.5,
        between: float = 0.5,
        margin: float = 0.1,
        k: int = 2,
        per_class: int = 4,
    ) -> None:
        """Check the parameters."""
        weights = {"weight": weight, "within": within, "between": between, "margin": margin}
        super().__init__(class_counts, per_class, **weights)
        check_range("k", k, 1)
        self.weight, self.within, self.between = weight, within, between
        self.margin, self.k = margin, k

    def check(self, settings: TrainSettings, samples: int) -> None:
        """Reject more distances of a class than there are.

        Raises:
            SettingError: naming ``k``, or as `Method.check`.
        """
        super().check(settings, samples)
        pairs = self.per_class * (self.per_class - 1) // 2
        if self.k > pairs:
            said = f"found {self.k}, expected at most {pairs}, the pairs of {self.per_class} images"
            raise SettingError("parameters k", f"{said} of a class; set it lower")

    def apart(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the weighted sum of both terms."""
        classes, of = labels.unique(return_inverse=True)
        ranges = self.ranges(features, of, len(classes)).sum()
        short = (self.margin - self.nearest(features, of, len(classes))).clamp(min=0)
        return self.weight * (self.within * ranges + self.between * short)

    def ranges(self, features: Tensor, of: Tensor, classes: int) -> Tensor:
        """Return the harmonic mean of each class's k largest distances; 0 without a pair.

        Args:
            features: (B, D).
            of: (B,) int64, from 0.
            classes: n, how many there are.
        """
        first, second = (of[:, None] == of).triu(diagonal=1).nonzero(as_tuple=True)
        distances = (features[first] - features[second]).norm(dim=1).clamp(min=CLOSEST)  # (P,)
        own = of[first] == torch.arange(classes, device=of.device)[:, None]  # (n, P)
        largest = distances.where(own, 0.0).topk(min(self.k, len(first)), dim=1).values
        there = largest > 0
        inverse = (1 / largest.where(there, 1.0)).where(there, 0.0).sum(dim=1)
        count = there.sum(dim=1)
        means: Tensor = (count / inverse.where(count > 0, 1.0)).where(count > 0, 0.0)
        return means

    def nearest(self, features: Tensor, of: Tensor, classes: int) -> Tensor:
        """Return the least distance between class means, the margin where there is one class."""
        if classes < 2:
            return features.new_tensor(self.margin)
        member = functional.one_hot(of, classes).to(features.dtype)
        means = member.T @ features / member.sum(dim=0)[:, None]
        return functional.pdist(means).min()


loss = Range
