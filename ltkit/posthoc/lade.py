"""LADE's post-compensation: a target prior is put into logits that are free of one."""

import numpy as np

from ltkit.posthoc import log_target
from ltkit.records import Classifier, FeatureSplit, Ints

PRIOR = True


def fit(
    base: Classifier, train: FeatureSplit | None, class_counts: Ints, *, target: str = "uniform"
) -> Classifier:
    r"""Add the log of the target prior, in units of the uniform one, to each class's bias.

    .. math:: b'_c = b_c + \log (C \pi^t_c)

    Args:
        base: the classifier to correct, trained with LADE, balanced softmax or another loss that
            leaves the training prior out of the logits; for plain cross-entropy there is
            `pc_softmax`.
        train: not used; every method takes it.
        class_counts: (C,) training images per class; at least 1 where the target needs them.
        target: class frequencies where the classifier will be used: ``uniform``, which changes
            nothing; ``train``; ``inverse``, in proportion to one over the training count;
            ``forward:50`` and ``backward:50``, a long tail in the order of training counts, or
            against it; C numbers, comma-separated; or a file of class<TAB>share.

    Raises:
        InputError: when the target is none of these, or needs a count that is 0.

    Example:
        >>> base = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> bias = fit(base, None, np.array([90, 10]), target="train").bias
        >>> [round(b, 3) for b in bias.tolist()]  # log 2 * 0.9, log 2 * 0.1
        [0.588, -1.609]

    Source:
        Hong et al., CVPR 2021, arXiv:2012.00321, sec. 3 (inference with LADE).
    """
    shift = log_target(target, class_counts) - log_target("uniform", class_counts)
    bias = (base.bias + shift).astype(np.float32)
    return Classifier(base.weight, bias, base.normalize_features, base.experts)
