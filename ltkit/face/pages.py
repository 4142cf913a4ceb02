"""The report as a call."""

from collections.abc import Sequence
from pathlib import Path

from ltkit.face.arrays import COMMAND, Judged, entries_of
from ltkit.files.bases import Start, with_base
from ltkit.recommendation import Recommendation
from ltkit.records import FeatureSet
from ltkit.settings import REPLICATES, NeighborSettings, PathRule


def report(
    features: FeatureSet,
    *corrections: Judged,
    output: str | Path = "report.html",
    split: str = "test",
    group: str = "auto",
    rule: PathRule = "path",
    level: int = 4,
    k: int = NeighborSettings.k,
    bins: Sequence[int] | None = None,
    images: str | Path | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    base: Start | None = None,
    recommended: Recommendation | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an offline HTML page with figures of a model and its corrections.

    Args:
        features: with a head, or with `base`.
        *corrections: to show beside it.
        output: the page.
        split: which split.
        group: of grouped accuracy, as ``ltkit report --group``.
        rule: WordNet rule.
        level: WordNet level.
        k: neighbours per class.
        bins: bounds of the medium shot group; None: the file's own.
        images: the dataset's folder, for pictures of the classes.
        replicates: of the bootstrap.
        seed: of the bootstrap and of the map.
        base: a classifier in the place of the head, or its file.
        recommended: what `ltkit.recommend` found, to be shown first.
        overwrite: whether the page may be replaced.

    Raises:
        InputError: as `ltkit.evaluate`, for pictures that cannot be shown, or an output that
            exists.
    """
    from ltkit.files.atomic import check_output
    from ltkit.reporting import advice, making

    target = Path(output)
    check_output(target, overwrite=overwrite)
    told = None if recommended is None else advice.of_document(recommended.document, 0)
    if recommended is not None:
        corrections = (recommended.correction, *corrections)
    made = making.make(
        with_base(features, base), split, entries_of(corrections), group=group, rule=rule,
        level=level, k=k, bins=bins, images=None if images is None else Path(images),
        replicates=replicates, seed=seed, command=COMMAND, advice=told,
    )  # fmt: skip
    made.write(target)
    return target
