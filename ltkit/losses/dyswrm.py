"""DySWRM: SWRM with learned, not projected, positions of the classes."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.losses import Moment, Stateful, check_range, check_window, similarity_window, window_loss

NEUTRAL = {"beta": 0.0, "weights": "sum"}


class DySWRM(Stateful, nn.Module):
    r"""Mean cross-entropy with the weight and margin of the class's window, late in training.

    .. math::
        L &= -\frac{1}{B} \sum_i w_{y_i} \log
        \frac{e^{z_y + m_y}}{e^{z_y + m_y} + \sum_{j \ne y} e^{z_j}} \\
        w_c &= \log\Bigl(1 + \frac{n_{max}}{n_c} \operatorname{mean}_{i \in W_c}
        \frac{n_i}{n_c}\Bigr), \quad
        m_c = -\log \operatorname{mean}_{i \in W_c} \bigl(1 + |v_i - v_c| / \delta\bigr)^{-\beta}

    v are learned with the network, from a normal draw, without weight decay and only while the
    loss is active; W_c are the classes at most floor(window / 2) ranks from c in their order, and
    delta is the median gap between neighbours, through which the gradient flows, too: margins do
    not depend on the scale of v. The order, and with it w, has no gradient. Until the loss
    starts, plain cross-entropy. Predict with the plain logits.

    A higher margin always costs less, so classes move apart, in units of delta, those of high
    weight above all; margins stay within 0 and log(window). With ``sign=1`` they attract each
    other, towards margins of 0. The log shows the margins' range and the spread of v.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        window: W, 1 to C. Published: 15 for CIFAR-100-LT, 30 for ImageNet-LT, 40 for Places-LT.
            Of an even one, W + 1 classes are summed and divided by W, as printed.
        beta: at least 0; 0 gives margins 0 (for an even W one constant, -log(1 + 1 / W)).
            Published: 1 for CIFAR-100-LT, 10 for the other two.
        start: the part of training before the loss starts, 0 to 1. Published: the last 60 of 200
            epochs for CIFAR-100-LT, 10 of 90 for ImageNet-LT, 10 of 30 for Places-LT.
        borders: ``clip``, fewer classes at the ends, or ``shift``, windows are moved inwards.
        sign: of log mean (1 + distance)^-beta: -1 as above, or 1, the default up to
            0.1.0, which punishes classes with close neighbours less.
        weights: ``raw``, as printed, or ``sum``, scaled to sum C.
        reduction: ``batch`` divides by the batch size, ``weights`` by the weights' sum.
        seed: seed of the first positions, from 0.

    Raises:
        InputError: when a parameter is out of range or unknown, or a class has no training image.

    Example:
        >>> from ltkit.losses import Moment
        >>> dyswrm = loss(torch.tensor([4, 2, 1]), window=3, start=0.0)
        >>> dyswrm.before_epoch(Moment(0, 1, None, lambda: torch.zeros(3, 1)))
        >>> dyswrm.positions.data = torch.tensor([0.0, 2.0, 1.0])
        >>> value = dyswrm(torch.zeros(1, 3), torch.tensor([2]), torch.zeros(1, 1))
        >>> round(value.item(), 4)  # w = log(1 + 28/3), m = log 3/2; w log(1 + 2 / (3/2))
        1.9788

    Source:
        Similarity Window Reweighting and Margins for Long-Tailed Recognition; a later version,
        ACM TOMM 2024, doi:10.1145/3643816, is without the dynamic form.

        No code was released. How positions start, are scaled and get their gradient is our
        reading of the text. The other readings of similarity in swrm are absent here: their
        margins are unbounded, so that learned positions would remove the loss.
    """

    class_counts: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        window: int = 15,
        beta: float = 1.0,
        start: float = 0.7,
        borders: str = "clip",
        sign: int = -1,
        weights: str = "raw",
        reduction: str = "batch",
        seed: int = 0,
    ) -> None:
        """Draw the positions; start with cross-entropy."""
        super().__init__()
        check_window(class_counts, window, beta, borders, sign, weights, reduction)
        check_range("start", start, 0, 1)
        check_range("seed", seed, 0, 2**32 - 1)
        self.window, self.beta, self.start, self.borders = window, beta, start, borders
        self.sign, self.scaled, self.reduction = sign, weights == "sum", reduction
        self.active = False
        self.register_buffer("class_counts", class_counts.double(), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        self.positions = nn.Parameter(torch.randn(len(class_counts), generator=generator))

    def before_epoch(self, moment: Moment) -> None:
        """Check whether the loss starts."""
        self.active = moment.reached(self.start)

    def terms(self) -> tuple[Tensor, Tensor]:
        """Return the (C,) weights and margins."""
        weights, margins = similarity_window(
            self.class_counts, self.positions.double(), window=self.window, beta=self.beta,
            borders=self.borders,
        )  # fmt: skip
        if self.scaled:
            weights = weights * len(weights) / weights.sum()
        return weights, self.sign * margins

    def watched(self) -> dict[str, float]:
        """Return the range of the margins and the standard deviation of the positions."""
        with torch.no_grad():
            least, most = (float(m) for m in self.terms()[1].aminmax())
            spread = float(self.positions.std())
        return {"margin_min": least, "margin_max": most, "spread": spread}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if not self.active:
            return functional.cross_entropy(logits, labels)
        weights, margins = (term.to(logits.dtype) for term in self.terms())
        return window_loss(logits, labels, weights, margins, self.reduction)


loss = DySWRM
