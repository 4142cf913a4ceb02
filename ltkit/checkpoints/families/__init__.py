"""Families of checkpoints, one file each: recognise the layout, build the network, name the head.

A family module has ``SUMMARY`` (origin and layout, in a line), ``matches(content, wanted) -> bool``
and ``load(content, wanted) -> Recognised``; ``GENERAL = True`` where it is asked after all others,
``BY_NAMES = True`` where the names of the dataset's classes make the head.
"""

from types import ModuleType

from ltkit import registry
from ltkit.checkpoints import families


def in_order() -> list[ModuleType]:
    """Return the family modules in the order in which they are tried."""
    modules = [registry.load(families, name) for name in registry.names(families)]
    return sorted(modules, key=_turn)


def _turn(module: ModuleType) -> tuple[bool, bool]:
    """Return by what families are ordered: what the user names first, general ones last."""
    return not getattr(module, "FIRST", False), getattr(module, "GENERAL", False)
