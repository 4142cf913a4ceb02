r"""Thresholds of conformal sets, one a class, from the scores of images with their true class.

Each is a function of the calibration images' scores. What each promises is in `PROMISES`, for new
images that are drawn as the calibration images were; a threshold is infinite, and its class in
every set, where they are too few for the promise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil, inf

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints
from ltkit.settings import ConformalSettings, SetThreshold

Floats = NDArray[np.float64]

QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9)
"""By which quantiles of its scores a class is clustered, beside the coverage itself."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What thresholds are made from.

    scores: (N,) of each image's true class.
    labels: (N,) true classes.
    train_count: (C,) training images.
    coverage: the part of images whose set has the true class.
    most: the largest score that any class can have.
    settings: the bandwidth of ``fuzzy``, the share of ``interpolated``, and the seed of halves.
    """

    scores: Floats
    labels: Ints
    train_count: Ints
    coverage: float
    most: float
    settings: ConformalSettings = field(default_factory=ConformalSettings)

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.train_count)

    def at(self, rows: NDArray[np.bool_]) -> tuple[Floats, Ints]:
        """Return scores and labels of some images."""
        return self.scores[rows], self.labels[rows]

    def part(self, share: float) -> NDArray[np.bool_]:
        """Return (N,) which images fall into a part.

        They are drawn without a look at classes: so the rest is as new images are.
        """
        rng = np.random.default_rng(self.settings.seed)
        return rng.permutation(len(self.labels)) < round(share * len(self.labels))


def needed(coverage: float) -> int:
    r"""Return the fewest scores that have a finite quantile: :math:`\lceil 1/\alpha \rceil - 1`.

    Example:
        >>> needed(0.9), needed(0.95), needed(0.5)
        (9, 19, 1)
    """
    return ceil(1 / (1 - coverage) - 1e-9) - 1


def quantile(scores: Floats, coverage: float) -> float:
    r"""Return the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest score; infinity beyond n.

    Example:
        >>> quantile(np.arange(9.0), 0.9), quantile(np.arange(8.0), 0.9)
        (8.0, inf)
    """
    place = max(ceil((len(scores) + 1) * coverage - 1e-9), 1)
    if place > len(scores):
        return inf
    return float(np.partition(scores, place - 1)[place - 1])


def marginal(given: Calibration) -> Floats:
    """Return one threshold for all classes."""
    return np.full(given.num_classes, quantile(given.scores, given.coverage))


def class_wise(given: Calibration) -> Floats:
    """Return a threshold for each class, from its own images alone."""
    return _by_part(given.scores, given.labels, np.arange(given.num_classes), given)


def clustered(given: Calibration) -> Floats:
    """Return a threshold for each cluster of classes whose scores are alike.

    A part of the images says which classes are alike, by quantiles of the ranks of their scores;
    from the others come the thresholds. Classes with too few images for that are a cluster of their
    own. Where there would be one cluster alone, the threshold is the marginal one.

    Source:
        Ding et al., Class-Conditional Conformal Prediction with Many Classes, NeurIPS 2023,
        arXiv:2306.09335, sections 2.2 and 2.3. There classes with few images have the marginal
        threshold, so that nothing is promised of them, and quantiles are of the scores themselves.
    """
    share, number = _clustering(given)
    first = given.part(share)
    scores, labels = given.at(first)
    own = np.bincount(labels, minlength=given.num_classes)
    some = np.flatnonzero(own >= needed(given.coverage))
    if min(number, len(some)) < 2:
        return marginal(given)
    cluster = np.full(given.num_classes, number)
    cluster[some] = _alike(scores, labels, some, number, given)
    return _by_part(*given.at(~first), cluster, given)


def _clustering(given: Calibration) -> tuple[float, int]:
    """Return the part of the images that clusters classes, and how many clusters it finds.

    The source's rule: of classes with n images, K of them, K / (75 + K) of the images, and half as
    many clusters as that leaves a class.
    """
    counts = np.bincount(given.labels, minlength=given.num_classes)
    usual = max(int(counts[counts > 0].min()), needed(given.coverage), 1)
    enough = int((counts >= usual).sum())
    apart = usual * enough // (75 + enough)
    return apart / usual, apart // 2


def _alike(scores: Floats, labels: Ints, some: Ints, number: int, given: Calibration) -> Ints:
    """Return the cluster of each of some classes, by k-means of their quantiles."""
    from sklearn.cluster import KMeans

    ranks = np.searchsorted(np.sort(scores), scores, side="right") / len(scores)
    levels = [*QUANTILES, given.coverage]
    points = np.array([np.quantile(ranks[labels == c], levels) for c in some])
    number = min(number, len(np.unique(points, axis=0)))
    sizes = np.sqrt(np.bincount(labels, minlength=given.num_classes)[some])
    means = KMeans(number, n_init=3, random_state=given.settings.seed)
    found: Ints = means.fit(points, sample_weight=sizes).labels_
    return found


def fuzzy(given: Calibration) -> Floats:
    r"""Return a threshold for each class, from the images of all classes that are about as rare.

    An image of class c counts for class y by how near their training counts are,

    .. math:: w(c, y) = \exp(-\tfrac12 (\log n_c - \log n_y)^2 / h^2),

    which promises nothing by itself. On the other half of the images one level is found, the same
    for all classes, at which the sets keep the promise for all images together.

    Source:
        Ding et al. 2025, arXiv:2507.06867 (fuzzy class-wise, with the projection to prevalence).
    """
    first = given.part(0.5)
    scores, labels = given.at(first)
    order = np.argsort(scores, kind="stable")
    scores, labels = scores[order], labels[order]
    logs = np.log(np.maximum(given.train_count, 1))
    kinds, kind = np.unique(logs, return_inverse=True)  # classes that are as rare share weights

    def mass(log: float) -> Floats:
        """Return (n + 1,) the weight of the images before each score; the class itself is one."""
        w = np.exp(-0.5 * ((logs[labels] - log) / given.settings.bandwidth) ** 2)
        before: Floats = np.concatenate([[0.0], w.cumsum()]) / (w.sum() + 1)
        return before

    held, own = given.at(~first)
    level, of = np.empty(len(held)), kind[own]
    for k in np.unique(of):
        inside = of == k
        level[inside] = mass(kinds[k])[np.searchsorted(scores, held[inside], side="left")]
    wanted = quantile(level, given.coverage)
    ends = np.append(scores, inf)
    passed = [np.searchsorted(mass(log), wanted, side="right") for log in kinds]
    found: Floats = ends[np.array(passed) - 1][kind]
    return found


def interpolated(given: Calibration) -> Floats:
    r"""Return thresholds between the marginal and the class-wise ones.

    .. math:: \tau q_y + (1 - \tau) q

    Where one is infinite, it is the largest score here.

    Source:
        Ding et al. 2025, arXiv:2507.06867 (INTERP-Q).
    """
    one, each = marginal(given), class_wise(given)
    share = given.settings.share
    between = share * np.minimum(each, given.most) + (1 - share) * np.minimum(one, given.most)
    return np.where(np.isinf(one) & np.isinf(each), inf, between)


THRESHOLDS: Mapping[SetThreshold, Callable[[Calibration], Floats]] = {
    "marginal": marginal, "class-wise": class_wise, "clustered": clustered, "fuzzy": fuzzy,
    "interpolated": interpolated,
}  # fmt: skip

PROMISES: Mapping[SetThreshold, str] = {
    "marginal": "{coverage} of all images together, where classes occur as in val; rare ones may "
    "have far less",
    "class-wise": "{coverage} of the images of each class, however often classes occur",
    "clustered": "{coverage} of the images of each cluster of classes, and so of all images, where "
    "classes occur as in val",
    "fuzzy": "{coverage} of all images together, where classes occur as in val",
    "interpolated": "{twice} of all images together, where classes occur as in val; mostly about "
    "{coverage}",
}
"""What each guarantees; `promise` fills in the numbers."""


OF: Mapping[SetThreshold, str] = {
    "marginal": "{coverage} of all", "class-wise": "{coverage} of each class",
    "clustered": "{coverage} of each cluster", "fuzzy": "{coverage} of all",
    "interpolated": "{twice} of all",
}  # fmt: skip
"""The same in a few words, for tables."""


def promise(name: SetThreshold, coverage: float, *, short: bool = False) -> str:
    """Return in words what sets with these thresholds guarantee.

    Example:
        >>> promise("interpolated", 0.9)
        '80 % of all images together, where classes occur as in val; mostly about 90 %'
    """
    twice = max(1 - 2 * (1 - coverage), 0.0)
    shares = {"coverage": f"{100 * coverage:g} %", "twice": f"{100 * twice:.4g} %"}
    return (OF if short else PROMISES)[name].format(**shares)


def _by_part(scores: Floats, labels: Ints, part: Ints, given: Calibration) -> Floats:
    """Return each class's threshold, of the scores of all classes in its part.

    Args:
        scores: (n,).
        labels: (n,) classes.
        part: (C,) number of each class's part.
        given: how many classes, and which coverage.
    """
    of, size = part[labels], int(part.max()) + 1
    order = np.argsort(of, kind="stable")
    parts = np.split(scores[order], np.searchsorted(of[order], np.arange(1, size)))
    return np.array([quantile(each, given.coverage) for each in parts])[part]
