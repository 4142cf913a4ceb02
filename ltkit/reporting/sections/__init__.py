"""The sections of the page, one file each, in the page's order.

A section is a module with

- ``KEY``, of the page's element and the link to it, and ``TITLE``;
- ``gather(source)``: the numbers, from a `ltkit.reporting.source.Source`. Lists, texts, numbers and
  None only, and nothing of the size of the split: a section of a thousand classes is small.
  Accuracies and shares are fractions in 0..1;
- ``draw(found, source)``: the exhibits of what was gathered; of the source it takes what classes
  and settings are called.

Either raises `InputError` where there is nothing to show; the page then says why. A new section is
a new file and its place in `ORDER`.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from ltkit.errors import InputError
from ltkit.reporting.exhibits import Exhibit, Section
from ltkit.reporting.sections import (
    accuracy,
    calibration,
    class_map,
    classes,
    coefficients,
    confusion,
    flows,
    frontier,
    loss_weights,
    norms,
    rho,
    tree,
)
from ltkit.reporting.source import Source


class Part(Protocol):
    """The interface of a section's module."""

    KEY: str
    TITLE: str

    def gather(self, source: Source) -> dict[str, Any]:
        """Return the numbers."""

    def draw(self, found: dict[str, Any], source: Source) -> list[Exhibit]:
        """Return the exhibits."""


ORDER: Sequence[Part] = (
    accuracy,
    classes,
    rho,
    frontier,
    flows,
    coefficients,
    norms,
    loss_weights,
    confusion,
    class_map,
    calibration,
    tree,
)


def make(source: Source) -> list[Section]:
    """Return the sections of the page, in its order.

    Args:
        source: from `ltkit.reporting.source.collect`.
    """
    return [_section(part, source) for part in ORDER]


def _section(part: Part, source: Source) -> Section:
    found: dict[str, Any] = {}
    try:
        found = part.gather(source)
        return Section(part.KEY, part.TITLE, found, part.draw(found, source))
    except InputError as error:
        return Section(part.KEY, part.TITLE, found, absent=str(error))
