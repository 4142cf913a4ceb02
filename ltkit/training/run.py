"""One plain loop: a network and its head, trained from images."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltkit import architectures
from ltkit.architectures.network import Network
from ltkit.errors import InputError
from ltkit.files.atomic import write_text
from ltkit.records import Dataset, ImageSplit, block_rows, blocks, shot_groups
from ltkit.settings import TrainSettings, as_json
from ltkit.training import checkpoint
from ltkit.training.augment import ImageStore
from ltkit.training.schedules import learning_rate

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MAX_RESIDENT = 32 << 30
"""Images are kept in memory as bytes; a dataset above this size is refused."""


@dataclass(frozen=True)
class Progress:
    """How far training is, for whoever shows it.

    epoch: finished epochs; loss: mean of the epoch; accuracy: balanced, on val, or None.
    images_per_second: of this epoch; seconds_left: at this rate.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float


def train(
    dataset: Dataset,
    arch: str,
    loss: Loss,
    settings: TrainSettings,
    output: Path,
    *,
    method: str,
    parameters: Mapping[str, Any] | None = None,
    cosine: bool = False,
    scale: float = 1.0,
    device: str = "cpu",
    resume: bool = False,
    report: Callable[[Progress], None] = lambda progress: None,
) -> None:
    """Train a network and write its checkpoint.

    After each epoch the whole state goes to ``OUTPUT.partial`` and a line to ``OUTPUT.jsonl``; at
    the end the checkpoint appears under its name and the partial file is removed. On the CPU the
    same seed and number of threads give the same weights, and a run that was killed and resumed
    ends in the same ones.

    Args:
        dataset: with a train split, and a val split to be watched where there is one.
        arch: a key of `ltkit.architectures.CATALOGUE`.
        loss: ``loss(logits, labels, class_counts)``.
        settings: the schedule.
        output: the checkpoint's path.
        method: the loss's name, for the checkpoint.
        parameters: the loss's, for the checkpoint.
        cosine: whether the head is a cosine head.
        scale: of a cosine head.
        device: ``cpu`` or ``cuda[:i]``.
        resume: go on from ``OUTPUT.partial``.
        report: called after each epoch.

    Raises:
        InputError: when the settings are out of range, the images do not suit the network or the
            memory, the loss is no longer finite, or there is nothing to resume.
    """
    _check(dataset, arch, settings)
    recipe = {
        **as_json(settings), "method": method, "parameters": dict(parameters or {}), "arch": arch,
        "cosine": cosine, "scale": scale, "dataset": dict(dataset.record),
    }  # fmt: skip
    train_split, val_split = dataset.split("train"), dataset.splits.get("val")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = architectures.build(arch, len(dataset.classes), cosine=cosine, scale=scale)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(), settings.learning_rate, settings.momentum,
        weight_decay=settings.weight_decay,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(settings.seed)
    state = _State(network, optimizer, generator)
    partial = output.with_name(f"{output.name}.partial")
    log = output.with_name(f"{output.name}.jsonl")
    if resume:
        state.epoch = checkpoint.load_partial(partial, recipe, network, optimizer, generator)
    else:
        partial.unlink(missing_ok=True)
    lines = _log_lines(log)[: state.epoch]

    store = _store(train_split, dataset, device)
    watched = _store(val_split, dataset, device) if val_split is not None else None
    labels = torch.from_numpy(train_split.labels).to(device)
    counts = torch.from_numpy(dataset.classes.train_count).to(device)
    groups = shot_groups(dataset.classes.train_count)
    while state.epoch < settings.epochs:
        start = time.perf_counter()
        mean_loss = _epoch(state, store, labels, counts, loss, settings)
        seconds = time.perf_counter() - start
        state.epoch += 1
        line: dict[str, Any] = {
            "epoch": state.epoch,
            "learning_rate": learning_rate(settings, state.epoch - 1),
            "loss": mean_loss,
        }
        if watched is not None and val_split is not None:
            right = predict(network, watched, settings) == val_split.labels
            by_class = _class_means(right, val_split.labels, len(dataset.classes))
            line["val"] = {"balanced": float(np.nanmean(by_class))} | {
                name: float(np.nanmean(by_class[ids]))
                for name, ids in groups.items()
                if np.isfinite(by_class[ids]).any()
            }
        line["images_per_second"] = len(labels) / seconds
        lines.append(json.dumps(line) + "\n")
        write_text(log, "".join(lines))  # before the partial file, so that no line is ever missing
        checkpoint.save_partial(partial, recipe, state.epoch, network, optimizer, generator)
        report(
            Progress(
                state.epoch,
                settings.epochs,
                mean_loss,
                line.get("val", {}).get("balanced"),
                line["images_per_second"],
                seconds * (settings.epochs - state.epoch),
            )
        )
    checkpoint.save(output, recipe, network, dataset)
    partial.unlink(missing_ok=True)


@dataclass
class _State:
    """What changes from step to step."""

    network: Network
    optimizer: torch.optim.SGD
    generator: torch.Generator
    epoch: int = 0


def _check(dataset: Dataset, arch: str, settings: TrainSettings) -> None:
    least = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "momentum": 0, "weight_decay": 0}
    for name, bound in least.items():
        found = getattr(settings, name)
        if not bound <= found < np.inf:
            raise InputError(f"{name}: found {found}, expected at least {bound}")
    if not 0 < settings.learning_rate < np.inf:
        raise InputError(f"learning_rate: found {settings.learning_rate}, expected above 0")
    if len(dataset.split("train")) < 2:
        raise InputError(
            f"{dataset.record['spec']}: found one training image, expected two or more"
        )
    if arch in architectures.CATALOGUE:
        channels = architectures.CATALOGUE[arch].channels
        found = dataset.split("train").images[:1].shape[-1]
        if found != channels:
            fitting = [k for k, v in architectures.CATALOGUE.items() if v.channels == found]
            raise InputError(
                f"--arch {arch}: takes {channels} channels, the images have {found}; "
                f"expected {', '.join(fitting) or 'another dataset'}"
            )


def _store(split: ImageSplit, dataset: Dataset, device: str) -> ImageStore:
    shape = split.images[:1].shape
    needed = len(split) * int(np.prod(shape[1:]))
    if needed > MAX_RESIDENT:
        raise InputError(
            f"{dataset.record['spec']}: {len(split)} images of {shape[1:]} need {needed >> 30} GiB "
            f"of memory, expected at most {MAX_RESIDENT >> 30}; set a smaller resize= and crop="
        )
    pixels = torch.empty((len(split), *shape[1:]), dtype=torch.uint8)
    for rows in blocks(len(split), block_rows(needed // len(split))):
        pixels[rows] = torch.from_numpy(np.ascontiguousarray(split.images[rows]))
    return ImageStore(
        pixels.to(device), dataset.mean, dataset.std, dataset.crop_padding, dataset.flip
    )


def _epoch(
    state: _State,
    store: ImageStore,
    labels: Tensor,
    counts: Tensor,
    loss: Loss,
    settings: TrainSettings,
) -> float:
    """Train for one epoch; return the mean loss."""
    network, optimizer = state.network.train(), state.optimizer
    device = labels.device
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
    order = torch.randperm(len(labels), generator=state.generator)
    batches = [b for b in order.split(settings.batch_size) if len(b) > 1]  # batch norm needs two
    total = torch.zeros((), device=device)
    for step, batch in enumerate(batches):
        rate = learning_rate(settings, state.epoch + step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = batch.to(device, non_blocking=True)
        images = store.augmented(index, state.generator)
        with autocast(device.type, settings.amp):
            logits = network(images)
        value = loss(logits.float(), labels[index], counts)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        total += value.detach() * len(index)
    mean = float(total) / sum(map(len, batches))
    if not np.isfinite(mean):
        raise InputError(
            f"loss: found {mean:g} in epoch {state.epoch + 1} at learning rate {rate:g}, expected "
            "a finite number; start again with a lower --lr, or with --amp off"
        )
    return mean


def autocast(device: str, amp: str) -> torch.autocast:
    """Return the mixed-precision context of an ``--amp`` choice."""
    return torch.autocast(device, AMP_DTYPES.get(amp, torch.bfloat16), enabled=amp != "off")


@torch.inference_mode()
def predict(network: nn.Module, store: ImageStore, settings: TrainSettings) -> np.ndarray[Any, Any]:
    """Return the (N,) predicted classes of a store's images, in evaluation mode."""
    network.eval()
    device = store.images.device
    parts = []
    for rows in blocks(len(store.images), 512):
        index = torch.arange(rows.start, rows.stop, device=device)
        with autocast(device.type, settings.amp):
            parts.append(network(store.plain(index)).argmax(dim=1))
    predicted: np.ndarray[Any, Any] = torch.cat(parts).cpu().numpy()
    return predicted


def _class_means(
    values: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], num_classes: int
) -> np.ndarray[Any, Any]:
    """Return the (C,) mean of values by class; NaN where a class has none."""
    counts = np.bincount(labels, minlength=num_classes).astype(float)
    counts[counts == 0] = np.nan
    means: np.ndarray[Any, Any] = np.bincount(labels, values, num_classes) / counts
    return means


def _log_lines(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines(keepends=True) if log.is_file() else []
