"""The allowed numbers of every setting, and the names of settings on the command line."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ltkit.errors import SettingError
from ltkit.numerals import Range

RANGES: Mapping[str, Range] = {
    "alpha_scale": Range(0, 10),
    "bandwidth": Range(0, 100, above=True),
    "batch_size": Range(1, 1 << 20, whole=True),
    "at_most_loss": Range(0, 100),
    "budget": Range(0, 0.99),
    "bins": Range(1, 10**15, whole=True),
    "confidence": Range(0.5, 0.999),
    "coverage": Range(0.01, 0.999),
    "crop": Range(1, 4096, whole=True),
    "decay_every": Range(1, 100_000, whole=True),
    "decay_factor": Range(0, 1, above=True),
    "drw": Range(0, 100_000, whole=True),
    "epochs": Range(1, 100_000, whole=True),
    "experts": Range(2, 6, whole=True),
    "false_alarm": Range(1e-6, 0.5),
    "first_label": Range(0, 1, whole=True),
    "folds": Range(2, 100, whole=True),
    "free_ranks": Range(0, 1_000_000, whole=True),
    "from_epoch": Range(0, 100_000, whole=True),
    "hidden": Range(1, 65_536, whole=True),
    "image_size": Range(1, 4096, whole=True),
    "imbalance": Range(1, 10**6),
    "k": Range(1, 100_000, whole=True),
    "kept": Range(0.5, 0.999),
    "keep": Range(-100, 100),
    "learning_rate": Range(0, 1000, above=True),
    "level": Range(0, 100, whole=True),
    "local": Range(1, 65_536, whole=True),
    "logit_scale": Range(0, 1e30, above=True),
    "min_epochs": Range(1, 100_000, whole=True),
    "momentum": Range(0, 1),
    "most": Range(0, 10**6, whole=True),
    "rank_penalty": Range(0, 1000),
    "repeats": Range(1, 1000, whole=True),
    "prior_offset": Range(-1, 10),
    "replicates": Range(100, 1_000_000, whole=True),
    "resize": Range(1, 4096, whole=True),
    "rho": Range(0, 100, above=True),
    "risk": Range(0, 0.99, above=True),
    "scale": Range(0, 1e6, above=True),
    "seed": Range(0, 2**32 - 1, whole=True),
    "seeds": Range(1, 1000, whole=True),
    "step_factor": Range(0, 1, above=True),
    "share": Range(0, 1),
    "significance": Range(0, 0.5),
    "steps": Range(0, 1),
    "strength": Range(0, 1000),
    "tau": Range(-1, 10),
    "test_images": Range(0, 100_000, whole=True),
    "topk": Range(1, 100_000, whole=True),
    "val_images": Range(0, 100_000, whole=True),
    "warmup_epochs": Range(0, 100_000, whole=True),
    "weight_decay": Range(0, 1000),
    "workers": Range(1, 256, whole=True),
}
"""The allowed numbers of each setting; for lists, of each item.

What a value costs is another matter: `ltkit.alphanet` estimates it before it starts.
"""

FLAGS = {
    "learning_rate": "--lr", "parameters": "--set", "dataset": "--data", "mixing": "--mix",
    "features": "FEATS", "method": "METHOD", "momentum": "momentum",
    "target": "target",
}  # fmt: skip
"""Settings whose command-line name differs from their own."""


def flag(name: str) -> str:
    """Return a setting's name on the command line; anything after a space is kept.

    Example:
        >>> flag("learning_rate"), flag("batch_size"), flag("parameters tau")
        ('--lr', '--batch-size', '--set tau')
    """
    word, space, rest = name.partition(" ")
    return FLAGS.get(word, f"--{word.replace('_', '-')}") + space + rest


def check(settings: Any) -> None:
    """Reject settings out of their ranges.

    Args:
        settings: one of the dataclasses of `ltkit.settings`.

    Raises:
        SettingError: naming the first such setting.

    Example:
        >>> from ltkit.settings import NeighborSettings
        >>> check(NeighborSettings(k=0))
        Traceback (most recent call last):
        ...
        ltkit.errors.SettingError: k: found 0, expected a whole number from 1 to 100000
    """
    for name, value in asdict(settings).items():
        for item in value if isinstance(value, tuple) else (value,):
            if item is not None and name in RANGES and item not in RANGES[name]:
                raise SettingError(name, f"found {item}, expected {RANGES[name]}")
