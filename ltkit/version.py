"""The version of this package, which files say that it wrote."""

__version__ = "0.1.0"
