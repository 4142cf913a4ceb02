"""RIDE whole: a teacher of six experts, three experts that learn from it, and their routers."""

from dataclasses import replace

from ltkit.losses import check_range
from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training.recipes import StagePlan

WARMUP = 20 / 200
"""Warm-up of the second stage, of its epochs."""

SHARE = 5 / 200
"""Epochs of the third stage, of those of the others."""


def stages(
    settings: TrainSettings,
    *,
    experts: int = 3,
    teachers: int = 6,
    diversity: float = 0.45,
    deferred: float = 0.8,
    distill: float = 1.0,
    distill_temperature: float = 1.5,
    top: int = 30,
    hidden: int = 16,
    positive: float = 100.0,
) -> list[StagePlan]:
    """Return the stages of a teacher, its students, and what asks them.

    First, ``ride`` trains a network of many experts. Second, it trains one of a few, which also
    learns from the first. Third, ``router`` holds that one, and learns how many of its experts an
    image needs: ``extract --head router`` takes it with the routers, without the option the mean of
    all experts.

    Args:
        settings: of the first and the second stage: 200 epochs, batches of 128, weight decay 5e-4,
            Nesterov momentum and ``rotation`` in the source. The second warms up for a tenth of
            them; the third has a tenth of the learning rate with a cosine, batches of four times
            the size and 5 epochs of 200, at least one.
        experts: of the network; 3, or 4.
        teachers: experts of the first stage's; 6.
        diversity: of both, see ``ride``.
        deferred: the part of the epochs after which class weights begin, 0 to 1; 0.8.
        distill: weight of the teacher; 1.
        distill_temperature: of the teacher; 1.5.
        top: of the routers, as the next two, see ``router``.
        hidden: units.
        positive: weight of images that need another expert.

    Raises:
        InputError: when ``deferred`` is out of range.

    Example:
        >>> first, second, third = stages(TrainSettings())
        >>> [(one.plan.method, one.experts) for one in (first, second, third)]
        [('ride', 6), ('ride', 3), ('router', 3)]
        >>> first.plan.drw, second.teacher, second.settings.warmup_epochs, third.start
        (160, 1, 20, 2)
        >>> third.settings.epochs, third.settings.batch_size, third.settings.learning_rate
        (5, 512, 0.01)

    Source:
        Wang et al., ICLR 2021, arXiv:2010.01809, sec. 3; rates, batches and epochs of the released
        code for CIFAR-100-LT.
    """
    check_range("deferred", deferred, 0, 1)
    epochs = settings.epochs
    drw = min(round(deferred * epochs), epochs - 1)
    taught = {"distill": distill, "distill_temperature": distill_temperature}
    routers = {"top": top, "hidden": hidden, "positive": positive}
    long = replace(settings, warmup_epochs=round(WARMUP * epochs))
    short = replace(
        settings, epochs=max(1, round(SHARE * epochs)), warmup_epochs=0, schedule="cosine",
        learning_rate=settings.learning_rate / 10, batch_size=4 * settings.batch_size,
    )  # fmt: skip
    first = TrainPlan("ride", {"diversity": diversity}, drw=drw)
    second = TrainPlan("ride", {"diversity": diversity, **taught}, drw=drw)
    third = TrainPlan("router", routers, cosine=True)
    return [
        StagePlan(first, settings, experts=teachers),
        StagePlan(second, long, teacher=1, experts=experts),
        StagePlan(third, short, start=2, experts=experts),
    ]
