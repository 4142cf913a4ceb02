"""SSD: instance contrast, learned scales as the teacher, then distillation into a new network."""

from dataclasses import replace

from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training.recipes import StagePlan

SHARE = 5 / 135
"""Epochs of the second stage, of those of the others."""


def stages(
    settings: TrainSettings,
    *,
    contrast_temperature: float = 0.2,
    queue: int = 1024,
    size: int = 128,
    momentum: float = 0.999,
    second_view: str = "simclr",
    per_class: int = 2,
    temperature: float = 2.0,
    soft: float = 1.0,
    hard: float = 1.0,
) -> list[StagePlan]:
    """Return the stages of self-supervision to distillation.

    First, ``instance-contrast`` trains a network. Second, ``learned-scales`` holds it, and scales
    its logits on batches of all classes alike: that is the teacher. Third, ``distill`` trains a new
    network with two heads on one backbone, a soft one that learns from the teacher and a hard one
    that learns the labels. The checkpoint's head is the soft one.

    Args:
        settings: of the first and the third stage: 135 epochs, batches of 256, the learning rate
            0.1 with a cosine, weight decay 5e-4 in the source. The second has twice the learning
            rate, batches of twice the size and 5 epochs of 135, at least one, without warm-up.
        contrast_temperature: of the first stage; 0.2.
        queue: of the first stage, as its other three, see ``instance-contrast``.
        size: units of its projection.
        momentum: of its key encoder.
        second_view: its second view's augmentation.
        per_class: images of each class in a batch of the second stage; 2.
        temperature: of the third stage; 2.
        soft: weight of its soft head; 1.
        hard: of its hard head; 1.

    Example:
        >>> first, second, third = stages(TrainSettings(epochs=135))
        >>> [one.plan.method for one in (first, second, third)]
        ['instance-contrast', 'learned-scales', 'distill']
        >>> second.settings.epochs, second.settings.learning_rate, second.start, third.teacher
        (5, 0.2, 1, 2)

    Source:
        Li et al., ICCV 2021, arXiv:2109.04075, sec. 3; rates, batches and epochs of the released
        code for ImageNet-LT. It scales the third stage's head once more where that helps.
    """
    contrast = {
        "temperature": contrast_temperature, "queue": queue, "size": size, "momentum": momentum,
        "second_view": second_view,
    }  # fmt: skip
    short = replace(
        settings, epochs=max(1, round(SHARE * settings.epochs)), warmup_epochs=0,
        learning_rate=2 * settings.learning_rate, batch_size=2 * settings.batch_size,
    )  # fmt: skip
    distilled = {"temperature": temperature, "soft": soft, "hard": hard}
    return [
        StagePlan(TrainPlan("instance-contrast", contrast), settings),
        StagePlan(TrainPlan("learned-scales", {"per_class": per_class}), short, start=1),
        StagePlan(TrainPlan("distill", distilled), settings, teacher=2),
    ]
