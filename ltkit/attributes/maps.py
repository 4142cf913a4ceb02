"""The feature map before the global pooling, of any network whose features are its mean."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ltkit.errors import InputError

TOLERANCE = 1e-4
"""Largest difference between a map's mean and the features, relative to the largest feature."""

PROBED = 2
"""Images with which the map is looked for."""


class FeatureMaps:
    """Catches the (B, D, H, W) map whose mean over positions is a network's features.

    The first call looks at all that the network's modules give and takes the last such map of more
    than one position; later ones catch this module's alone.
    """

    def __init__(
        self, network: nn.Module, features_of: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """Name the network.

        Args:
            network: whose modules are looked at.
            features_of: gives the (B, D) features of images; None: the network itself.
        """
        self.network, self.features_of = network, features_of or network
        self.module = ""

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, D) features and the (B, D, H, W) map of images.

        Raises:
            InputError: when no map's mean is the features.
        """
        self.module = self.module or self._found(images[:PROBED])
        features, caught = self._run(images, [self.module])
        return features, caught[-1][1]

    def _run(self, images: Tensor, names: list[str]) -> tuple[Tensor, list[tuple[str, Tensor]]]:
        """Return the features and the maps that modules gave, in the order of the computation."""
        caught: list[tuple[str, Tensor]] = []

        def catching(name: str) -> Callable[[nn.Module, object, object], None]:
            def keep(module: nn.Module, inputs: object, output: object) -> None:
                if isinstance(output, Tensor) and output.ndim == 4:
                    caught.append((name, output))

            return keep

        handles = [
            self.network.get_submodule(name).register_forward_hook(catching(name)) for name in names
        ]
        try:
            return self.features_of(images), caught
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _found(self, images: Tensor) -> str:
        """Return the name of the module that gives the map."""
        names = [name for name, _ in self.network.named_modules() if name]
        features, caught = self._run(images, names)
        least = TOLERANCE * max(float(features.abs().max()), 1e-12)
        for name, found in reversed(caught):
            if found.shape[1] == features.shape[1] and found[0, 0].numel() > 1:
                difference = float((found.float().mean(dim=(2, 3)) - features).abs().max())
                if difference <= least:
                    return name
        raise InputError(
            "features: feature map already pooled: found no module whose output, of several "
            "positions, has the features as its mean; use a network with a global average pooling "
            "and one expert, as resnet32 or resnet50"
        )


def feature_map(network: nn.Module, images: Tensor) -> Tensor:
    """Return the (B, D, H, W) map before the global pooling of a backbone.

    Args:
        network: gives (B, D) features of images.
        images: (B, channels, height, width).

    Raises:
        InputError: when no map's mean is the features, as where experts stand side by side.

    Example:
        >>> pooled = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> feature_map(pooled, torch.zeros(5, 1, 8, 8)).shape
        torch.Size([5, 4, 6, 6])
    """
    return FeatureMaps(network)(images)[1]
