"""What studies of networks share: one training on made images, and its accuracy by class."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltkit import checkpoints, evaluation
from ltkit.datasets import longtail
from ltkit.errors import InputError
from ltkit.evaluation import probabilities
from ltkit.evaluation.analysis import spearman
from ltkit.files import features as features_file
from ltkit.records import Dataset, FeatureSet, ImageSplit, Ints
from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.look import axis, series_color
from ltkit.reporting.numbers import percent
from ltkit.settings import ExtractSettings, TrainPlan, TrainSettings
from ltkit.sources import extraction
from ltkit.studies import Given, Point
from ltkit.training import runs

SPLIT = "test"
SEEDS = {"small": 3, "paper": 50}
SEEN = 40_000
"""Images that a network of the small form is trained on, those of all epochs together."""

MOST_EPOCHS = 100
"""Of the small form, where images are few."""

SMALL_ARCH = "resnet8"
CARRIES = (
    "The small form trains a ResNet-8, where it fits the pictures, on the same number of images "
    "each time, all epochs together: the images of a class that is a smaller share are seen less "
    "often, too. Which way accuracy goes carries over; its height does not."
)


def pixels(given: Given) -> NDArray[np.uint8]:
    """Return the training images.

    Raises:
        InputError: when they are not held as pixels, or there is no test split.
    """
    images = dataset(given)
    images.split(SPLIT)
    held = images.split("train").images
    if not isinstance(held, np.ndarray):
        raise InputError(
            f"{images.record['spec']}: found images in files, expected a dataset that is held "
            "whole, as cifar10_lt or digits_lt; name one with --data"
        )
    return held


def dataset(given: Given) -> Dataset:
    """Return the images that the study was given."""
    assert given.images is not None  # `NEEDS` says so
    return given.images


def most(given: Given) -> int:
    """Return how many training images every class has at least."""
    return int(dataset(given).classes.train_count.min())


def schedule(form: str, images: int) -> dict[str, Any]:
    """Return the settings of a training on so many images, for a point."""
    if form == "paper":
        return {"epochs": TrainSettings.epochs, "schedule": "step", "warmup": 5}
    return {
        "epochs": min(max(1, round(SEEN / images)), MOST_EPOCHS),
        "schedule": "cosine",
        "warmup": 0,
    }


def drawn(given: Given, counts: Ints, seed: int) -> Dataset:
    """Return the images with so many of each class for training, drawn by a seed."""
    images, held = dataset(given), pixels(given)
    train = images.split("train")
    rows = longtail.draw(train.labels, counts, seed, "none").train
    part = ImageSplit(held[rows], train.labels[rows], train.ids[rows])
    record = {
        **images.record, "counts": counts.tolist(),
        "index_digest": longtail.index_digest(rows, None, np.arange(len(images.split(SPLIT)))),
    }  # fmt: skip
    return replace(
        images, splits={"train": part, SPLIT: images.split(SPLIT)}, record=record,
        classes=replace(images.classes, train_count=counts),
    )  # fmt: skip


@contextmanager
def trained(
    images: Dataset, point: Point, given: Given, *, plan: TrainPlan, init: Path | None = None
) -> Iterator[FeatureSet]:
    """Train a network; yield its features of the test images, with its head.

    The network and its features lie in the study's folder until the block ends.

    Args:
        images: what it is trained on.
        point: with the schedule and the seed.
        given: what the study works on.
        plan: how it is trained.
        init: a network whose weights it starts from, all but the head's.
    """
    network, scored = (given.folder / f"network{end}" for end in (".pt", ".h5"))
    train(images, point, given, network, plan=plan, init=init)
    model = checkpoints.load(network)
    scored.unlink(missing_ok=True)
    extraction.extract(model, images, [SPLIT], scored, ExtractSettings(), device=given.device)
    yield features_file.read(scored)
    for file in (network, scored, *given.folder.glob("network.pt.*")):
        file.unlink(missing_ok=True)


def train(
    images: Dataset, point: Point, given: Given, output: Path, *, plan: TrainPlan,
    init: Path | None = None,
) -> None:  # fmt: skip
    """Train a network with a point's schedule and seed, and write it; see `trained`."""
    settings = TrainSettings(
        epochs=point["epochs"], schedule=point["schedule"], warmup_epochs=point["warmup"],
        seed=point["seed"],
    )  # fmt: skip
    color = len(images.mean) == 3
    runs.train_networks(
        images, plan, settings, output, device=given.device, overwrite=True, init=init,
        arch=SMALL_ARCH if given.form == "small" and color else None,
    )  # fmt: skip


def accuracies(images: Dataset, point: Point, given: Given) -> NDArray[np.float64]:
    """Train a network with cross-entropy; return its (C,) test accuracies."""
    with trained(images, point, given, plan=TrainPlan("ce")) as features:
        return accuracies_of(features)


def accuracies_of(features: FeatureSet) -> NDArray[np.float64]:
    """Return the (C,) test accuracies of a network's features."""
    _, by_class = evaluation.evaluate(features, SPLIT, [], topk=[1], replicates=1)
    return np.array(by_class[features.baseline])


def areas_of(features: FeatureSet) -> NDArray[np.float64]:
    """Return the (C,) areas under the ROC curves of the test images, each class against the rest.

    How well a class is told apart, even where it has too small a prior to be predicted at all.
    """
    split, head = features.split(SPLIT), features.classifier()
    _, _, normaliser = probabilities.likelihoods(split, head)
    return probabilities.one_against_rest(split, head, normaliser, np.ones(len(split)))[0]


def ends(table: pd.DataFrame, x: str, of: str) -> str:
    """Return the accuracy of a group at both ends of x, and its rank correlation with x."""
    own = table[table["of"] == of]
    by_x = own.groupby(x)["accuracy"]
    mean, std = by_x.mean(), by_x.std().fillna(0.0)
    first, last = (
        f"{percent(mean.loc[at])} ± {percent(std.loc[at])} % at {at:g}"
        for at in (mean.index.min(), mean.index.max())
    )
    rank = spearman(own[x].to_numpy(float), own["accuracy"].to_numpy(float))
    told = "alike in all" if np.isnan(rank) else f"rank correlation {rank:+.2f} over"
    return f"{first}, {last}; {told} {len(own)} trainings"


def lines(
    key: str, title: str, caption: str, table: pd.DataFrame, x: str, groups: Sequence[str],
    named: str,
) -> Exhibit:  # fmt: skip
    """Return a figure of accuracy against x: means over seeds with their deviations."""
    traces = []
    for place, of in enumerate(groups, 1):
        by_x = table[table["of"] == of].groupby(x)["accuracy"]
        mean, std = by_x.mean(), by_x.std().fillna(0.0)
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers", "name": of,
                "x": mean.index.tolist(), "y": (100 * mean).tolist(),
                "line": {"color": series_color(place)},
                "error_y": {"type": "data", "array": (100 * std).tolist(), "thickness": 1},
            }
        )  # fmt: skip
    layout = {"xaxis": axis(named), "yaxis": axis("test accuracy in %")}
    rows = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return Exhibit(key, title, caption, list(table.columns), rows, [View("", traces, layout)])
