"""SWRM: weights and margins from a window of similar classes, once features have been learned."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import (
    SIMILARITIES,
    UNITS,
    Moment,
    Stateful,
    check_choice,
    check_range,
    check_window,
    similarity_window,
    window_loss,
)
from ltkit.neighbors.class_means import around_centre

INDICES = ("rank", "label")
OWN = ("in", "out")
FORMS = ("swrm", "swr", "swm")
INITS = ("random", "pca")
NEUTRAL = {"beta": 0.0, "weights": "sum"}


class SWRM(Stateful, nn.Module):
    r"""Mean cross-entropy with the weight and margin of the class's window, late in training.

    .. math::
        L &= -\frac{1}{B} \sum_i w_{y_i} \log
        \frac{e^{z_y + m_y}}{e^{z_y + m_y} + \sum_{j \ne y} e^{z_j}} \\
        w_c &= \log\Bigl(1 + \frac{n_{max}}{n_c} \operatorname{mean}_{i \in W_c}
        \frac{n_i}{n_c}\Bigr), \quad
        m_c = -\log \operatorname{mean}_{i \in W_c} \bigl(1 + |v_i - v_c|\bigr)^{-\beta}

    The mean features of the classes are brought to positions v in one dimension by t-SNE, in units
    of the median gap between neighbours; W_c are the classes at most floor(window / 2) ranks from
    c on it, c among them, fewer at the ends. Until the loss starts, plain cross-entropy. Predict
    with the plain logits.

    A margin makes a class cheaper, from 0, where its neighbours are at its place, to at most
    log(window): errors on classes with close neighbours are punished more, for they get less.

    The means are the network's own where the loss starts, or those of a features file, `train
    --class-means`: with the features of a finished model they are the source's procedure.

    Args:
        class_counts: (C,) training images per class, all at least 1.
        window: W, 1 to C. Published: 15 for CIFAR-100-LT, 30 for ImageNet-LT, 40 for Places-LT.
            Of an even one, W + 1 classes are summed and divided by W, as printed.
        beta: at least 0; 0 gives margins 0 (for an even W one constant, -log(1 + 1 / W)).
            Published: 1 for CIFAR-100-LT, 10 for the other two.
        start: the part of training before the loss starts, 0 to 1. Published: the last 60 of 200
            epochs for CIFAR-100-LT, 10 of 90 for ImageNet-LT, 10 of 30 for Places-LT.
        similarity: ``one-plus-distance`` as above, ``inverse``, 1 / (1 + distance), or
            ``exponential``, exp(-distance), of which m is log mean sim^-beta. With the last two,
            margins have no bound and can remove the loss.
        index: ``rank``, windows on the line, or ``label``, windows of class ids.
        borders: ``clip``, fewer classes at the ends, or ``shift``, windows are moved inwards.
        own: ``in``, the class is in its own window, or ``out``.
        unit: unit of distance: ``gap``, the median gap, or ``raw``, the projection's.
        sign: of log mean sim^-beta: 1 as printed, -1, or 0, the one with which close neighbours
            cost more: -1 for ``one-plus-distance``, else 1.
        weights: ``raw``, as printed, or ``sum``, scaled to sum C.
        reduction: ``batch`` divides by the batch size, ``weights`` by the weights' sum.
        form: ``swrm``; ``swr``, weights alone, margins 0; or ``swm``, margins alone, weights 1.
        init: where t-SNE starts: ``random``, a draw by the seed, or ``pca``, the principal
            component, the same for every seed.
        seed: of the draw, from 0; training gives the run's.

    Raises:
        InputError: when a parameter is out of range or unknown, or a class has no training image.

    Example:
        >>> from ltkit.losses import Moment
        >>> swrm = loss(torch.tensor([4, 2, 1]), window=3, start=0.0)
        >>> means = torch.tensor([[0.0], [2.0], [1.0]])
        >>> swrm.before_epoch(Moment(0, 1, None, lambda: means))
        >>> value = swrm(torch.zeros(1, 3), torch.tensor([2]), torch.zeros(1, 1))
        >>> round(value.item(), 4)  # w = log(1 + 28/3), m = log 3/2; w log(1 + 2 / (3/2))
        1.9788

    Source:
        Similarity Window Reweighting and Margins for Long-Tailed Recognition; a later version,
        ACM TOMM 2024, doi:10.1145/3643816, has another margin.

        No code was released. Which classes are in a window, what sim is and how positions are
        scaled are our reading of the text; the options are the other readings. The text has a
        similarity that falls with distance, and errors on similar classes punished more. With the
        printed sign, only ``inverse`` and ``exponential`` do that, without a bound; the default
        does, with one, and agrees with ``inverse`` to the first order in beta: 1 / mean sim^beta
        instead of mean 1 / sim^beta, for sim = 1 / (1 + distance). The larger beta is, the more the
        nearest class alone decides, at 10 almost. ``--set sign=1`` was the default up to 0.1.0,
        and does the opposite.
    """

    takes_class_means = True
    positions: Tensor
    class_counts: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        *,
        window: int = 15,
        beta: float = 1.0,
        start: float = 0.7,
        similarity: str = "one-plus-distance",
        index: str = "rank",
        borders: str = "clip",
        own: str = "in",
        unit: str = "gap",
        sign: int = 0,
        weights: str = "raw",
        reduction: str = "batch",
        form: str = "swrm",
        init: str = "random",
        seed: int = 0,
    ) -> None:
        """Start with cross-entropy and without positions."""
        super().__init__()
        sign = sign or (-1 if similarity == "one-plus-distance" else 1)
        check_window(class_counts, window, beta, borders, sign, weights, reduction)
        check_range("start", start, 0, 1)
        check_choice("similarity", similarity, SIMILARITIES)
        check_choice("index", index, INDICES)
        check_choice("own", own, OWN)
        check_choice("unit", unit, UNITS)
        check_choice("form", form, FORMS)
        check_choice("init", init, INITS)
        check_range("seed", seed, 0, 2**32 - 1)
        if own == "out" and window < 2:
            raise InputError(f"window: found {window}, expected 2 or more without the class's own")
        self.start, self.seed, self.init, self.active = start, seed, init, False
        self.form = form
        self.sign, self.scaled, self.reduction = sign, weights == "sum", reduction
        self.options: dict[str, Any] = {
            "window": window, "beta": beta, "similarity": similarity, "borders": borders,
            "by_rank": index == "rank", "own": own == "in", "unit": unit,
        }  # fmt: skip
        self.register_buffer("class_counts", class_counts.double(), persistent=False)
        self.register_buffer("positions", torch.full_like(self.class_counts, torch.nan))

    def before_epoch(self, moment: Moment) -> None:
        """Project the classes when the loss starts.

        Raises:
            InputError: when a class mean is missing.
        """
        self.active = moment.reached(self.start)
        if self.active and self.positions.isnan().any():
            means = moment.class_means().double().cpu().numpy()
            if not np.isfinite(means).all():
                raise InputError("swrm: found a class without a finite mean feature")
            self.positions.copy_(torch.from_numpy(project(means, self.seed, self.init)))
        if self.active:
            weights, margins = similarity_window(self.class_counts, self.positions, **self.options)
            weights = torch.ones_like(weights) if self.form == "swm" else weights
            self.weights = weights * len(weights) / weights.sum() if self.scaled else weights
            self.margins = 0 * margins if self.form == "swr" else self.sign * margins

    def watched(self) -> dict[str, float]:
        """Return the range of the margins, once there are any."""
        if not self.active:
            return {}
        least, most = (float(m) for m in self.margins.aminmax())
        return {"margin_min": least, "margin_max": most}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if not self.active:
            return functional.cross_entropy(logits, labels)
        weights, margins = self.weights.to(logits.dtype), self.margins.to(logits.dtype)
        return window_loss(logits, labels, weights, margins, self.reduction)


def project(means: NDArray[np.float64], seed: int, init: str = "random") -> NDArray[np.float64]:
    """Return (C,) positions of classes on a line, by t-SNE of their (C, D) means.

    Perplexity min(30, (C - 1) / 3), learning rate C / 48, at least 5: the usual least rate of 50
    is for many points, and throws few of them past each other until clusters are torn apart.
    Classes are taken in the order of their means, so that their names do not matter. Fewer than
    four classes have their principal component, equal means one position.

    Args:
        means: (C, D).
        seed: of the first positions.
        init: one of `INITS`; ``pca`` starts from the principal component, whatever the seed.

    Example:
        >>> project(np.array([[0.0], [2.0], [1.0]]), 0).tolist()
        [-1.0, 1.0, 0.0]
    """
    order = np.lexsort(means.T)
    centred = around_centre(means)[order]
    if not centred.any():
        return np.zeros(len(means))
    if len(means) < 4:
        _, _, rows = np.linalg.svd(centred, full_matrices=False)
        sign = 1.0 if rows[0][np.abs(rows[0]).argmax()] > 0 else -1.0
        line = sign * (centred @ rows[0])
    else:
        from sklearn.manifold import TSNE

        perplexity, rate = min(30.0, (len(means) - 1) / 3), max(5.0, len(means) / 48)
        tsne = TSNE(1, perplexity=perplexity, learning_rate=rate, init=init, random_state=seed)
        line = tsne.fit_transform(centred.astype(np.float32))[:, 0].astype(np.float64)
    positions = np.empty(len(means))
    positions[order] = line
    return positions


loss = SWRM
