"""MiSLAS: mixup, then scales and rows with label-aware smoothing, on shifted batch norm."""

from dataclasses import replace

from ltkit.settings import TrainPlan, TrainSettings
from ltkit.training.recipes import StagePlan

SHARE = 10 / 200
"""Epochs of the second stage, of those of the first."""


def stages(
    settings: TrainSettings,
    *,
    alpha: float = 1.0,
    eps_head: float = 0.4,
    eps_tail: float = 0.1,
    head_rate: float = 0.2,
    per_class: int = 4,
    batch_norm: str = "shifted",
) -> list[StagePlan]:
    """Return the two stages.

    First, cross-entropy of mixed images: ``train ce --mix mixup``. Second, ``learned-scales`` from
    that network: its weights are held, batch norm's statistics shift to batches of all classes
    alike, the head's rows are trained slowly and the classes' scales beside them, against labels
    that are smoothed more for frequent classes. The checkpoint's head has the scales multiplied in.

    Args:
        settings: of the first stage: 200 epochs, batches of 128, the learning rate 0.1, weight
            decay 2e-4 for CIFAR in the source. The second has 10 epochs of 200, at least one, with
            a cosine and without warm-up.
        alpha: of mixup; 1 for CIFAR, 0.2 for others in the source.
        eps_head: smoothing of the most frequent class; for CIFAR-100 at imbalance 100, 50, 10: 0.4,
            0.3, 0.2; for CIFAR-10 0.3, 0.2, 0.1; for ImageNet-LT and iNaturalist 0.3; for Places-LT
            0.4.
        eps_tail: of the rarest class; 0.1 where the other is 0.4, else 0.
        head_rate: factor on the learning rate of the head's rows; 0.2, 0.1, 0.1; for CIFAR-10 0.5,
            0.2, 0.2; for large datasets 0.05.
        per_class: images of each class in a batch of the second stage; 4.
        batch_norm: of the second stage, ``shifted``, or ``held``, as for CIFAR-10.

    Example:
        >>> first, second = stages(TrainSettings())
        >>> first.plan.mixing, second.plan.method, second.start
        ('mixup', 'learned-scales', 1)
        >>> second.settings.epochs, second.settings.schedule, second.settings.learning_rate
        (10, 'cosine', 0.1)

    Source:
        Zhong et al., CVPR 2021, arXiv:2104.00466, sec. 3; constants and batches of the released
        code. Its cosine steps once an epoch, here it goes on within it.
    """
    short = replace(
        settings, epochs=max(1, round(SHARE * settings.epochs)), warmup_epochs=0, schedule="cosine"
    )
    scales = {
        "per_class": per_class, "head_rate": head_rate, "eps_head": eps_head, "eps_tail": eps_tail,
        "batch_norm": batch_norm,
    }  # fmt: skip
    return [
        StagePlan(TrainPlan("ce", {"mix.alpha": alpha}, mixing="mixup"), settings),
        StagePlan(TrainPlan("learned-scales", scales), short, start=1),
    ]
