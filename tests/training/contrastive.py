"""What the tests of contrastive methods share: random batches, and the formulas in NumPy."""

import math

import numpy as np
import torch

from ltkit import registry
from ltkit.settings import TrainSettings
from ltkit.training import methods

GIVEN = ("bbn", "distill", "expert-weights", "learned-scales", "router")
"""Methods that need another checkpoint, or a network of two branches."""

EXPERTS = ("ride", "sade")
"""Methods that train several experts, on networks for colour pictures."""

CONTRASTIVE = [name for name in registry.names(methods) if name not in (*GIVEN, *EXPERTS)]

SMALL = {
    "paco": {"queue": 64, "size": 8}, "gpaco": {"queue": 64, "size": 8, "smoothing": 0.1},
    "lpa": {"queue": 64, "size": 8, "prototypes": 12, "warmup": 1, "refresh": 1},
    "supcon": {"size": 8}, "kcl": {"queue": 64, "size": 8, "positives": 2},
    "moco": {"queue": 64, "size": 8}, "simsiam": {"size": 8}, "byol": {"size": 8}, "ssp": {},
    "instance-contrast": {"queue": 64, "size": 8},
    "tsc": {"queue": 64, "size": 8, "positives": 2},
}  # fmt: skip
"""Parameters for small datasets."""

UNLABELLED = ("ssp", "moco", "simsiam", "byol")
"""Methods whose features are learned without labels."""

RUN = TrainSettings(epochs=3, batch_size=32, warmup_epochs=0, learning_rate=0.05)


def plain_views(name):
    """The parameters with which a method's further views are those of the run."""
    known = registry.defaults(registry.load(methods, name).loss)
    return {"second_view": "standard"} if "second_view" in known else {}


def unit(rng, *shape):
    values = rng.normal(size=shape)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def built(name, counts, **parameters):
    """A method with the parameters of small datasets."""
    parameters = SMALL.get(name, {}) | parameters
    return registry.load(methods, name).loss(torch.as_tensor(counts), **parameters)


def logsum(values):
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def naive_parametric(
    logits, counts, labels, queries, candidates, of, alpha, beta, gamma, temperature, smoothing=0.0
):
    """Sample by sample; the queries are the first candidates, whose label -1 says there is none."""
    total, (size, classes) = 0.0, logits.shape
    for i in range(size):
        centres = [logits[i, c] + math.log(counts[c] / sum(counts)) for c in range(classes)]
        others = [k for k in range(len(candidates)) if k != i and of[k] >= 0]
        near = {k: float(queries[i] @ candidates[k]) / temperature for k in others}
        terms = centres + [u + math.log(gamma) for u in near.values() if gamma]
        bottom = logsum(terms)
        value, weight = 0.0, beta
        for c in range(classes):
            share = 1 - smoothing if c == labels[i] else smoothing / (classes - 1)
            value += beta * share * (centres[c] - bottom)
        for k in others:
            if of[k] == labels[i]:
                value, weight = value + alpha * (near[k] - bottom), weight + alpha
        total -= value / weight
    return total / size
