"""How far one set of logits is from another, as distillation and diverse experts measure it."""

from torch import Tensor
from torch.nn import functional


def divergence(logits: Tensor, expected: Tensor, temperature: float | Tensor) -> Tensor:
    """Return the mean of KL(softmax(v / T) || softmax(z / T)) over the batch.

    Args:
        logits: z, (B, C).
        expected: v, (B, C).
        temperature: T, a number, or (C,).
    """
    own = (logits / temperature).log_softmax(dim=1)
    target = (expected / temperature).log_softmax(dim=1)
    return functional.kl_div(own, target, reduction="batchmean", log_target=True)
