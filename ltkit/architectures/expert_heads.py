"""Several experts that do not all count alike: learned weights, routers that ask some."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.heads import CosineHead, ExpertHeads, LinearHead, Values, expert_logits
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


class Routers(nn.Module):
    r"""What decides, after each expert but the last, whether the next one is asked.

    .. math:: \sigma\bigl(u \cdot (top(\bar z_i),\, relu(V_i \hat f_i)) + u_0\bigr) > \tfrac{1}{2}

    of the largest of the mean logits so far and the expert's feature, of length 1.

    hidden: V_i, (H, d) with a bias for each expert but the last; shared: u, of all of them.

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 3.3; layers as in the released code.
    """

    def __init__(self, experts: int, width: int, top: int, hidden: int) -> None:
        """Draw the weights.

        Args:
            experts: E.
            width: d, of an expert's features.
            top: how many logits are seen.
            hidden: H.
        """
        super().__init__()
        self.top = top
        self.hidden = nn.ModuleList(nn.Linear(width, hidden) for _ in range(experts - 1))
        self.shared = nn.Linear(top + hidden, 1)
        for layer in (*self.hidden, self.shared):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (B, E - 1) scores, above 0 where the next expert is asked.

        Args:
            features: (B, E * d).
            logits: (B, E, C), of each expert.
        """
        parts, scores = features.chunk(len(self.hidden) + 1, dim=1), []
        so_far = means_so_far(logits)
        for i, layer in enumerate(self.hidden):
            seen = functional.relu(layer(functional.normalize(parts[i])))
            largest = so_far[:, i].topk(self.top, dim=1).values
            scores.append(self.shared(torch.cat([largest, seen], dim=1)))
        return torch.cat(scores, dim=1)

    def asked(self, features: Tensor, logits: Tensor) -> Tensor:
        """Return (B, E) 1 for the experts that are asked, 0 for the others."""
        further = (self(features, logits) > 0).cumprod(dim=1)
        return torch.cat([torch.ones_like(further[:, :1]), further], dim=1)


def means_so_far(logits: Tensor) -> Tensor:
    """Return the (B, E, C) means of the first 1, 2, ... of the experts' logits."""
    counts = torch.arange(1, logits.shape[1] + 1, device=logits.device)
    return logits.cumsum(dim=1) / counts[:, None]


def _rows(head: nn.Module) -> Tensor:
    """Return the rows of a cosine head, of length scale; of a linear one, with its bias behind."""
    weight = head.get_parameter("weight")
    if isinstance(head, CosineHead):
        return head.scale * functional.normalize(weight)
    bias = getattr(head, "bias", None)
    return torch.cat([weight, (weight[:, 0] * 0 if bias is None else bias)[:, None]], dim=1)


class RoutedExperts(ExpertHeads):
    r"""Experts of which as many are asked as an image needs; logits are the mean of those.

    It is not linear in the features, but it is in what `lift` makes of them: the features of the
    experts that were asked, normalised for cosine heads, times E over their number, and zeros; each
    linear expert's with this factor behind them, for its bias.

    routers: decide after each expert.

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 3.3.
    """

    def __init__(
        self, experts: Sequence[LinearHead] | Sequence[CosineHead], routers: Routers
    ) -> None:
        """Join the parts."""
        super().__init__(experts)
        self.routers = routers
        self.cosine = isinstance(experts[0], CosineHead)

    def lift(self, features: Tensor) -> Tensor:
        """Return (B, E * d) of cosine heads, (B, E * (d + 1)) of linear ones."""
        asked = self.routers.asked(features, expert_logits(self, features)).to(features.dtype)
        factors = len(self.experts) * asked / asked.sum(dim=1, keepdim=True)  # (B, E)
        parts = features.reshape(*factors.shape, -1)  # (B, E, d)
        if self.cosine:
            parts = functional.normalize(parts, dim=2)
        else:
            parts = torch.cat([parts, torch.ones_like(parts[..., :1])], dim=2)
        return (factors[..., None] * parts).flatten(1)

    def forward(self, lifted: Tensor) -> Tensor:
        """Return (B, C) logits of lifted features."""
        parts = lifted.chunk(len(self.experts), dim=1)
        each = [part @ _rows(head).T for part, head in zip(parts, self.experts, strict=True)]
        return torch.stack(each).mean(dim=0)

    def record(self) -> Head:
        """Return the experts' rows, of linear ones with their biases behind them."""
        plain = normalised(super().record())
        bias = np.zeros_like(plain.bias)
        if self.cosine:
            return Head(plain.weight, bias, plain.scale)
        return Head(np.concatenate([plain.weight, plain.bias[..., None]], axis=2), bias)

    def hold(self, classifier: Classifier) -> Values:
        """Return each expert's values.

        Raises:
            InputError: when cosine experts would need rows of several lengths, or a bias.
        """
        count = len(self.experts)
        if self.cosine:
            own = Classifier(classifier.weight, classifier.bias, True, count)
            try:
                return ExpertHeads([*self.experts]).hold(own)
            except InputError as error:
                said = "behind a router cosine experts hold rows of one length and no bias"
                raise InputError(f"head: {said}; use --to npz") from error
        parts = classifier.weight.reshape(len(classifier.weight), count, -1) * np.float32(count)
        values: Values = {}
        for number, head in enumerate(self.experts):
            rows, biases = parts[:, number, :-1], parts[:, number, -1] + classifier.bias
            own = head.hold(Head(rows, biases).fold())  # type: ignore[operator]
            values |= {f"experts.{number}.{name}": value for name, value in own.items()}
        return values
