"""Checkpoints by family, one file each: recognise the layout, build the network, name the head.

A family module has ``SUMMARY``, ``matches(content) -> bool`` and ``load(content, arch) ->
Recognised``. Files are told apart by what is in them, never by their names.
"""

from dataclasses import replace
from pathlib import Path

from ltkit import checkpoints, registry
from ltkit.checkpoints._containers import Content, read, rewrite
from ltkit.checkpoints._recognised import Recognised
from ltkit.errors import InputError

__all__ = ["Content", "Recognised", "load", "read", "rewrite"]


def load(path: Path, arch: str | None = None) -> Recognised:
    """Read a checkpoint and build its network.

    Args:
        path: the file.
        arch: a key of `ltkit.architectures.CATALOGUE` where the file does not say.

    Raises:
        InputError: when there is no such file, or no family knows its layout.
        FormatError: when it is damaged or unsafe, or its tensors do not fit the network.
    """
    content = read(path)
    families = [registry.load(checkpoints, name) for name in registry.names(checkpoints)]
    for family in families:
        if family.matches(content):
            recognised: Recognised = family.load(content, arch)
            return replace(recognised, skipped=content.skipped)
    known = "; ".join(f"{family.SUMMARY}" for family in families)
    raise InputError(
        f"{path}: layout not recognised; found {', '.join(content.describe())}; known: {known}"
    )
