"""mixup-similarity: images of the most frequent class are made like the rarest, which suffers."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import Dataset
from ltkit.reporting.exhibits import Exhibit
from ltkit.settings import TrainPlan
from ltkit.studies import Given, Point, Row, Told
from ltkit.studies import _networks as networks

TITLE = "Similarity by mixup: what it does to the rarest class"
NEEDS = "images"
COLUMNS = ("varied", "rho", "lambda", "seed", "of", "accuracy")
OF = ("rarest class", "rarest class, area under ROC", "most frequent class", "all classes")
"""Accuracies, but for the area, which says how well the class is told apart where a small network
never predicts it."""

FIXED = 0.2
"""Of rho where lambda is varied, and of lambda where rho is."""

STEPS = {"small": (0.0, 0.5, 1.0), "paper": tuple(step / 10 for step in range(11))}


def points(given: Given) -> list[Point]:
    """Return trainings over rho at a lambda of 0.2, then over lambda at a rho of 0.2.

    Raises:
        InputError: as `networks.pixels`, or when the first class has not the most images or the
            last the fewest.
    """
    networks.pixels(given)
    images = networks.dataset(given)
    counts = images.classes.train_count
    if not counts[0] == counts.max() > counts[-1] == counts.min():
        raise InputError(
            f"{images.record['spec']}: found {counts[0]} images of the first class and "
            f"{counts[-1]} of the last, expected the most and the fewest; name a long-tailed set, "
            "as cifar10_lt:ir=100"
        )
    schedule = networks.schedule(given.form, int(counts.sum()))
    return [
        {
            "varied": varied,
            **{"rho": FIXED, "lambda": FIXED, varied: step},
            "seed": seed,
            **schedule,
        }
        for varied in ("rho", "lambda")
        for step in STEPS[given.form]
        for seed in range(given.seed, given.seed + networks.SEEDS[given.form])
    ]


def mixed(images: Dataset, rho: float, lam: float, seed: int) -> Dataset:
    """Return images of which a share of the first class's is mixed with some of the last.

    Args:
        images: held as pixels.
        rho: the share.
        lam: the part of the first class in a mixed image, whose label it keeps.
        seed: of which images are mixed, and with which.
    """
    train = images.split("train")
    held: NDArray[np.uint8] = np.array(train.images)
    rng = np.random.default_rng(seed)
    first, last = (np.flatnonzero(train.labels == c) for c in (0, len(images.classes) - 1))
    rows = rng.permutation(first)[: round(rho * len(first))]
    partners = rng.choice(last, len(rows))
    held[rows] = np.rint(lam * held[rows] + (1 - lam) * held[partners]).astype(np.uint8)
    record = {**images.record, "mixed": {"rho": rho, "lambda": lam, "seed": seed}}
    splits = {"train": replace(train, images=held), networks.SPLIT: images.split(networks.SPLIT)}
    return replace(images, splits=splits, record=record)


def measure(point: Point, given: Given) -> list[Row]:
    """Return the accuracy of both classes, and of all, after one training; see `OF`."""
    images = networks.dataset(given)
    made = mixed(images, point["rho"], point["lambda"], point["seed"])
    with networks.trained(made, point, given, plan=TrainPlan("ce")) as features:
        found, area = networks.accuracies_of(features), networks.areas_of(features)
    values = (float(found[-1]), float(area[-1]), float(found[0]), float(found.mean()))
    told = [point[name] for name in ("varied", "rho", "lambda", "seed")]
    return [[*told, of, value] for of, value in zip(OF, values, strict=True)]


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say which way the rarest class goes, beside what Theorem 1 says of it."""
    parts = {name: table[table["varied"] == name] for name in ("rho", "lambda")}
    said = [
        (f"{of} over {name}", f"{networks.ends(own, name, of)}. Theorem 1: {expected}.")
        for (name, own), expected in zip(parts.items(), EXPECTED, strict=True)
        for of in OF[:2]
    ]
    drawn = [_drawn(own, name) for name, own in parts.items()]
    return Told([*said, ("what carries over", networks.CARRIES)], drawn)


EXPECTED = (
    "it falls with the share of similar images", "it rises as they become less similar"
)  # fmt: skip


def _drawn(table: pd.DataFrame, name: str) -> Exhibit:
    axis = {"rho": "ρ, share of images mixed", "lambda": "λ, part of the frequent class in them"}
    return networks.lines(
        name, f"Accuracy against {name}",
        f"The other of ρ and λ is {FIXED:g}. Means over seeds with their deviations.",
        table, name, OF, axis[name],
    )  # fmt: skip
