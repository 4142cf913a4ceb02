"""PC softmax: the training prior is taken out of the logits, a target prior put in."""

import numpy as np

from ltkit.posthoc import log_prior, log_target
from ltkit.records import Classifier, FeatureSplit, Ints

PRIOR = True


def fit(
    base: Classifier, train: FeatureSplit | None, class_counts: Ints, *, target: str = "uniform"
) -> Classifier:
    r"""Add to each class's bias the log of its target prior over its training prior.

    .. math:: b'_c = b_c - \log \pi_c + \log \pi^t_c

    Args:
        base: the classifier to correct, trained with plain cross-entropy; for one trained with a
            prior in its loss there is `lade`.
        train: not used; every method takes it.
        class_counts: (C,) training images per class, all at least 1.
        target: class frequencies where the classifier will be used: ``uniform``, which predicts as
            logit adjustment with tau 1; ``train``, which changes nothing; ``inverse``, in
            proportion to one over the training count; ``forward:50`` and ``backward:50``, a long
            tail in the order of training counts, or against it; C numbers, comma-separated; or a
            file of class<TAB>share.

    Raises:
        InputError: when the target is none of these, or a class has no training image.

    Example:
        >>> base = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> bias = fit(base, None, np.array([90, 10]), target="3,1").bias
        >>> [round(b, 3) for b in bias.tolist()]  # log 0.75 / 0.9, log 0.25 / 0.1
        [-0.182, 0.916]

    Source:
        Hong et al., CVPR 2021, arXiv:2012.00321, sec. 3 (post-compensated softmax).
    """
    shift = log_target(target, class_counts) - log_prior(class_counts)
    bias = (base.bias + shift).astype(np.float32)
    return Classifier(base.weight, bias, base.normalize_features, base.experts)
