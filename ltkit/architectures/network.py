"""A network is a backbone and a head; the features are what goes into the head."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class CosineHead(nn.Module):
    """Logits ``scale * cos(f, w_c)``: normalised features and rows, no bias.

    weight: (C, D), one row a class.

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 3.2; scale as in their released code.
    """

    def __init__(self, feature_size: int, num_classes: int, scale: float) -> None:
        """Start from rows uniform on the sphere."""
        super().__init__()
        self.weight = nn.Parameter(functional.normalize(torch.randn(num_classes, feature_size)))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        cosines = functional.linear(
            functional.normalize(features), functional.normalize(self.weight)
        )
        return self.scale * cosines


class Network(nn.Module):
    """Images to logits; ``backbone`` gives the (B, D) features, ``head`` the (B, C) logits."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        """Join the two parts."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of (B, channels, H, W) normalised images."""
        logits: Tensor = self.head(self.backbone(images))
        return logits


def make_head(feature_size: int, num_classes: int, *, cosine: bool, scale: float) -> nn.Module:
    """Return a linear head, or a cosine head with its scale."""
    if cosine:
        return CosineHead(feature_size, num_classes, scale)
    return nn.Linear(feature_size, num_classes)
