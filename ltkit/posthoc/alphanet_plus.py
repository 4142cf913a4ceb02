"""AlphaNet-plus: a blended head whose rare classes are lent a part of their neighbours' rows.

AlphaNet moves a rare class's row by the length of a frequent one, towards a combination of similar
classes' rows, on a head that knows no prior. What is worth having of it is the direction, and the
mean of the neighbours' rows points there without a network. The blended head is the better one to
start from; as the prior is taken out of its logits, a part of that mean comes in: one knob, tau.
Derivation and measurements: docs/alphanet-plus.md.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.posthoc import check_choice, check_range, check_train, groups_within, log_prior
from ltkit.posthoc._balanced import blends
from ltkit.records import Classifier, FeatureSplit, Floats, Ints, Neighbors
from ltkit.settings import BINS, RANGES, NeighborSettings

METRICS = ("euclidean", "cosine")
GRID = {"tau": tuple(i / 8 for i in range(-4, 17))}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    tau: float = 0.5,
    part: float = 0.25,
    k: int = 5,
    metric: str = "euclidean",
    share: float = 0.75,
    penalty: float = 0.02,
    few_below: int = BINS[0],
    many_above: int = BINS[1],
) -> Classifier:
    r"""Subtract the log prior from a blended head, and add neighbours' rows to its rare classes'.

    .. math::
        z'_c = z^{blend}_c - \tau \log \pi_c + s \, [c \text{ rare}] \,
            \frac{1}{k} \sum_{i=1}^k w_{n_i(c)} \cdot f, \quad s = \rho \max(\tau, 0)

    with the rows w of the head, the nearest frequent classes n(c), and the blend of
    `ltkit.posthoc.blend`. A rare class's row is moved by at most s times the longest of its
    neighbours' rows.

    Args:
        base: the trained head; ``tau`` 0 and ``share`` 0 leave it as it is.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        tau: factor of the log prior.
        part: rho, at least 0, of the neighbours' mean row for a tau of 1; 0 gives the blend.
        k: neighbours of a rare class; all where there are fewer.
        metric: ``euclidean`` or ``cosine``, the distance of class means.
        share: gamma, from 0 to 1, of the regression in the blend.
        penalty: lambda, above 0, of the regression's weights.
        few_below: rare classes have fewer training images.
        many_above: greatest count of the medium shot group.

    Raises:
        InputError: when there is no train split, a class has no sample, no class is rare or none
            frequent, or a parameter is out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [2], [-1]]), np.array([0, 0, 1]))
        >>> base = Classifier(np.float32([[2], [-2]]), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([2, 1]), tau=1, part=0.5, share=0, few_below=2)
        >>> c.weight.tolist(), c.bias.round(3).tolist()  # -2 + 0.5 * 2; -log 2 / 3, -log 1 / 3
        ([[2.0], [-1.0]], [0.4050000011920929, 1.0989999771118164])

    Source:
        ltkit's own, docs/alphanet-plus.md. Combining a rare class's row with its neighbours': Chang
        et al., AlphaNet, arXiv:2008.07073; the adjustment: Menon et al., ICLR 2021,
        arXiv:2007.07314.
    """
    settings = {
        "tau": tau, "part": part, "k": k, "metric": metric, "share": share, "penalty": penalty,
        "few_below": few_below, "many_above": many_above,
    }  # fmt: skip
    return fit_many(base, train, class_counts, [settings])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
) -> list[Classifier]:
    """Fit several settings, which share what they can. `tried` as for `fit`."""
    train = check_train(train, base.num_classes)
    prior = log_prior(class_counts)
    for settings in tried:
        RANGES["tau"].check(settings["tau"], "tau")
        check_range("part", settings["part"], 0, 100)
        RANGES["k"].check(settings["k"], "k")
        check_choice("metric", settings["metric"], METRICS)
    blended, weights, near = blends(base, train, tried), dict[Any, Floats](), dict[Any, Neighbors]()
    found = []
    for settings in tried:
        which = tuple(settings[name] for name in ("k", "metric", "few_below", "many_above"))
        if which not in near:
            near[which] = similar(base, train, class_counts, *which)
        blend = float(settings["share"]), float(settings["penalty"])
        scale = settings["part"] * max(settings["tau"], 0.0)
        rows = (*which, *blend, scale)
        weight, bias = blended[blend]
        if rows not in weights:
            weights[rows] = moved(weight, base, near[which], scale)
        bias = bias - settings["tau"] * prior
        with np.errstate(over="ignore"):  # by an extreme tau; whoever uses the bias checks it
            found.append(
                Classifier(
                    weights[rows], bias.astype(np.float32), base.normalize_features, base.experts
                )
            )
    return found


def similar(
    base: Classifier,
    train: FeatureSplit,
    class_counts: Ints,
    k: int,
    metric: str,
    few_below: int,
    many_above: int,
) -> Neighbors:
    """Return the nearest frequent classes of every rare class.

    Raises:
        InputError: when there are none of either, or the bins are not ascending counts.
    """
    groups = groups_within(class_counts, few_below, many_above)
    for name, ids in (("few-shot", groups.few), ("base", groups.base)):
        if not len(ids):
            raise InputError(
                f"found no {name} class: training counts {class_counts.min()} to "
                f"{class_counts.max()}, few below {few_below}; set other bins"
            )
    means, _ = class_means(train, base.num_classes)
    settings = NeighborSettings(min(k, len(groups.base)), metric)  # type: ignore[arg-type]
    return nearest(means, groups.few, groups.base, settings)


def moved(weight: Floats, base: Classifier, near: Neighbors, scale: float) -> Floats:
    """Return (C, D) float32 rows, those of rare classes moved by a part of their neighbours' mean.

    Args:
        weight: (C, D) rows in float64.
        base: the head whose rows are added.
        near: rare classes and their neighbours.
        scale: the part.

    Example:
        >>> base = Classifier(np.float32([[2, 0], [0, 4], [1, 1]]), np.zeros(3, np.float32))
        >>> near = Neighbors(np.array([2]), np.array([[0, 1]]), np.ones((1, 2)))
        >>> moved(base.weight, base, near, 0.5)[2].tolist()
        [1.5, 2.0]
    """
    rows = weight.astype(np.float64)
    if scale:
        added = base.weight.astype(np.float64)[near.base_class].mean(axis=1)  # (F, D)
        rows[near.few_class] += scale * added
    moved_rows: Floats = rows.astype(np.float32)
    return moved_rows
