"""Temperature scaling: logits divided by one number, so that confidences are right on average."""

import numpy as np

from ltkit.posthoc import check_val
from ltkit.posthoc._on_val import ValLogits, rescaled, told
from ltkit.posthoc._on_val import temperature as scale_of
from ltkit.records import Classifier, FeatureSplit, Ints

ON_VAL = True
HEAD_ONLY = True


def fit(
    base: Classifier, val: FeatureSplit | None, class_counts: Ints, *, weighting: str = "classes"
) -> Classifier:
    r"""Divide weights and biases by the temperature that validation labels are most likely with.

    .. math:: T = \arg\min_T \sum_i v_i (-\log p_{y_i}(z_i / T)), \quad w'_c = w_c / T,
        \quad b'_c = b_c / T

    Predictions stay as they are. T is sought from a thousandth to a thousand times the standard
    deviation of a sample's logits; a split without an error gets one so small that it leaves no
    doubt.

    Args:
        base: the classifier to correct.
        val: (N, D) features and labels that it was not trained on.
        class_counts: not used; every method takes it.
        weighting: ``classes``, where each class counts the same, or ``samples``.

    Raises:
        InputError: when there is no val split, or no sample of a class that is ever predicted, or
            logits have a size at which nothing can be learned.

    Example:
        >>> val = FeatureSplit(np.float32([[1], [1], [1], [-1]]), np.array([0, 0, 1, 1]))
        >>> base = Classifier(np.float32([[5], [-5]]), np.zeros(2, np.float32))
        >>> found = fit(base, val, np.array([2, 2]), weighting="samples")
        >>> logits = found.logits(np.float32([[1]]))[0]  # right in 3 of 4: log 3
        >>> round(float(logits[0] - logits[1]), 3)
        1.099

    Source:
        Guo et al., ICML 2017, arXiv:1706.04599, sec. 4.2 (temperature scaling).
    """
    problem = ValLogits(base, check_val(val), told(base), weighting)
    scale = np.full(base.num_classes, scale_of(problem))
    return rescaled(base, scale, np.zeros(base.num_classes))
