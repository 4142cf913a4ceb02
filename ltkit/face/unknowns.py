"""Classes that a head does not know, as a call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltkit import open_set
from ltkit.evaluation.named import classifier_of
from ltkit.files.bases import Start, with_base
from ltkit.records import FeatureSet
from ltkit.settings import KNOWN_KEPT, NOVELTY_NEIGHBORS, REPLICATES

if TYPE_CHECKING:
    import pandas as pd


def novelty(
    features: FeatureSet,
    classifier: Start | None = None,
    *,
    outsiders: FeatureSet | str | Path | None = None,
    of: str | None = None,
    hold_out: Sequence[int] | None = None,
    split: str = "test",
    k: int = NOVELTY_NEIGHBORS,
    kept: float = KNOWN_KEPT,
    bins: Sequence[int] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    run: Mapping[str, float] | None = None,
    base: Start | None = None,
) -> "pd.DataFrame":
    """Say how well samples of new classes are told, and how many rare ones are taken for new.

    Args:
        features: with train, of the known classes.
        classifier: whose logits are looked at, a correction, or its file; None: the head.
        outsiders: features of new classes by the same network, or their file.
        of: their split; None: test, or the only one.
        hold_out: ids of classes that stand for new ones instead.
        split: of the known samples.
        k: which nearest training sample tells how new a sample is.
        kept: share of known samples that the threshold keeps.
        bins: bounds of the medium shot group; None: the file's own.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        run: of a correction with several runs, the settings of the one that is meant.
        base: a classifier in the place of the head, or its file.

    Returns:
        A row for each score; columns auroc, fpr (share of outsiders taken for known), the share of
        each group of known samples that is taken for novel, threshold and f_measure, as fractions.
        ``frame.attrs["document"]`` is what ``ltkit analyze novelty --json`` prints.

    Raises:
        FormatError: when a file is not sound.
        InputError: for settings out of range, without train, or outsiders of another network or of
            known classes.
    """
    import pandas as pd

    from ltkit.face.inputs import read

    features = with_base(features, base)
    judged, notes = classifier_of(features, classifier, run)
    other = read(outsiders) if isinstance(outsiders, str | Path) else outsiders
    document = open_set.novelty(
        features, judged, outsiders=other, of=of, hold_out=hold_out, split=split, k=k, kept=kept,
        bins=bins, replicates=replicates, seed=seed,
    )  # fmt: skip
    document["notes"] = [*notes, *document["notes"]]
    rows = [
        {"auroc": row["auroc"], "fpr": row["fpr"], **row["taken_for_novel"],
         "threshold": row["threshold"], "f_measure": row["f_measure"]}
        for row in document["scores"]
    ]  # fmt: skip
    frame = pd.DataFrame(rows, index=[row["score"] for row in document["scores"]])
    frame.attrs["document"] = document
    return frame
