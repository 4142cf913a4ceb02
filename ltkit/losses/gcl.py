"""GCL: Gaussian-clouded logits, noise that lowers the logits of rare classes the most."""

import torch
from torch import Tensor
from torch.nn import functional

from ltkit.losses import batch_seed, check_counts, check_range


def loss(
    logits: Tensor,
    labels: Tensor,
    class_counts: Tensor,
    *,
    kappa: float = 0.5,
    margin: float = 0.0,
    scale: float = 30.0,
    seed: int = 0,
) -> Tensor:
    r"""Mean cross-entropy of a cosine head's logits under one-sided noise.

    .. math:: \tilde z_c = z_c - s \, (\kappa \, |\epsilon_c| \, \delta_c + m \, 1[c = y]), \quad
        \delta_c = \frac{\log n_{max} - \log n_c}{\log n_{max} - \log n_{min}}, \quad
        \epsilon_c \sim N(0, 1/3), \text{ clamped to } [-1, 1]

    where 1/3 is the standard deviation. The noise is drawn for each sample and class and lowers a
    rare class's logit for all samples, not for its own alone. It comes from a generator of its
    own that starts at each call from the seed and the batch's labels: fresh in every batch, and
    the same for the same one. With equal counts there is no noise.

    The logits are those of a cosine head, which has multiplied the cosines by the scale already
    (`train --cosine --scale`): only what is taken off is scaled here.

    Args:
        logits: (B, C), scale times cosine.
        labels: (B,) int64.
        class_counts: (C,) training images per class, all at least 1.
        kappa: size of the noise of the rarest class, in units of cosine, at least 0; 0.5 as in
            the released code.
        margin: taken off the true logit, in units of cosine, at least 0; 0 in the source's first
            stage, 0.1 in its second.
        scale: at least 0, and that of the cosine head; 30 in the source's first stage, 20 in its
            second.
        seed: seed of the noise, from 0; not set by `train --seed`.

    Returns:
        The mean over the batch.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> labels, counts = torch.tensor([1]), torch.tensor([9, 1])
        >>> value = loss(torch.zeros(1, 2), labels, counts, kappa=0.0, margin=0.1, scale=10.0)
        >>> round(value.item(), 4)  # the true logit lowered by 1; log(1 + e)
        1.3133

    Source:
        Li et al., CVPR 2022, arXiv:2305.11733 (Gaussian clouded logit adjustment).

        Their network gives cosines and their loss multiplies by the scale; the value is the same.
        Mixup, and the second stage's sampling and focal factor, are not part of the loss.
    """
    check_range("kappa", kappa)
    check_range("margin", margin)
    check_range("scale", scale)
    check_counts(class_counts)
    generator = torch.Generator(logits.device).manual_seed(batch_seed(labels, seed))
    normal = torch.randn(logits.shape, generator=generator, device=logits.device)
    noise = (normal.to(logits.dtype).abs() / 3).clamp(max=1)  # (B, C)
    rarity = class_counts.to(logits.dtype).log()
    rarity = rarity.max() - rarity
    rarity = rarity / rarity.max().clamp(min=torch.finfo(rarity.dtype).tiny)  # (C,) 0 to 1
    lowered = logits - scale * kappa * noise * rarity
    positive = functional.one_hot(labels, logits.shape[1])  # (B, C)
    lowered = lowered - scale * margin * positive
    return functional.cross_entropy(lowered, labels)
