"""ltkit: long-tailed classification on cached features."""

__version__ = "0.1.0"
