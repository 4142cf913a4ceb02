"""What a recommendation is asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ltkit.errors import SettingError
from ltkit.settings import CONFIDENCE, FOLDS, GROUPS, RANGES, REPEATS, Objective


@dataclass(frozen=True)
class Wanted:
    """What a recommendation is asked for.

    objective: the accuracy to maximise; None: balanced, or under a prior all.
    keep: by group, the least change in points, as -0.5; None: `KEEP_OF_RARE` for an objective of
        the rare classes alone, else no limit.
    methods: names of post-hoc methods; None: all that are cheap. with_alphanet: AlphaNet, too.
    confidence: with which limits must hold.
    repeats, folds, seed: of the cross-validation inside the validation split.
    bins: bounds of the medium shot group; None: the file's own.
    prior: how often classes occur in use, as `ltkit.records.class_prior` has it: ``all`` is the
        accuracy under it, and every correction is tried with its logarithm added, too.
    """

    objective: Objective | None = None
    keep: Mapping[str, float] | None = None
    methods: Sequence[str] | None = None
    with_alphanet: bool = False
    confidence: float = CONFIDENCE
    repeats: int = REPEATS
    folds: int = FOLDS
    seed: int = 0
    bins: Sequence[int] | None = None
    prior: str | None = None

    @property
    def aim(self) -> Objective:
        """The objective, also where none is said."""
        return self.objective or ("balanced" if self.prior is None else "all")

    def __post_init__(self) -> None:
        """Check the numbers and the groups.

        Raises:
            SettingError: naming the first that is out of its range.
        """
        for name in ("confidence", "repeats", "folds", "seed"):
            RANGES[name].check(getattr(self, name), name)
        for group, points in (self.keep or {}).items():
            if group not in GROUPS:
                raise SettingError("keep", f"found {group}, expected one of {', '.join(GROUPS)}")
            RANGES["keep"].check(points, f"keep {group}")
