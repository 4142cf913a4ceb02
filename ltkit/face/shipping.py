"""Bundles as calls: what is shipped, and whether it still does what it did."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ltkit.abstention import Abstention
from ltkit.bundles import RULES, Bundle, Wanted
from ltkit.bundles import check as _check
from ltkit.bundles import read as _read
from ltkit.bundles import write as _write
from ltkit.errors import InputError
from ltkit.face.arrays import COMMAND
from ltkit.files import features as features_file
from ltkit.files import rules as rules_file
from ltkit.files.bases import Start, with_base
from ltkit.prediction_sets import Conformal
from ltkit.records import Correction, FeatureSet, Rule
from ltkit.settings import FALSE_ALARM

if TYPE_CHECKING:
    import pandas as pd


def bundle(
    features: FeatureSet,
    correction: Correction | None,
    output: str | Path,
    *,
    rules: Sequence[Rule | Conformal | Abstention | str | Path] = (),
    split: str = "test",
    run: int = 0,
    checkpoint: str | Path | None = None,
    bins: Sequence[int] | None = None,
    base: Start | None = None,
) -> Bundle:
    """Write a folder to ship, as ``ltkit export --bundle`` does: head, rules, card, figures.

    Args:
        features: that the correction was made on, with the split.
        correction: of their head; None: the head as it is.
        output: the folder, a new one.
        rules: thresholds or a rejector of the corrected classifier, what made them, or their files.
        split: whose samples it is measured on.
        run: of the correction.
        checkpoint: the model that the head is written into; None: the head goes alone.
        bins: bounds of the medium shot group; None: the file's own.
        base: a classifier in the place of the head, or its file.

    Raises:
        InputError: when something is there, or as `ltkit.bundles.write`.
    """
    features = with_base(features, base)
    one = Correction.whole("baseline", features.classifier()) if correction is None else correction
    wanted = Wanted(
        one.only([run]), rules=[_rule(rule) for rule in rules], split=split, bins=bins,
        checkpoint=None if checkpoint is None else Path(checkpoint),
    )  # fmt: skip
    return _write(Path(output), features, wanted, command=COMMAND)


def _rule(given: Rule | Conformal | Abstention | str | Path) -> Rule:
    """Return a rule, by itself, of what made it, or of its file.

    Raises:
        InputError: for a file of another kind, or where no rejector was asked for.
    """
    if isinstance(given, str | Path):
        return rules_file.read(Path(given), *RULES)
    found = given if isinstance(given, Rule) else given.rule
    if found is None:
        raise InputError("rules: found curves without a rejector; give them a budget or a risk")
    return found


def check(
    bundle: Bundle | str | Path,
    features: FeatureSet | str | Path,
    *,
    split: str = "test",
    figures: Sequence[str] = (),
    false_alarm: float = FALSE_ALARM,
) -> "pd.DataFrame":
    """Measure a bundle again on new labelled features, as ``ltkit check`` does.

    Args:
        bundle: or its folder.
        features: of the same network, on other images, or their file.
        split: of them.
        figures: those that are judged, as ``accuracy few``; none: all.
        false_alarm: chance that something fell though nothing has changed.

    Returns:
        A row for each figure: before, now, difference, low, high and fell; the document is under
        ``frame.attrs["document"]``.

    Raises:
        InputError: when the features are of another model, or as `ltkit.bundles.check`.
        SettingError: when the chance is out of its range.
    """
    import pandas as pd

    if isinstance(features, str | Path):
        features = features_file.read(Path(features))
    held = bundle if isinstance(bundle, Bundle) else _read(Path(bundle))
    document = _check(held, features, split, figures=figures, false_alarm=false_alarm)
    rows = [
        {name: row[name] for name in ("before", "now", "difference")}
        | {"low": row["interval"][0], "high": row["interval"][1], "fell": row["fell"]}
        for row in document["rows"]
    ]
    frame = pd.DataFrame(rows, index=[row["figure"] for row in document["rows"]])
    frame.attrs["document"] = document
    return frame
