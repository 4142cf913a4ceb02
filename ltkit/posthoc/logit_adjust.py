"""Post-hoc logit adjustment: the log of the training frequency is subtracted from the logits."""

import numpy as np

from ltkit.posthoc import log_prior, log_target
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.settings import RANGES

PRIOR = True
GRID = {"tau": tuple(i / 10 for i in range(31))}
"""0 to 3 in steps of 0.1; the source sweeps tau on validation data."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    tau: float = 1.0,
    target: str = "uniform",
) -> Classifier:
    r"""Subtract tau times the log prior from each class's bias, and add a target's log prior.

    .. math:: b'_c = b_c - \tau (\log \pi_c - \log C \pi^t_c), \quad \pi_c = n_c / \sum_j n_j

    Args:
        base: the classifier to correct, trained with plain cross-entropy; one trained with a
            prior in its loss must not be corrected again.
        train: not used; every method takes it.
        class_counts: (C,) training images per class, all at least 1.
        tau: 0 changes nothing, 1 is the value of the theory.
        target: class frequencies where the classifier will be used: ``uniform``, as in the source;
            ``train``, which changes nothing; ``inverse``, in proportion to one over the training
            count; ``forward:50`` and ``backward:50``, a long tail of that ratio in the order of
            training counts, or against it; C numbers, comma-separated; or a file with a line
            class<TAB>share for each class. tau is then chosen by accuracy under it.

    Raises:
        InputError: when tau is not a finite number, a class has no training image, or the target is
            none of these.

    Example:
        >>> base = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> bias = fit(base, None, np.array([90, 10])).bias
        >>> [round(b, 3) for b in bias.tolist()]  # -log 0.9, -log 0.1
        [0.105, 2.303]

    Source:
        Menon et al., ICLR 2021, arXiv:2007.07314, eq. 9.
    """
    RANGES["tau"].check(tau, "tau")
    shift = -tau * log_prior(class_counts)
    if target != "uniform":
        shift += tau * (log_target(target, class_counts) - log_target("uniform", class_counts))
    with np.errstate(over="ignore"):  # an extreme tau overflows; whoever uses the bias checks it
        bias = (base.bias + shift).astype(np.float32)
    return Classifier(base.weight, bias, base.normalize_features, base.experts)
