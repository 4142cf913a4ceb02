"""A network is a backbone and a head; the features are what goes into the head."""

from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltkit.architectures.heads import AlignedHead, CosineHead, ExpertHeads, LinearHead
from ltkit.records import Classifier, Head


class Extractable(Protocol):
    """What `extract` and `export` need of a network, ours or another library's."""

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what goes into the head, (B, D), and the network's own (B, C) logits."""

    def record(self) -> Head:
        """Return the linear form of the head."""

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the parameters, by their names, with which the head is this classifier."""


class Network(nn.Module):
    """Images to logits; ``backbone`` gives the (B, D) features, ``head`` the (B, C) logits."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        """Join the two parts."""
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of (B, channels, H, W) normalised images."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, D) features and the (B, C) logits."""
        features = self.backbone(images)
        if isinstance(self.head, AlignedHead):
            features = self.head.lift(features)
        return features, self.head(features)

    def record(self) -> Head:
        """Return the linear form of the head."""
        head: Head = self.head.record()  # type: ignore[operator]
        return head

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the head's parameters, by the network's names, for a linear classifier.

        Raises:
            InputError: when the form of the head cannot hold it.
        """
        values = self.head.hold(classifier)  # type: ignore[operator]
        return {f"head.{name}": value for name, value in values.items()}


def make_head(
    feature_size: int, num_classes: int, *, cosine: bool, scale: float, experts: int = 1
) -> nn.Module:
    """Return a linear head or a cosine head with its scale; for several experts, one for each.

    Args:
        feature_size: D, over all experts.
        num_classes: C.
        cosine: normalised features and rows, no bias.
        scale: the factor of cosine heads.
        experts: E, a divisor of D.
    """
    size = feature_size // experts
    if cosine:
        cosines = [CosineHead(size, num_classes, scale) for _ in range(experts)]
        return cosines[0] if experts == 1 else ExpertHeads(cosines)
    linear = [LinearHead(size, num_classes) for _ in range(experts)]
    return linear[0] if experts == 1 else ExpertHeads(linear)


class Hooked(nn.Module):
    """Another library's network: the features are caught where they enter its last layer.

    model: the network as its library builds it.
    heads: dotted names of its last layers, linear or 1x1 convolutions; where there are several,
        the logits are their mean and the features stand one after another.
    """

    def __init__(self, model: nn.Module, heads: tuple[str, ...]) -> None:
        """Find the layers."""
        super().__init__()
        self.model = model
        self.heads = heads

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits."""
        found = self.model(images)
        logits = getattr(found, "logits", found)
        logits = logits[0] if isinstance(logits, tuple | list) else logits
        return torch.flatten(logits, 1)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what went into the heads, (B, D), and the network's own (B, C) logits."""
        caught: dict[str, Tensor] = {}

        def catching(name: str) -> Any:
            def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                x = inputs[0]
                caught[name] = torch.flatten(x, 1) if x.shape[2:] == (1, 1) else x

            return keep

        handles = [
            self.model.get_submodule(n).register_forward_pre_hook(catching(n)) for n in self.heads
        ]
        try:
            logits = self(images)
        finally:
            for handle in handles:
                handle.remove()
        return torch.cat([caught[name] for name in self.heads], dim=1), logits

    def record(self) -> Head:
        """Return the linear form of the heads."""
        return self._as_own().record()  # type: ignore[operator, no-any-return]

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the heads' parameters by the model's names.

        Raises:
            InputError: when the form of the heads cannot hold the classifier.
        """
        values: dict[str, NDArray[Any]] = self._as_own().hold(classifier)  # type: ignore[operator]
        if len(self.heads) == 1:
            return {f"model.{self.heads[0]}.{name}": value for name, value in values.items()}
        named = {}
        for name, value in values.items():
            _, number, leaf = name.split(".")
            named[f"model.{self.heads[int(number)]}.{leaf}"] = value
        return named

    def _as_own(self) -> nn.Module:
        """Return the heads as one of ours, with the same values."""
        made = []
        for name in self.heads:
            layer = self.model.get_submodule(name)
            weight = torch.flatten(layer.get_parameter("weight").detach().float().cpu(), 1)
            bias = layer._parameters.get("bias")
            own = LinearHead(weight.shape[1], weight.shape[0], bias=bias is not None)
            with torch.no_grad():
                own.weight.copy_(weight)
                if bias is not None:
                    own.bias.copy_(bias.detach().float().cpu())
            made.append(own)
        return made[0] if len(made) == 1 else ExpertHeads(made)
