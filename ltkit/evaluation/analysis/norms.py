"""Norms of a classifier's rows by shot group, of any number of heads: ``ltkit analyze norms``."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import networks
from ltkit.evaluation.analysis.distance import spearman
from ltkit.evaluation.analysis.subject import known
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.records import Classifier, FeatureSet, ShotGroups

Floats = NDArray[np.float64]


def row_norms(classifier: Classifier) -> Floats:
    """Return the L2 norms of each class's row: whole, and with several experts of each expert's.

    An expert's row is as its own logits have it, of which the classifier's are the mean. Rows of
    cosine heads have the scale as their length.

    Returns:
        (1, C), or (1 + E, C).

    Example:
        >>> rows = np.float32([[3, 4, 0, 0]]) / 2  # two experts, with the rows (3, 4) and (0, 0)
        >>> row_norms(Classifier(rows, np.zeros(1, np.float32), experts=2)).ravel().tolist()
        [2.5, 5.0, 0.0]
    """
    weight = classifier.weight.astype(np.float64)
    whole: Floats = np.linalg.norm(weight, axis=1)[None]
    if classifier.experts == 1:
        return whole
    parts = weight.reshape(len(weight), classifier.experts, -1) * classifier.experts
    return np.concatenate([whole, np.linalg.norm(parts, axis=2).T])


def norm_summary(norms: Floats, groups: ShotGroups) -> dict[str, dict[str, float | None]]:
    """Return mean and standard deviation of norms over the classes of each group, and of all.

    The deviation divides by the number of classes.

    Args:
        norms: (S, C); the figures are means over runs.
        groups: the shot groups.

    Source:
        A comparison of losses by the "variance of the row norms", whose values are 100 times this
        deviation: 47.7 for cross-entropy on CIFAR-100-LT, where a network of ours has 47.8.
    """
    parts = {name: norms[:, ids] for name, ids in groups.items()} | {"all": norms}
    return {
        "mean": {n: float(v.mean()) if v.size else None for n, v in parts.items()},
        "deviation": {n: float(v.std(axis=1).mean()) if v.size else None for n, v in parts.items()},
    }


def analyze_norms(
    features: FeatureSet, entries: Sequence[Entry], bins: Sequence[int] | None = None
) -> dict[str, Any]:
    """Return the norms of every head's and correction's rows by shot group.

    Args:
        features: with a head.
        entries: corrections, also of other networks, and these themselves.
        bins: bounds of the medium shot group; None: the file's own.

    Returns:
        The document of ``analyze norms --json``; means over runs.

    Raises:
        InputError: when a network has other classes.
    """
    groups = features.groups(bins)
    for network in networks.every(features, entries):
        networks.check_classes(features, network)
    rows = [
        row for entry in (networks.own_head(features), *entries)
        for row in _rows(features, entry, groups)
    ]  # fmt: skip
    return {
        "schema": "ltkit.analyze-norms/1", "features": features.source,
        "networks": [of.source for of in networks.every(features, entries)],
        "bins": list(features.bins if bins is None else bins),
        "groups": {name: len(ids) for name, ids in groups.items()}, "rows": rows,
    }  # fmt: skip


def _rows(features: FeatureSet, entry: Entry, groups: ShotGroups) -> Iterator[dict[str, Any]]:
    """Yield a row for each setting of an entry, and for each expert."""
    network, every = entry.network or features, list(settings_of(entry.correction))
    for settings, runs in every:
        norms = np.stack([row_norms(network.corrected(entry.correction, run)) for run in runs])
        about = {
            "name": entry.name, "label": label(entry.name, settings, [of for of, _ in every]),
            "file": entry.file, "settings": dict(settings), "runs": len(runs),
        }  # fmt: skip
        for place in range(norms.shape[1]):
            yield about | {"expert": place or None} | _row(norms[:, place], network, groups)


def _row(norms: Floats, network: FeatureSet, groups: ShotGroups) -> dict[str, Any]:
    """Return the figures of (S, C) norms: means over runs."""
    by_class = norms.mean(axis=0)
    told_apart = np.round(by_class / (by_class.max() or 1.0), 6)  # in float32, equal ones differ
    r = known(spearman(told_apart, network.classes.train_count))
    return {**norm_summary(norms, groups), "r": r, "norm": by_class.tolist()}
