"""Vector scaling: a factor and an offset for each class, learned on validation data."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.posthoc import _on_val
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent
from ltkit.settings import BINS

ON_VAL = True
REPORTS = True
HEAD_ONLY = True
GRID = {"penalty": (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)}


def fit(
    base: Classifier,
    val: FeatureSplit | None,
    class_counts: Ints,
    *,
    penalty: float = 10.0,
    weighting: str = "classes",
    few_below: int = BINS[0],
    many_above: int = BINS[1],
) -> Classifier:
    r"""Scale and shift each class's logit so that validation labels are most likely.

    .. math:: \min_{a, d} \sum_i v_i (-\log p_{y_i}(a \odot z_i + d))
        + \frac{\lambda}{2} \left( \sum_c (d_c - \bar d_{g(c)})^2
        + \sigma^2 \sum_c (a_c - \bar a)^2 \right), \quad w'_c = a_c w_c,
        \quad b'_c = a_c b_c + d_c

    with the standard deviation of a sample's logits. The source has no penalty, and needs more
    validation samples of a class than most long-tailed data have; a strong one leaves a temperature
    and an offset for each group. A class without validation samples gets its group's mean.

    Args:
        base: the classifier to correct.
        val: (N, D) features and labels that it was not trained on.
        class_counts: (C,) training images per class, which decide the groups.
        penalty: lambda, the larger, the nearer are offsets to their group's mean, and factors to
            the mean of all.
        weighting: ``classes``, where each class counts the same, or ``samples``.
        few_below: least count of the medium shot group.
        many_above: greatest count of the medium shot group.

    Raises:
        InputError: when there is no val split, or no sample of a class that is ever predicted;
            logits have a size at which nothing can be learned; a parameter is out of range.

    Example:
        >>> import numpy as np
        >>> val = FeatureSplit(np.zeros((4, 1), np.float32), np.array([0, 0, 0, 1]))
        >>> base = Classifier(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
        >>> found = fit(base, val, np.array([9, 200]), penalty=1.0, weighting="samples")
        >>> round(float(found.bias[0] - found.bias[1]), 3)  # log 3: groups of their own
        1.099

    Source:
        Guo et al., ICML 2017, arXiv:1706.04599, sec. 4.2 (vector scaling); the penalty is ltkit's
        own.
    """
    settings = {
        "penalty": penalty, "weighting": weighting, "few_below": few_below,
        "many_above": many_above,
    }  # fmt: skip
    return fit_many(base, val, class_counts, [settings])[0]


def fit_many(
    base: Classifier,
    val: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    report: Report = silent,
) -> list[Classifier]:
    """Fit several penalties on the same logits; `tried` as for `fit`."""
    return _on_val.learned(base, val, class_counts, tried, one_scale=False, report=report)
