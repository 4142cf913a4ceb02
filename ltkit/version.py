"""The version of this package, which files record as their writer's."""

__version__ = "0.1.0"
