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
    partners: indices of as many samples to be mixed in, or of a method's second batch, for each
        batch; none where there are none.
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

    def second(self, job: "Job", step: int) -> tuple[Tensor, Tensor]:
        """Return the augmented images and the labels of a method's second batch."""
        index = self.partners[step].to(job.store.device, non_blocking=True)
        return job.store.augmented(index, job.generator), job.labels[index]


def of_epoch(
    job: "Job", sampler: Sampler, least: int, per_class: int = 0, second: Sampler | None = None
) -> Batches:
    """Draw the batches of a job's next epoch.

    Args:
        job: what is trained; its store takes note of the draws.
        sampler: how often classes are drawn.
        least: fewest samples of a batch.
        per_class: images that a batch has of each of its classes; 0: as they are drawn.
        second: how classes of a second batch beside each are drawn; None: there is none.
    """
    settings, labels, generator = job.recipe.settings, job.labels, job.generator
    counts = labels.bincount(minlength=len(job.class_counts)).cpu()
    order = _order(job, sampler, counts, per_class)
    mixing = job.recipe.mixing
    if mixing and not mixing.active(job.epoch, settings.epochs):
        mixing = None
    partners: Sequence[Tensor] = ()
    wanted = mixing.chances(counts) if mixing else None
    if second is not None:
        wanted = class_probabilities(second, counts, job.epoch, settings.epochs)
    if wanted is not None:
        partners = draws(labels.cpu(), wanted, generator)[: len(order)].split(settings.batch_size)
    job.store.drawn(order)
    own = [b for b in order.split(settings.batch_size) if len(b) >= least]
    return Batches(own, partners, mixing)


def _order(job: "Job", sampler: Sampler, counts: Tensor, per_class: int) -> Tensor:
    """Return the indices of an epoch's samples, in their order."""
    settings, labels, generator = job.recipe.settings, job.labels.cpu(), job.generator
    chances = class_probabilities(sampler, counts, job.epoch, settings.epochs)
    kept = undersampled(labels, generator) if sampler == "undersample" else None
    if per_class:
        own = labels if kept is None else labels[kept]
        order = by_class(own, chances, settings.batch_size, per_class, generator)
        return order if kept is None else kept[order]
    if kept is not None:
        return kept
    if sampler == "instance":
        return torch.randperm(len(labels), generator=generator)
    return draws(labels, chances, generator)


def undersampled(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Return the indices of as many samples of each class as the rarest has, in random order.

    They are others in each epoch; classes without samples do not count.

    Args:
        labels: (N,) int64.
        generator: source of the draws.

    Example:
        >>> drawn = undersampled(torch.tensor([0, 0, 0, 2, 2]), torch.Generator())
        >>> torch.tensor([0, 0, 0, 2, 2])[drawn].bincount().tolist()
        [2, 0, 2]

    Source:
        Buda et al., Neural Networks 2018, arXiv:1710.05381 (random majority undersampling); there
        the samples that are kept are the same in all epochs.
    """
    mixed = torch.randperm(len(labels), generator=generator)
    order = mixed[labels[mixed].argsort(stable=True)]
    counts = labels.bincount()
    within = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    kept = order[within < counts[counts > 0].min()]
    return kept[torch.randperm(len(kept), generator=generator)]


def undersampled_size(counts: Tensor) -> int:
    """Return how many samples an epoch of `undersampled` has, of classes with (C,) counts.

    Example:
        >>> undersampled_size(torch.tensor([90, 0, 10]))
        20
    """
    there = counts[counts > 0]
    return len(there) * int(there.min()) if len(there) else 0


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
