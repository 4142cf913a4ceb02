"""toy-majority: nine classes grow, and the tenth stays as small as it is."""

import pandas as pd

from ltkit.studies import Given, Point, Told
from ltkit.studies import _toy as toy

TITLE = "Toy case 1: nine classes grow, the tenth stays small"
NEEDS = "images"
COLUMNS = toy.COLUMNS
measure = toy.measure

SMALL = (0.02, 0.05, 0.1, 0.2)


def points(given: Given) -> list[Point]:
    """Return trainings with more and more images of nine classes."""
    steps = SMALL if given.form == "small" else toy.PAPER.tolist()
    return toy.points(given, [(part, toy.FEWEST) for part in steps])


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say what more images of other classes do to the tenth."""
    return toy.tell(
        table, given, "nine",
        "The tenth class has the same training images throughout, and the others more and more. "
        "Means over seeds with their deviations.",
    )  # fmt: skip
