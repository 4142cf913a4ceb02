"""Training losses, one file each: ``loss(logits, labels, class_counts, **parameters)``.

What several of them need is here, for they know nothing of each other. torch is not imported, so
that listing their names stays quick.
"""

from collections.abc import Iterable
from math import inf, isfinite, log
from typing import TYPE_CHECKING

from ltkit.errors import InputError, nearest

if TYPE_CHECKING:
    from torch import Tensor


def check_range(name: str, value: float, least: float = 0.0, most: float = inf) -> None:
    """Refuse a parameter that is not a finite number from least to most.

    Raises:
        InputError: naming the parameter, what was found and what was expected.
    """
    if not (least <= value <= most and isfinite(value)):
        expected = f"at least {least:g}" if most == inf else f"from {least:g} to {most:g}"
        raise InputError(f"{name}: found {value}, expected a finite number {expected}")


def check_choice(name: str, value: str, known: Iterable[str]) -> None:
    """Refuse a parameter that is none of the known words.

    Raises:
        InputError: naming the nearest words.
    """
    known = list(known)
    if value not in known:
        raise InputError(f"{name}: found {value!r}, unknown; {nearest(value, known)}")


def check_counts(class_counts: "Tensor") -> None:
    """Refuse a class without a training image, where its logarithm or power is needed.

    Raises:
        InputError: naming the first such class.
    """
    if class_counts.min() < 1:
        empty = (class_counts < 1).nonzero().flatten().tolist()
        raise InputError(
            f"class {empty[0]}: found no training image, expected at least 1 in every class for "
            f"this loss; {len(empty)} such classes"
        )


def effective_number_weights(class_counts: "Tensor", beta: float) -> "Tensor":
    r"""Return (C,) weights, one over the effective number of images, with sum C.

    .. math:: E_c = \frac{1 - \beta^{n_c}}{1 - \beta}, \quad w_c = C\, E_c^{-1} / \sum_j E_j^{-1}

    Args:
        class_counts: (C,) floating point, at least 1.
        beta: 0 gives weights 1; 1 gives the limit, weights in proportion to ``1 / n_c``.

    Source:
        Cui et al., CVPR 2019, arXiv:1901.05555, sec. 3 and 4.
    """
    check_range("beta", beta, 0, 1)
    if beta == 0:
        return class_counts.new_ones(len(class_counts))
    # expm1 keeps the digits of 1 - beta^n that a beta near 1 would lose; 1 - beta cancels.
    effective = class_counts if beta == 1 else -(class_counts * log(beta)).expm1()
    weights = 1 / effective
    return weights * len(weights) / weights.sum()


def batch_seed(labels: "Tensor", seed: int) -> int:
    """Return the seed of a batch's draws, from the run's and the labels in their order.

    A loss with fresh draws at every step keeps no state this way: batches differ, so their draws
    do; the same batch has the same draws, in a run repeated or resumed.

    Args:
        labels: (B,) int64.
        seed: 0 to 2^31 - 1.
    """
    check_range("seed", seed, 0, 2**31 - 1)
    return seed + int(labels.cumsum(0).sum())
