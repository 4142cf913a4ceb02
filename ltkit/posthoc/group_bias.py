"""A bias for each shot group: the plain baseline that any correction has to beat."""

import numpy as np

from ltkit.posthoc import check_range, groups_within
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.settings import BINS

HEAD_ONLY = True
GRID = {
    "few": tuple(i / 2 for i in range(13)),
    "medium": tuple(i / 2 for i in range(7)),
}
"""0 to 6 and 0 to 3 in steps of 0.5: log 100 is 4.6, what logit adjustment adds at most when the
greatest class is 100 times the least."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    few: float = 0.0,
    medium: float = 0.0,
    few_below: int = BINS[0],
    many_above: int = BINS[1],
) -> Classifier:
    r"""Add one number to the biases of few-shot classes and one to those of medium-shot classes.

    .. math:: b'_c = b_c + \delta_{g(c)}, \quad \delta_{many} = 0

    Args:
        base: the classifier to correct.
        train: not used; every method takes it.
        class_counts: (C,) training images per class.
        few: added to few-shot classes; 0 for both changes nothing.
        medium: added to medium-shot classes.
        few_below: least count of the medium shot group.
        many_above: greatest count of the medium shot group.

    Raises:
        InputError: when a shift is not a finite number, or the bins are not ascending counts.

    Example:
        >>> base = Classifier(np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32))
        >>> fit(base, None, np.array([101, 100, 19]), few=2.0, medium=0.5).bias.tolist()
        [0.0, 0.5, 2.0]

    Source:
        No paper; the shot groups are those of Liu et al., CVPR 2019, arXiv:1904.05160.
    """
    check_range("few", few)
    check_range("medium", medium)
    groups = groups_within(class_counts, few_below, many_above)
    bias = base.bias.astype(np.float64)
    bias[groups.few] += few
    bias[groups.medium] += medium
    with np.errstate(over="ignore"):  # an extreme shift overflows; whoever uses the bias checks it
        return Classifier(
            base.weight, bias.astype(np.float32), base.normalize_features, base.experts
        )
