"""The papers' own experiments, one file a study: what train, posthoc and analyze do, arranged.

A study's file has

- ``TITLE``, its heading, and ``NEEDS``: what it works on, "features", "images" or nothing ("");
- ``COLUMNS`` of its table, which has a row for each value;
- ``points(given)``: the settings of each of its points, plain data;
- ``measure(point, given)``: the rows of a point;
- ``tell(table, given)``: what the finished table comes to.

`ltkit.studies._running` runs them point by point.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ltkit import registry
from ltkit.reporting.exhibits import Exhibit

if TYPE_CHECKING:
    from ltkit.records import Dataset, FeatureSet

Form = Literal["small", "paper"]
"""Minutes on two cores, or the paper's numbers of runs."""

Point = dict[str, Any]
Row = list[str | int | float | None]


@dataclass(frozen=True, eq=False)
class Given:
    """What a study works on.

    form: how many points and runs.
    seed: of every random choice.
    folder: of its results.
    features, images: of a study that needs them.
    device: to compute on.
    """

    form: Form
    seed: int
    folder: Path
    features: "FeatureSet | None" = None
    images: "Dataset | None" = None
    device: str = "cpu"


@dataclass(frozen=True)
class Told:
    """What a study's table comes to: headed sentences, and exhibits."""

    sentences: Sequence[tuple[str, str]]
    exhibits: Sequence[Exhibit]


def listing() -> list[tuple[str, str, str]]:
    """Return each study's name, heading and needs.

    Example:
        >>> [needs for name, _, needs in listing() if name == "theorems"]
        ['']
    """
    import ltkit.studies as package

    found = [(name, registry.load(package, name)) for name in registry.names(package)]
    return [(name, module.TITLE, module.NEEDS) for name, module in found]
