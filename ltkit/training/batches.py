"""The batches of an epoch: which samples are drawn, and how they are augmented and mixed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltkit.settings import Augment, Sampler
from ltkit.training.mixing import Mixed, Mixing
from ltkit.training.schedules import class_probabilities
from ltkit.training.stores import Store

if TYPE_CHECKING:
    from ltkit.training.job import Job


class Batches(NamedTuple):
    """The draws of an epoch.

    own: (B,) indices of each batch; the last one may be smaller, and is left out below the least.
    partners: indices of as many samples to be mixed in, for each batch; none where there are none.
    mixing: how they are mixed; None: not at all.
    """

    own: Sequence[Tensor]
    partners: Sequence[Tensor]
    mixing: Mixing | None

    def views(self, job: "Job", step: int) -> Mixed:
        """Return a batch's augmented images on the device, mixed with the mixing's probability."""
        device = job.store.device
        index = self.own[step].to(device, non_blocking=True)
        second = self.partners[step].to(device, non_blocking=True) if self.partners else None
        return _views(
            job.store, job.labels, job.class_counts, index, second, self.mixing, job.generator
        )

    def further(self, job: "Job", step: int, views: Sequence[Augment]) -> list[Tensor]:
        """Return further views of a batch's images, each with its own augmentation."""
        index = self.own[step].to(job.store.device, non_blocking=True)
        return [job.store.augmented(index, job.generator, view) for view in views]


def of_epoch(job: "Job", sampler: Sampler, least: int, per_class: int = 0) -> Batches:
    """Draw the batches of a job's next epoch.

    Args:
        job: what is trained; its store takes note of the draws.
        sampler: how often classes are drawn.
        least: fewest samples of a batch.
        per_class: images that a batch has of each of its classes; 0: as they are drawn.
    """
    settings, labels, generator = job.recipe.settings, job.labels, job.generator
    counts = labels.bincount(minlength=len(job.class_counts)).cpu()
    if per_class:
        chances = class_probabilities(sampler, counts, job.epoch, settings.epochs)
        order = by_class(labels.cpu(), chances, settings.batch_size, per_class, generator)
    elif sampler == "instance":
        order = torch.randperm(len(labels), generator=generator)
    else:
        chances = class_probabilities(sampler, counts, job.epoch, settings.epochs)
        order = draws(labels.cpu(), chances, generator)
    mixing = job.recipe.mixing
    if mixing and not mixing.active(job.epoch, settings.epochs):
        mixing = None
    partners: Sequence[Tensor] = ()
    if mixing and (wanted := mixing.chances(counts)) is not None:
        partners = draws(labels.cpu(), wanted, generator).split(settings.batch_size)
    job.store.drawn(order)
    own = [b for b in order.split(settings.batch_size) if len(b) >= least]
    return Batches(own, partners, mixing)


def _views(
    store: Store,
    labels: Tensor,
    counts: Tensor,
    index: Tensor,
    partners: Tensor | None,
    mixing: Mixing | None,
    generator: torch.Generator,
) -> Mixed:
    """Return a batch's augmented images, mixed with the mixing's probability, if any.

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
    """Return (N,) indices, one draw per label: first a class, then one of its images.

    Args:
        labels: (N,) int64.
        chances: (C,) probabilities of the classes; 0 for a class without images.
        generator: source of the draws.
    """
    order = labels.argsort(stable=True)
    counts = labels.bincount(minlength=len(chances))  # (C,)
    first = counts.cumsum(0) - counts
    classes = chances.multinomial(len(labels), replacement=True, generator=generator)
    within = torch.rand(len(labels), generator=generator, dtype=torch.float64) * counts[classes]
    return order[first[classes] + within.long()]


def by_class(
    labels: Tensor, chances: Tensor, batch_size: int, per_class: int, generator: torch.Generator
) -> Tensor:
    """Return the indices of an epoch of batches that have several images of each of their classes.

    There are as many batches as the samples fill, at least one. The n classes of a batch are drawn
    systematically (Madow, Annals of Mathematical Statistics 20, 1949): a class of the chance p
    is drawn n p times, rounded up or down, on average just so; one of at most 1 / n not twice. The
    images of a class are different ones as far as it has them; then they are repeated.

    Args:
        labels: (N,) int64.
        chances: (C,) probabilities of the classes; 0 for a class without images.
        batch_size: images of a batch.
        per_class: of these, of each class; a divisor.
        generator: source of the draws.
    """
    order, counts = labels.argsort(stable=True), labels.bincount(minlength=len(chances))
    first, drawn = (counts.cumsum(0) - counts).tolist(), []
    for _ in range(max(1, len(labels) // batch_size)):
        times = systematic(chances, batch_size // per_class, generator)
        for c in times.nonzero().flatten().tolist():
            size, wanted = int(counts[c]), int(times[c]) * per_class
            rounds = [torch.randperm(size, generator=generator) for _ in range(0, wanted, size)]
            drawn.append(order[first[c] + torch.cat(rounds)[:wanted]])
    return torch.cat(drawn)


def systematic(chances: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return how often each of the classes is drawn, (C,) int64, of so many draws together.

    Example:
        >>> chances = torch.tensor([0.5, 0.25, 0.0, 0.25], dtype=torch.float64)
        >>> systematic(chances, 4, torch.Generator()).tolist()
        [2, 1, 0, 1]
    """
    there = chances.nonzero().flatten()
    there = there[torch.randperm(len(there), generator=generator)]
    ends = chances[there].double().cumsum(0) * (count / chances.double().sum())
    points = torch.arange(count) + torch.rand((), generator=generator, dtype=torch.float64)
    at = torch.searchsorted(ends, points, right=True).clamp(max=len(there) - 1)
    return there[at].bincount(minlength=len(chances))
