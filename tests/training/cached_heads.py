"""Features of Gaussian classes, and heads trained on them."""

import numpy as np
from trained import recipe_of

from ltkit.losses import ce
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.settings import HeadSettings
from ltkit.training import heads

COUNTS = [60, 25, 10, 5]

SETTINGS = HeadSettings(epochs=4, batch_size=16)


class Watched:
    """Rows that say which slices of them were read."""

    def __init__(self, values):
        self.values, self.read = values, []
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows):
        self.read.append(rows)
        return self.values[rows]


def made(counts=COUNTS, size=8, spread=0.5, experts=1, dtype=np.float32, val=True):
    """Gaussian classes; val has 20 of each."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(counts), size))
    splits = {}
    for name, each in (("train", counts), ("val", [20] * len(counts))):
        labels = np.repeat(np.arange(len(counts)), each)
        x = centres[labels] + spread * rng.normal(size=(len(labels), size))
        splits[name] = FeatureSplit(Watched(x.astype(dtype)), labels)
    if not val:
        del splits["val"]
    width = size // experts
    head = Head(
        np.ones((experts, len(counts), width), np.float32), np.zeros((experts, len(counts)))
    )
    return FeatureSet(splits, ClassTable(np.array(counts)), head)


def fit(features, output, settings=SETTINGS, **options):
    """Train a head; the options are those of the recipe, or of the training."""
    of_training = ("device", "held", "resume", "overwrite", "report")
    own = {name: options.pop(name) for name in of_training if name in options}
    loss = options.pop("loss", ce.loss)
    return heads.train(features, recipe_of(loss, settings, **options), output, **own)
