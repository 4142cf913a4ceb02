"""Figures as data frames: scores, comparisons, neighbours."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ltkit.evaluation import Grouping
from ltkit.face.arrays import Judged, entries_of
from ltkit.files.bases import Start, with_base
from ltkit.records import FeatureSet
from ltkit.settings import GROUPS, REPLICATES, Metric, NeighborSettings, Select

if TYPE_CHECKING:
    import pandas as pd

ENDS = {
    "interval": ("low", "high"), "difference_interval": ("difference_low", "difference_high"),
}  # fmt: skip
"""Names of interval bounds in frames."""


def evaluate(
    features: FeatureSet,
    *corrections: Judged,
    split: str = "test",
    bins: Sequence[int] | None = None,
    group: Grouping | None = None,
    topk: Sequence[int] | None = None,
    figures: Sequence[str] = (),
    prior: str | None = None,
    shifts: bool = False,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
) -> "pd.DataFrame":
    """Score the features' own head and its corrections, as ``ltkit evaluate`` does.

    Args:
        features: with a head, or with `base`.
        *corrections: what to score beside it; features stand for another network on the same
            samples.
        split: which split.
        bins: bounds of the medium shot group; None: the file's own.
        group: for grouped accuracy.
        topk: which top-k accuracies.
        figures: of `ltkit.settings.METRICS`; each gets columns.
        prior: how often classes occur in use, as ``forward:50`` or a file; None: as in the split.
        shifts: score under priors forward and backward, too; they are in the document.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        base: a classifier in the place of the head, or its file; it is the baseline.

    Returns:
        A row for each setting, baseline first; columns (figure, group) with the figures accuracy,
        std, low and high (95 % interval), difference, difference_low and difference_high, as
        fractions, NaN where there is none. ``frame["accuracy"]`` is the usual table.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`.
    """
    from ltkit.evaluation import scores

    features = with_base(features, base)
    document, _ = scores.evaluate(
        features, split, entries_of(corrections), bins=bins, grouping=group, topk=topk,
        prior=prior, shifts=shifts, figures=figures, replicates=replicates, seed=seed,
    )  # fmt: skip
    rows = document["rows"]
    parts = ("accuracy", "std", "interval", "difference", "difference_interval")
    return _frame(
        [row["label"] for row in rows],
        [
            {part: row.get(part) for part in parts}
            | {name: row["metrics"][name] for name in figures}
            for row in rows
        ],
        document,
    )


def compare(
    features: FeatureSet,
    *corrections: Judged,
    against: str | None = None,
    select: Select | None = "balanced",
    split: str = "test",
    bins: Sequence[int] | None = None,
    prior: str | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
) -> "pd.DataFrame":
    """Compare corrections with the features' own head and each other, as ``ltkit compare`` does.

    Args:
        features: with a head, or with `base`.
        *corrections: at least one; features stand for another network on the same samples.
        against: a name that all others are compared with; None: every pair.
        select: what a correction's setting is chosen by on the validation split.
        split: which split.
        bins: bounds of the medium shot group; None: the file's own.
        prior: how often classes occur in use, as ``forward:50`` or a file; None: as in the split.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        base: a classifier in the place of the head, or its file; it is the baseline.

    Returns:
        A row for each pair, "first - second"; columns (figure, group) with the figures difference,
        low and high. Their p, classes won and curves are in the document.

    Raises:
        InputError: as `ltkit.evaluation.compare`.
    """
    from ltkit.evaluation import comparison

    features = with_base(features, base)
    document = comparison.compare(
        features, split, entries_of(corrections), bins=bins, select=select, against=against,
        prior=prior, replicates=replicates, seed=seed,
    )  # fmt: skip
    pairs = document["pairs"]
    return _frame(
        [f"{pair['first']} - {pair['second']}" for pair in pairs],
        [{part: pair[part] for part in ("difference", "interval")} for pair in pairs],
        document,
    )


def nearest(
    features: FeatureSet,
    k: int = NeighborSettings.k,
    metric: Metric = NeighborSettings.metric,
    of: str = "few",
    among: str = "base",
    bins: Sequence[int] | None = None,
) -> "pd.DataFrame":
    """Find the nearest classes of each rare class, as ``ltkit neighbors`` does.

    Args:
        features: with training samples; classes without are left out.
        k: neighbours per class.
        metric: distance between class means, or ``wordnet``.
        of: the classes: few, medium, many, base or all.
        among: classes that may be neighbours.
        bins: bounds of the medium shot group; None: the file's own.

    Returns:
        A row for each class and rank: class, neighbor, distance, by name where there are names.

    Raises:
        InputError: when there are fewer than k others, or classes without training samples.
    """
    import pandas as pd

    from ltkit.neighbors import nearest_of_groups

    classes, settings = features.classes, NeighborSettings(k, metric)
    near = nearest_of_groups(features, settings, of=of, among=among, bins=bins)
    rows = [
        (classes.name(int(c)), rank, classes.name(int(other)), float(distance))
        for c, found, distances in zip(near.few_class, near.base_class, near.distance, strict=True)
        for rank, (other, distance) in enumerate(zip(found, distances, strict=True), start=1)
    ]
    return pd.DataFrame(rows, columns=["class", "rank", "neighbor", "distance"])


def _frame(
    index: Sequence[str], rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> "pd.DataFrame":
    """Return a frame of figures by group; an interval takes two columns."""
    import pandas as pd

    columns: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        for part, values in row.items():
            names = ENDS.get(part, (part,))
            for group in GROUPS:
                value = None if values is None else values[group]
                every = value if isinstance(value, list) else [value] * len(names)
                for name, number in zip(names, every, strict=True):
                    held = float("nan") if number is None else float(number)
                    columns.setdefault((name, group), []).append(held)
    frame = pd.DataFrame(columns, index=list(index))
    frame.columns = pd.MultiIndex.from_tuples(list(columns), names=["figure", "group"])
    frame.attrs["document"] = dict(document)
    return frame
