"""What the documents of ``evaluate --json`` and ``compare --json`` have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltkit.records import FeatureSet, Ints


def opening(
    schema: str, features: FeatureSet, split: str, bins: Sequence[int] | None,
    replicates: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Return a document's first entries: the samples it covers, and how they were resampled.

    Args:
        schema: the document's name and version.
        features: the scored features.
        split: name of the split.
        bins: bounds of the medium shot group; None: the file's own.
        replicates: bootstrap replicates.
        seed: bootstrap seed.
    """
    labels, classes = features.split(split).labels, features.classes
    groups = features.groups(bins)
    counts = np.bincount(labels, minlength=len(classes))
    return {
        "schema": schema,
        "features": features.source,
        "split": split,
        "n": len(labels),
        "bins": list(features.bins if bins is None else bins),
        "groups": {name: len(ids) for name, ids in groups.items()},
        "samples": {name: int(counts[ids].sum()) for name, ids in groups.items()},
        "bootstrap": {"replicates": replicates, "seed": seed},
    }


def untested(labels: Ints, num_classes: int) -> int:
    """Return the number of classes without a sample.

    Example:
        >>> untested(np.array([0, 0, 2]), 4)
        2
    """
    return int((np.bincount(labels, minlength=num_classes) == 0).sum())
