"""SADE: three experts, for frequent classes, for all alike, and for rare ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.architectures.network import Network
from ltkit.errors import InputError, SettingError
from ltkit.losses import balanced_softmax, check_counts, check_range
from ltkit.training.methods import Method, Seen
from ltkit.training.methods._experts import experts_of


class SADE(Method, nn.Module):
    r"""Skill-diverse experts: softmax, balanced softmax and inverse softmax.

    .. math:: L = a\, CE(z_1, y) + b\, CE(z_2 + \log \pi, y)
        + c\, CE(z_3 + \log \pi - \tau \log \bar \pi, y)

    The inverse prior has the training prior's values in the opposite order: the rarest class has
    the largest. Predict with the experts' mean, or with weights for the images at hand: ``train
    expert-weights``.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        tau: how much rarer classes than balanced the third expert is for, at least 0; 2, of which 1
            makes up for the second's.
        softmax: a, weight of the first expert's loss, at least 0; 1.
        balanced: b, of the second's; 1.
        inverse: c, of the third's; 1.
        scale: of the cosine heads, at least 0; 30.

    Raises:
        InputError: when a parameter is out of range, or a class has no training image.

    Example:
        >>> import torch
        >>> sade = loss(torch.tensor([90, 10]))
        >>> value = sade.of_experts(torch.zeros(1, 3, 2), torch.tensor([1]))
        >>> # log 2 - log 0.1 - log(w_1 / (w_0 + w_1)), w = 0.9 / 0.1^2, 0.1 / 0.9^2
        >>> round(value.item(), 4)
        9.5888

    Source:
        Zhang et al., NeurIPS 2022, arXiv:2107.09249, sec. 4.1; defaults of the released code for
        CIFAR-100-LT: weight decay 5e-4 with Nesterov momentum, a tenth of the learning rate at each
        step, ``--augment rotation``. Its loss gives the same values, to 2e-7 of them, and
        gradients, to 2e-6.

        Of classes with as many images, that code leaves the order to the sort; here it is their
        own. It adds 1e-9 to priors before the logarithm.
    """

    each = True
    experts = 3
    class_counts: Tensor
    shift: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        tau: float = 2.0,
        softmax: float = 1.0,
        balanced: float = 1.0,
        inverse: float = 1.0,
        scale: float = 30.0,
    ) -> None:
        """Check the parameters; reverse the prior."""
        super().__init__()
        check_counts(class_counts)
        self.weights = {"softmax": softmax, "balanced": balanced, "inverse": inverse}
        for name, value in {**self.weights, "tau": tau, "scale": scale}.items():
            check_range(name, value)
        if not any(self.weights.values()):
            raise InputError("softmax: found 0, as the others are, too; expected one above 0")
        logs, order = class_counts.double().log(), class_counts.argsort(stable=True)
        opposite = torch.empty_like(logs)
        opposite[order] = logs[order.flip(0)]
        self.register_buffer("shift", logs - tau * opposite, persistent=False)
        self.register_buffer("class_counts", class_counts, persistent=False)

    def attach(self, network: Network) -> None:
        """Check that there are three experts.

        Raises:
            SettingError: when there are more or less.
        """
        if (found := experts_of(network)) != 3:
            said = f"found a network of {found}, expected 3, one for each of SADE's losses"
            raise SettingError("experts", said)

    def of_batch(self, seen: Seen) -> Tensor:
        """Return the mean over the batch."""
        (images,) = seen.views
        return self.of_experts(seen.encode(images)[1], seen.labels)

    def of_experts(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the cost of the experts' (B, 3, C) logits."""
        first, second, third = logits.unbind(dim=1)
        a, b, c = self.weights.values()
        value = logits.new_zeros(())
        if a:
            value = value + a * functional.cross_entropy(first, labels)
        if b:
            value = value + b * balanced_softmax.loss(second, labels, self.class_counts)
        if c:
            shifted = third + self.shift.to(third.dtype)
            value = value + c * functional.cross_entropy(shifted, labels)
        return value


loss = SADE
