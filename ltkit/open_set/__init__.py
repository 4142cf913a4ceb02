"""The open set: how well new classes are told, and how many rare samples are taken for new."""

from ltkit.open_set.measuring import novelty as novelty

__all__ = ["novelty"]
