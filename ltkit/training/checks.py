"""Checks before a run begins."""

import shutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from ltkit import architectures
from ltkit.errors import InputError, SettingError
from ltkit.losses import Stateful
from ltkit.records import Dataset
from ltkit.settings import RANGES, TrainSettings
from ltkit.settings import check as check_ranges
from ltkit.training import distributed
from ltkit.training.augment import check_channels
from ltkit.training.batches import undersampled_size
from ltkit.training.deferred import Deferred, OfBatch
from ltkit.training.job import Job, methods_in
from ltkit.training.methods import Method
from ltkit.training.mixing import Mixing
from ltkit.training.schedules import Stage

COMPILERS = ("g++", "clang++")

SHOWN = 3
"""Architectures that an error names."""


def check_settings(settings: TrainSettings) -> None:
    """Reject settings out of range.

    Raises:
        SettingError: naming the first such setting; ``compile`` where there is no compiler.
    """
    check_ranges(settings)
    if list(settings.steps) != sorted(settings.steps):
        found = ", ".join(map(str, settings.steps))
        raise SettingError(
            "steps", f"found {found}, expected ascending fractions of the run, 0 to 1"
        )
    if settings.nesterov and not settings.momentum:
        raise SettingError("nesterov", "found a momentum of 0, expected one above; leave it out")
    if settings.compile and not any(map(shutil.which, COMPILERS)):
        raise SettingError("compile", f"found no C++ compiler, expected {' or '.join(COMPILERS)}")


def check_images(dataset: Dataset, arch: str) -> None:
    """Reject images too few for the network, or with other channels.

    Raises:
        InputError: naming the dataset, or ``arch``.
    """
    if len(dataset.split("train")) < 2:
        raise InputError(
            f"{dataset.record['spec']}: found one training image, expected two or more"
        )
    if arch in architectures.CATALOGUE:
        channels = architectures.CATALOGUE[arch].channels
        found = dataset.split("train").images[:1].shape[-1]
        if found != channels:
            of_one = ((k, v) for k, v in architectures.CATALOGUE.items() if v.experts == 1)
            fitting = [name for name, spec in of_one if spec.channels == found]
            more = f" or one of {len(fitting) - SHOWN} more" if len(fitting) > SHOWN else ""
            raise SettingError(
                f"arch {arch}",
                f"takes {channels} channels, the images have {found}; "
                f"expected {', '.join(fitting[:SHOWN]) or 'another dataset'}{more}",
            )


def check_stages(loss: OfBatch | Stateful, settings: TrainSettings, then: Stage | None) -> None:
    """Reject a second stage that would never start.

    Raises:
        InputError: naming the epoch. SettingError: naming a learning rate out of range.
    """
    borders = [(1, then.from_epoch)] if then else []
    borders += [(0, loss.epoch)] if isinstance(loss, Deferred) else []
    for least, found in borders:
        if not least <= found < settings.epochs:
            raise InputError(
                f"second stage: found epoch {found}, expected from {least} to {settings.epochs - 1}"
                "; choose another epoch for it, or train for more epochs"
            )
    rate, within = then.learning_rate if then else None, RANGES["learning_rate"]
    if rate is not None and rate not in within:
        raise SettingError("then_lr", f"found {rate}, expected {within}")


def check_mixing(dataset: Dataset, loss: OfBatch | Stateful, mixing: Mixing | None) -> None:
    """Reject mixing images for a loss that counts labels, or of a single class.

    Raises:
        SettingError: naming ``mixing``.
    """
    if not mixing:
        return
    if not getattr(loss, "mixable", True):
        raise SettingError(
            "mixing",
            "this loss counts the labels that it meets, and a mixed image has two; expected "
            "another loss, or no mixing",
        )
    if (present := int((dataset.classes.train_count > 0).sum())) < 2:
        raise SettingError(
            "mixing", f"found images of {present} class, expected two classes or more"
        )


def check_methods(
    loss: OfBatch | Stateful, settings: TrainSettings, method: str, dataset: Dataset | None
) -> None:
    """Reject images, or a want of them, that a method cannot be trained on.

    Args:
        loss: the run's loss.
        settings: its schedule.
        method: the loss's name.
        dataset: the images; None for cached features.

    Raises:
        SettingError: naming the method, or its parameter.
    """
    for part in methods_in(loss):
        if dataset is None:
            does = "sees further views of images" if part.views else "works on a whole network"
            said = f"{does}, found cached features; train it on images"
            raise SettingError(f"method {method}", said)
        part.check(settings, len(dataset.split("train")))
        for view in part.views:
            check_channels(view, dataset.split("train").images[:1].shape[-1])


def check_start(
    loss: OfBatch | Stateful, method: str, trained: str, record: Mapping[str, Any]
) -> None:
    """Reject what holds a part of a network that starts from nothing.

    Args:
        loss: the run's loss.
        method: its name.
        trained: what of the network is trained.
        record: of the run.

    Raises:
        SettingError: naming ``train``, or ``keep_head``.
    """
    init = record.get("init")
    if trained != "all" and init is None:
        said = f"{trained}: found no checkpoint to start from (init); expected all"
        raise SettingError("train", said)
    first = loss.first if isinstance(loss, Deferred) else loss
    if isinstance(first, Method) and first.freeze and not (init and init["head"]):
        said = f"absent; {method} needs a trained network and its head, to start from with init"
        raise SettingError("keep_head", said)
    if init and init["head"] and any(part.own_head for part in methods_in(loss)):
        raise SettingError("keep_head", f"{method} has a head of its own; leave it out")


def check_teacher(loss: OfBatch | Stateful, method: str, taught: bool) -> None:
    """Reject a teacher of a loss that has none, and a want of it.

    Raises:
        SettingError: naming ``teacher``.
    """
    takes = any(part.takes_teacher for part in methods_in(loss))
    if not taught and any(part.needs_teacher for part in methods_in(loss)):
        raise SettingError("teacher", f"absent; {method} learns from a checkpoint, name it")
    if taught and not takes:
        raise SettingError("teacher", f"{method} takes none; distill and ride do")


def least_batch(network: nn.Module) -> int:
    """Return the fewest samples of a batch: one per process, two with batch norm."""
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return (2 if normed else 1) * distributed.processes()


def check_batches(job: Job) -> None:
    """Reject batches, or datasets, too small for the network or the processes.

    Raises:
        InputError: naming ``batch_size``, or the samples.
    """
    least, size, count = least_batch(job.network), job.recipe.settings.batch_size, len(job.labels)
    where = ""
    if "undersample" in job.recipe.samplers:
        count, where = undersampled_size(job.labels.bincount()), " an epoch (undersample)"
    several = f" for {distributed.processes()} processes" if distributed.processes() > 1 else ""
    expected = f"expected at least {least}{several}"
    if size < least:
        raise SettingError("batch_size", f"found {size}, {expected}")
    if count < least:
        raise InputError(f"training {job.store.unit}{where}: found {count}, {expected}")
