"""OLTR's head: logits of a feature that a memory of class centroids was mixed into."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.heads import Values
from ltkit.errors import InputError
from ltkit.records import Classifier, Head

REACH, SCALE = 10.0, 16.0
"""Factors of the reachability and of the logits."""

CLOSEST = 1e-6
"""Least distance to a centroid."""


class MetaHead(nn.Module):
    r"""OLTR: a cosine head, squashed, of the dynamic meta-embedding.

    .. math:: \hat z = 16\, \frac{v}{1 + \lVert v \rVert} \hat W^T, \quad
        v = \frac{10}{\min_c \lVert f - M_c \rVert} \bigl(f + \tanh(T_s f) \odot
        \mathrm{softmax}(T_h f)\, M\bigr)

    It is not linear in f, but it is in v / (1 + |v|), which `lift` makes of f.

    centroids: (C, D), M; they are read here, and learned by who has a loss for them.
    hallucinator: T_h, D to C; selector: T_s, D to D; weight: (C, D), whose rows count by direction.

    Source:
        Liu et al., CVPR 2019, arXiv:1904.05160, eqs. 2 to 6; factors as in the released code.
    """

    def __init__(self, feature_size: int, num_classes: int) -> None:
        """Start from random layers and an empty memory."""
        super().__init__()
        self.centroids = nn.Parameter(torch.zeros(num_classes, feature_size))
        self.hallucinator = nn.Linear(feature_size, num_classes)
        self.selector = nn.Linear(feature_size, feature_size)
        bound = feature_size**-0.5
        self.weight = nn.Parameter(torch.empty(num_classes, feature_size).uniform_(-bound, bound))

    def lift(self, features: Tensor) -> Tensor:
        """Return the (B, D) meta-embeddings, squashed to lengths below 1."""
        memory = self.centroids.detach()
        recalled = self.hallucinator(features).softmax(dim=1) @ memory
        nearest = torch.cdist(features.detach().float(), memory.float()).argmin(dim=1)
        distance = (features - memory[nearest]).norm(dim=1, keepdim=True).clamp(min=CLOSEST)
        mixed = features + torch.tanh(self.selector(features)) * recalled
        embedded = REACH / distance * mixed
        squashed: Tensor = embedded / (1 + embedded.norm(dim=1, keepdim=True))
        return squashed

    def forward(self, lifted: Tensor) -> Tensor:
        """Return (B, C) logits of lifted features."""
        logits: Tensor = SCALE * functional.linear(lifted, functional.normalize(self.weight))
        return logits

    def record(self) -> Head:
        """Return the rows of lifted features, all of length 16."""
        rows = functional.normalize(self.weight.detach().float()).cpu().numpy()
        return Head(np.float32(SCALE) * rows, np.zeros(len(rows), np.float32))

    def hold(self, classifier: Classifier) -> Values:
        """Return the rows.

        Raises:
            InputError: when they are not all of length 16, or a bias is needed.
        """
        rows = self.record().holding(classifier).weight
        lengths = np.linalg.norm(rows, axis=1)
        if np.abs(lengths / SCALE - 1).max() > 1e-3 or classifier.bias.any():
            found = f"{lengths.min():.3g} to {lengths.max():.3g}"
            raise InputError(
                f"head: a meta head holds rows of length {SCALE:g} and no bias, found lengths "
                f"{found} and {'a' if classifier.bias.any() else 'no'} bias; use --to npz"
            )
        return {"weight": rows}
