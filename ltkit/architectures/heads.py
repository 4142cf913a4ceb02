"""The last layers used in the field, each with its linear form.

A head is a module from (B, D) features to (B, C) logits with two more methods: ``record()`` gives
the same logits as a `records.Head`, and ``hold(classifier)`` gives the values of its own parameters
that reproduce a linear classifier's logits, by name, or reports that its form cannot hold them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.records import Classifier, Head

Values = dict[str, NDArray[Any]]


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().float().cpu().numpy()


def _bias_free(classifier: Classifier, kind: str) -> None:
    if classifier.bias.any():
        raise InputError(f"head: {kind} has no bias, the correction needs one; use --to npz")


class LinearHead(nn.Linear):
    """Logits ``f @ W.T + b``."""

    def record(self) -> Head:
        """Return the weight and the bias; a missing bias becomes zero."""
        weight = _array(self.weight)
        bias = np.zeros(len(weight), np.float32) if self.bias is None else _array(self.bias)
        return Head(weight, bias)

    def hold(self, classifier: Classifier) -> Values:
        """Return the weight and the bias.

        Raises:
            InputError: when this head has no bias and the classifier has one.
        """
        held = self.record().holding(classifier)
        if self.bias is None:
            _bias_free(classifier, "this head")
            return {"weight": held.weight}
        return {"weight": held.weight, "bias": held.bias}


class CosineHead(nn.Module):
    """Logits ``scale * cos(f, w_c)``: normalised features and rows, no bias.

    weight: (C, D), one row a class.

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 3.2; scale as in their released code.
    """

    def __init__(self, feature_size: int, num_classes: int, scale: float) -> None:
        """Start from rows drawn uniformly on the sphere."""
        super().__init__()
        self.weight = nn.Parameter(functional.normalize(torch.randn(num_classes, feature_size)))
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        cosines = functional.linear(
            functional.normalize(features), functional.normalize(self.weight)
        )
        return self.scale * cosines

    def record(self) -> Head:
        """Return the rows unchanged, with the scale."""
        weight = _array(self.weight)
        return Head(weight, np.zeros(len(weight), np.float32), self.scale, "cosine")

    def hold(self, classifier: Classifier) -> Values:
        """Return the rows.

        Raises:
            InputError: when rows would need different lengths, or a bias.
        """
        return {"weight": self.record().holding(classifier).weight}


class ScaledHead(nn.Module):
    """Logits ``s_c * (w_c f + b_c)``: a linear head whose classes have learned scales.

    weight: (C, D); bias: (C,), or None; scales: (C,).

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (learnable weight scaling); their released
        code scales the bias, too.
    """

    def __init__(self, feature_size: int, num_classes: int, bias: bool = True) -> None:
        """Start as a linear head: all scales are 1."""
        super().__init__()
        self.linear = nn.Linear(feature_size, num_classes, bias=bias)
        self.scales = nn.Parameter(torch.ones(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        logits: Tensor = self.linear(features) * self.scales
        return logits

    def record(self) -> Head:
        """Return the linear head with the scales multiplied in."""
        scales, weight = _array(self.scales), _array(self.linear.weight)
        bias = 0 * scales if self.linear.bias is None else _array(self.linear.bias)
        return Head(scales[:, None] * weight, scales * bias)

    def hold(self, classifier: Classifier) -> Values:
        """Return weight and bias divided by the scales, which stay unchanged.

        Raises:
            InputError: when a scale is zero, or a bias is needed and there is none.
        """
        held, scales = self.record().holding(classifier), _array(self.scales)
        if not scales.all():
            raise InputError(
                f"head: class {int(np.argmin(abs(scales)))} has scale 0, so no weight gives it "
                "other logits; use --to npz"
            )
        if self.linear.bias is None:
            _bias_free(classifier, "this head")
            return {"linear.weight": held.weight / scales[:, None]}
        return {"linear.weight": held.weight / scales[:, None], "linear.bias": held.bias / scales}


class MarginHead(nn.Module):
    """Logits ``a_c (w_c f + b_c) + m_c ||w_c||``: the calibrated margins of MARC.

    weight: (C, D); bias: (C,); a, m: (C,).

    Source:
        Wang et al., ACML 2022, arXiv:2112.07225, eq. for the calibrated logits.
    """

    def __init__(self, feature_size: int, num_classes: int) -> None:
        """Start as a linear head."""
        super().__init__()
        self.linear = nn.Linear(feature_size, num_classes)
        self.a = nn.Parameter(torch.ones(num_classes))
        self.m = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        logits: Tensor = self.a * self.linear(features) + self.m * self.linear.weight.norm(dim=1)
        return logits

    def record(self) -> Head:
        """Return the linear head with the same logits."""
        a, m, weight = _array(self.a), _array(self.m), _array(self.linear.weight)
        norms = np.linalg.norm(weight, axis=1)
        return Head(a[:, None] * weight, a * _array(self.linear.bias) + m * norms)

    def hold(self, classifier: Classifier) -> Values:
        """Return weight and bias that, after the unchanged calibration, give the classifier.

        Raises:
            InputError: when a class has the factor 0.
        """
        held, a = self.record().holding(classifier), _array(self.a)
        if not a.all():
            raise InputError(
                f"head: class {int(np.argmin(abs(a)))} has the factor 0, so no weight gives it "
                "other logits; use --to npz"
            )
        weight = held.weight / a[:, None]
        margin = _array(self.m) * np.linalg.norm(weight, axis=1)
        return {"linear.weight": weight, "linear.bias": (held.bias - margin) / a}


class CausalHead(nn.Module):
    r"""Logits of the total direct effect: multi-head normalised, without the mean feature's part.

    .. math:: z_c = \frac{\tau}{K} \sum_k \frac{w_c^k}{\lVert w_c^k \rVert + \gamma}
              \cdot (\hat f^k - \alpha \cos(f^k, e^k) \hat e^k)

    The cosine is linear in the normalised feature, so the whole is: each head's row is projected
    once, and acts on the normalised part of the feature.

    weight: (C, D), D cut into K heads; embed: (D,) moving mean of the training features, which no
        state dict holds.

    Source:
        Tang et al., NeurIPS 2020, arXiv:2009.12991, eqs. for the de-confounded training and TDE.
    """

    def __init__(
        self,
        feature_size: int,
        num_classes: int,
        *,
        heads: int = 2,
        tau: float = 16.0,
        gamma: float = 1 / 32,
        alpha: float = 3.0,
    ) -> None:
        """Start from small uniform rows; an empty mean feature subtracts nothing."""
        super().__init__()
        bound = 1 / math.sqrt(feature_size)
        self.weight = nn.Parameter(torch.empty(num_classes, feature_size).uniform_(-bound, bound))
        self.embed: Tensor
        self.register_buffer("embed", torch.zeros(feature_size), persistent=False)
        self.heads, self.tau, self.gamma, self.alpha = heads, tau, gamma, alpha

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features, computed as in the formula."""
        logits = features.new_zeros(len(features), len(self.weight))
        parts = (t.chunk(self.heads, dim=-1) for t in (features, self.weight, self.embed))
        for f, w, e in zip(*parts, strict=True):
            rows = w / (w.norm(dim=1, keepdim=True) + self.gamma)
            f, e = functional.normalize(f, dim=1), functional.normalize(e, dim=0)
            along = (f @ e)[:, None]  # cosines, (B, 1)
            logits = logits + (f - self.alpha * along * e) @ rows.T
        return self.tau / self.heads * logits

    def record(self) -> Head:
        """Return K experts' rows on normalised features."""
        rows = self._parts(_array(self.weight))  # (K, C, D / K)
        rows = rows / (np.linalg.norm(rows, axis=2, keepdims=True) + self.gamma)
        mean = self._means()
        along = np.einsum("kcd,kd->kc", rows, mean)[..., None]
        rows = (rows - self.alpha * along * mean[:, None]).astype(np.float32)
        return Head(rows, np.zeros(rows.shape[:2], np.float32), self.tau, "features")

    def hold(self, classifier: Classifier) -> Values:
        """Return the rows, undoing the projection and then the factor of each row's length.

        Raises:
            InputError: when alpha is 1, which cannot be undone, a row would have to be longer than
                this form allows, or a bias is needed.
        """
        _bias_free(classifier, "a causal head")
        rows = self.record().holding(classifier).weight.astype(np.float64)
        mean = self._means()
        if self.alpha == 1 and mean.any():
            raise InputError("head: alpha 1 leaves nothing along the mean feature; use --to npz")
        along = np.einsum("kcd,kd->kc", rows, mean)[..., None] if mean.any() else 0.0
        rows = rows + self.alpha / (1 - self.alpha) * along * mean[:, None] if mean.any() else rows
        lengths = np.linalg.norm(rows, axis=2, keepdims=True)
        if lengths.max() >= 1:
            raise InputError(
                f"head: a causal head holds rows of length below 1 after its factor, the corrected "
                f"rows have up to {lengths.max():.3g}; use --to npz"
            )
        rows = rows * self.gamma / (1 - lengths)  # |w| / (|w| + gamma) = length
        return {"weight": rows.transpose(1, 0, 2).reshape(self.weight.shape)}

    def _parts(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        return weight.reshape(len(weight), self.heads, -1).transpose(1, 0, 2)

    def _means(self) -> NDArray[np.float64]:
        """Return the directions of the mean feature, (K, D / K); zero where it is empty."""
        parts = _array(self.embed).astype(np.float64).reshape(self.heads, -1)
        lengths: NDArray[np.float64] = np.linalg.norm(parts, axis=1, keepdims=True)
        means: NDArray[np.float64] = parts / np.maximum(lengths, 1e-12)
        return means


class ExpertHeads(nn.Module):
    """Several heads, each on its own part of the features; logits are their mean.

    experts: E heads of one kind, linear or cosine.

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 4 (the experts' mean).
    """

    def __init__(self, experts: Sequence[LinearHead] | Sequence[CosineHead]) -> None:
        """Join the heads in the order of their features."""
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, E * d) features."""
        return torch.stack(self.each(features)).mean(dim=0)

    def each(self, features: Tensor) -> list[Tensor]:
        """Return the (B, C) logits of one expert after another, of (B, E * d) features."""
        parts = features.chunk(len(self.experts), dim=1)
        return [head(part) for head, part in zip(self.experts, parts, strict=True)]

    def record(self) -> Head:
        """Return the experts' heads, stacked."""
        heads = self._records()
        first = heads[0]
        return Head(
            np.stack([h.weight for h in heads]), np.stack([h.bias for h in heads]),
            first.scale, first.normalize,
        )  # fmt: skip

    def hold(self, classifier: Classifier) -> Values:
        """Return each expert's values; every expert gets the whole bias, since they are averaged.

        Raises:
            InputError: when an expert's form cannot hold its part.
        """
        held = self.record().holding(classifier)
        values: Values = {}
        for number, head in enumerate(self.experts):
            part = Head(held.weight[number], held.bias[number], held.scale, held.normalize)
            own = head.hold(part.fold())  # type: ignore[operator]
            values |= {f"experts.{number}.{name}": value for name, value in own.items()}
        return values

    def _records(self) -> list[Head]:
        return [head.record() for head in self.experts]  # type: ignore[operator]


def expert_logits(head: nn.Module, features: Tensor) -> Tensor:
    """Return the (B, E, C) logits of a head's experts; of one that has none, its own."""
    each = head.each(features) if isinstance(head, ExpertHeads) else [head(features)]
    return torch.stack(each, dim=1)


class AlignedHead(nn.Module):
    r"""DisAlign: logits and their affine calibration, mixed by a confidence of the feature.

    .. math:: \hat z = (1 + \sigma_f s) \odot z + \sigma_f m, \quad
              \sigma_f = \mathrm{sigmoid}(u f + u_0), \quad z = W f + b

    This is the form of the released layer; the paper's ``sigma (a z + m) + (1 - sigma) z`` is the
    same with ``a = 1 + s``. It is not linear in f, but it is in ``(f, sigma f, sigma)``: that is
    what `lift` makes, and what `record` acts on.

    Source:
        Zhang et al., CVPR 2021, arXiv:2103.16370, eqs. for the calibrated prediction.
    """

    def __init__(self, feature_size: int, num_classes: int, bias: bool = True) -> None:
        """Start from the identity."""
        super().__init__()
        self.linear = nn.Linear(feature_size, num_classes, bias=bias)
        self.logit_scale = nn.Parameter(torch.zeros(num_classes))
        self.logit_bias = nn.Parameter(torch.zeros(num_classes))
        self.confidence = nn.Linear(feature_size, 1)

    def lift(self, features: Tensor) -> Tensor:
        """Return (B, 2 D + 1): the features, the features times the confidence, the confidence."""
        confidence = torch.sigmoid(self.confidence(features))
        return torch.cat([features, confidence * features, confidence], dim=1)

    def forward(self, lifted: Tensor) -> Tensor:
        """Return (B, C) logits of lifted features."""
        size = self.linear.in_features
        plain, confidence = self.linear(lifted[:, :size]), lifted[:, -1:]
        mixed: Tensor = (1 + confidence * self.logit_scale) * plain + confidence * self.logit_bias
        return mixed

    def record(self) -> Head:
        """Return the (C, 2 D + 1) linear form."""
        weight, gain = _array(self.linear.weight), _array(self.logit_scale)[:, None]
        bias = 0 * gain[:, 0] if self.linear.bias is None else _array(self.linear.bias)
        shift = gain * bias[:, None] + _array(self.logit_bias)[:, None]
        return Head(np.concatenate([weight, gain * weight, shift], axis=1), bias)

    def hold(self, classifier: Classifier) -> Values:
        """Return weight, bias, scale and shift.

        Raises:
            InputError: when the part that the confidence mixes in is not a multiple of the rest.
        """
        held, size = self.record().holding(classifier), self.linear.in_features
        weight, mixed, shift = np.split(held.weight.astype(np.float64), [size, 2 * size], axis=1)
        squares = np.maximum((weight**2).sum(axis=1), 1e-30)
        gain = (weight * mixed).sum(axis=1) / squares
        off = np.abs(mixed - gain[:, None] * weight).max()
        if off > 1e-4 * max(np.abs(mixed).max(), 1e-12):
            raise InputError(
                "head: the part that DisAlign's confidence mixes in is no multiple of the weights; "
                "extract with --head linear, or use --to npz"
            )
        values = {
            "linear.weight": weight,
            "logit_scale": gain,
            "logit_bias": shift[:, 0] - gain * held.bias,
        }
        if self.linear.bias is None:
            _bias_free(classifier, "this head")
            return values
        return values | {"linear.bias": held.bias}
