"""A head trained on cached features, in the loop that trains networks from images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.architectures.network import Network, make_head
from ltkit.errors import SettingError
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSet, Head, never_predicted, unit_rows
from ltkit.training import beside, checks
from ltkit.training.features import Stores, stores
from ltkit.training.job import Report, Samples, job_of, seeded
from ltkit.training.loop import fit
from ltkit.training.recipe import Recipe

KEPT = ("head", "text")
"""Starts that have rows of classes without training images, which are kept."""


def train(
    features: FeatureSet,
    recipe: Recipe,
    output: Path,
    *,
    device: str = "cpu",
    held: Callable[[], Stores] | None = None,
    resume: bool = False,
    overwrite: bool = True,
    report: Report = lambda progress: None,
) -> Classifier:
    """Train a head on the train split, watching the val split if there is one.

    The head starts anew, from the seed, or from what the recipe says. Memory does not grow with N
    beyond `ltkit.memory.budget` bytes of features, and the budget does not change the result.
    ``OUTPUT.partial`` and ``OUTPUT.jsonl`` are those of `networks.train`; the first stays until
    `beside.forget`, so that runs which are finished are not trained again when a later one of the
    same file is resumed.

    Args:
        features: the contents of a features file.
        recipe: what the run is; nothing is augmented or mixed, and a second stage has no backbone
            that it could freeze. Of features with experts a cosine head has one for each.
        output: the classifier file that the caller will write.
        device: ``cpu`` or ``cuda[:i]``.
        held: returns the result of `stores`, so that several runs share it.
        resume: resume from ``OUTPUT.partial``.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Returns:
        The head in its linear form.

    Raises:
        InputError: when the settings are out of range, there is no train split, the loss is no
            longer finite, or there is nothing to resume.
    """
    counts, settings = torch.from_numpy(features.classes.train_count), recipe.settings
    loss = recipe.loss_of(counts)
    checks.check_settings(settings)
    checks.check_stages(loss, settings, recipe.then)
    checks.check_methods(loss, settings, recipe.method, None)
    split = features.split("train")
    record = recipe.record(features.inputs)
    network = _started(_network(features, recipe), features, recipe).to(device)
    store, val = held() if held else stores(features, device)
    labels = torch.from_numpy(split.labels).to(device)
    val_labels = None if val is None else features.split("val").labels

    def means() -> Tensor:
        return torch.from_numpy(class_means(split, len(counts))[0]).to(device)

    job = job_of(
        recipe, loss, network, Samples(store, labels, counts.to(device), val, val_labels), means
    )
    with beside.locked_output(output):
        fit(job, record, output, resume=resume, overwrite=overwrite, report=report)
    head: Head = network.record()  # type: ignore[assignment]  # `_network` made one
    return head.fold()


def of_left_out(features: FeatureSet, recipe: Recipe) -> Classifier:
    """Return the (C, D) rows that classes without training images have in a trained head.

    Those of the head that training starts from, in the new head's form; else the classes are never
    predicted.

    Raises:
        InputError: when the new head's form cannot hold that head.
    """
    return _start(features, recipe) if recipe.init in KEPT else never_predicted(features)


def _network(features: FeatureSet, recipe: Recipe) -> Network:
    """Return a new head on a backbone that changes nothing."""
    size, classes = features.feature_size, len(features.classes)
    experts = features.head.experts if features.head and recipe.cosine else 1
    return seeded(
        lambda: Network(
            nn.Identity(),
            make_head(size, classes, cosine=recipe.cosine, scale=recipe.scale, experts=experts),
        ),
        recipe.settings.seed,
    )


def _started(network: Network, features: FeatureSet, recipe: Recipe) -> Network:
    """Put what the head starts from into a network.

    Raises:
        InputError: when there is no such head, or the new one's form cannot hold it.
    """
    if recipe.init is None:
        return network
    start = _start(features, recipe)
    held = {name: torch.from_numpy(values.copy()) for name, values in network.hold(start).items()}
    network.load_state_dict(network.state_dict() | held)
    return network


def _start(features: FeatureSet, recipe: Recipe) -> Classifier:
    """Return the classifier that the head starts from, in the new head's form."""
    if recipe.init == "ncm":
        means, counts = class_means(features.split("train"), len(features.classes))
        if not counts.all():
            raise SettingError(
                "init", f"ncm: class {int(counts.argmin())} has no training sample; start otherwise"
            )
        start = Classifier(
            (2 * means).astype(np.float32), (-(means**2).sum(axis=1)).astype(np.float32)
        )
    elif recipe.init == "zeros":
        start = features.empty_classifier()
    else:
        text = features.head is not None and features.head.normalize == "cosine"
        if recipe.init == "text" and not (text and features.base is None):
            raise SettingError(
                "init",
                f"text: {features.source} has no head of class embeddings; import them with "
                "--text-features",
            )
        start = features.classifier()
    if not recipe.cosine:
        if start.normalize_features:
            raise SettingError(
                "init", f"{recipe.init}: that head normalises features; train it with --cosine"
            )
        return start
    experts = features.head.experts if features.head else 1
    parts = start.weight.reshape(len(start.weight), experts, -1)
    if not parts.any(axis=2).all():
        raise SettingError("init", f"{recipe.init}: rows of zeros are no start of a cosine head")
    rows = unit_rows(parts) * np.float32(recipe.scale / experts)
    return Classifier(
        rows.reshape(start.weight.shape).astype(np.float32),
        np.zeros_like(start.bias),
        True,
        experts,
    )
