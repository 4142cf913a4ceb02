"""The trained head plus a share of the linear discriminant's logits, and logit adjustment.

A head trained on few images of a class knows little of it, but the class's mean feature is already
a fair estimate, and the spread around the means is shared by all classes. The discriminant is made
of just these; its logits and the head's err in different places, and their sum is one linear
classifier.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.posthoc import check_range, check_train, log_prior
from ltkit.records import Classifier, FeatureSplit, Ints

GRID = {
    "share": (0.0, 0.1, 0.25, 0.5, 1.0),
    "tau": tuple(i / 8 for i in range(21)),
}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    share: float = 0.25,
    tau: float = 1.0,
    shrinkage: float = 0.2,
) -> Classifier:
    r"""Add a linear discriminant's logits to the head's, and subtract the log prior.

    .. math:: z'_c = z_c + \gamma \, (\mu_c^T \Sigma^{-1} f
            - \tfrac{1}{2} \mu_c^T \Sigma^{-1} \mu_c) - \tau \log \pi_c

    with the mean feature of each class and one covariance within classes, shrunk towards a multiple
    of the identity with the same trace:
    ``Sigma = (1 - shrinkage) S_w + shrinkage tr(S_w) / D I``.

    Args:
        base: the trained head; ``share`` 0 and ``tau`` 0 leave it as it is.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        share: gamma, of the discriminant's logits; at least 0.
        tau: of the log prior; the discriminant itself has none.
        shrinkage: above 0 and at most 1, so that the covariance can be inverted.

    Raises:
        InputError: when there is no train split, a class has no sample, or a parameter is out of
            range.

    Example:
        >>> train = FeatureSplit(np.float32([[3], [1], [-1], [-3]]), np.array([0, 0, 1, 1]))
        >>> base = Classifier(np.zeros((2, 1), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([2, 2]), share=1.0, tau=0.0)  # means 2, -2; variance 1
        >>> c.weight.tolist(), c.bias.tolist()
        ([[2.0], [-2.0]], [-2.0, -2.0])

    Source:
        The sum is ltkit's own, docs/decisions.md; the discriminant: Fisher, Annals of Eugenics
        1936, doi:10.1111/j.1469-1809.1936.tb02137.x; the adjustment: Menon et al., ICLR 2021,
        arXiv:2007.07314.
    """
    return fit_many(
        base, train, class_counts, [{"share": share, "tau": tau, "shrinkage": shrinkage}]
    )[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
) -> list[Classifier]:
    """Fit several settings from one pass over the features; each of `tried` is as for `fit`."""
    train = check_train(train, base.num_classes)
    prior = log_prior(class_counts)
    for settings in tried:
        check_range("share", settings["share"], 0)
        check_range("tau", settings["tau"])
        check_range("shrinkage", settings["shrinkage"], 1e-6, 1)
    means, within = _moments(base, train)
    identity = np.eye(len(within)) * max(np.trace(within) / len(within), np.finfo(float).tiny)
    discriminants = {}
    for shrinkage in {settings["shrinkage"] for settings in tried}:
        covariance = (1 - shrinkage) * within + shrinkage * identity
        weight = np.linalg.solve(covariance, means.T).T  # (C, D)
        discriminants[shrinkage] = weight, -0.5 * (weight * means).sum(axis=1)
    found = []
    for settings in tried:
        weight, bias = discriminants[settings["shrinkage"]]
        with np.errstate(
            over="ignore"
        ):  # an extreme tau overflows; whoever uses the bias checks it
            found.append(
                Classifier(
                    (base.weight + settings["share"] * weight).astype(np.float32),
                    (base.bias + settings["share"] * bias - settings["tau"] * prior).astype(
                        np.float32
                    ),
                    base.normalize_features,
                    base.experts,
                )
            )
    return found


def _moments(
    base: Classifier, train: FeatureSplit
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (C, D) class means and the (D, D) covariance within classes, in one pass."""
    size = base.feature_size
    counts = np.bincount(train.labels, minlength=base.num_classes)
    sums, squares = np.zeros((base.num_classes, size)), np.zeros((size, size))
    for _, features, labels in train.blocks():
        rows = base.prepare(features).astype(np.float64)
        np.add.at(sums, labels, rows)
        squares += rows.T @ rows
    means = sums / counts[:, None]
    within: NDArray[np.float64] = (squares - means.T @ sums) / len(train)
    return means, within
