"""What a fit learned about classes: combinations, accuracies and mistakes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError, SettingError, listed, nearest
from ltkit.evaluation import Entry, pick, predict_classes, settings_of
from ltkit.evaluation.analysis import ClassChange, class_changes, mean_and_std
from ltkit.records import ClassTable, Correction, FeatureSet

NAMED = 3
"""Most files named in a message."""


def explain_fit(
    features: FeatureSet,
    entries: Sequence[Entry],
    *,
    classes: Sequence[str] = (),
    most: int = 10,
    rho: float | None = None,
    run: Mapping[str, float] | None = None,
    split: str = "test",
) -> dict[str, Any]:
    """Describe what a fit learned, as ``ltkit alphanet show`` does.

    Args:
        features: with a head.
        entries: corrections of it, one of them a fit.
        classes: names or ids of corrected classes; empty: those whose accuracy changed most.
        most: how many of those, 0 for all.
        rho: rho of the runs, if the fit has several.
        run: settings of a single run, as ``{"seed": 0}``; empty: all seeds.
        split: split for the accuracies and mistakes.

    Returns:
        The document of ``ltkit alphanet show --json``; the command's help has its keys.

    Raises:
        InputError: when there is no fit or more than one, several settings or none, an unknown
            class or one that is not corrected, an absent split.
    """
    entry = _only_fit(features.source, entries)
    correction, table = entry.correction, features.classes
    runs = _runs_of(entry, rho, run or {})
    wanted = [class_of(text, table, correction, entry.file) for text in classes]
    data, base = features.split(split), features.classifier()
    (before,), after = predict_classes(data, base, [Correction.baseline(base), correction])
    changes = class_changes(
        correction,
        runs,
        base,
        before,
        after[runs],
        data.labels,
        wanted or correction.learned_class,
    )
    if not wanted:
        changes.sort(key=lambda c: -abs(c.accuracy[1:].mean() - c.accuracy[0]) if c.samples else 0)
        changes = changes[: most or None]
    return {
        "schema": "ltkit.alphanet-show/1", "features": features.source, "fit": entry.file,
        "split": split,
        "settings": {k: v for k, v in correction.runs[runs[0]].items() if run or k != "seed"},
        "runs": len(runs), "rows": [_row(change, table) for change in changes],
    }  # fmt: skip


def _only_fit(source: str, entries: Sequence[Entry]) -> Entry:
    """Return the only AlphaNet fit among the corrections."""
    fits = [
        entry for entry in entries
        if {"alpha", "neighbor"} <= entry.correction.learned.keys()
        and all({"metric", "k", "rho", "seed"} <= run.keys() for run in entry.correction.runs)
    ]  # fmt: skip
    if len(fits) == 1:
        return fits[0]
    if not fits:
        looked = _named(entries) or "no correction beside it"
        raise InputError(
            f"{source}: found {looked}, expected what alphanet fit wrote; fit one, or name it"
        )
    raise InputError(f"{source}: found {len(fits)} fits, expected one; name it: {_named(fits)}")


def _named(entries: Sequence[Entry]) -> str:
    """Return the files of the first entries, and how many more there are."""
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return f"{', '.join(entry.file for entry in entries[:NAMED])}{more}"


def _runs_of(entry: Entry, rho: float | None, run: Mapping[str, float]) -> list[int]:
    """Return the runs of one setting, or the single run asked for."""
    if run:
        return [pick(entry.correction, {**run} | ({} if rho is None else {"rho": rho}))]
    found = [
        (settings, runs)
        for settings, runs in settings_of(entry.correction)
        if rho is None or settings["rho"] == rho
    ]
    if len(found) != 1:
        rhos = dict.fromkeys(f"{r['rho']:g}" for r in entry.correction.runs)
        asked = "several rho" if rho is None else f"no rho {rho:g}"
        raise InputError(f"{entry.file}: found {asked}; choose one rho of {listed(rhos)}")
    return found[0][1]


def class_of(text: str, classes: ClassTable, correction: Correction, file: str) -> int:
    """Return the corrected class with a name or id; if it could be both, the name wins.

    Raises:
        SettingError: for an unknown class, a name of several, or one that is not corrected.
    """
    names, count = classes.names or (), len(classes)
    same = [c for c, name in enumerate(names) if name == text]
    if not same and text.isascii() and text.isdigit() and int(text) < count:
        same = [int(text)]
    if not same:
        hint = nearest(text, set(names)) if names else f"ids are 0 to {count - 1}"
        if hint.startswith("there are"):
            hint = f"expected a class name or an id from 0 to {count - 1}"
        raise SettingError("class", f"found {text!r}; {hint}")
    if len(same) > 1:
        raise SettingError(
            "class",
            f"found {len(same)} classes named {text!r}; give one's id: {listed(same)}",
        )
    corrected = correction.learned_class
    if same[0] not in corrected:
        as_those = "".join(f", as {classes.name(int(c))}" for c in corrected[:1])
        raise SettingError(
            "class",
            f"{text!r} is not among the {len(corrected)} classes that {file} corrects{as_those}",
        )
    return same[0]


def _row(change: ClassChange, classes: ClassTable) -> dict[str, Any]:
    """Return the description of a class."""
    mean, std = mean_and_std(change.alpha)
    combination = [
        {
            "class": int(c), "name": classes.name(int(c)), "alpha": float(mean[m]),
            "std": None if np.isnan(std[m]) else float(std[m]), "runs": int(change.used[m]),
        }
        for m, c in enumerate(change.neighbor)
    ]  # fmt: skip
    mistakes = [
        {"class": int(c), "name": classes.name(int(c))} | _three(change.mistakes[:, w])
        for w, c in enumerate(change.mistaken)
    ]
    return {
        "class": change.class_id, "name": classes.name(change.class_id),
        "train_count": int(classes.train_count[change.class_id]), "samples": change.samples,
        "combination": combination, "bias": _three(change.bias),
        "accuracy": _three(change.accuracy),
        "mistakes": sorted(mistakes, key=lambda m: -max(m["before"], m["after"])),
    }  # fmt: skip


def _three(values: Any) -> dict[str, Any]:
    """Return a value before, and its mean and standard deviation over runs after."""
    mean, std = mean_and_std(values[1:])
    parts = {"before": values[0], "after": mean, "std": std}
    return {name: None if np.isnan(v) else float(v) for name, v in parts.items()}
