"""Two networks of unlike widths on one test set, and what is made from them."""

from dataclasses import replace

import numpy as np
from compared import noisy

from ltkit.records import FeatureSet, Head

IDS = np.array([f"test/{place:03}" for place in range(240)])


def first(ids=True):
    """A network of eight features; its test images have names."""
    features = noisy(seed=1)
    return _with_ids(features) if ids else features


def second(ids=True, order=None, **head):
    """Another of five features on the same images, in any order."""
    one, rng = noisy(seed=1), np.random.default_rng(7)
    axes = rng.normal(size=(8, 5)).astype(np.float32)
    splits = {
        name: replace(split, features=np.ascontiguousarray(split.features @ axes))
        for name, split in one.splits.items()
    }
    weight = (one.head.weight @ axes + 0.2 * rng.normal(size=(6, 5))).astype(np.float32)
    features = FeatureSet(
        splits, one.classes, Head(weight, one.head.bias, **head), source="second.h5"
    )
    features = _with_ids(features) if ids else features
    if order is not None:
        features.splits["test"] = _in_order(features.splits["test"], order)
    return features


def _with_ids(features):
    test = replace(features.splits["test"], ids=IDS)
    return replace(features, splits={**features.splits, "test": test})


def _in_order(split, order):
    return replace(
        split, features=split.features[order], labels=split.labels[order],
        ids=None if split.ids is None else split.ids[order],
    )  # fmt: skip


def predictions(features):
    """What a linear head predicts of the test images, in float64."""
    head, data = features.head, features.split("test")
    logits = data.features.astype(np.float64) @ head.weight.T.astype(np.float64) + head.bias
    return logits.argmax(axis=1)
