"""The nearest base classes of each rare class: exact and reproducible."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.neighbors.class_means import class_means
from ltkit.neighbors.wordnet import path_lengths
from ltkit.records import FeatureSet, Floats, Ints, Neighbors, members, note_of_left_out
from ltkit.settings import Metric, NeighborSettings

DIRECT_LIMIT = 1 << 31
"""Multiplications up to which distances are computed directly in float64 (seconds)."""

ROUNDING = 1e-12
"""Relative to a mean's largest number: means no farther apart count as equal."""

SPARE = 16
"""Extra candidates beyond k that the float32 search passes to the float64 ranking."""


def mean_features(features: FeatureSet, metric: Metric = "euclidean") -> NDArray[np.float64]:
    """Return the (C, D) class means among which neighbours are sought, NaN where there is none.

    They are of training features as the head takes them: a cosine head sees each expert's features
    divided by their length, so that no expert counts for more than another, and no bright image for
    more than a dark one. Under ``raw`` they are of the features as they are stored.

    Args:
        features: with a train split.
        metric: of the search.

    Raises:
        InputError: when there is no train split.

    Source:
        Chang et al., arXiv:2008.07073, appendix (experts are normalised one by one).
    """
    prepare = None if metric == "raw" else preparation(features)
    return class_means(features.split("train"), len(features.classes), prepare)[0]


def preparation(features: FeatureSet) -> Callable[[Floats], Floats] | None:
    """Return what a file's head does to its features before its rows; None where it does nothing.

    Without a head, nothing is done, either.
    """
    if features.base is None and features.head is None:
        return None
    head = features.classifier()
    return head.prepare if head.normalize_features else None


def nearest_classes(
    features: FeatureSet,
    means: NDArray[np.float64],
    of: Ints,
    among: Ints,
    settings: NeighborSettings,
) -> Neighbors:
    """Find the nearest other classes of a features file, by any metric.

    Args:
        features: features file, whose WordNet ids ``wordnet`` needs.
        means: (C, D), `mean_features`.
        of: as `nearest`.
        among: as `nearest`.
        settings: as `nearest`.

    Raises:
        InputError: as `nearest`; under ``wordnet`` for classes without WordNet ids.
    """
    links = path_lengths(_wnids(features)) if settings.metric == "wordnet" else None
    return nearest(means, of, among, settings, links)


def nearest_of_groups(
    features: FeatureSet,
    settings: NeighborSettings = NeighborSettings(),  # noqa: B008 - it is frozen
    *,
    of: str = "few",
    among: str = "base",
    bins: Sequence[int] | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> Neighbors:
    """Find the nearest classes of a shot group, as ``ltkit neighbors`` does.

    Classes without training images have no mean feature: they are left out of both groups.

    Args:
        features: with a train split.
        settings: as `nearest`.
        of: shot group whose neighbours are sought, or ``base`` or ``all``.
        among: the same, for the classes that may be neighbours.
        bins: bounds of the medium shot group; None: the file's own.
        note: called with a note on classes that are left out.

    Raises:
        InputError: for an unknown group or one without classes, no train split, or as
            `nearest_classes`.
    """
    bins = features.bins if bins is None else bins
    groups, empty = features.groups(bins), features.without_images
    asked = {"of": members(groups, of, "of"), "among": members(groups, among, "among")}
    for (setting, ids), group in zip(asked.items(), (of, among), strict=True):
        if not len(np.setdiff1d(ids, empty)):
            where = f"{features.source} with bins {','.join(map(str, bins))}"
            images = " with training images" if len(ids) else ""
            raise SettingError(setting, f"found no {group} class{images} in {where}")
    chosen, others = (np.setdiff1d(ids, empty) for ids in asked.values())
    left_out = np.intersect1d(np.union1d(*asked.values()), empty)
    if len(left_out):
        note(note_of_left_out(features.classes, left_out, "no mean feature, no neighbours"))
    means = mean_features(features, settings.metric)
    return nearest_classes(features, means, chosen, others, settings)


def _wnids(features: FeatureSet) -> tuple[str, ...]:
    wnids = features.classes.wnids
    if wnids is None:
        raise InputError(
            f"{features.source}: classes/wnid: absent, so WordNet has no distance; use another "
            "metric"
        )
    return wnids


def nearest(
    means: NDArray[np.float64],
    of: Ints,
    among: Ints,
    settings: NeighborSettings,
    path_length: NDArray[np.int32] | None = None,
) -> Neighbors:
    """Find the nearest other classes by mean features, or in a hierarchy.

    Distances are differences in float64, ordered ascending with ties by class id, so two runs give
    one list (AlphaNet's network depends on the order). Large problems are searched with FAISS's
    flat index first and its candidates are ranked so; where float32 rounding could have lost a
    neighbour, the row is computed directly.

    Args:
        means: (C, D) class means; those of `of` and `among` must be finite.
        of: (F,) classes whose neighbours are sought.
        among: classes that may be neighbours; a class is never its own.
        settings: k, metric (``euclidean``, and ``raw`` of means of raw features: L2 distance;
            ``cosine``: 1 - cosine; ``random``: the
            control, k classes drawn without looking, with their Euclidean distance;
            ``random-once``: the same in the order in which they were drawn;
            ``wordnet``: links of the hierarchy between them, equal ones by the Euclidean distance
            of their means), seed.
        path_length: (C, C) links between classes, for ``wordnet``.

    Raises:
        InputError: for k out of range, a class without training samples, a mean of zero length
            under cosine.

    Example:
        >>> means = np.array([[0.0], [1.0], [3.0], [-1.0]])
        >>> found = nearest(means, np.array([0]), np.array([1, 2, 3]), NeighborSettings(k=2))
        >>> found.base_class.tolist(), found.distance.tolist()
        ([[1, 3]], [[1.0, 1.0]])

    Source:
        Chang et al., arXiv:2008.07073: Euclidean distance of mean training features.
    """
    of, among = np.sort(of), np.sort(among)
    most = len(among) - int(np.isin(of, among).any())
    if not 1 <= settings.k <= most:
        raise SettingError(
            "k", f"found {settings.k}, expected 1..{most} (classes that may be neighbours)"
        )
    used = np.union1d(of, among)
    absent = used[~np.isfinite(means[used]).all(axis=1)]
    if len(absent):
        raise InputError(
            f"class {absent[0]}: no training sample, so no mean feature; {len(absent)} such "
            "classes; extract the train split, or leave them out"
        )
    if settings.metric == "cosine":
        means = _on_sphere(means, used)
    same = ROUNDING * float(np.abs(means[used]).max())
    if settings.metric in ("random", "random-once"):
        chosen, distances = _drawn(means, of, among, settings, same)
    elif path_length is not None:
        chosen, distances = _by_links(means, of, among, settings.k, path_length, same)
    else:
        chosen, distances = _ranked(means, of, among, settings.k, same)
    if settings.metric == "cosine":
        distances = distances**2 / 2  # |a - b|^2 = 2 - 2 cos(a, b) on the sphere
    with np.errstate(over="ignore"):
        stored = distances.astype(np.float32)
    if not np.isfinite(stored).all() or ((stored == 0) & (distances > same)).any():
        raise InputError(
            f"features: found distances up to {distances.max():.2g}, which float32 does not hold; "
            "import the features in another unit"
        )
    return Neighbors(of, chosen, stored, settings.metric)


def _on_sphere(means: NDArray[np.float64], used: Ints) -> NDArray[np.float64]:
    norms = np.linalg.norm(means, axis=1, keepdims=True)
    zero = used[norms[used, 0] == 0]
    if len(zero):
        raise InputError(
            f"class {zero[0]}: its mean feature is zero, so it has no cosine; {len(zero)} such "
            "classes; use the euclidean metric"
        )
    with np.errstate(invalid="ignore"):
        scaled: NDArray[np.float64] = means / norms
    return scaled


def _by_links(
    means: NDArray[np.float64],
    of: Ints,
    among: Ints,
    k: int,
    links: NDArray[np.int32],
    same: float,
) -> tuple[Ints, NDArray[np.float64]]:
    classes, distances = [], []
    for class_id in of:
        options = among[among != class_id]
        links_to = links[class_id, options]
        near = np.linalg.norm(means[options] - means[class_id], axis=1)
        near[near <= same] = 0
        order = np.lexsort((options, near, links_to))[:k]
        classes.append(options[order])
        distances.append(links_to[order].astype(np.float64))
    return np.stack(classes), np.stack(distances)


def _drawn(
    means: NDArray[np.float64], of: Ints, among: Ints, settings: NeighborSettings, same: float
) -> tuple[Ints, NDArray[np.float64]]:
    """Return k classes drawn for each, nearest first where they are not left as drawn."""
    rng = np.random.default_rng(settings.seed)
    rows = [rng.choice(among[among != c], settings.k, replace=False) for c in of]
    chosen = np.stack(rows)
    if settings.metric == "random":
        chosen.sort(axis=1)  # of equally near ones, the lower id is first
    distances = np.linalg.norm(means[of][:, None] - means[chosen], axis=2)
    distances[distances <= same] = 0
    if settings.metric == "random-once":
        return chosen, distances
    order = np.argsort(distances, axis=1, kind="stable")
    return np.take_along_axis(chosen, order, axis=1), np.take_along_axis(distances, order, axis=1)


def _ranked(
    means: NDArray[np.float64], of: Ints, among: Ints, k: int, same: float
) -> tuple[Ints, NDArray[np.float64]]:
    """Return the k nearest of each class; distances up to `same` become 0."""
    candidates = min(k + 1 + SPARE, len(among))
    large = len(of) * len(among) * means.shape[1] > DIRECT_LIMIT and candidates < len(among)
    shortlist = _search(means, of, among, candidates) if large else [among] * len(of)
    classes, distances = [], []
    for class_id, among_row in zip(of, shortlist, strict=True):
        options = among_row[among_row != class_id]
        distance = np.sqrt(((means[options] - means[class_id]) ** 2).sum(axis=1))
        distance[distance <= same] = 0  # the rounding of two means
        order = np.lexsort((options, distance))[:k]
        classes.append(options[order])
        distances.append(distance[order])
    return np.stack(classes), np.stack(distances)


def _unit_of(values: NDArray[np.float64]) -> float:
    """Return a power of two that scales the largest number to near 1, if it is far from it."""
    largest = float(np.abs(values).max())
    return 1.0 if 2**-20 <= largest <= 2**20 or not largest else 2.0 ** -round(np.log2(largest))


def _search(means: NDArray[np.float64], of: Ints, among: Ints, candidates: int) -> list[Ints]:
    """Return candidates for each class of `of`, certain to include its nearest.

    A float32 squared distance d = |a|^2 + |b|^2 - 2 a.b is off by at most a few D * eps * (|a|^2 +
    |b|^2). Where the last candidate is not farther than the k-th by that much, all classes are.
    """
    import faiss

    centre = means[among].mean(axis=0)  # distances do not change, rounding does
    unit = _unit_of(means[np.union1d(of, among)] - centre)
    base = np.ascontiguousarray((means[among] - centre) * unit, dtype=np.float32)
    query = np.ascontiguousarray((means[of] - centre) * unit, dtype=np.float32)
    index = faiss.IndexFlatL2(base.shape[1])
    index.add(base)
    squared, positions = index.search(query, candidates)
    largest = (base**2).sum(axis=1).max() + (query**2).sum(axis=1)
    error = 4 * base.shape[1] * np.finfo(np.float32).eps * largest
    certain = squared[:, -1] - squared[:, candidates - SPARE] > 2 * error
    return [
        np.sort(among[row]) if sure else among for row, sure in zip(positions, certain, strict=True)
    ]
