"""Losses that need more than a batch: what they are built with, and their formulas in NumPy."""

import math

import numpy as np
import torch
import trained

from ltkit import losses, registry
from ltkit.losses import (
    Moment,
)
from ltkit.settings import TrainSettings

STATEFUL = [n for n in registry.names(losses) if isinstance(registry.load(losses, n).loss, type)]

COUNTS = np.array([50, 3, 400, 1, 20, 8])

CLASSES, FEATURES = len(COUNTS), 4

MEANS = np.array([[0.0, 1.0], [5.0, 5.0], [0.2, 1.1], [5.5, 5.0], [9.0, 0.0], [5.2, 4.7]])

ACCURACY = np.array([0.9, 0.45, 0.95, 0.3, 0.5, 0.35])

WINDOWED = {"swrm", "dyswrm"}


def moment(epoch=9, epochs=11, accuracy=ACCURACY, means=MEANS):
    known = None if accuracy is None else lambda: torch.tensor(accuracy)
    return Moment(epoch, epochs, known, lambda: torch.tensor(means))


def batch(seed=0, size=16):
    rng = np.random.default_rng(seed)
    z, f = 2 * rng.normal(size=(size, CLASSES)), rng.normal(size=(size, FEATURES))
    return z, rng.integers(0, CLASSES, size), f


def build(name, at=None, **parameters):
    if name in WINDOWED:
        parameters = {"window": 3} | parameters
    made = registry.load(losses, name).loss(torch.tensor(COUNTS), **parameters)
    made.before_epoch(at or moment())
    return made


def call(made, z, y, f):
    return made(torch.tensor(z), torch.tensor(y), torch.tensor(f))


# Each loss again, in NumPy: z logits, y labels, f features, for one batch or several in turn


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def cost(z, y):
    return -np.log(softmax(z)[np.arange(len(y)), y])


def numpy_window(
    positions, window=3, beta=1.0, similarity="one-plus-distance", index="rank", borders="clip",
    own="in", unit="gap",
):  # fmt: skip
    """Weights and margins, class by class, from the lists of classes in the windows."""
    line = sorted(range(CLASSES), key=lambda c: positions[c])
    gap = np.median(np.diff(np.sort(positions))) if unit == "gap" else 1.0
    places = line if index == "rank" else list(range(CLASSES))
    weights, margins = np.zeros(CLASSES), np.zeros(CLASSES)
    for rank, c in enumerate(places):
        half = window // 2
        first, last = rank - half, rank + half
        if borders == "shift":
            move = max(0, -first) - max(0, last - CLASSES + 1)
            first, last = first + move, last + move
        members = places[max(0, first) : last + 1]
        members = [i for i in members if own == "in" or i != c]
        surplus = (window + 1) / window if window % 2 == 0 and own == "in" else 1.0
        ratios = [COUNTS[i] / COUNTS[c] for i in members]
        weights[c] = np.log(1 + COUNTS.max() / COUNTS[c] * surplus * np.mean(ratios))
        distance = [abs(positions[i] - positions[c]) / gap for i in members]
        sim = {
            "one-plus-distance": lambda d: 1 + d,
            "inverse": lambda d: 1 / (1 + d),
            "exponential": lambda d: math.exp(-d),
        }[similarity]
        margins[c] = np.log(surplus * np.mean([1 / sim(d) ** beta for d in distance]))
    return weights, margins


def numpy_windowed(
    batches, positions, sign=0, weights="raw", reduction="batch", form="swrm", **options
):
    z, y, _ = batches[-1]
    w, m = numpy_window(positions, **options)
    if form == "swr":
        m = np.zeros(CLASSES)
    if form == "swm":
        w = np.ones(CLASSES)
    if sign == 0:  # the nearer, the dearer
        sign = 1 if options.get("similarity") in ("inverse", "exponential") else -1
    w = w * CLASSES / w.sum() if weights == "sum" else w
    z = z.copy()
    z[np.arange(len(y)), y] += sign * m[y]
    return (w[y] * cost(z, y)).sum() / (len(y) if reduction == "batch" else w[y].sum())


# Runs

SMALL = TrainSettings(epochs=4, batch_size=64, warmup_epochs=0, learning_rate=0.05)


def fit(digits, output, loss, settings=SMALL, **options):
    trained.fit(digits, output, settings, **{"loss": loss, "method": "made up"} | options)
