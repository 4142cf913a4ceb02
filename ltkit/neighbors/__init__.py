"""Which classes are near each other, by mean features and in WordNet."""

from ltkit.neighbors.search import nearest, nearest_classes, nearest_of_groups

__all__ = ["nearest", "nearest_classes", "nearest_of_groups"]
