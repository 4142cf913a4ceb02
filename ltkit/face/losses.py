"""Losses on arrays of any kind."""

from typing import TYPE_CHECKING, Any

from ltkit.face.arrays import Array

if TYPE_CHECKING:
    import torch


def loss(name: str, logits: Array, labels: Array, class_counts: Array,
         **parameters: Any) -> "torch.Tensor":  # fmt: skip
    """Return the value of a loss, named as in ``ltkit train --list``, on a batch.

    Args:
        name: as on the command line.
        logits: (B, C); a tensor that needs a gradient gets one.
        labels: (B,).
        class_counts: (C,) training images per class.
        **parameters: parameters of the loss.

    Raises:
        InputError: for an unknown loss or parameter.

    Example:
        >>> round(loss("balanced-softmax", [[0.0, 0.0]], [1], [90, 10]).item(), 4)  # -log 0.1
        2.3026
    """
    import torch

    from ltkit import losses, registry

    function = registry.load(losses, name).loss
    parameters = registry.parameters_of(function, parameters, name)
    counts = torch.as_tensor(class_counts, dtype=torch.float64)
    values = torch.as_tensor(logits)
    batch = (values, torch.as_tensor(labels), counts.to(values.dtype))
    if isinstance(function, type):
        return _scalar(function(counts, **parameters)(*batch))
    return _scalar(function(*batch, **parameters))


def _scalar(value: Any) -> "torch.Tensor":
    found: torch.Tensor = value
    return found
