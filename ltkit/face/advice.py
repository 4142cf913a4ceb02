"""Why rare classes fail, which correction to ship, and for which prior, as calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltkit.adaptation import Adapted, of_array
from ltkit.adaptation import adapt as _adapt
from ltkit.diagnosis import Diagnosis
from ltkit.diagnosis import diagnose as _diagnose
from ltkit.face.arrays import Array, single
from ltkit.files import features as features_file
from ltkit.files.bases import Start, with_base
from ltkit.recommendation import Recommendation, Wanted
from ltkit.recommendation import recommend as _recommend
from ltkit.records import Correction, FeatureSet
from ltkit.registry import parameters_of
from ltkit.settings import (
    CONFIDENCE,
    FOLDS,
    REPEATS,
    REPLICATES,
    AdaptSettings,
    NeighborSettings,
    Objective,
)


def recommend(
    features: FeatureSet,
    objective: Objective | None = None,
    *,
    keep: Mapping[str, float] | None = None,
    methods: Sequence[str] | None = None,
    with_alphanet: bool = False,
    recalibrate_on: FeatureSet | None = None,
    prior: str | None = None,
    bins: Sequence[int] | None = None,
    confidence: float = CONFIDENCE,
    folds: int = FOLDS,
    repeats: int = REPEATS,
    seed: int = 0,
    base: Start | None = None,
) -> Recommendation:
    """Say which correction to ship, what it gains and costs, and how sure that is.

    Args:
        features: with a head, or with `base`, and a validation split; test is never read.
        objective: the accuracy to maximise; None: balanced, or under a prior all.
        keep: by group, the least change in points, as ``{"all": -0.5}``; None: all -0.5 for an
            objective of the rare classes alone, else no limit.
        methods: names of post-hoc methods; None: all that fit in seconds.
        with_alphanet: whether AlphaNet is one of them.
        recalibrate_on: features whose val stands for that of these.
        prior: how often classes occur in use, as ``ltkit recommend --prior``.
        bins: bounds of the medium shot group; None: the file's own.
        confidence: with which limits must hold.
        folds: parts of the validation split.
        repeats: how often it is divided into parts anew.
        seed: of the folds.
        base: a classifier in the place of the head, or its file.

    Returns:
        ``print`` shows the answer; ``.correction`` goes into `save`, `evaluate` and `export`;
        ``.document`` is what ``ltkit recommend --json`` prints.

    Raises:
        InputError: for settings out of range, groups without classes, or methods that do not fit.
    """
    features = with_base(features, base)
    if recalibrate_on is not None:
        features = features.recalibrated(recalibrate_on)
    wanted = Wanted(objective, keep, methods, with_alphanet, confidence, repeats, folds, seed, bins)
    return _recommend(features, wanted)


def diagnose(
    features: FeatureSet,
    split: str = "val",
    *,
    k: int = NeighborSettings.k,
    bins: Sequence[int] | None = None,
    folds: int = FOLDS,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
) -> Diagnosis:
    """Say how much of each rare class's error is the prior, its row, confusion, or the features.

    Args:
        features: with a head, or with `base`, and the split; no other is judged on.
        split: whose errors are explained.
        k: frequent classes that count as near a rare one.
        bins: bounds of the medium shot group; None: the file's own.
        folds: parts of the split; what explains a sample was not fitted to its part.
        replicates: of the bootstrap.
        seed: of the folds and the bootstrap.
        base: a classifier in the place of the head, or its file.

    Returns:
        ``print`` shows the answer; ``.document`` is what ``ltkit diagnose --json`` prints.

    Raises:
        InputError: for settings out of range, or without rare classes, frequent ones, or images of
            them.
    """
    features = with_base(features, base)
    return _diagnose(features, split, k=k, bins=bins, folds=folds, replicates=replicates, seed=seed)


def adapt(
    features: FeatureSet,
    to: FeatureSet | str | Path | Array,
    split: str | None = None,
    *,
    start: tuple[Correction, int] | None = None,
    bins: Sequence[int] | None = None,
    anyway: bool = False,
    base: Start | None = None,
    **settings: Any,
) -> Adapted:
    """Adapt a classifier to how often classes occur among samples without labels.

    Args:
        features: with a head, or with `base`, and a validation split.
        to: features of the same model, their file, or (N, D) numbers; labels are not looked at.
        split: of these; None: test, or the only one.
        start: another correction, and which of its runs, in the place of the head.
        bins: bounds of the medium shot group; None: the file's own.
        anyway: whether to adapt where more than the classes' frequencies has changed.
        base: a classifier in the place of the head, or its file.
        **settings: fields of `ltkit.settings.AdaptSettings`, as ``estimator="map-em"``.

    Returns:
        ``print`` shows the answer; ``.correction`` goes into `save`, `evaluate` and `export`;
        ``.document`` has the shares of classes, their intervals, and the test of the shift.

    Raises:
        InputError: for features of another model, an empty target, or settings out of range.
        SettingError: for a shift that is not one of classes' frequencies alone.
    """
    features = with_base(features, base)
    if isinstance(to, str | Path):
        to = features_file.read(Path(to))
    elif not isinstance(to, FeatureSet):
        to = of_array(features, single(to, "to"))
    wanted = AdaptSettings(**parameters_of(AdaptSettings, settings, "adapt"))
    return _adapt(features, to, split, start=start, bins=bins, settings=wanted, anyway=anyway)
