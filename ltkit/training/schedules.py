"""Learning rates by epoch and step."""

import math

from ltkit.settings import TrainSettings


def learning_rate(settings: TrainSettings, epoch: float) -> float:
    """Return the learning rate at a point of training.

    ``step`` is the reference schedule: with the epoch e counted from 1, ``lr * e / 5`` in the
    warm-up, then the base rate, ``* 0.01`` after 80 % of the epochs and ``* 0.0001`` after 90 %
    (160 and 180 of 200: two factors of 100). ``onecycle`` rises linearly from a tenth over the
    first 20 % and falls to zero along a cosine.

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

    Source:
        Cao et al., NeurIPS 2019, arXiv:1906.07413, the released code.
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
    if number > 0.9 * settings.epochs:
        return base * 1e-4
    return base * 0.01 if number > 0.8 * settings.epochs else base
