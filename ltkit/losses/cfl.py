"""CFL: cyclical focal loss, confident samples first and last, hard ones in between."""

from torch import Tensor, nn

from ltkit.losses import Moment, Stateful, check_range, log_wrong

NEUTRAL = {"gamma_hc": 0.0, "gamma_pos": 0.0, "gamma_neg": 0.0, "smoothing": 0.0}


class CFL(Stateful, nn.Module):
    r"""Mean smoothed cross-entropy; a focal and a confident weight are mixed by the epoch.

    .. math::
        L(z, y) &= -\sum_j \tilde y_j \, \bigl((1 - \xi) a_j + \xi h_j\bigr) \log p_j, \quad
        \tilde y_j = (1 - \epsilon) 1[j = y] + \epsilon / C, \quad p = softmax(z) \\
        a_j &= (1 - p_j)^{\gamma_{pos}} \text{ and } h_j = (1 + p_j)^{\gamma_{hc}}
        \text{ for } j = y; \quad a_j = p_j^{\gamma_{neg}} \text{ and } h_j = 1
        \text{ otherwise} \\
        \xi &= 1 - k t \text{ for } k t \le 1, \text{ else } \frac{k t - 1}{k - 1}, \quad
        t = \frac{e}{E - 1}

    with e the epoch, from 0, of E. So xi is 1 at both ends and 0 after a k-th of the training.

    Args:
        class_counts: (C,) training images per class; only their number is used.
        gamma_hc: at least 0. Published: 3 for CIFAR and ImageNet, 2 for ImageNet-LT, Places-LT.
        gamma_pos: at least 0. Published: 2 for CIFAR and ImageNet, 0 for ImageNet-LT, 1 for
            Places-LT.
        gamma_neg: at least 0; without effect where smoothing is 0. Published: 2 for CIFAR and
            ImageNet, 4 for ImageNet-LT and Places-LT.
        factor: k, at least 1; 1 is half a cycle. Published: 4; 2 for Places-LT.
        smoothing: epsilon, 0 to 1; 0.1 in the released code.

    Raises:
        InputError: when a parameter is out of range.

    Example:
        >>> import torch
        >>> from ltkit.losses import Moment
        >>> cfl = loss(torch.ones(2), smoothing=0.0)
        >>> cfl.before_epoch(Moment(0, 200, None, lambda: torch.zeros(2, 2)))  # xi = 1
        >>> value = cfl(torch.zeros(1, 2), torch.tensor([0]), torch.zeros(1, 2))
        >>> round(value.item(), 4)  # (3/2)^3 log 2
        2.3394

    Source:
        Smith, 2022, arXiv:2202.08978, and its released code.

        The weights are in the gradient, as in the code, whose own class defaults (0, 0, 4, k 2)
        are not those of its published runs. Its exponents of 0 to 1 have no finite gradient at p
        = 0 and 1; here they have.
    """

    def __init__(
        self,
        class_counts: Tensor,
        *,
        gamma_hc: float = 3.0,
        gamma_pos: float = 2.0,
        gamma_neg: float = 2.0,
        factor: float = 4.0,
        smoothing: float = 0.1,
    ) -> None:
        """Start at the first epoch's xi, 1."""
        super().__init__()
        for name, value in (("hc", gamma_hc), ("pos", gamma_pos), ("neg", gamma_neg)):
            check_range(f"gamma_{name}", value)
        check_range("factor", factor, 1)
        check_range("smoothing", smoothing, 0, 1)
        self.gamma_hc, self.gamma_pos, self.gamma_neg = gamma_hc, gamma_pos, gamma_neg
        self.factor, self.smoothing, self.xi = factor, smoothing, 1.0

    def before_epoch(self, moment: Moment) -> None:
        """Move along the cycle."""
        self.xi = confidence(moment.epoch, moment.epochs, self.factor)

    def watched(self) -> dict[str, float]:
        """Return xi."""
        return {"xi": self.xi}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        log_p, xi, classes = logits.log_softmax(dim=1), self.xi, logits.shape[1]
        true = labels[:, None]
        log_true = log_p.gather(1, true)[:, 0]
        focal = (self.gamma_pos * log_wrong(logits, labels)).exp()
        confident = (1 + log_true.exp()) ** self.gamma_hc
        own = ((1 - xi) * focal + xi * confident) * log_true
        rest = ((1 - xi) * (self.gamma_neg * log_p).exp() + xi) * log_p
        rest = rest.scatter(1, true, 0.0).sum(dim=1)
        smoothed = self.smoothing / classes
        return -((1 - self.smoothing + smoothed) * own + smoothed * rest).mean()


def confidence(epoch: int, epochs: int, factor: float) -> float:
    """Return xi of an epoch, counted from 0.

    Example:
        >>> [confidence(epoch, 9, 4.0) for epoch in (0, 1, 2, 5, 8)]
        [1.0, 0.5, 0.0, 0.5, 1.0]
    """
    turns = factor * epoch / max(1, epochs - 1)
    return 1 - turns if turns <= 1 else (turns - 1) / (factor - 1)


loss = CFL
