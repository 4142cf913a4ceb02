"""One plain loop: a network and its head, trained from images."""

import functools
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltkit import architectures
from ltkit.architectures.network import Network
from ltkit.errors import InputError
from ltkit.files.atomic import write_text
from ltkit.losses import Moment, Stateful
from ltkit.records import Dataset, ImageSplit, block_rows, blocks, shot_groups
from ltkit.settings import Augment, TrainSettings, as_json
from ltkit.training import checkpoint
from ltkit.training.augment import ImageStore
from ltkit.training.mixing import Mixed, Mixing
from ltkit.training.schedules import Sampler, Stage, class_probabilities, staged_rate

OfBatch = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss that is a function of (B, C) logits, (B,) labels and (C,) training counts."""

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MAX_RESIDENT = 32 << 30
"""Images are kept in memory as bytes; a dataset above this size is refused."""


class Deferred(Stateful, nn.Module):
    """A loss, and another that takes its place from an epoch on.

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, sec. 3.3 (deferred re-weighting: the second is
        the first with class weights).
    """

    class_counts: Tensor

    def __init__(
        self,
        class_counts: Tensor,
        first: OfBatch | Stateful,
        then: OfBatch | Stateful,
        epoch: int,
    ) -> None:
        """Start with the first; the second has its turn when so many epochs are finished.

        Raises:
            InputError: when a parameter of the second is out of range: now, not at that epoch.
        """
        super().__init__()
        if then is not first and not isinstance(then, Stateful):
            one = class_counts.argmax()[None]  # a class that has images
            then(torch.zeros(1, len(class_counts), device=one.device), one, class_counts)
        self.first, self.then, self.epoch, self.reached = first, then, epoch, False
        self.takes_class_means = any(getattr(x, "takes_class_means", False) for x in (first, then))
        self.mixable = all(getattr(x, "mixable", True) for x in (first, then))
        self.register_buffer("class_counts", class_counts, persistent=False)

    @property
    def current(self) -> OfBatch | Stateful:
        """The loss whose turn it is."""
        return self.then if self.reached else self.first

    def before_epoch(self, moment: Moment) -> None:
        """See whose turn it is."""
        self.reached = moment.epoch >= self.epoch
        if isinstance(self.current, Stateful):
            self.current.before_epoch(moment)

    def watched(self) -> dict[str, float]:
        """Return the numbers of the loss whose turn it is."""
        return self.current.watched() if isinstance(self.current, Stateful) else {}

    def forward(self, logits: Tensor, labels: Tensor, features: Tensor) -> Tensor:
        """Return the mean over the batch."""
        if isinstance(self.current, Stateful):
            return self.current(logits, labels, features)
        return self.current(logits, labels, self.class_counts)


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
    loss: OfBatch | Stateful,
    settings: TrainSettings,
    output: Path,
    *,
    method: str,
    parameters: Mapping[str, Any] | None = None,
    sampler: Sampler = "instance",
    then: Stage | None = None,
    mixing: Mixing | None = None,
    class_means: tuple[str, Tensor] | None = None,
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
        loss: ``loss(logits, labels, class_counts)``, or a `Stateful` loss.
        settings: the schedule.
        output: the checkpoint's path.
        method: the loss's name, for the checkpoint.
        parameters: the loss's, for the checkpoint.
        sampler: how an epoch's images are chosen: each once (``instance``), or as many draws with
            the probabilities of `class_probabilities`.
        then: what changes at an epoch, but for the loss, which is a `Deferred` one.
        mixing: how batches of images are mixed.
        class_means: for a loss that asks for them, of another model: a digest, for the
            checkpoint, and the (C, D) means; None: those of the network.
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
    _check_stages(dataset, loss, settings, then, mixing)
    recipe = {
        **as_json(settings), "method": method, "parameters": dict(parameters or {}), "arch": arch,
        "cosine": cosine, "scale": scale, "dataset": dict(dataset.record), "sampler": sampler,
        "class_means": class_means[0] if class_means else None,
        "then": asdict(then) if then else None, "mixing": mixing.record() if mixing else None,
    }  # fmt: skip
    counts = torch.from_numpy(dataset.classes.train_count).to(device)
    if not isinstance(loss, Stateful):
        loss = Deferred(counts, loss, loss, 0)
    train_split, val_split = dataset.split("train"), dataset.splits.get("val")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = architectures.build(arch, len(dataset.classes), cosine=cosine, scale=scale)
    whole = _Whole(network, loss)
    whole.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(), settings.learning_rate, settings.momentum,
        weight_decay=settings.weight_decay,
    )  # fmt: skip
    if learned := list(loss.parameters()):
        optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
    generator = torch.Generator().manual_seed(settings.seed)
    state = _State(network, loss, optimizer, generator, sampler, then, mixing)
    partial = output.with_name(f"{output.name}.partial")
    log = output.with_name(f"{output.name}.jsonl")
    if resume:
        state.epoch = checkpoint.load_partial(partial, recipe, whole, optimizer, generator)
    else:
        partial.unlink(missing_ok=True)
    lines = _log_lines(log)[: state.epoch]

    store = _store(train_split, dataset, device, settings.augment)
    accuracy = None
    if val_split is not None:
        accuracy = _accuracy_of(network, val_split, dataset, device, settings)
    labels = torch.from_numpy(train_split.labels).to(device)
    groups = shot_groups(dataset.classes.train_count)

    def means() -> Tensor:
        if class_means is not None:
            return class_means[1]
        return mean_features(network, store, labels, len(dataset.classes), settings)

    while state.epoch < settings.epochs:
        known = functools.partial(accuracy, state.epoch) if accuracy else None
        loss.before_epoch(Moment(state.epoch, settings.epochs, known, means))
        start = time.perf_counter()
        mean_loss = _epoch(state, store, labels, counts, settings)
        seconds = time.perf_counter() - start
        state.epoch += 1
        line: dict[str, Any] = {
            "epoch": state.epoch,
            "learning_rate": staged_rate(settings, then, state.epoch - 1),
            "loss": mean_loss,
        }
        if watched := loss.watched():
            line["watched"] = watched
        if accuracy:
            by_class = accuracy(state.epoch).numpy()
            line["val"] = {"balanced": float(np.nanmean(by_class))} | {
                name: float(np.nanmean(by_class[ids]))
                for name, ids in groups.items()
                if np.isfinite(by_class[ids]).any()
            }
        line["images_per_second"] = len(labels) / seconds
        lines.append(json.dumps(line) + "\n")
        write_text(log, "".join(lines))  # before the partial file, so that no line is ever missing
        checkpoint.save_partial(partial, recipe, state.epoch, whole, optimizer, generator)
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
    """What changes from step to step or from epoch to epoch."""

    network: Network
    loss: Stateful
    optimizer: torch.optim.SGD
    generator: torch.Generator
    sampler: Sampler
    then: Stage | None
    mixing: Mixing | None
    epoch: int = 0


class _Whole(Network):
    """A network with the loss beside it: the tensors of both are saved together."""

    def __init__(self, network: Network, loss: Stateful) -> None:
        super().__init__(network.backbone, network.head)
        self.loss = loss


def _check(dataset: Dataset, arch: str, settings: TrainSettings) -> None:
    least = {"epochs": 1, "batch_size": 2, "warmup_epochs": 0, "momentum": 0, "weight_decay": 0}
    for name, bound in least.items():
        found = getattr(settings, name)
        if not bound <= found < np.inf:
            raise InputError(f"{name}: found {found}, expected at least {bound}")
    if not (0 < settings.step_factor <= 1):
        raise InputError(
            f"step_factor: found {settings.step_factor}, expected above 0 and at most 1"
        )
    if list(settings.steps) != sorted(s for s in settings.steps if 0 <= s <= 1):
        raise InputError(
            f"steps: found {', '.join(map(str, settings.steps))}, expected rising parts of the "
            "run, 0 to 1"
        )
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


def _check_stages(
    dataset: Dataset,
    loss: OfBatch | Stateful,
    settings: TrainSettings,
    then: Stage | None,
    mixing: Mixing | None,
) -> None:
    borders = [(1, then.from_epoch)] if then else []
    borders += [(0, loss.epoch)] if isinstance(loss, Deferred) else []
    for least, found in borders:
        if not least <= found < settings.epochs:
            raise InputError(
                f"second stage: found epoch {found}, expected from {least} to {settings.epochs - 1}"
                "; change --from-epoch or --drw, or --epochs"
            )
    if then and then.learning_rate is not None and not 0 < then.learning_rate < np.inf:
        raise InputError(f"--then-lr: found {then.learning_rate}, expected above 0")
    if not mixing:
        return
    if not getattr(loss, "mixable", True):
        raise InputError(
            "--mix: this loss counts the labels that it meets, and a mixed image has two; expected "
            "another loss, or none of --mix"
        )
    if (present := int((dataset.classes.train_count > 0).sum())) < 2:
        raise InputError(f"--mix: found images of {present} class, expected two classes or more")


def _store(
    split: ImageSplit, dataset: Dataset, device: str, augment: Augment = "none"
) -> ImageStore:
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
        pixels.to(device), dataset.mean, dataset.std, dataset.crop_padding, dataset.flip, augment
    )


def _epoch(
    state: _State,
    store: ImageStore,
    labels: Tensor,
    counts: Tensor,
    settings: TrainSettings,
) -> float:
    """Train for one epoch; return the mean loss."""
    network, optimizer, generator = state.network.train(), state.optimizer, state.generator
    stage = state.then if state.then and state.epoch >= state.then.from_epoch else None
    sampler, freeze = (stage.sampler, stage.freeze) if stage else (state.sampler, None)
    network.backbone.requires_grad_(freeze is None)
    network.backbone.train(freeze != "backbone")
    device = labels.device
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
    if sampler == "instance":
        order = torch.randperm(len(labels), generator=generator)
    else:
        chances = class_probabilities(sampler, counts.cpu(), state.epoch, settings.epochs)
        order = draws(labels.cpu(), chances, generator)
    mixing = state.mixing
    if mixing and not mixing.active(state.epoch, settings.epochs):
        mixing = None
    partners: Sequence[Tensor] = ()
    if mixing and (wanted := mixing.chances(counts.cpu())) is not None:
        partners = draws(labels.cpu(), wanted, generator).split(settings.batch_size)
    batches = [b for b in order.split(settings.batch_size) if len(b) > 1]  # batch norm needs two
    total = torch.zeros((), device=device)
    for step, batch in enumerate(batches):
        rate = staged_rate(settings, state.then, state.epoch + step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = batch.to(device, non_blocking=True)
        second = partners[step].to(device, non_blocking=True) if partners else None
        views = _views(store, labels, counts, index, second, mixing, generator)
        with autocast(device.type, settings.amp):
            features, logits = network.features_and_logits(views.images)
        features, logits = features.float(), logits.float()
        value = state.loss(logits, views.labels, features)
        if views.weight < 1:
            other = state.loss(logits, views.others, features)
            value = views.weight * value + (1 - views.weight) * other
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


def _views(
    store: ImageStore,
    labels: Tensor,
    counts: Tensor,
    index: Tensor,
    partners: Tensor | None,
    mixing: Mixing | None,
    generator: torch.Generator,
) -> Mixed:
    """Return the augmented images of a batch, mixed where that is asked for and the coin says so.

    The partners are the batch itself in another order where there are no others.
    """
    images, own = store.augmented(index, generator), labels[index]
    if mixing is None:
        return Mixed(images, own, own, 1.0)
    rng = np.random.default_rng(int(torch.randint(1 << 62, (1,), generator=generator)))
    if rng.random() >= mixing.probability:
        return Mixed(images, own, own, 1.0)
    if partners is None:
        order = torch.from_numpy(rng.permutation(len(index))).to(index.device, non_blocking=True)
        return mixing(images, own, images[order], own[order], counts, rng)
    return mixing(images, own, store.augmented(partners, generator), labels[partners], counts, rng)


def draws(labels: Tensor, chances: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N,) indices: as many draws as labels, of a class first, then of its images.

    Args:
        labels: (N,) int64.
        chances: (C,) probabilities of the classes; 0 for a class without images.
        generator: where the draws come from.
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=len(chances))  # (C,)
    first = counts.cumsum(0) - counts
    classes = chances.multinomial(len(labels), replacement=True, generator=generator)
    within = torch.rand(len(labels), generator=generator, dtype=torch.float64) * counts[classes]
    return order[first[classes] + within.long()]


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


def _accuracy_of(
    network: Network, split: ImageSplit, dataset: Dataset, device: str, settings: TrainSettings
) -> Callable[[int], Tensor]:
    """Return what gives the (C,) accuracy on a split after an epoch, computed once for it."""
    store = _store(split, dataset, device)

    @functools.lru_cache(maxsize=1)
    def accuracy(epoch: int) -> Tensor:
        right = predict(network, store, settings) == split.labels
        return torch.from_numpy(_class_means(right, split.labels, len(dataset.classes)))

    return accuracy


@torch.inference_mode()
def mean_features(
    network: Network, store: ImageStore, labels: Tensor, num_classes: int, settings: TrainSettings
) -> Tensor:
    """Return the (C, D) mean features of a store's images, in evaluation mode; sums in float64."""
    network.eval()
    device = store.images.device
    sums = torch.zeros(0, device=device, dtype=torch.float64)
    for rows in blocks(len(store.images), 512):
        index = torch.arange(rows.start, rows.stop, device=device)
        with autocast(device.type, settings.amp):
            features, _ = network.features_and_logits(store.plain(index))
        if not len(sums):
            sums = sums.new_zeros(num_classes, features.shape[1])
        sums.index_add_(0, labels[index], features.double())
    return sums / labels.bincount(minlength=num_classes)[:, None]


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
