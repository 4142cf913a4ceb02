"""Makes a method's module callable: ``ltkit.posthoc.blend(features)`` fits it to features."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ltkit.posthoc._features import fit_features, plan
from ltkit.records import Correction, FeatureSet
from ltkit.settings import BINS, Select


class Method(ModuleType):
    """A method's module."""

    def __call__(
        self,
        features: FeatureSet,
        *,
        select: Select = "balanced",
        bins: Sequence[int] = BINS,
        seeds: int = 1,
        sweep: bool = False,
        start: tuple[Correction, int] | None = None,
        **parameters: Any,
    ) -> Correction:
        """Fit the method to features, as ``ltkit posthoc`` does.

        Args:
            features: with a head.
            select: validation accuracy by which unset parameters are chosen.
            bins: bounds of the medium shot group.
            seeds: number of seeds, for a method that draws at random.
            sweep: keep every value on the method's grid, and choose none.
            start: another correction and one of its runs, to correct instead of the head.
            **parameters: parameters of the method's ``fit``.

        Raises:
            InputError: for an unknown parameter, or as `fit_features`.
        """
        name = self.__name__.rpartition(".")[2].replace("_", "-")
        wanted = plan(name, parameters, seeds=seeds, sweep=sweep)
        return fit_features(features, wanted, select=select, bins=bins, start=start).correction


class Methods(ModuleType):
    """The package of the methods; importing a module from it makes the module a `Method`."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, as importing a module of the package does."""
        if isinstance(value, ModuleType) and not name.startswith("_"):
            value.__class__ = Method
        super().__setattr__(name, value)
