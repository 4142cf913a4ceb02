"""One plain loop: trains a network with its head from images, or a head from cached features."""

import functools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.architectures.heads import expert_logits
from ltkit.architectures.network import Network
from ltkit.errors import InputError, SettingError
from ltkit.files import scratch
from ltkit.files.atomic import write_text
from ltkit.losses import Moment
from ltkit.records import ShotGroups, shot_groups
from ltkit.settings import Sampler, TrainSettings
from ltkit.training import batches, beside, checkpoint, distributed
from ltkit.training.batches import Batches
from ltkit.training.checks import check_batches, least_batch
from ltkit.training.job import Job, Progress, Report, method_of
from ltkit.training.methods import Method, Seen
from ltkit.training.schedules import staged_rate
from ltkit.training.starts import last_block, train_only
from ltkit.training.validation import autocast


def fit(
    job: Job,
    record: Mapping[str, Any],
    output: Path,
    *,
    resume: bool,
    overwrite: bool,
    report: Report,
) -> None:
    """Train a job's network for all remaining epochs.

    Args:
        job: what is trained.
        record: everything that determines the result; a state with another record is not resumed.
        output: ``OUTPUT.partial`` and ``OUTPUT.jsonl`` are written, ``OUTPUT`` is not.
        resume: resume from ``OUTPUT.partial``.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Raises:
        InputError: when a batch is too large for the samples or too small for the processes, the
            loss is no longer finite, there is nothing to resume, or what lies beside the output is
            not of ltkit.
    """
    check_batches(job)
    settings, first, own = job.recipe.settings, distributed.rank() == 0, scratch.digest_of(record)
    partial, log = beside.partial_path(output), beside.log_path(output)
    state = (job.whole, job.optimizer, job.generator)
    if resume:
        job.epoch = checkpoint.load_partial(partial, record, *state)
        lines = beside.log_lines(log)[: job.epoch]
        best = beside.best_of(log, lines, job.epoch) if job.keep else 0.0
        beside.check_log(log, lines, own)
    else:
        lines, best = [], -1.0
        if first:
            _make_room(partial, log, None if overwrite else own)
    shot_counts = job.class_counts if job.shot_counts is None else job.shot_counts
    groups = shot_groups(shot_counts.cpu().numpy())
    while job.epoch < settings.epochs:
        line, seconds = _epoch_line(job, groups, partial)
        lines.append(json.dumps(line | {"run": own}) + "\n")
        balanced = line.get("val", {}).get("balanced")
        if first and job.keep and balanced > best:
            job.keep(job.epoch)  # a run that dies before the next line does this epoch again
            best = balanced
        if first:
            write_text(log, "".join(lines))  # before the partial file: no line is ever missing
            checkpoint.save_partial(partial, record, job.epoch, *state)
        rate, left = line[_speed(job)], seconds * (settings.epochs - job.epoch)
        report(Progress(job.epoch, settings.epochs, line["loss"], balanced, rate, left, line))


def _make_room(partial: Path, log: Path, own: str | None) -> None:
    """Remove another run's state, unless its log may not be replaced.

    Args:
        partial: path of the state.
        log: path of the log.
        own: digest of this run, whose log alone may be replaced; None: any run's.
    """
    known = None if checkpoint.is_partial(partial) else own
    beside.check_log(log, beside.log_lines(log), known)
    partial.unlink(missing_ok=True)


def _epoch_line(job: Job, groups: ShotGroups, partial: Path) -> tuple[dict[str, Any], float]:
    """Train for one epoch; return its log line and the seconds of training."""
    settings = job.recipe.settings
    known = functools.partial(job.accuracy, job.epoch) if job.accuracy else None
    blocks = functools.partial(_blocks, job)
    job.loss.before_epoch(Moment(job.epoch, settings.epochs, known, job.class_means, blocks))
    start = time.perf_counter()
    with _compiler_heard(settings):
        mean_loss, count = _epoch(job, partial)
    seconds = time.perf_counter() - start
    distributed.share_buffers(job.whole)
    if method := method_of(job.loss):
        method.after_epoch()
    job.epoch += 1
    rate = staged_rate(settings, job.recipe.then, job.epoch - 1)
    line: dict[str, Any] = {"epoch": job.epoch, "learning_rate": rate, "loss": mean_loss}
    if watched := job.loss.watched():
        line["watched"] = watched
    if job.accuracy:
        by_class = job.accuracy(job.epoch).numpy()
        line["val"] = {"balanced": float(np.nanmean(by_class))} | {
            name: float(np.nanmean(by_class[ids]))
            for name, ids in groups.items()
            if np.isfinite(by_class[ids]).any()
        }
    line[_speed(job)] = count / seconds
    return line, seconds


def _speed(job: Job) -> str:
    """Return the name of a log line's number of samples a second."""
    return f"{job.store.unit}_per_second"


def _blocks(job: Job) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the training images as they are, in blocks, with their labels."""
    for rows in job.store.slices():
        yield job.store.block(rows), job.labels[rows]


class _Both(nn.Module):
    """A network that returns features and logits, as `distributed.parallel` calls it."""

    def __init__(self, network: Network, detached: bool, each: bool) -> None:
        super().__init__()
        self.network, self.detached, self.each = network, detached, each

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Return (B, D) features and (B, C) logits, whose gradient may end at the features.

        Of each expert, the logits are (B, E, C).
        """
        features, logits = self.network.features_and_logits(inputs)
        if self.detached and self.network.head is not None:
            logits = self.network.head(features.detach())
        elif self.each and self.network.head is not None:
            logits = expert_logits(self.network.head, features)
        return features, logits


def _both(network: Network, settings: TrainSettings, detached: bool, each: bool) -> nn.Module:
    both = _Both(network, detached, each)
    if settings.compile:
        device = next(network.parameters()).device.type
        mode = "reduce-overhead" if device == "cuda" else "default"
        both.compile(mode=mode, dynamic=False)
    return both


@contextmanager
def _compiler_heard(settings: TrainSettings) -> Iterator[None]:
    """Shorten torch.compile's errors to a line, as when its C++ compiler cannot write."""
    try:
        yield
    except RuntimeError as error:
        if not settings.compile or not type(error).__module__.startswith("torch._"):
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0][:150]
        raise SettingError(
            "compile", f"the network cannot be compiled here ({reason}); leave it out"
        ) from error


def _epoch(job: Job, partial: Path) -> tuple[float, int]:
    """Train for one epoch; return the mean loss and how many samples it was of."""
    job.network.train()
    sampler = _enter_stage(job)
    device, optimizer = job.store.device, job.optimizer
    scaler = torch.amp.GradScaler(device.type, enabled=job.recipe.settings.amp == "fp16")
    method = method_of(job.loss)
    per_class, second, rates = _asked(method)
    drawn = batches.of_epoch(job, sampler, least_batch(job.network), per_class, second)
    steps = len(drawn.own)
    losses = torch.zeros(steps, device=device)
    for step in range(steps):
        rate = _rate(job, step / steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * rates.get(group.get("part", ""), 1.0)
        value = _batch_loss(job, drawn, step)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(value).backward()
        distributed.mean_gradients(job.loss)
        scaler.step(optimizer)
        scaler.update()
        losses[step] = value.detach()  # on the device, read after the epoch
    sizes = torch.tensor([len(b) for b in drawn.own], dtype=torch.float64)
    found = losses.double().cpu()
    _check_finite(job, found, partial)
    return float(found @ sizes / sizes.sum()), int(sizes.sum())


def _asked(method: Method | None) -> tuple[int, Sampler | None, Mapping[str, float]]:
    """Return what a method asks of batches, and its learning rates of parts."""
    return (method.per_class, method.second, method.rates) if method else (0, None, {})


def _enter_stage(job: Job) -> Sampler:
    """Freeze what the next epoch's stage freezes; return its sampler."""
    then, network = job.recipe.then, job.network
    stage = then if then and job.epoch >= then.from_epoch else None
    method = method_of(job.loss)
    freeze = (stage.freeze if stage else None) or (method.freeze if method else None)
    network.backbone.requires_grad_(freeze is None)
    network.backbone.train(freeze != "backbone")
    if freeze is None and job.recipe.trained == "last-block":
        train_only(network.backbone, last_block(network.backbone, "this network"))
    detached = method is not None and method.detached
    each = method is not None and method.each
    if (wrapped := f"{freeze}, {detached}, {each}") != job.wrapped:
        both = _both(network, job.recipe.settings, detached, each)
        job.wrapped, job.parallel = wrapped, distributed.parallel(both)
    if method is not None and method.sampler is not None:
        return method.sampler
    return stage.sampler if stage else job.recipe.sampler


def _batch_loss(job: Job, drawn: Batches, step: int) -> Tensor:
    """Return the loss of a batch, of which this process computes its part."""
    views, method = drawn.views(job, step), method_of(job.loss)
    if method is not None:
        seen = (views.images, *drawn.further(job, step, method.views))
        encode, amp = functools.partial(_encode, job), job.recipe.settings.amp
        second = drawn.second(job, step) if method.second else None
        return method.of_batch(Seen(seen, views.labels, job.network, encode, amp, second))
    features, logits = _encode(job, views.images)
    value = job.loss(logits, views.labels, features)
    if views.weight < 1:
        other = job.loss(logits, views.others, features)
        value = views.weight * value + (1 - views.weight) * other
    return value


def _encode(job: Job, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features and logits of images, of which this process computes its part."""
    settings, count = job.recipe.settings, len(images)
    with autocast(job.store.device.type, settings.amp):
        features, logits = job.parallel(images[distributed.part(count)])
    if settings.compile:  # a CUDA graph writes the next ones over them
        features, logits = features.clone(), logits.clone()
    return distributed.whole(features.float(), count), distributed.whole(logits.float(), count)


def _check_finite(job: Job, losses: Tensor, partial: Path) -> None:
    """Stop when an epoch's losses are not finite.

    Raises:
        InputError: naming the first such step.
    """
    wrong = (~losses.isfinite()).nonzero().flatten().tolist()
    if wrong:
        kept = f"; {partial} has the state after epoch {job.epoch}" if job.epoch else ""
        raise InputError(
            f"loss: found {float(losses[wrong[0]]):g} at step {wrong[0] + 1} of {len(losses)} of "
            f"epoch {job.epoch + 1}, learning rate {_rate(job, wrong[0] / len(losses)):g}, "
            "expected a finite number; start again with a lower learning rate, or without mixed "
            f"precision{kept}"
        )


def _rate(job: Job, part: float) -> float:
    """Return the learning rate at a fraction of the epoch, 0 to 1."""
    return staged_rate(job.recipe.settings, job.recipe.then, job.epoch + part)
