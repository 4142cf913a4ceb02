"""What changes over the epochs: learning rates, class probabilities, a second stage."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ltkit.settings import Freeze, Sampler, TrainSettings

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stage:
    """What another stage changes, after this many finished epochs.

    method, parameters: its loss and the loss's parameters.
    sampler: how its images are drawn.
    learning_rate: with which the schedule starts anew, without warm-up, for its epochs alone; the
        first stage then has the schedule for its own. None: one schedule for the whole run.
    freeze: ``backbone`` trains the head alone, on the features that the network gives in
        evaluation; ``weights`` does so, too, but batch norm goes on in training mode, so that its
        statistics move to those of the new sampler.
    """

    from_epoch: int
    method: str
    parameters: Mapping[str, Any]
    sampler: Sampler = "instance"
    learning_rate: float | None = None
    freeze: Freeze | None = None


def staged_rate(settings: TrainSettings, stage: Stage | None, epoch: float) -> float:
    """Return the learning rate at a point of a run with one or two stages.

    Args:
        settings: of the run.
        stage: the second one.
        epoch: from 0 to ``settings.epochs``.

    Example:
        >>> settings = TrainSettings(epochs=210, warmup_epochs=0)
        >>> second = Stage(200, "ce", {}, learning_rate=0.5)
        >>> [staged_rate(settings, second, e) for e in (0, 160, 199, 200, 209)]
        [0.1, 0.001, 1e-05, 0.5, 5e-05]
    """
    if stage is None or stage.learning_rate is None:
        return learning_rate(settings, epoch)
    if epoch < stage.from_epoch:
        return learning_rate(replace(settings, epochs=stage.from_epoch), epoch)
    later = replace(
        settings, epochs=settings.epochs - stage.from_epoch,
        learning_rate=stage.learning_rate, warmup_epochs=0,
    )  # fmt: skip
    return learning_rate(later, epoch - stage.from_epoch)


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Return the learning rate at a point of training.

    ``step`` is the reference schedule: with the epoch e counted from 1, ``lr * e / 5`` in the
    warm-up, then the base rate, ``* 0.01`` after 80 % of the epochs and ``* 0.0001`` after 90 %
    (160 and 180 of 200: two factors of 100), or as the settings say. ``onecycle`` rises
    linearly from a tenth over the first 20 % and falls to zero along a cosine. ``cosine`` has the
    warm-up of ``step`` and then falls to zero along a cosine, half a period over all epochs.

    Args:
        settings: base rate, schedule, epochs, warm-up.
        epoch: from 0 to ``settings.epochs``; the fraction says how far into the epoch.

    Example:
        >>> s = TrainSettings()
        >>> [learning_rate(s, e) for e in (0, 5, 160, 180)]
        [0.02, 0.1, 0.001, 1e-05]
        >>> one = TrainSettings(schedule="onecycle", epochs=10)
        >>> [round(learning_rate(one, e), 3) for e in (0, 2, 6, 10)]
        [0.01, 0.1, 0.05, 0.0]
        >>> cosine = TrainSettings(schedule="cosine", epochs=20)
        >>> [round(learning_rate(cosine, e), 3) for e in (0, 4, 5, 10, 20)]
        [0.02, 0.1, 0.085, 0.05, 0.0]

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, the released code; cosine: Loshchilov and
        Hutter, ICLR 2017, arXiv:1608.03983, eq. 5 with one period.
    """
    base = settings.learning_rate
    if settings.schedule == "onecycle":
        rise = 0.2 * settings.epochs
        if epoch < rise:
            return base * (0.1 + 0.9 * epoch / rise)
        progress = (epoch - rise) / (settings.epochs - rise)
        return base * 0.5 * (1 + math.cos(math.pi * progress))
    number = math.floor(epoch) + 1
    if number <= settings.warmup_epochs:
        return base * number / settings.warmup_epochs
    if settings.schedule == "cosine":
        return base * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))
    steps = sum(number > round(part * settings.epochs, 6) for part in settings.steps)
    return float(base * settings.step_factor**steps)


def class_probabilities(
    sampler: Sampler, class_counts: "Tensor", epoch: int, epochs: int
) -> "Tensor":
    r"""Return the (C,) probabilities of drawing each class; its images are equally likely.

    ``instance`` is in proportion to n_c, ``class-balanced`` the same for all, ``square-root`` in
    proportion to the root of n_c, ``reversed`` to 1 / n_c; ``progressive`` goes from the first to
    the second in equal steps, (1 - e / E) and e / E of them. ``undersample`` is the same for all,
    too: `batches.undersampled` draws it. Classes without images are never drawn.

    Args:
        sampler: one of the words above.
        class_counts: (C,) training images per class.
        epoch: e, from 0.
        epochs: E.

    Example:
        >>> import torch
        >>> counts = torch.tensor([90, 10])
        >>> for sampler in ("class-balanced", "square-root", "reversed", "progressive"):
        ...     [round(p, 3) for p in class_probabilities(sampler, counts, 5, 10).tolist()]
        [0.5, 0.5]
        [0.75, 0.25]
        [0.1, 0.9]
        [0.7, 0.3]

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4.1; ``reversed``: Zhou et al., CVPR 2020,
        arXiv:1912.02413, sec. 4.2.
    """
    counts = class_counts.double()
    if sampler == "progressive":
        part = epoch / epochs
        first = class_probabilities("instance", class_counts, epoch, epochs)
        return (1 - part) * first + part * class_probabilities(
            "class-balanced", class_counts, epoch, epochs
        )
    power = {"instance": 1.0, "square-root": 0.5, "reversed": -1.0}.get(sampler, 0.0)
    weights = (counts**power).where(counts > 0, 0.0)
    return weights / weights.sum()
