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


def of_epoch(job: "Job", sampler: Sampler, least: int) -> Batches:
    """Draw the batches of a job's next epoch.

    Args:
        job: what is trained; its store takes note of the draws.
        sampler: how often classes are drawn.
        least: fewest samples of a batch.
    """
    settings, labels, generator = job.recipe.settings, job.labels, job.generator
    counts = labels.bincount(minlength=len(job.class_counts)).cpu()
    if sampler == "instance":
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
