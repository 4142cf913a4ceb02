"""CDB-W-CE: classes weigh more the worse they do on the validation split, epoch by epoch."""

from math import exp

import torch
from torch import Tensor, nn
from torch.nn import functional

from ltkit.errors import InputError
from ltkit.losses import Moment, Stateful, check_choice, check_range

RULES = ("paper", "code", "fixed")
NEUTRAL = {"rule": "fixed", "tau": 0.0}
FLOOR = 0.01
"""Added to the lowest accuracy in both dynamic rules, as in the source."""


class CDB(Stateful, nn.Module):
    r"""Mean cross-entropy, weighted by the difficulty of the class after the last epoch.

    .. math:: L = \frac{1}{B} \sum_i w_{y_i} CE(z_i, y_i), \quad
        w_c = C \frac{d_c^\tau}{\sum_j d_j^\tau}, \quad d_c = 1 - acc_c

    acc_c is the accuracy of class c on the validation split; in the first epoch all weights are 1.
    tau follows from the accuracies, or is fixed:

    - ``paper``: 2 sigmoid(max acc / (min acc + 0.01) - 1), from about 1 to 2
    - ``code``: sigmoid(max acc / (min acc + 0.01)), from about 1/2 to 1
    - ``fixed``: the value that is set

    The validation split has to be balanced data that no final number is reported on.

    Args:
        class_counts: (C,) training images per class; only their number is used.
        rule: rule for tau; ``paper``, the rule of the source's text, ``code``, that of its training
            script, or ``fixed``.
        tau: only for ``fixed``, at least 0; 0 is cross-entropy. The source tries 0.5, 1, 1.5, 2
            and 5, of which 1.5 does best.

    Raises:
        InputError: when the rule is unknown, tau out of range, there is no validation split, or a
            class has no image in it.

    Example:
        >>> from ltkit.losses import Moment
        >>> cdb = loss(torch.ones(2), rule="fixed", tau=2.0)
        >>> cdb.before_epoch(Moment(1, 9, lambda: torch.tensor([0.5, 0.0]), lambda: torch.ones(1)))
        >>> value = cdb(torch.zeros(1, 2), torch.tensor([1]), torch.zeros(1, 2))
        >>> round(value.item(), 4)  # difficulties 1/2, 1, squared 1/4, 1: w = 2/5, 8/5; 8/5 log 2
        1.109

    Source:
        Sinha et al., ACCV 2020, arXiv:2010.01824, sec. 3; the weighting member of Sinha et al.,
        IJCV 2022.

        The source holds 25 images per class out of the full data, more than a rare class is left
        with to train on; other methods do not get them. Its last bias starts at -log(C - 1),
        without weight decay.
    """

    weights: Tensor

    def __init__(self, class_counts: Tensor, *, rule: str = "paper", tau: float = 1.5) -> None:
        """Start with weights 1."""
        super().__init__()
        check_choice("rule", rule, RULES)
        check_range("tau", tau)
        self.rule, self.tau, self.used = rule, tau, 0.0
        ones = torch.ones(len(class_counts), dtype=torch.float64)
        self.register_buffer("weights", ones)

    def before_epoch(self, moment: Moment) -> None:
        """Compute the weights from the validation accuracy, after the first epoch.

        Raises:
            InputError: without a validation image of every class.
        """
        if moment.accuracy is None:
            raise InputError("cdb: found no val split, expected one, which its weights come from")
        if moment.epoch == 0:
            return
        accuracy = moment.accuracy().double()
        if accuracy.isnan().any():
            empty = accuracy.isnan().nonzero().flatten().tolist()
            raise InputError(
                f"cdb: class {empty[0]}: found no val image, expected at least 1 in every class; "
                f"{len(empty)} such classes"
            )
        self.used = exponent(accuracy, self.rule, self.tau)
        self.weights = difficulty_weights(accuracy, self.used).to(self.weights.device)

    def watched(self) -> dict[str, float]:
        """Return the tau in use, 0 before there is one, and the range of the weights."""
        least, most = (float(w) for w in self.weights.aminmax())
        return {"tau": self.used, "weight_min": least, "weight_max": most}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        costs = functional.cross_entropy(logits, labels, reduction="none")
        return (self.weights.to(logits.dtype)[labels] * costs).mean()


def exponent(accuracy: Tensor, rule: str, tau: float) -> float:
    """Return tau from (C,) accuracies, by the chosen rule.

    Example:
        >>> accuracy = torch.tensor([0.49, 0.24])  # 0.49 / 0.25 = 1.96
        >>> [round(exponent(accuracy, rule, 1.5), 4) for rule in RULES]
        [1.4462, 0.8765, 1.5]
    """
    bias = float(accuracy.max() / (accuracy.min() + FLOOR))
    if rule == "paper":
        return 2 / (1 + exp(1 - bias))
    return 1 / (1 + exp(-bias)) if rule == "code" else tau


def difficulty_weights(accuracy: Tensor, tau: float) -> Tensor:
    """Return (C,) weights with sum C; all 1 where no class is difficult.

    Example:
        >>> difficulty_weights(torch.tensor([1.0, 0.75, 0.5]), 1.0)
        tensor([0., 1., 2.])
    """
    powers = (1 - accuracy) ** tau
    total = powers.sum()
    return len(powers) * powers / total if total > 0 else torch.ones_like(powers)


loss = CDB
