"""The sections of the page, one file each, by the questions of the page in its order.

A section is a module with

- ``KEY``, of the page's element, and ``TITLE``;
- ``gather(source)``: the numbers, from a `ltkit.reporting.source.Source`. Lists, texts, numbers and
  None only, and nothing of the size of the split: a section of a thousand classes is small.
  Accuracies and shares are fractions in 0..1;
- ``draw(found, source)``: the exhibits of what was gathered; of the source it takes what classes
  and settings are called.

Either raises `InputError` where there is nothing to show; the page then says why. A new section is
a new file and its place in `QUESTIONS`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ltkit.errors import InputError
from ltkit.records.progress import Report, silent
from ltkit.reporting.exhibits import Exhibit, Section
from ltkit.reporting.sections import (
    accuracy,
    answer,
    attributes,
    calibration,
    causes,
    class_map,
    classes,
    coefficients,
    confusion,
    flows,
    frontier,
    loss_weights,
    norms,
    production,
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


QUESTIONS: Mapping[str, Sequence[Part]] = {
    "What to ship": (answer,),
    "Which classes fail, and into what?": (classes, confusion, tree),
    "What do corrections change?": (accuracy, flows, rho),
    "What does it cost?": (frontier, calibration),
    "How is it used?": (production,),
    "Why?": (causes, class_map, coefficients, norms, attributes),
    "How was this made?": (loss_weights,),
}


def in_order() -> list[tuple[Part, str]]:
    """Return the sections' modules in the page's order, each with its question."""
    return [(part, question) for question, parts in QUESTIONS.items() for part in parts]


def make(source: Source, report: Report = silent) -> list[Section]:
    """Return the sections of the page, in its order.

    Args:
        source: from `ltkit.reporting.source.collect`.
        report: called after each section.
    """
    made: list[Section] = []
    every = in_order()
    for part, question in every:
        made.append(_section(part, source, question))
        report("section", len(made), len(every))
    return made


def _section(part: Part, source: Source, question: str) -> Section:
    found: dict[str, Any] = {}
    try:
        found = part.gather(source)
        exhibits = part.draw(found, source)
        return Section(part.KEY, part.TITLE, found, exhibits, question=question)
    except InputError as error:
        return Section(part.KEY, part.TITLE, found, absent=str(error), question=question)
