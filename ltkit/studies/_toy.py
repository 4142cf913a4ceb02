"""The toy cases: nine classes and a tenth, of which one's number of training images is varied."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ltkit.errors import InputError
from ltkit.studies import Given, Point, Row, Told
from ltkit.studies import _networks as networks

COLUMNS = ("nine", "tenth", "seed", "of", "accuracy")
OF = ("tenth class", "other classes")

FEWEST = 0.02
"""Of the images of a class: 100 of CIFAR-10's 5,000."""

PAPER = np.arange(1, 51) / 50
"""Parts of a class's images: steps of 100 from 100 to 5,000."""


def points(given: Given, parts: Iterable[tuple[float, float]]) -> list[Point]:
    """Return a training for each pair of parts and each seed.

    Args:
        given: with images.
        parts: of the images of a class, for the nine classes and for the tenth.

    Raises:
        InputError: as `networks.pixels`, or when a class has too few images for the parts.
    """
    networks.pixels(given)
    images, most = networks.dataset(given), networks.most(given)
    if round(FEWEST * most) < 1:
        raise InputError(
            f"{images.record['spec']}: found a class of {most} training images, expected at least "
            f"{round(1 / FEWEST)} in each; take the balanced set, as cifar10_lt:ir=1"
        )
    found = []
    for nine, tenth in ((round(a * most), round(b * most)) for a, b in parts):
        size = nine * (len(images.classes) - 1) + tenth
        for seed in range(given.seed, given.seed + networks.SEEDS[given.form]):
            point = {"nine": nine, "tenth": tenth, "seed": seed}
            found.append(point | networks.schedule(given.form, size))
    return found


def measure(point: Point, given: Given) -> list[Row]:
    """Return the accuracy of the tenth class, and of the others, after one training."""
    counts = np.full(len(networks.dataset(given).classes), point["nine"])
    counts[-1] = point["tenth"]
    images = networks.drawn(given, counts, point["seed"])
    *others, tenth = networks.accuracies(images, point, given)
    found = (float(tenth), float(np.mean(others)))
    return [
        [point["nine"], point["tenth"], point["seed"], of, value]
        for of, value in zip(OF, found, strict=True)
    ]


def tell(table: pd.DataFrame, given: Given, varied: str, caption: str) -> Told:
    """Say which way both accuracies go, and draw them."""
    named = {"nine": "training images of each other class", "tenth": "training images of the tenth"}
    said = [(of, f"{networks.ends(table, varied, of)}.") for of in OF]
    figure = networks.lines(
        "accuracy", f"Accuracy against {named[varied]}", caption, table, varied, OF, named[varied]
    )
    return Told([*said, ("what carries over", networks.CARRIES)], [figure])
