"""Runs of training that several test files make, and what they look at."""

import json

import numpy as np
import torch

from ltkit.losses import ce
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.settings import TrainSettings
from ltkit.training import networks
from ltkit.training.recipe import Recipe

SETTINGS = TrainSettings(epochs=3, batch_size=32, warmup_epochs=0, learning_rate=0.05)


def recipe_of(loss, settings, method="ce", **more):
    """The recipe of a run with a loss that is there already."""
    return Recipe(method, lambda class_counts: loss, settings, **more)


def fit(dataset, output, settings=SETTINGS, *, arch="digits_net", loss=ce.loss, **options):
    """Train a small network; the options are those of the recipe, or of the training."""
    of_training = ("device", "images", "keep_best", "resume", "overwrite", "report")
    own = {name: options.pop(name) for name in of_training if name in options}
    networks.train(dataset, arch, recipe_of(loss, settings, **options), output, **own)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def recipe(path):
    return torch.load(path, weights_only=True)["recipe"]


def files(output):
    return sorted(p.name for p in output.parent.iterdir())


def log(output):
    """The lines of the log without speeds."""
    lines = output.with_name(f"{output.name}.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "images_per_second"} for line in lines
    ]


def same(first, second):
    assert first.keys() == second.keys()
    return all(torch.equal(first[k], second[k]) for k in first)


class Stop(Exception):
    pass


def stop_after(epoch):
    def report(progress):
        if progress.epoch == epoch:
            raise Stop

    return report


def dataset_of(counts, val=(), channels=1):
    """Random 8x8 pictures; counts and val: images a class."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, sizes in (("train", counts), ("val", val)):
        if sizes:
            labels = np.repeat(np.arange(len(sizes)), sizes)
            images = rng.integers(0, 256, (len(labels), 8, 8, channels), dtype=np.uint8)
            splits[name] = ImageSplit(images, labels, labels.astype(str))
    table = ClassTable(np.array(counts))
    return Dataset(splits, table, (0.5,), (0.5,), 1, False, {"spec": "made up"})
