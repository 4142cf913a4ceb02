"""AlphaNet-plus: a blended head whose rare classes are lent the rows they are mistaken for.

AlphaNet moves a rare class's row by the length of a frequent one, towards a combination of similar
classes' rows, on a head that knows no prior. What is worth having of it is the direction, and that
is known without a network: validation images of a rare class say which frequent classes they are
taken for, and how much. The blended head is the better one to start from; as the prior is taken
out of its logits, a part of those rows comes in: one knob, tau. Derivation and measurements:
docs/alphanet-plus.md.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import neighbors
from ltkit.errors import InputError
from ltkit.neighbors.class_means import class_means
from ltkit.posthoc import (
    check_choice,
    check_range,
    check_train,
    check_val,
    groups_within,
    log_prior,
)
from ltkit.posthoc._balanced import blend_of, blends
from ltkit.posthoc._stacked import Double
from ltkit.records import Classifier, FeatureSplit, Floats, Ints, ShotGroups
from ltkit.records.progress import Report, silent
from ltkit.settings import BINS, RANGES, Metric, NeighborSettings

ON_VAL = True
REPORTS = True
METRICS = ("confusion", "euclidean", "cosine")
LENDING = ("metric", "nearest", "few_below", "many_above")
"""The parameters that what is lent depends on."""

GRID = {"tau": (*(i / 8 for i in range(-4, 2)), *(i / 32 for i in range(8, 32)),
                *(i / 8 for i in range(8, 17)))}  # fmt: skip
"""Finer where limits on the overall accuracy are met."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    val: FeatureSplit | None = None,
    *,
    tau: float = 0.5,
    part: float = 0.25,
    metric: str = "confusion",
    nearest: int = 5,
    share: float = 0.75,
    penalty: float = 0.02,
    few_below: int = BINS[0],
    many_above: int = BINS[1],
) -> Classifier:
    r"""Take the log prior out of a blended head, and lend frequent classes' rows to rare ones.

    .. math::
        z'_c = z^{blend}_c - \tau \log \pi_c
            + s \, [c \text{ rare}] \sum_{b \text{ frequent}} q_{cb} \, w_b \cdot f,
        \quad s = \rho \max(\tau, 0), \quad
        q_{cb} \propto \sum_{i: y_i = c} p_b(f_i)

    with the rows w and the softmax p of the head, the validation images i, and the blend of
    `ltkit.posthoc.blend`. Shares q of a class have sum 1, so that its row is moved by at most s
    times the longest frequent row.

    Args:
        base: the trained head; ``tau`` 0 and ``share`` 0 leave it as it is.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        val: (N', D) features and labels, of which only those of rare classes are used.
        tau: factor of the log prior.
        part: rho, at least 0, of the rows that are lent for a tau of 1; 0 gives the blend.
        metric: ``confusion``, as above; ``euclidean`` or ``cosine``: the same share of the
            `nearest` classes with the nearest means, for which no validation images are needed.
            Without images of a class in `val`, its nearest by Euclidean distance.
        nearest: how many of these; all where there are fewer.
        share: gamma, from 0 to 1, of the regression in the blend.
        penalty: lambda, above 0, of the regression's weights.
        few_below: rare classes have fewer training images.
        many_above: greatest count of the medium shot group.

    Raises:
        InputError: when there is no train split, or no validation split for confusions, a class has
            no sample, no class is rare or none frequent, or a parameter is out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [2], [-1]]), np.array([0, 0, 1]))
        >>> base = Classifier(np.float32([[2], [-2]]), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([2, 1]), train, tau=1, part=0.5, share=0, few_below=2)
        >>> c.weight.tolist(), c.bias.round(3).tolist()  # -2 + 0.5 * 2; -log 2 / 3, -log 1 / 3
        ([[2.0], [-1.0]], [0.4050000011920929, 1.0989999771118164])

    Source:
        ltkit's own, docs/alphanet-plus.md. Combining a rare class's row with those of similar ones:
        Chang et al., AlphaNet, arXiv:2008.07073; the adjustment: Menon et al., ICLR 2021,
        arXiv:2007.07314.
    """
    settings = {
        "tau": tau, "part": part, "metric": metric, "nearest": nearest, "share": share,
        "penalty": penalty, "few_below": few_below, "many_above": many_above,
    }  # fmt: skip
    return next(fit_folds(base, train, class_counts, [settings], [val]))[0]


def fit_folds(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    vals: Sequence[FeatureSplit | None],
    report: Report = silent,
) -> Iterator[list[Classifier]]:
    """Fit several settings with each of several validation splits, which share the blends.

    Args:
        base: as for `fit`.
        train: as for `fit`.
        class_counts: as for `fit`.
        tried: settings, each with every parameter of `fit`.
        vals: as for `fit`.
        report: called after each pass over the training samples.

    Yields:
        For each validation split the classifiers of the settings.
    """
    train = check_train(train, base.num_classes)
    prior = log_prior(class_counts)
    for settings in tried:
        RANGES["tau"].check(settings["tau"], "tau")
        RANGES["k"].check(settings["nearest"], "nearest")
        check_range("part", settings["part"], 0, 100)
        check_choice("metric", settings["metric"], METRICS)
        blend_of(settings)
        groups_of(class_counts, settings["few_below"], settings["many_above"])
        for val in vals if settings["metric"] == "confusion" else ():
            check_val(val)
    blended = blends(base, train, tried, report)  # the long part: what is refused is refused before

    @cache
    def means() -> Double:
        return class_means(train, base.num_classes)[0]

    for val in vals:
        rows, lent = dict[Any, Floats](), dict[Any, Lent]()
        found = []
        for settings in tried:
            blend = blend_of(settings)
            which = tuple(settings[name] for name in LENDING)
            if which not in lent:
                lent[which] = lend(base, means, class_counts, val, *which)
            scale = settings["part"] * max(settings["tau"], 0.0)
            if (*blend, *which, scale) not in rows:
                rows[*blend, *which, scale] = _moved(blended[blend][0], lent[which], scale)
            with np.errstate(over="ignore"):  # by an extreme tau; whoever uses the bias checks it
                bias = (blended[blend][1] - settings["tau"] * prior).astype(np.float32)
            found.append(
                Classifier(rows[*blend, *which, scale], bias, base.normalize_features, base.experts)
            )
        yield found


Lent = tuple[Ints, Double]
"""(F,) rare classes, and (F, D) the rows that are lent to them."""


def groups_of(class_counts: Ints, few_below: int, many_above: int) -> ShotGroups:
    """Return the shot groups.

    Raises:
        InputError: when no class is rare or none frequent, or the bins are not ascending counts.
    """
    groups = groups_within(class_counts, few_below, many_above)
    for name, ids in (("few-shot", groups.few), ("base", groups.base)):
        if not len(ids):
            raise InputError(
                f"found no {name} class: training counts {class_counts.min()} to "
                f"{class_counts.max()}, few below {few_below}; set other bins"
            )
    return groups


def lend(
    base: Classifier,
    means: Callable[[], Double],
    class_counts: Ints,
    val: FeatureSplit | None,
    metric: str,
    k: int,
    few_below: int,
    many_above: int,
) -> Lent:
    """Return what frequent classes lend to rare ones; `means` gives (C, D) class means."""
    groups = groups_of(class_counts, few_below, many_above)
    shares, seen = np.zeros((len(groups.few), len(groups.base))), np.zeros(len(groups.few), bool)
    if metric == "confusion":
        shares, seen = confusions(base, check_val(val), groups)
    if not seen.all():
        of: Metric = "cosine" if metric == "cosine" else "euclidean"
        settings = NeighborSettings(min(k, len(groups.base)), of)
        near = neighbors.nearest(means(), groups.few[~seen], groups.base, settings)
        at = np.searchsorted(groups.base, near.base_class)
        equal = np.zeros((len(at), len(groups.base)))
        np.put_along_axis(equal, at, 1 / near.k, axis=1)
        shares[~seen] = equal
    return groups.few, shares @ base.weight[groups.base].astype(np.float64)


def confusions(
    base: Classifier, val: FeatureSplit, groups: ShotGroups
) -> tuple[Double, NDArray[np.bool_]]:
    """Return what images of rare classes are taken for: shares of frequent classes.

    Args:
        base: the head whose softmax counts.
        val: images, of which those of rare classes are used.
        groups: F rare and B frequent classes.

    Returns:
        (F, B) shares with sum 1, and (F,) the classes that have images; shares of others are 0.

    Example:
        >>> from ltkit.records import shot_groups
        >>> base = Classifier(np.eye(3, dtype=np.float32), np.zeros(3, dtype=np.float32))
        >>> val = FeatureSplit(np.float32([[0, float(np.log(3)), 9]]), np.array([2]))
        >>> shares, seen = confusions(base, val, shot_groups(np.array([50, 50, 5])))
        >>> shares.round(3).tolist(), seen.tolist()  # 1 : 3
        ([[0.25, 0.75]], [True])
    """
    place = np.full(base.num_classes, -1)
    place[groups.few] = np.arange(len(groups.few))
    sums, seen = np.zeros((len(groups.few), len(groups.base))), np.zeros(len(groups.few), bool)
    for _, features, labels in val.blocks(4 * base.num_classes):  # float64, twice
        rare = place[labels] >= 0
        if not rare.any():
            continue
        logits = base.logits(features[rare]).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        total = np.exp(logits).sum(axis=1, keepdims=True)
        np.add.at(sums, place[labels[rare]], np.exp(logits[:, groups.base]) / total)
        seen[place[labels[rare]]] = True
    seen &= sums.sum(axis=1) > 0
    return sums / np.maximum(sums.sum(axis=1, keepdims=True), np.finfo(float).tiny), seen


def _moved(weight: Double, lent: Lent, scale: float) -> Floats:
    """Return (C, D) float32 rows; a part of the rows lent is added to those of rare classes."""
    rows = weight.astype(np.float64)
    if scale:
        classes, added = lent
        rows[classes] += scale * added
    moved: Floats = rows.astype(np.float32)
    return moved
