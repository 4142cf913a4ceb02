"""What was recommended, as the page tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeGuard

from ltkit.evaluation import Entry
from ltkit.recommendation import ship
from ltkit.records import FeatureSet

KEYS = ("label", "keep", "reason", "wins")
"""What of a choice a page tells."""


@dataclass(frozen=True)
class Advice:
    """A choice made on validation data.

    entry: place of its correction among those of the page.
    label: of the choice: its method and what distinguishes its settings.
    keep: whether the model is to be kept as it is.
    reason: why, in a few words.
    wins: share of the folds in which its method is chosen; None without folds.
    command: what ships it; empty where there is nothing to ship.
    document: the whole recommendation, or what its file keeps of it; None where nothing is known.
    """

    entry: int
    label: str
    keep: bool
    reason: str
    wins: float | None
    command: str = ""
    document: Mapping[str, Any] | None = None


def of_document(document: Mapping[str, Any], entry: int, command: str = "") -> Advice:
    """Return what a recommendation says of one of the entries."""
    choice = document["choice"]
    keep = choice["keep"]
    command = "" if keep else command
    return Advice(
        entry, choice["label"], keep, choice["reason"], choice["wins"], command, document
    )  # fmt: skip


def stored(
    files: Sequence[Mapping[str, Any]], entries: Sequence[Entry], features: FeatureSet
) -> Advice | None:
    """Return the choice that the first file with one holds; None where none does.

    Args:
        files: from `ltkit.reporting.source.provenance`.
        entries: corrections, of these files.
        features: that they correct.
    """
    settings = {file["file"]: file["settings"] for file in files}
    for place, entry in enumerate(entries):
        choice = settings.get(entry.file, {}).get("choice")
        if _sound(choice):
            label, keep, reason, wins = (choice[key] for key in KEYS)
            command = "" if keep else ship(entry.network or features, entry.file)
            estimate = settings[entry.file].get("estimate")
            document = estimate if _sound_estimate(estimate) else None
            return Advice(place, label, keep, reason, wins, command, document)
    return None


def _sound_estimate(found: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a file's settings hold an estimate as ``ltkit recommend`` writes it."""
    try:
        other = found["runner_up"]
        numbers = [found["n"], found["folds"]["folds"], found["folds"]["repeats"]]
        for low, high in filter(None, (found["objective_interval"], other and other["interval"])):
            numbers += [low, high]
        numbers += [limit["least"] for limit in found["limits"]]
        texts = [found["objective"], *(limit["group"] for limit in found["limits"])]
        if found["objective_gain"] is not None:
            numbers.append(found["objective_gain"])
        if other is not None:
            numbers += [other["behind"], other["within_noise"]]
            texts.append(other["label"])
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    finite = all(isinstance(number, int | float) and isfinite(number) for number in numbers)
    return finite and all(isinstance(text, str) for text in texts)


def _sound(choice: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a file's settings hold a choice as ``ltkit recommend`` writes it.

    Example:
        >>> _sound({"label": "m", "keep": False, "reason": "", "wins": 0.5}), _sound({"keep": 1})
        (True, False)
    """
    if not isinstance(choice, dict) or not all(key in choice for key in KEYS):
        return False
    label, keep, reason, wins = (choice[key] for key in KEYS)
    if not (isinstance(label, str) and isinstance(keep, bool) and isinstance(reason, str)):
        return False
    return wins is None or (isinstance(wins, int | float) and 0 <= wins <= 1)
