"""Training a network and its head from images."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltkit import architectures
from ltkit.architectures.network import Network
from ltkit.errors import SettingError
from ltkit.records import Dataset
from ltkit.training import beside, checkpoint, checks, distributed, starts
from ltkit.training.images import Images, resident
from ltkit.training.job import Report, Samples, job_of, seeded
from ltkit.training.loop import fit
from ltkit.training.recipe import Recipe
from ltkit.training.validation import mean_features


def train(
    dataset: Dataset,
    arch: str,
    recipe: Recipe,
    output: Path,
    *,
    device: str = "cpu",
    images: Callable[[], Images] | None = None,
    keep_best: bool = False,
    resume: bool = False,
    overwrite: bool = True,
    report: Report = lambda progress: None,
) -> None:
    """Train a network and write its checkpoint.

    After each epoch the whole state goes to ``OUTPUT.partial`` and a line to ``OUTPUT.jsonl``; at
    the end the checkpoint appears under its name and the partial file is removed. On the CPU the
    same seed and number of threads give the same weights, and a run that was killed and resumed
    ends in the same ones.

    Args:
        dataset: with a train split, and a val split to be watched where there is one.
        arch: a key of `ltkit.architectures.CATALOGUE`.
        recipe: what the run is.
        output: the checkpoint's path.
        device: ``cpu`` or ``cuda[:i]``.
        images: returns the result of `resident`, so that several runs share it.
        keep_best: also write the checkpoint of the epoch with the best balanced accuracy on the
            validation split, the first of equal ones, to `beside.best_path`.
        resume: resume from ``OUTPUT.partial``; where there is none, a finished output of these
            settings is left alone.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Raises:
        InputError: when the settings are out of range, the images do not suit the network or the
            memory, the loss is no longer finite, there is nothing to resume, or what lies beside
            the output is not of ltkit.
    """
    counts, settings = torch.from_numpy(dataset.classes.train_count), recipe.settings
    loss = recipe.loss_of(counts)
    checks.check_settings(settings)
    checks.check_images(dataset, arch)
    checks.check_stages(loss, settings, recipe.then)
    checks.check_mixing(dataset, loss, recipe.mixing)
    checks.check_methods(loss, settings, recipe.method, dataset)
    checks.check_teacher(loss, recipe.method, recipe.teacher is not None)
    if keep_best and "val" not in dataset.splits:
        raise SettingError("keep_best", f"found no val split in {dataset.record['spec']}")
    record = recipe.record({"dataset": dict(dataset.record)}, arch) | {
        "mixing": recipe.mixing.record() if recipe.mixing else None, "keep_best": keep_best,
    }  # fmt: skip
    record |= _started(recipe, output, resume)
    checks.check_start(loss, recipe.method, recipe.trained, record)
    if resume and output.is_file() and not beside.begun(output):
        checkpoint.check_finished(output, record)
        return
    network = _network(arch, dataset, recipe, device)
    held = images() if images else resident(dataset, settings.augment, device)
    samples = _samples(dataset, counts, held, device)

    def save(path: Path, epoch: int) -> None:
        checkpoint.save(path, record, epoch, network, dataset, job.loss.kept())

    best = beside.best_path(output)
    job = job_of(
        recipe, loss, network, samples, functools.partial(_means, network, samples, recipe),
        functools.partial(save, best) if keep_best else None,
    )  # fmt: skip
    with beside.locked_output(output):
        if resume and keep_best and os.path.lexists(best):
            checkpoint.check_finished(best, record)
        fit(job, record, output, resume=resume, overwrite=overwrite, report=report)
        if distributed.rank() == 0:
            save(output, job.epoch)
            beside.forget(output)


def _started(recipe: Recipe, output: Path, resume: bool) -> dict[str, Any]:
    """Return the entry of a run's record for what it starts from; a resumed one has its state."""
    if recipe.start is not None:
        return {"init": recipe.start.record()}
    found = checkpoint.started(beside.state_of(output)) if resume else None
    return {} if found is None else {"init": found.record}


def _network(arch: str, dataset: Dataset, recipe: Recipe, device: str) -> Network:
    classes = len(dataset.classes)
    network = seeded(
        lambda: architectures.build(arch, classes, cosine=recipe.cosine, scale=recipe.scale),
        recipe.settings.seed,
    )
    if recipe.start is not None:
        starts.put(recipe.start, network, arch, dataset.classes.names)
    if recipe.trained == "last-block":
        starts.last_block(network.backbone, arch)  # or its error, before the images are read
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _samples(dataset: Dataset, counts: Tensor, images: Images, device: str) -> Samples:
    labels = torch.from_numpy(dataset.split("train").labels).to(device)
    val_labels = None if images.val is None else dataset.split("val").labels
    given = labels[: dataset.labelled].bincount(minlength=len(counts))
    return Samples(
        images.train, labels, counts.to(device), images.val, val_labels,
        None if dataset.labelled is None else given,
    )  # fmt: skip


def _means(network: Network, samples: Samples, recipe: Recipe) -> Tensor:
    classes = len(samples.class_counts)
    return mean_features(network, samples.store, samples.labels, classes, recipe.settings)
