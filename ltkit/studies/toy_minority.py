"""toy-minority: nine classes stay large, and the tenth shrinks."""

import pandas as pd

from ltkit.studies import Given, Point, Told
from ltkit.studies import _toy as toy

TITLE = "Toy case 2: nine classes stay large, the tenth shrinks"
NEEDS = "images"
COLUMNS = toy.COLUMNS
measure = toy.measure

SMALL = (0.2, 0.1, 0.05, 0.02)
"""The nine have as many as the tenth has at first."""


def points(given: Given) -> list[Point]:
    """Return trainings with fewer and fewer images of the tenth class."""
    steps = SMALL if given.form == "small" else toy.PAPER[::-1].tolist()
    return toy.points(given, [(steps[0], part) for part in steps])


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say what fewer images of the tenth class do to it, and to the others."""
    return toy.tell(
        table, given, "tenth",
        "Nine classes have the same training images throughout, and the tenth fewer and fewer. "
        "Means over seeds with their deviations.",
    )  # fmt: skip
