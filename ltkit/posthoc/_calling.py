"""Makes a method's module callable: ``ltkit.posthoc.blend(features)`` fits it to features."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from ltkit.files.bases import Start, with_base
from ltkit.posthoc._features import fit_features
from ltkit.posthoc._plan import plan
from ltkit.records import Correction, FeatureSet
from ltkit.settings import Counts, Select


class Method(ModuleType):
    """A method's module."""

    def __call__(
        self,
        features: FeatureSet,
        *,
        select: Select = "balanced",
        bins: Sequence[int] | None = None,
        seeds: int = 1,
        sweep: bool = False,
        start: tuple[Correction, int] | None = None,
        base: Start | None = None,
        counts: Counts = "file",
        **parameters: Any,
    ) -> Correction:
        """Fit the method to features, as ``ltkit posthoc`` does.

        Args:
            features: with a head, unless the method starts anew.
            select: what parameters that are not given are chosen by on the validation split.
            bins: bounds of the medium shot group; None: the file's own.
            seeds: runs with different seeds, of a method that draws.
            sweep: keep every value on the method's grid, and choose none.
            start: another correction, and which of its runs, to correct instead of the head.
            base: a classifier in the place of the head, or its file.
            counts: ``estimate`` takes the training prior from the classifier to correct.
            **parameters: of the method's ``fit``.

        Raises:
            InputError: for an unknown parameter, or as `fit_features`.
        """
        name = self.__name__.rpartition(".")[2]
        wanted = plan(name.replace("_", "-"), parameters, seeds=seeds, sweep=sweep)
        based = with_base(features, base)
        found = fit_features(based, wanted, select=select, bins=bins, start=start, counts=counts)
        return found.correction


class Methods(ModuleType):
    """The package of the methods; importing a module from it makes the module a `Method`."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute, as importing a module of the package does."""
        if isinstance(value, ModuleType) and not name.startswith("_"):
            value.__class__ = Method
        super().__setattr__(name, value)
