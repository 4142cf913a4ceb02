"""Which classes are near each other, by mean features and in WordNet."""

from ltkit.neighbors.search import (
    mean_features,
    nearest,
    nearest_classes,
    nearest_of_groups,
    preparation,
)

__all__ = ["mean_features", "nearest", "nearest_classes", "nearest_of_groups", "preparation"]
