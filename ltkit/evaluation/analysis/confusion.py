"""Confusions of settings side by side, by shot group and by pair: ``ltkit analyze confusion``."""

from collections.abc import Sequence
from typing import Any

from ltkit.errors import SettingError, nearest
from ltkit.evaluation.analysis.subject import Subject
from ltkit.evaluation.confusion import group_confusions, pair_rows


def analyze_confusion(
    subject: Subject, *, of: str | None = None, count: int = 25
) -> dict[str, Any]:
    """Return which shot groups and which pairs of classes each setting confuses.

    Args:
        subject: from `observe`; with several networks, of all of them.
        of: label of the setting whose most confused pairs are listed; None: the model's own head.
        count: how many pairs.

    Returns:
        The document of ``analyze confusion --json``.

    Raises:
        SettingError: for a label that there is none of, or more than one.
    """
    settings = [subject.features.baseline, *(case.label for case in subject.cases)]
    place = 0 if of is None else _place(of, settings)
    predicted = [subject.before[None], *(case.predicted for case in subject.cases)]
    tables = [group_confusions(rows, subject.labels, subject.groups) for rows in predicted]
    return {
        "schema": "ltkit.analyze-confusion/1", **subject.described,
        "n": len(subject.labels), "of": settings[place], "settings": settings,
        "groups": tables[0][0],
        "by_group": [table.tolist() for _, table in tables],
        "pairs": pair_rows(predicted, subject.labels, subject.classes, place, count),
    }  # fmt: skip


def _place(wanted: str, settings: Sequence[str]) -> int:
    """Return the place of the one setting of that name; baseline is the first, whatever its name.

    Raises:
        SettingError: when there is none, or more than one.
    """
    if settings.count(wanted) == 1:
        return settings.index(wanted)
    if wanted == "baseline":
        return 0
    said = f"found {wanted!r}, expected one of the settings; {nearest(wanted, settings)}"
    raise SettingError("of", said)
