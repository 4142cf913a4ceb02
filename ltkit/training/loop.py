"""One plain loop: a network and its head trained from images, or a head from cached features."""

import functools
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ltkit import architectures
from ltkit.architectures.network import Network
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.files import scratch
from ltkit.files.atomic import locked, stranger, write_text
from ltkit.losses import Moment, Stateful
from ltkit.records import Dataset, ImageSplit, block_rows, blocks, shot_groups
from ltkit.settings import RANGES, Augment, TrainSettings, as_json
from ltkit.settings import check as check_ranges
from ltkit.training import checkpoint, distributed
from ltkit.training.augment import ImageStore
from ltkit.training.mixing import Mixed, Mixing
from ltkit.training.schedules import Sampler, Stage, class_probabilities, staged_rate

OfBatch = Callable[[Tensor, Tensor, Tensor], Tensor]
"""A loss that is a function of (B, C) logits, (B,) labels and (C,) training counts."""

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
COMPILERS = ("g++", "clang++")
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
    line: all numbers of the epoch, as the log has them.
    """

    epoch: int
    epochs: int
    loss: float
    accuracy: float | None
    images_per_second: float
    seconds_left: float
    line: Mapping[str, Any]


class Store(Protocol):
    """N samples on a device that are read in batches: images, or cached features."""

    unit: str

    @property
    def device(self) -> torch.device:
        """Where batches are."""

    def __len__(self) -> int:
        """N."""

    def slices(self) -> Iterator[slice]:
        """Cut the samples into what is read at a time."""

    def block(self, rows: slice) -> Tensor:
        """Return samples as they are."""

    def drawn(self, order: Tensor) -> None:
        """Take note of the indices of an epoch, in the order in which they are asked for."""

    def augmented(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return a random view of each of the samples."""


@dataclass
class Job:
    """What is trained on what; `train` and `heads.train` make one.

    labels: (N,) int64, of the store's samples.
    class_counts: (C,) training images a class.
    accuracy: gives the (C,) accuracy on the validation split after so many epochs.
    class_means: gives the (C, D) mean features of the classes.
    keep: called after so many epochs when none was better on the validation split.
    epoch: finished ones.
    """

    network: Network
    loss: Stateful
    store: Store
    labels: Tensor
    class_counts: Tensor
    settings: TrainSettings
    sampler: Sampler
    then: Stage | None
    class_means: Callable[[], Tensor]
    accuracy: Callable[[int], Tensor] | None
    mixing: Mixing | None = None
    keep: Callable[[int], None] | None = None
    epoch: int = 0
    generator: torch.Generator = field(default_factory=torch.Generator)

    def __post_init__(self) -> None:
        """Join the network with the parameters of the loss; seed the draws."""
        self.generator.manual_seed(self.settings.seed)
        self.whole = _Whole(self.network, self.loss)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), self.settings.learning_rate, self.settings.momentum,
            weight_decay=self.settings.weight_decay, fused=True,
        )  # fmt: skip
        if learned := list(self.loss.parameters()):
            self.optimizer.add_param_group({"params": learned, "weight_decay": 0.0})
        self.freeze: str | None = "not yet known"
        self.parallel: nn.Module = self.network


class Images(NamedTuple):
    """The images of a dataset on a device, for one run or several."""

    train: ImageStore
    val: ImageStore | None


def resident(dataset: Dataset, augment: Augment, device: str) -> Images:
    """Bring the images of a dataset to a device.

    Raises:
        InputError: when they do not suit the memory or the augmentation.
    """
    val = dataset.splits.get("val")
    return Images(
        _store(dataset.split("train"), dataset, device, augment),
        None if val is None else _store(val, dataset, device),
    )


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
    images: Callable[[], Images] | None = None,
    keep_best: bool = False,
    resume: bool = False,
    overwrite: bool = True,
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
        images: gives what `resident` gave, so that several runs share it.
        keep_best: also write the checkpoint of the epoch with the best balanced accuracy on the
            validation split, the first of equal ones, to `best_path`.
        resume: go on from ``OUTPUT.partial``; where there is none, a finished output of these
            settings is left alone.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Raises:
        InputError: when the settings are out of range, the images do not suit the network or the
            memory, the loss is no longer finite, there is nothing to resume, or what lies beside
            the output is not of ltkit.
    """
    check(settings)
    _check_images(dataset, arch)
    check_stages(loss, settings, then)
    _check_mixing(dataset, loss, mixing)
    if keep_best and "val" not in dataset.splits:
        raise InputError(f"--keep-best: found no val split in {dataset.record['spec']}")
    recipe = {
        **as_json(settings), "method": method, "parameters": dict(parameters or {}), "arch": arch,
        "cosine": cosine, "scale": scale, "dataset": dict(dataset.record), "sampler": sampler,
        "class_means": class_means[0] if class_means else None,
        "then": asdict(then) if then else None, "mixing": mixing.record() if mixing else None,
        "keep_best": keep_best,
    }  # fmt: skip
    if resume and output.is_file() and not begun(output):
        checkpoint.check_finished(output, recipe)
        return
    counts = torch.from_numpy(dataset.classes.train_count).to(device)
    classes = len(counts)
    if not isinstance(loss, Stateful):
        loss = Deferred(counts, loss, loss, 0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = architectures.build(arch, classes, cosine=cosine, scale=scale)
    network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    store, val = images() if images else resident(dataset, settings.augment, device)
    labels = torch.from_numpy(dataset.split("train").labels).to(device)

    def means() -> Tensor:
        if class_means is not None:
            return class_means[1]
        return mean_features(network, store, labels, classes, settings)

    accuracy = None
    if val is not None:
        accuracy = accuracy_of(network, val, dataset.split("val").labels, classes, settings)

    def save(path: Path, epoch: int) -> None:
        checkpoint.save(path, recipe, epoch, network, dataset)

    best = best_path(output)
    keep = functools.partial(save, best) if keep_best else None
    job = Job(
        network, loss.to(device), store, labels, counts, settings, sampler, then, means, accuracy,
        mixing, keep,
    )  # fmt: skip
    with locked_output(output):
        if resume and keep_best and os.path.lexists(best):
            checkpoint.check_finished(best, recipe)
        fit(job, recipe, output, resume=resume, overwrite=overwrite, report=report)
        if distributed.rank() == 0:
            save(output, job.epoch)
            forget(output)


def locked_output(output: Path) -> AbstractContextManager[None]:
    """Hold the lock of an output; of several processes, the first one does, which writes."""
    return locked(output) if distributed.rank() == 0 else nullcontext()


def best_path(output: Path) -> Path:
    """Return where the best epoch's checkpoint goes.

    Example:
        >>> str(best_path(Path("nets/ce.pt")))
        'nets/ce.best.pt'
    """
    return output.with_name(f"{output.stem}.best{output.suffix}")


def fit(
    job: Job,
    recipe: Mapping[str, Any],
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    report: Callable[[Progress], None],
) -> None:
    """Train the network of a job for all epochs that are left.

    Args:
        job: what is trained.
        recipe: all that decides the result; a state with another one is not resumed.
        output: ``OUTPUT.partial`` and ``OUTPUT.jsonl`` are written, ``OUTPUT`` is not.
        resume: go on from ``OUTPUT.partial``.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Raises:
        InputError: when a batch is too large for the samples or too small for the processes, the
            loss is no longer finite, there is nothing to resume, or what lies beside the output is
            not of ltkit.
    """
    settings, loss, labels = job.settings, job.loss, job.labels
    _check_batches(job)
    partial, first = _partial(output), distributed.rank() == 0
    log = _log(output)
    state, own = (job.whole, job.optimizer, job.generator), scratch.digest_of(recipe)
    if resume:
        job.epoch = checkpoint.load_partial(partial, recipe, *state)
        lines = _log_lines(log)[: job.epoch]
        best = _best(log, lines, job.epoch) if job.keep else 0.0
        _check_log(log, lines, own)
    else:
        lines, best = [], -1.0
        if first:
            known_run = None if checkpoint.is_partial(partial) or overwrite else own
            _check_log(log, _log_lines(log), known_run)
            partial.unlink(missing_ok=True)
    groups = shot_groups(job.class_counts.cpu().numpy())
    while job.epoch < settings.epochs:
        known = functools.partial(job.accuracy, job.epoch) if job.accuracy else None
        loss.before_epoch(Moment(job.epoch, settings.epochs, known, job.class_means))
        start = time.perf_counter()
        with _compiler_heard(settings):
            mean_loss = _epoch(job, partial)
        seconds = time.perf_counter() - start
        distributed.share_buffers(job.network)
        job.epoch += 1
        line: dict[str, Any] = {
            "epoch": job.epoch,
            "learning_rate": staged_rate(settings, job.then, job.epoch - 1),
            "loss": mean_loss,
        }
        if watched := loss.watched():
            line["watched"] = watched
        if job.accuracy:
            by_class = job.accuracy(job.epoch).numpy()
            line["val"] = {"balanced": float(np.nanmean(by_class))} | {
                name: float(np.nanmean(by_class[ids]))
                for name, ids in groups.items()
                if np.isfinite(by_class[ids]).any()
            }
        rate = len(labels) / seconds
        line[f"{job.store.unit}_per_second"] = rate
        lines.append(json.dumps(line | {"run": own}) + "\n")
        balanced = line.get("val", {}).get("balanced")
        if first and job.keep and balanced > best:
            job.keep(job.epoch)  # a run that dies before the next line does this epoch again
            best = balanced
        if first:
            write_text(log, "".join(lines))  # before the partial file: no line is ever missing
            checkpoint.save_partial(partial, recipe, job.epoch, *state)
        left = seconds * (settings.epochs - job.epoch)
        report(Progress(job.epoch, settings.epochs, mean_loss, balanced, rate, left, line))


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.name}.partial")


def check_beside(output: Path, *, resume: bool) -> None:
    """Refuse what lies under the names beside an output, before any work is done; see `fit`.

    Raises:
        InputError: when it is not ltkit's. FormatError: when it is damaged, or no text.
    """
    log = _log(output)
    lines = _log_lines(log)
    if not resume:
        checkpoint.is_partial(_partial(output))
        _check_log(log, lines, None)


def _log(output: Path) -> Path:
    return output.with_name(f"{output.name}.jsonl")


def begun(output: Path) -> bool:
    """Say whether there is a state to go on from."""
    return _partial(output).is_file()


def forget(output: Path) -> None:
    """Remove the state of a run whose result is written."""
    _partial(output).unlink(missing_ok=True)


class _Whole(Network):
    """A network with the loss beside it: the tensors of both are saved together."""

    def __init__(self, network: Network, loss: Stateful) -> None:
        super().__init__(network.backbone, network.head)
        self.loss = loss


class _Both(nn.Module):
    """A network that gives features and logits, as `distributed.parallel` wants to call it."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, D) features and (B, C) logits."""
        return self.network.features_and_logits(inputs)


def _both(network: Network, settings: TrainSettings) -> nn.Module:
    both = _Both(network)
    if settings.compile:
        device = next(network.parameters()).device.type
        mode = "reduce-overhead" if device == "cuda" else "default"
        both.compile(mode=mode, dynamic=False)
    return both


@contextmanager
def _compiler_heard(settings: TrainSettings) -> Iterator[None]:
    """Say in a line what torch.compile says in a page, as when its C++ compiler cannot write."""
    try:
        yield
    except RuntimeError as error:
        if not settings.compile or not type(error).__module__.startswith("torch._"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise InputError(
            f"--compile: the network cannot be compiled here ({reason}); leave --compile out"
        ) from error


def check(settings: TrainSettings) -> None:
    """Refuse settings out of range.

    Raises:
        SettingError: naming the first such setting.
        InputError: when the network is to be compiled, and there is no compiler.
    """
    check_ranges(settings)
    if list(settings.steps) != sorted(settings.steps):
        found = ", ".join(map(str, settings.steps))
        raise SettingError("steps", f"found {found}, expected rising parts of the run, 0 to 1")
    if settings.compile and not any(map(shutil.which, COMPILERS)):
        raise InputError(f"--compile: found no C++ compiler, expected {' or '.join(COMPILERS)}")


def _check_images(dataset: Dataset, arch: str) -> None:
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


def check_stages(loss: OfBatch | Stateful, settings: TrainSettings, then: Stage | None) -> None:
    """Refuse a second stage that never comes.

    Raises:
        InputError: naming the option.
    """
    borders = [(1, then.from_epoch)] if then else []
    borders += [(0, loss.epoch)] if isinstance(loss, Deferred) else []
    for least, found in borders:
        if not least <= found < settings.epochs:
            raise InputError(
                f"second stage: found epoch {found}, expected from {least} to {settings.epochs - 1}"
                "; change --from-epoch or --drw, or --epochs"
            )
    if then and then.learning_rate is not None:
        RANGES["learning_rate"].check(then.learning_rate, "--then-lr")


def _check_mixing(dataset: Dataset, loss: OfBatch | Stateful, mixing: Mixing | None) -> None:
    if not mixing:
        return
    if not getattr(loss, "mixable", True):
        raise InputError(
            "--mix: this loss counts the labels that it meets, and a mixed image has two; expected "
            "another loss, or none of --mix"
        )
    if (present := int((dataset.classes.train_count > 0).sum())) < 2:
        raise InputError(f"--mix: found images of {present} class, expected two classes or more")


def _least(network: nn.Module) -> int:
    """Return the fewest samples of a batch: one for each process, two where there is batch norm."""
    normed = any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    return (2 if normed else 1) * distributed.processes()


def _check_batches(job: Job) -> None:
    least, size, count = _least(job.network), job.settings.batch_size, len(job.labels)
    if size < least or count < least:
        what, found = (
            ("--batch-size", size) if size < least else (f"training {job.store.unit}", count)
        )
        several = f" for {distributed.processes()} processes" if distributed.processes() > 1 else ""
        raise InputError(f"{what}: found {found}, expected at least {least}{several}")


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


def _epoch(job: Job, partial: Path) -> float:
    """Train for one epoch; return the mean loss."""
    settings, store, labels, generator = job.settings, job.store, job.labels, job.generator
    network, optimizer = job.network.train(), job.optimizer
    stage = job.then if job.then and job.epoch >= job.then.from_epoch else None
    sampler, freeze = (stage.sampler, stage.freeze) if stage else (job.sampler, None)
    network.backbone.requires_grad_(freeze is None)
    network.backbone.train(freeze != "backbone")
    if freeze != job.freeze:
        job.freeze, job.parallel = freeze, distributed.parallel(_both(network, settings))
    device = store.device
    scaler = torch.amp.GradScaler(device.type, enabled=settings.amp == "fp16")
    counts = labels.bincount(minlength=len(job.class_counts)).cpu()
    if sampler == "instance":
        order = torch.randperm(len(labels), generator=generator)
    else:
        chances = class_probabilities(sampler, counts, job.epoch, settings.epochs)
        order = draws(labels.cpu(), chances, generator)
    mixing = job.mixing
    if mixing and not mixing.active(job.epoch, settings.epochs):
        mixing = None
    partners: Sequence[Tensor] = ()
    if mixing and (wanted := mixing.chances(counts)) is not None:
        partners = draws(labels.cpu(), wanted, generator).split(settings.batch_size)
    store.drawn(order)
    least = _least(network)
    batches = [b for b in order.split(settings.batch_size) if len(b) >= least]
    losses = torch.zeros(len(batches), device=device)
    for step, batch in enumerate(batches):
        rate = _rate(job, step / len(batches))
        for group in optimizer.param_groups:
            group["lr"] = rate
        index = batch.to(device, non_blocking=True)
        second = partners[step].to(device, non_blocking=True) if partners else None
        views = _views(store, labels, job.class_counts, index, second, mixing, generator)
        own = distributed.part(len(index))
        with autocast(device.type, settings.amp):
            features, logits = job.parallel(views.images[own])
        if settings.compile:  # a CUDA graph writes the next ones over them
            features, logits = features.clone(), logits.clone()
        features, logits = (distributed.whole(t.float(), len(index)) for t in (features, logits))
        value = job.loss(logits, views.labels, features)
        if views.weight < 1:
            other = job.loss(logits, views.others, features)
            value = views.weight * value + (1 - views.weight) * other
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        losses[step] = value.detach()  # on the device, read after the epoch
    sizes = torch.tensor([len(b) for b in batches], dtype=torch.float64)
    found = losses.double().cpu()
    wrong = (~found.isfinite()).nonzero().flatten().tolist()
    if wrong:
        kept = f"; {partial} has the state after epoch {job.epoch}" if job.epoch else ""
        raise InputError(
            f"loss: found {float(found[wrong[0]]):g} at step {wrong[0] + 1} of {len(batches)} of "
            f"epoch {job.epoch + 1}, learning rate {_rate(job, wrong[0] / len(batches)):g}, "
            f"expected a finite number; start again with a lower --lr, or with --amp off{kept}"
        )
    return float(found @ sizes / sizes.sum())


def _rate(job: Job, part: float) -> float:
    """Return the learning rate at a part of the epoch, 0 to 1."""
    return staged_rate(job.settings, job.then, job.epoch + part)


def _views(
    store: Store,
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
def predict(network: nn.Module, store: Store, settings: TrainSettings) -> np.ndarray[Any, Any]:
    """Return the (N,) predicted classes of a store's samples, in evaluation mode."""
    network.eval()
    predicted = torch.zeros(len(store), dtype=torch.int64, device=store.device)
    for rows in _own_slices(store):
        with autocast(store.device.type, settings.amp):
            predicted[rows] = network(store.block(rows)).argmax(dim=1)
    classes: np.ndarray[Any, Any] = distributed.summed(predicted).cpu().numpy()
    return classes


def _own_slices(store: Store) -> Iterator[slice]:
    """Give this process's part of the slices."""
    return itertools.islice(store.slices(), distributed.rank(), None, distributed.processes())


def accuracy_of(
    network: Network,
    store: Store,
    labels: np.ndarray[Any, Any],
    num_classes: int,
    settings: TrainSettings,
) -> Callable[[int], Tensor]:
    """Return what gives the (C,) accuracy on a split after an epoch, computed once for it."""

    @functools.lru_cache(maxsize=1)
    def accuracy(epoch: int) -> Tensor:
        right = predict(network, store, settings) == labels
        return torch.from_numpy(_class_means(right, labels, num_classes))

    return accuracy


@torch.inference_mode()
def mean_features(
    network: Network, store: Store, labels: Tensor, num_classes: int, settings: TrainSettings
) -> Tensor:
    """Return the (C, D) mean features of a store's samples, in evaluation mode; sums in float64."""
    network.eval()
    device = store.device
    sums = torch.zeros(0, device=device, dtype=torch.float64)
    for rows in store.slices():
        with autocast(device.type, settings.amp):
            features, _ = network.features_and_logits(store.block(rows))
        if not len(sums):
            sums = sums.new_zeros(num_classes, features.shape[1])
        sums.index_add_(0, labels[rows], features.double())
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
    """Return the lines of a log, none where there is no log.

    Raises:
        InputError: when something else than a file is there.
        FormatError: when it is no text.
    """
    try:
        return (scratch.read(log) or b"").decode().splitlines(keepends=True)
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{log}: is not UTF-8 text, so no log of ltkit; move it away, or choose another -o"
        ) from error


def _check_log(log: Path, lines: Sequence[str], run: str | None) -> None:
    """Refuse what is not a log, or is the log of another run; an older version's does not tell.

    Args:
        log: where it is.
        lines: of it.
        run: digest of this run; None: the log of any run will do.

    Raises:
        InputError: see above.
    """
    for epoch, line in enumerate(lines, 1):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or found.get("epoch") != epoch or "loss" not in found:
            raise stranger(log)
        if run is not None and found.get("run", run) != run:
            raise InputError(
                f"{log}: exists, and is the log of another run; move it away, choose another -o, "
                "or pass --overwrite without --resume"
            )


def _best(log: Path, lines: Sequence[str], epochs: int) -> float:
    """Return the best accuracy on the validation split in the log of so many epochs."""
    try:
        known = [float(json.loads(line)["val"]["balanced"]) for line in lines]
    except (ValueError, LookupError, TypeError):
        known = []
    if len(known) < epochs:
        raise FormatError(
            f"{log}: found {len(known)} sound lines, expected {epochs}, one a finished epoch; "
            "start again without --resume"
        )
    return max(known, default=-1.0)
