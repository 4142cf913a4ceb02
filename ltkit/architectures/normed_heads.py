"""Linear last layers in two parts: direction and length (weight norm), batch norm and linear."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.heads import LinearHead, Values
from ltkit.errors import InputError
from ltkit.narrowing import as_float32
from ltkit.records import Classifier, Head


class WeightNormHead(nn.Module):
    r"""Logits ``f @ W.T + b`` with rows kept as direction and length.

    .. math:: w_c = g_c \, v_c / \lVert v_c \rVert

    v: (C, D); g: (C, 1); bias: (C,), or None.

    Source:
        Salimans & Kingma, NeurIPS 2016, arXiv:1602.07868, eq. 2.
    """

    def __init__(self, feature_size: int, num_classes: int, bias: bool = True) -> None:
        """Start from rows uniform on the sphere."""
        super().__init__()
        self.v = nn.Parameter(functional.normalize(torch.randn(num_classes, feature_size)))
        self.g = nn.Parameter(torch.ones(num_classes, 1))
        self.bias = nn.Parameter(torch.zeros(num_classes)) if bias else None

    def _linear(self) -> LinearHead:
        """Return the plain layer with the same logits."""
        layer = LinearHead(self.v.shape[1], len(self.v), bias=self.bias is not None)
        with torch.no_grad():
            layer.weight.copy_(self._rows())
            if self.bias is not None:
                layer.bias.copy_(self.bias)
        return layer

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        return functional.linear(features, self._rows(), self.bias)

    def _rows(self) -> Tensor:
        """Return the (C, D) rows; float64 holds the norms of directions of any size."""
        direction = self.v.double()
        rows: Tensor = self.g * direction / direction.norm(dim=1, keepdim=True)
        return rows.to(self.v.dtype)

    def record(self) -> Head:
        """Return the plain linear form."""
        return self._linear().record()

    def hold(self, classifier: Classifier) -> Values:
        """Return rows with their own lengths.

        Raises:
            InputError: when this head has no bias and the classifier has one.
        """
        values = self._linear().hold(classifier)
        rows = values.pop("weight")
        values |= {"v": rows, "g": np.linalg.norm(rows, axis=1, keepdims=True)}
        return values


class BatchNormHead(nn.Module):
    r"""Batch norm with its training statistics, then a linear layer; linear as a whole.

    .. math:: z = W (s \odot f + t) + b, \quad s = \gamma / \sqrt{\sigma^2 + \epsilon}, \quad
              t = \beta - s \odot \mu

    Example:
        >>> head = BatchNormHead(1, 1).eval()
        >>> _ = head.norm.running_var.fill_(4.0), head.norm.running_mean.fill_(3.0)
        >>> _ = head.linear.weight.data.fill_(2.0), head.linear.bias.data.fill_(5.0)
        >>> [round(x.item(), 3) for x in (head.record().weight, head.record().bias)]  # 2 / 2, 5 - 3
        [1.0, 2.0]

    Source:
        Ioffe & Szegedy, ICML 2015, arXiv:1502.03167, alg. 2 (the transform at inference).
    """

    def __init__(self, feature_size: int, num_classes: int, bias: bool = True) -> None:
        """Start from the identity and a linear layer."""
        super().__init__()
        self.norm = nn.BatchNorm1d(feature_size)
        self.linear = LinearHead(feature_size, num_classes, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) features."""
        logits: Tensor = self.linear(self.norm(features))
        return logits

    def _transform(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return s and t, (D,) each."""
        norm = self.norm
        gamma, beta, mean, variance = (
            tensor.detach().cpu().double().numpy()
            for tensor in (norm.weight, norm.bias, norm.get_buffer("running_mean"),
                           norm.get_buffer("running_var"))
        )  # fmt: skip
        scale = gamma / np.sqrt(variance + norm.eps)
        return scale, beta - scale * mean

    def record(self) -> Head:
        """Return the linear form: the transform is folded into rows and bias."""
        scale, shift = self._transform()
        plain = self.linear.record()
        weight = plain.weight.astype(np.float64)
        bias = plain.bias + weight @ shift
        where = "head: batch norm times weight"
        return Head(
            as_float32(weight * scale, where), as_float32(bias, "head: bias after the fold")
        )

    def hold(self, classifier: Classifier) -> Values:
        """Return the linear layer's values: the fold is undone, batch norm stays.

        Raises:
            InputError: when batch norm takes a feature away, or a bias is needed and there is none.
        """
        held = self.record().holding(classifier)
        scale, shift = self._transform()
        if not scale.all():
            raise InputError(
                f"head: batch norm multiplies feature {int(np.argmin(abs(scale)))} by 0, so no "
                "weight brings it back; use --to npz"
            )
        weight = held.weight / scale
        bias = held.bias - weight @ shift
        if self.linear.bias is not None:
            return {"linear.weight": weight, "linear.bias": bias}
        if np.abs(bias).max() > 1e-5 * max(float(np.abs(held.bias).max()), 1.0):
            raise InputError(
                "head: the layer after batch norm has no bias, the correction needs one; use "
                "--to npz"
            )
        return {"linear.weight": weight}
