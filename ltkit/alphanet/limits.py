"""What a fit rejects before it starts: settings, sizes and costs out of range."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import fields
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from ltkit.alphanet.reduction import Samples
from ltkit.errors import InputError, SettingError
from ltkit.records import Classifier, FeatureSplit, Neighbors
from ltkit.settings import AlphaNetAmp, AlphaNetSettings
from ltkit.settings import check as check_ranges

MOST_HOURS = 100.0
"""Longest expected duration of a fit."""

MOST_BYTES = 16 << 30
"""Most memory for networks and drawn samples."""

MOST_LAYERS = 16
"""Most hidden layers of a network."""

STEP_SECONDS, PRODUCTS_PER_SECOND = 1e-3, {"cpu": 2e10, "cuda": 2e12}
"""What a step takes at least, and how many products a device makes, for the estimate: roughly."""

LOGITS, ROWS = (1e-6, 1e6), (1e-9, 1e9)
"""The largest logit, and the largest number of a row of the head, with which a fit learns."""


def check_sizes(inputs: Tensor, data: Samples, logit_scale: float) -> None:
    """Reject logits and rows too small or too large to learn from with a finite loss.

    All zeros are accepted: there is nothing to learn.

    Raises:
        InputError: saying which factor to apply.
    """
    size = float(inputs.abs().max()) if inputs.numel() else 0.0
    if size and not ROWS[0] <= size <= ROWS[1]:
        raise InputError(
            f"head: found {size:.2g} as the largest number of the rows that the networks read, "
            f"expected {ROWS[0]:g} to {ROWS[1]:g}; multiply the head by a number, and divide the "
            "features by it"
        )
    most = data.largest
    if (most or logit_scale != 1) and not LOGITS[0] <= most <= LOGITS[1]:
        usual = logit_scale / most if 0 < most < math.inf else 1.0
        way_out = f"set it to about {usual:.0e}"
        if not 1e-30 < usual < 1e30:
            way_out = "import the features in another unit"
        raise SettingError(
            "logit_scale",
            f"found {logit_scale:g}, with which the largest logit is {most:.2g}, "
            f"expected {LOGITS[0]:g} to {LOGITS[1]:g}; {way_out}",
        )


def check_runs(runs: Sequence[AlphaNetSettings]) -> None:
    """Reject runs that are out of range, or differ in more than rho and seed."""
    if not runs:
        raise SettingError("seeds", "found 0 runs, expected at least one seed and one rho")
    for run in runs:
        check_ranges(run)
        if run.amp not in get_args(AlphaNetAmp):
            raise SettingError("amp", f"found {run.amp!r}, expected off or bf16")
        if not 1 <= len(run.hidden) <= MOST_LAYERS:
            raise SettingError(
                "hidden", f"found {len(run.hidden)} layers, expected 1 to {MOST_LAYERS}, as 32,32"
            )
        for field in fields(run):
            if field.name not in ("rho", "seed") and getattr(run, field.name) != getattr(
                runs[0], field.name
            ):
                raise ValueError(f"runs differ in {field.name}; only rho and seed may differ")


def check_cost(
    base: Classifier,
    neighbors: Neighbors,
    train: FeatureSplit,
    runs: Sequence[AlphaNetSettings],
    device: str,
) -> None:
    """Reject what would take too much time or memory, before anything is allocated."""
    settings, samples = runs[0], int(np.isin(train.labels, neighbors.few_class).sum())
    own = settings.network_input == "own+neighbors"
    sizes = ((neighbors.k + own) * base.feature_size, *settings.hidden, neighbors.k)
    weights = sum((size_in + 1) * size for size_in, size in itertools.pairwise(sizes))
    rows = [int((1 + run.rho) * samples) for run in runs]
    networks = weights * 5 + sum(sizes) * len(neighbors.few_class)  # gradients, averages, the best
    needed = 4 * len(runs) * networks + 16 * settings.epochs * sum(rows)
    what = f"{len(runs)} runs of {settings.epochs} epochs"
    less = "take fewer seeds, rhos or epochs, or smaller hidden layers"
    if needed > MOST_BYTES:
        raise InputError(
            f"{what}: need about {needed / 2**30:.3g} GiB of memory, expected at most "
            f"{MOST_BYTES / 2**30:.3g}; {less}"
        )
    steps = settings.epochs * math.ceil(max(rows) / settings.batch_size)
    products = 3 * len(runs) * len(neighbors.few_class) * weights  # forward, and twice backward
    kind = "cpu" if torch.device(device).type == "cpu" else "cuda"
    each = max(STEP_SECONDS, products / PRODUCTS_PER_SECOND[kind])
    if (hours := steps * each / 3600) > MOST_HOURS:
        raise InputError(
            f"{what}: would take about {hours:.3g} hours, expected at most {MOST_HOURS:g}; {less}"
        )
