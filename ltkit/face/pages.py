"""The report and the studies as calls."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltkit.face.arrays import COMMAND, Judged, entries_of
from ltkit.files.bases import Start, with_base
from ltkit.recommendation import Recommendation
from ltkit.records import Dataset, FeatureSet
from ltkit.settings import REPLICATES, NeighborSettings, PathRule
from ltkit.shards import Shard
from ltkit.studies import Form, Given

if TYPE_CHECKING:
    import pandas as pd


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


def study(
    name: str,
    features: FeatureSet | None = None,
    *,
    images: Dataset | None = None,
    output: str | Path | None = None,
    form: Form = "small",
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    shard: str | None = None,
) -> "pd.DataFrame":
    """Repeat an experiment of the papers, as ``ltkit study`` does.

    Args:
        name: of the study; ``ltkit.studies.listing()`` has all.
        features: of a study that needs them.
        images: of a study that trains networks.
        output: folder of its table, page and figures; None: ``study-NAME``.
        form: ``small``, of minutes on two cores, or ``paper``, the paper's numbers of runs.
        seed: of every random choice.
        device: to compute on.
        resume: go on from the points that the folder holds.
        overwrite: start again in the place of another run.
        shard: ``i/n``, to measure the i-th of n shares of the points alone, while other processes
            measure theirs; the same call with `resume` and without it then writes the files.

    Returns:
        The tidy table. What it comes to is in ``frame.attrs["document"]``. Of a shard, its rows.

    Raises:
        InputError: as `ltkit.studies._running.run`.
    """
    import pandas as pd

    from ltkit.studies import _running

    folder = Path(f"study-{name}" if output is None else output)
    given = Given(form, seed, folder, features, images, device)
    document = _running.run(
        name, given, resume=resume, overwrite=overwrite, command=COMMAND,
        shard=None if shard is None else Shard.of(shard),
    )  # fmt: skip
    frame = pd.DataFrame(document["rows"], columns=document["columns"])
    frame.attrs["document"] = document
    return frame
