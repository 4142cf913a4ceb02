"""Fitting a method on a features file: its grid, the choice on validation data, several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np

from ltkit import evaluation, posthoc, registry
from ltkit.errors import InputError, SettingError
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSet,
    FeatureSplit,
    Ints,
    joined,
)
from ltkit.settings import Select


@dataclass(frozen=True, eq=False)
class Plan:
    """Which fits of a method to make.

    module: of the method, and its name.
    every: parameters of every fit; tried: those of each fit, from the grid.
    seeds: fits with different seeds of each of them.
    sweep: whether all are kept, and none is chosen.
    """

    name: str
    module: ModuleType
    every: Mapping[str, Any]
    tried: Sequence[Mapping[str, Any]]
    seeds: int
    sweep: bool

    @property
    def anew(self) -> bool:
        """Whether the method asks for no classifier to start from."""
        return bool(getattr(self.module, "ANEW", False))

    @property
    def ensemble(self) -> bool:
        """Whether the classifier to start from goes beside the features' own head."""
        return bool(getattr(self.module, "ENSEMBLE", False))

    @property
    def chooses(self) -> bool:
        """Whether parameters are chosen on the validation split."""
        return bool(self.tried[0]) and not self.sweep

    @property
    def runs(self) -> list[dict[str, Any]]:
        """The parameters of every fit; those that differ only in seed are adjacent."""
        return [
            {**self.every, **parameters} | self._seed(number)
            for parameters in self.tried
            for number in range(self.seeds)
        ]

    def _seed(self, number: int) -> dict[str, int]:
        return {"seed": self.every["seed"] + number} if "seed" in self.every else {}


def plan(
    method: str, parameters: Mapping[str, Any] | None = None, *, seeds: int = 1, sweep: bool = False
) -> Plan:
    """Return which fits of a method to make, before any file is read.

    Args:
        method: name, as ``tau-norm``.
        parameters: by name; values may be text. What is not given is on the method's grid, or has
            its default.
        seeds: fits with different seeds, of a method that has one.
        sweep: keep every value on the grid, and choose none.

    Raises:
        InputError: for an unknown method or parameter, seeds of a method without, a sweep of
            nothing.

    Example:
        >>> [dict(parameters) for parameters in plan("tau-norm", {"tau": "0.5"}).tried]
        [{}]
    """
    module = registry.load(posthoc, method)
    given = registry.parameters_of(module.fit, parameters or {}, method)
    defaults = registry.defaults(module.fit)
    if seeds > 1 and "seed" not in defaults:
        raise SettingError("seeds", f"{method} draws nothing at random; leave it out")
    grid: dict[str, tuple[Any, ...]] = getattr(module, "GRID", {})
    free = {name: values for name, values in grid.items() if name not in given}
    if sweep and not free:
        raise SettingError(
            "sweep",
            f"found no parameter of {method} to try, beyond those set; its grid has "
            f"{', '.join(grid) or 'none'}; leave it out",
        )
    tried = [dict(zip(free, values, strict=True)) for values in product(*free.values())]
    return Plan(method, module, defaults | given, tried, seeds, sweep)


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of a plan.

    correction: all runs, or those of the chosen parameters.
    tried, scores: the parameters that were chosen from, and their scores on the validation split;
        none where there was no choice.
    chosen: the best of them.
    note: what was taken where there was nothing to choose on.
    """

    correction: Correction
    tried: Sequence[Mapping[str, Any]] = ()
    scores: Sequence[float] = ()
    chosen: Mapping[str, Any] | None = None
    note: str = ""


def fit_features(
    features: FeatureSet,
    wanted: Plan,
    *,
    select: Select = "balanced",
    bins: Sequence[int] | None = None,
    start: tuple[Correction, int] | None = None,
    by_default: bool = False,
) -> Fitted:
    """Fit a method on a features file, as ``ltkit posthoc`` does.

    Args:
        features: with a head or a base, unless the method starts anew; with a train split, where
            the method learns from it.
        wanted: of `plan`.
        select: what parameters are chosen by on the validation split.
        bins: bounds of the medium shot group; None: the file's own.
        start: another correction of these features, and which of its runs, to be corrected
            instead of the file's own head; of an ensemble, to go with it.

        by_default: without a validation split to choose on, take the method's own defaults, and
            say so in the result's note, instead of refusing.

    Raises:
        InputError: without a validation split to choose on, without a classifier to start from, and
            for what the method refuses.
    """
    name = wanted.name
    beside = None
    if start is not None:
        base, name = features.corrected(*start), f"{start[0].method}+{name}"
        if wanted.ensemble:
            beside, base = base, features.classifier()
    elif wanted.anew and features.head is None and features.base is None:
        base = features.empty_classifier()
    else:
        base = features.classifier()
    val, choice, note = features.splits.get("val"), wanted.chooses, ""
    if choice and val is None:
        wanted, note = _by_default(wanted, features, by_default)
    train, counts, runs = features.splits.get("train"), features.classes.train_count, wanted.runs
    fits = zip(_fit(wanted.module, base, train, counts, runs, beside), runs, strict=True)
    correction = joined([Correction.whole(name, *fit) for fit in fits])
    if not choice or val is None:
        return Fitted(correction, note=note)
    groups = features.groups(bins)
    (found,) = evaluation.predict_classes(val, base, [correction])
    every = [evaluation.objective(p, val.labels, base.num_classes, groups, select) for p in found]
    of = [range(n, n + wanted.seeds) for n in range(0, len(runs), wanted.seeds)]
    best, scores = evaluation.best(every, of)
    return Fitted(correction.only(of[best]), wanted.tried, scores, wanted.tried[best])


def _by_default(wanted: Plan, features: FeatureSet, allowed: bool) -> tuple[Plan, str]:
    """Return the fit with the method's own defaults, and a note on it.

    Raises:
        InputError: when that is not allowed, or the method has no default.
    """
    names = list(wanted.tried[0])
    if not allowed or any(name not in wanted.every for name in names):
        raise InputError(
            f"{features.source}: no validation split to choose {names[0]} on; set {names[0]}, or "
            "keep all with sweep"
        )
    taken = ", ".join(f"{name} {wanted.every[name]:g}" for name in names)
    note = (
        f"no val split to choose {', '.join(names)} on: {taken} is taken, the default of "
        f"{wanted.name}; --set chooses another, --sweep keeps all"
    )
    return replace(wanted, tried=[{}]), note


def _fit(
    module: ModuleType,
    base: Classifier,
    train: FeatureSplit | None,
    counts: Ints,
    runs: Sequence[Mapping[str, Any]],
    beside: Classifier | None = None,
) -> list[Classifier]:
    """Return the classifier of each run, fitted together if the method supports it."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        if hasattr(module, "fit_many"):
            together: list[Classifier] = module.fit_many(base, train, counts, runs)
            return together
        more = () if beside is None else (beside,)
        return [module.fit(base, train, counts, *more, **parameters) for parameters in runs]
