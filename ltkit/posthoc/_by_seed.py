"""Fits of a method with several seeds, a seed at a time, each kept as soon as it is done.

Seeds that are fitted together share products, whose last digits can depend on which samples are in
them. A seed alone has the same bits in every process that fits it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ltkit.errors import SettingError
from ltkit.files.kept_fits import kept_or_made
from ltkit.files.scratch import Parts
from ltkit.posthoc._plan import Plan
from ltkit.records import Correction, FeatureSet, joined

Fit = Callable[[Plan], Sequence[Correction]]
"""Returns a correction of one run for each of a plan's runs."""


def every_seed(
    fit: Fit, wanted: Plan, features: FeatureSet, parts: Parts | None
) -> list[Correction]:
    """Return every run of a plan, in the order of its runs; finished seeds are taken as they are.

    Args:
        fit: fits a plan on the features.
        wanted: with several seeds.
        features: the features.
        parts: where fits are kept, if they are.
    """
    numbers = range(wanted.seeds)
    if parts is None:
        found = [joined(fit(_alone(wanted, n))) for n in numbers]
    else:
        with parts.locked():
            found = [_seed(fit, wanted, features, parts, n)[1] for n in numbers]
    return [of.only([tried]) for tried in range(len(wanted.tried)) for of in found]


def own_seeds(fit: Fit, wanted: Plan, features: FeatureSet, parts: Parts) -> list[Path]:
    """Fit a shard's seeds, for `every_seed` to take; return their files. As `every_seed`."""
    numbers = list(range(wanted.seeds))
    own = numbers if parts.shard is None else parts.shard.own(numbers)
    with parts.locked():
        return [_seed(fit, wanted, features, parts, n)[0] for n in own]


def check_seeds(wanted: Plan) -> None:
    """Refuse to divide a plan that has nothing to divide.

    Raises:
        SettingError: for a single seed.
    """
    if wanted.seeds < 2:
        raise SettingError(
            "shard",
            f"{wanted.name}: found 1 seed; shares of a correction are seeds: set more, or fit it "
            "in one process, which tries all values in one pass",
        )


def _seed(
    fit: Fit, wanted: Plan, features: FeatureSet, parts: Parts, number: int
) -> tuple[Path, Correction]:
    """Return the runs of one seed, and the file that keeps them."""
    one = _alone(wanted, number)
    name = f"seed-{one.every['seed']}"
    file, correction, _ = kept_or_made(parts, name, lambda: joined(fit(one)), features.inputs)
    return file, correction


def _alone(wanted: Plan, number: int) -> Plan:
    """Return the plan of one of the seeds."""
    seed: Any = wanted.every["seed"] + number
    return replace(wanted, every={**wanted.every, "seed": seed}, seeds=1)
