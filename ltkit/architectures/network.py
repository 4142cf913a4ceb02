"""Networks: a backbone and a head; the features are the head's input."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltkit.architectures.expert_heads import RoutedExperts
from ltkit.architectures.heads import AlignedHead, CosineHead, ExpertHeads, LinearHead
from ltkit.architectures.meta_head import MetaHead
from ltkit.errors import InputError
from ltkit.narrowing import as_float32
from ltkit.records import Classifier, Head

NO_HEAD = InputError(
    "head: the checkpoint is a backbone without one, so none can be corrected in it; use --to npz"
)


class Extractable(Protocol):
    """What `extract` and `export` need of a network, ltkit's own or another library's."""

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what goes into the head, (B, D), and the network's own (B, C) logits.

        Without a head the logits are the features.
        """

    def record(self) -> Head | None:
        """Return the linear form of the head; None where the network has none."""

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the parameters, by name, with which the head equals this classifier."""


class Network(nn.Module):
    """Images to logits; ``backbone`` gives the (B, D) features, ``head`` the (B, C) logits.

    neck: layers between the two, which belong to the features; most networks have none.
    head: None for a backbone alone, whose output is its features.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module | None, neck: nn.Module | None = None
    ) -> None:
        """Join the parts."""
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of (B, channels, H, W) normalised images."""
        return self.features_and_logits(images)[1]

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, D) features and the (B, C) logits; without a head the features twice."""
        features = self.backbone(images)
        if self.neck is not None:
            features = self.neck(features)
        if self.head is None:
            return features, features
        if isinstance(self.head, AlignedHead | MetaHead | RoutedExperts):
            features = self.head.lift(features)
        return features, self.head(features)

    def record(self) -> Head | None:
        """Return the linear form of the head; None where there is none."""
        if self.head is None:
            return None
        head: Head = self.head.record()  # type: ignore[operator]
        return head

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the head's parameters for a linear classifier, by the network's names.

        Raises:
            InputError: when the form of the head cannot hold it, or there is none.
        """
        if self.head is None:
            raise NO_HEAD
        values = self.head.hold(classifier)  # type: ignore[operator]
        return {f"head.{name}": value for name, value in values.items()}


def make_head(
    feature_size: int, num_classes: int, *, cosine: bool, scale: float, experts: int = 1
) -> nn.Module:
    """Return a linear head, or a cosine head with its scale; one per expert if there are several.

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
    """Another library's network, with the features caught at the input of its last layer.

    model: the network as its library builds it.
    heads: dotted names of its last layers, linear or 1x1 convolutions, or a single head of ours;
        where there are several, the logits are their mean and the features stand one after another.
        Their widths may differ. Without any the network's output is its features.
    bgr: whether the network wants the channels in the order of blue, green, red.
    """

    def __init__(self, model: nn.Module, heads: tuple[str, ...], *, bgr: bool = False) -> None:
        """Find the last layers."""
        super().__init__()
        self.model = model
        self.heads = heads
        self.bgr = bgr

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits; of a mapping, the model is called with its entries by name."""
        if isinstance(images, Mapping):
            found = self.model(**images)
        else:
            found = self.model(images.flip(1) if self.bgr else images)
        logits = getattr(found, "logits", found)
        logits = logits[0] if isinstance(logits, tuple | list) else logits
        return torch.flatten(logits, 1)

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return what went into the heads, (B, D), and the network's own (B, C) logits."""
        if not self.heads:
            features = self(images)
            return features, features
        caught: dict[str, Tensor] = {}

        def catching(name: str) -> Any:
            def keep(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                caught[name] = _one_vector(inputs[0])

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

    def record(self) -> Head | None:
        """Return the linear form of the heads' mean: experts where they are equally wide."""
        if not self.heads:
            return None
        own = self._own()
        if own is not None:
            found: Head = own.record()  # type: ignore[operator]
            return found
        return self._mean()

    def _own(self) -> nn.Module | None:
        """Return the head where it is one of ours."""
        head = self.model.get_submodule(self.heads[0])
        return head if hasattr(head, "record") else None

    def _mean(self) -> Head:
        weights, biases = self._values()
        if len(weights) == 1:
            return Head(weights[0], biases[0])
        if len({weight.shape for weight in weights}) == 1:
            return Head(np.stack(weights), np.stack(biases))
        return Head(np.concatenate(weights, axis=1) / len(weights), np.mean(biases, axis=0))

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the heads' parameters by the model's names.

        Several heads keep the differences between their biases.

        Raises:
            InputError: when a bias is needed and no head has one, the classifier wants its
                features normalised, or there is no head.
        """
        if not self.heads:
            raise NO_HEAD
        own = self._own()
        if own is not None:
            held = own.hold(classifier)  # type: ignore[operator]
            return {f"model.{self.heads[0]}.{name}": value for name, value in held.items()}
        record, (weights, biases) = self._mean(), self._values()
        record.holding(classifier)  # or its error
        biased, count = [name for name in self.heads if self._has_bias(name)], len(weights)
        shift = classifier.bias.astype(np.float64) - record.fold().bias
        if shift.any() and not biased:
            raise InputError("head: this head has no bias, the correction needs one; use --to npz")
        ends = np.cumsum([weight.shape[1] for weight in weights])[:-1]
        parts = np.split(classifier.weight * np.float32(count), ends, axis=1)
        values = {}
        for name, part, bias in zip(self.heads, parts, biases, strict=True):
            values[f"model.{name}.weight"] = part
            if name in biased:
                moved = bias + shift * count / len(biased)
                values[f"model.{name}.bias"] = moved.astype(np.float32)
        return values

    def _has_bias(self, name: str) -> bool:
        return getattr(self.model.get_submodule(name), "bias", None) is not None

    def _values(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        """Return each head's weight (C, d) and bias (C,), zero if it has none."""
        weights, biases = [], []
        for name in self.heads:
            layer = self.model.get_submodule(name)
            weight = torch.flatten(layer.get_parameter("weight"), 1)
            bias = layer.get_parameter("bias") if self._has_bias(name) else torch.zeros(len(weight))
            weights.append(_single(weight, f"{name}.weight"))
            biases.append(_single(bias, f"{name}.bias"))
        return weights, biases


def _single(tensor: Tensor, where: str) -> NDArray[np.float32]:
    """Return weights as float32, or refuse those of doubles that it loses."""
    held = tensor.detach().cpu()
    return as_float32((held if held.dtype == torch.float64 else held.float()).numpy(), where)


def _one_vector(inputs: Tensor) -> Tensor:
    """Return the (B, D) that the logits are computed from: a pooled map's, or the first token's.

    A map of several pixels is left as it is, and is refused where the head is checked.
    """
    if inputs.ndim == 3:
        return inputs[:, 0]
    return torch.flatten(inputs, 1) if inputs.shape[2:] == (1, 1) else inputs
