"""Which fits of a method to make: its grid, its seeds, and what the method needs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from types import ModuleType
from typing import Any

from ltkit import posthoc, registry
from ltkit.errors import SettingError

BOUNDS = ("few_below", "many_above")
"""Parameters that bound the medium shot group; where they are not given, the file's are taken."""


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
    def head_only(self) -> bool:
        """Whether the method needs no images of a class to correct its row."""
        return bool(getattr(self.module, "HEAD_ONLY", False))

    @property
    def on_val(self) -> bool:
        """Whether the method learns from the validation split."""
        return bool(getattr(self.module, "ON_VAL", False))

    @property
    def on_both(self) -> bool:
        """Whether it learns from the train split beside it."""
        return hasattr(self.module, "fit_folds")

    @property
    def prior_only(self) -> bool:
        """Whether training counts serve for nothing but the prior."""
        return bool(getattr(self.module, "PRIOR", False))

    @property
    def takes_mean(self) -> bool:
        """Whether it takes the moving mean of the training features."""
        return bool(getattr(self.module, "MEAN", False))

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
    own = {name: value for name, value in defaults.items() if name not in BOUNDS}
    return Plan(method, module, own | given, tried, seeds, sweep)
