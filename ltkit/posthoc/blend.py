"""Blend of the trained head with a class-balanced one, followed by logit adjustment.

A head trained on few images of a class holds the class too low; one fitted to class-balanced
features holds it too high, because it leans on the few images again and again. They err in
different samples, so the mean of their logits errs less than either, and it is one linear
classifier. What is left of the prior is one number, tau.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.posthoc import check_train, log_prior
from ltkit.posthoc._balanced import blend_of, blends
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent
from ltkit.settings import RANGES

PRIOR = True
REPORTS = True
GRID = {"tau": tuple(i / 8 for i in range(-4, 17))}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    tau: float = 0.5,
    share: float = 0.75,
    penalty: float = 0.02,
) -> Classifier:
    r"""Blend the head with a class-balanced logistic regression, and subtract the log prior.

    .. math::
        z'_c = (1 - \gamma) z_c + \gamma (v_c \cdot f + a_c) - \tau \log \pi_c, \quad
        (V, a) = \arg\min \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i: y_i = c}
            -\log p_c(V f_i + a) + \frac{\lambda \sigma^2}{2} \lVert V \rVert^2

    with the mean variance of a feature, so that the penalty does not depend on the features' unit.
    What the defaults come from, and what the blend gains: docs/blend.md.

    Args:
        base: the trained head; ``share`` 0 and ``tau`` 0 leave it as it is.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        tau: factor of the log prior; below 0 where the regression says too much of rare classes.
        share: gamma, from 0 to 1, of the regression's logits.
        penalty: lambda, above 0, of the regression's weights.

    Raises:
        InputError: when there is no train split, a class has no sample, or a parameter is out of
            range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [-1], [-1]]), np.array([0, 1, 1]))
        >>> base = Classifier(np.float32([[2], [-2]]), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 2]), tau=0.0, share=0.5, penalty=0.5)
        >>> v = 2 * float(c.weight[0, 0]) - 2  # of the regression: 1 - p = v / 2
        >>> round(v, 2), round(2 / (1 + float(np.exp(2 * v))), 2)
        (0.52, 0.52)

    Source:
        ltkit's own, docs/blend.md. Blending weights of a trained and a re-trained network: Wortsman
        et al., CVPR 2022, arXiv:2109.01903; the adjustment: Menon et al., ICLR 2021,
        arXiv:2007.07314; a balanced head: Kang et al., ICLR 2020, arXiv:1910.09217.
    """
    settings = {"tau": tau, "share": share, "penalty": penalty}
    return fit_many(base, train, class_counts, [settings])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    report: Report = silent,
) -> list[Classifier]:
    """Fit several settings; those of one penalty share a regression. `tried` as for `fit`."""
    train = check_train(train, base.num_classes)
    prior = log_prior(class_counts)
    for settings in tried:
        RANGES["tau"].check(settings["tau"], "tau")
    blended = blends(base, train, tried, report)
    weights = {key: weight.astype(np.float32) for key, (weight, _) in blended.items()}
    found = []
    for settings in tried:
        key = blend_of(settings)
        with np.errstate(over="ignore"):  # by an extreme tau; whoever uses the bias checks it
            bias = (blended[key][1] - settings["tau"] * prior).astype(np.float32)
        found.append(Classifier(weights[key], bias, base.normalize_features, base.experts))
    return found
