"""The answer: what to ship, what it costs, how sure that is, and which rare classes fail."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import metrics
from ltkit.reporting.exhibits import Cell, Exhibit, Row, brief, visible
from ltkit.reporting.numbers import counted, number, numbers, percent, span
from ltkit.reporting.source import Source
from ltkit.reporting.wording import sentences
from ltkit.settings import GROUPS

KEY = "answer"
TITLE = "The answer"

WORST, NAMED, FAILING = 10, 3, 0.2
"""Rare classes in the table; those named in the sentence; accuracy below which one fails."""

MARKS = {"gain": "▲", "loss": "▼", "noise": "≈", "": ""}

Floats = NDArray[np.float64]


def gather(source: Source) -> dict[str, Any]:
    """Return the differences by setting, the worst rare classes, and what was recommended.

    lead: place of what to ship among the settings in detail, 0 for the model's own head; None
        where nothing was chosen.
    """
    lead = _lead(source)
    found = {
        "split": source.subject.split, "n": source.scores["n"], "lead": lead,
        "on_val": [source.on_val[p] for p in source.in_detail] if source.on_val else None,
        "advice": _advice(source),
        "rows": [_row(name, source.scores["rows"][place])
                 for name, place in zip(_names(source), source.in_detail, strict=True)],
        "hurt": _hurt(source, lead) if lead else None,
        "failing": _failing(source, source.accuracy[lead or 0]),
        "worst": _worst(source, lead),
        "command": _command(source), "several": source.several,
    }  # fmt: skip
    return found | {"sentences": sentences(found)}


def _lead(source: Source) -> int | None:
    if source.advice is not None:
        return 0 if source.advice.keep else 1
    if not source.on_val:
        return None
    return int(source.on_val[source.in_detail[1]] > source.on_val[0])


def _names(source: Source) -> list[str]:
    """Return what the settings are called; the recommended one by what it is, not by its file."""
    names = list(source.settings)
    if source.advice is not None and not source.advice.keep:
        names[1] = source.advice.label
    return names


def _advice(source: Source) -> dict[str, Any] | None:
    """Return what the recommendation says of itself."""
    advice = source.advice
    if advice is None:
        return None
    more = advice.document or {}
    return {
        "keep": advice.keep, "reason": advice.reason, "wins": advice.wins,
        "objective": more.get("objective"), "gain": more.get("objective_gain"),
        "interval": more.get("objective_interval"), "runner_up": more.get("runner_up"),
        "limits": more.get("limits", []), "folds": more.get("folds"), "val": more.get("n"),
        "tried": more.get("rows", []),
    }  # fmt: skip


def _command(source: Source) -> str:
    """Return the command that ships what is recommended, or that recommends something."""
    if source.advice is not None:
        return source.advice.command
    return f"ltkit recommend {shlex.quote(str(source.scores['features']))}"


def _row(name: str, row: Mapping[str, Any]) -> dict[str, Any]:
    nothing = dict.fromkeys(GROUPS)
    return {
        "label": name, "accuracy": row["accuracy"],
        "difference": row.get("difference", nothing),
        "interval": row.get("difference_interval", nothing),
    }  # fmt: skip


def _hurt(source: Source, lead: int) -> dict[str, Any] | None:
    """Return how many classes a correction makes worse, and the one that loses most."""
    before, after = source.accuracy[0], source.accuracy[lead]
    change = np.nan_to_num(after - before).round(12)
    if not (change < 0).any():
        return None
    most = int(change.argmin())
    return {
        "count": int((change < 0).sum()), "of": int((~np.isnan(before)).sum()),
        "name": source.names[most], "before": number(before[most]), "after": number(after[most]),
    }  # fmt: skip


def _failing(source: Source, accuracy: Floats) -> dict[str, Any]:
    """Return how many rare classes are below `FAILING`, and the worst of them."""
    order = sorted(source.worst, key=lambda c: (accuracy[c], source.train_count[c]))
    below = [c for c in order if accuracy[c] < FAILING]
    return {
        "below": FAILING, "of": len(order), "count": len(below),
        "worst": [(source.names[c], number(accuracy[c])) for c in below[:NAMED]],
    }  # fmt: skip


def _worst(source: Source, lead: int | None) -> list[dict[str, Any]]:
    """Return the rare classes that are right least often, and what they are taken for."""
    ids = source.worst[:WORST]
    taken = [_taken(source, place, ids) for place in (0, lead or 0)]
    return [
        {
            "class": c, "accuracy": numbers(np.array([row[c] for row in source.accuracy])),
            "before": taken[0][c], "after": taken[1][c],
        }
        for c in ids
    ]  # fmt: skip


def _taken(source: Source, setting: int, ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return, for some classes, [class, images] of the three they are most often taken for."""
    found: dict[int, list[Any]] = {c: [] for c in ids}
    true, predicted, count = metrics.confusions(source.shown[setting], source.subject.labels)
    for place in np.lexsort((predicted, -count)):
        row = found.get(int(true[place]))
        if row is not None and len(row) < NAMED and true[place] != predicted[place]:
            row.append([int(predicted[place]), round(float(count[place]), 1)])
    return found


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the table of methods, that of the worst rare classes, and what was tried on val."""
    exhibits = [_methods(found, source)]
    if found["worst"]:
        exhibits.append(_classes(found, source))
    if found["advice"] and found["advice"]["tried"]:
        exhibits.append(_tried(found["advice"]["tried"]))
    return exhibits


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the groups that there are; the mean over classes only where it is not that of all."""
    own = rows[0]["accuracy"]
    even = all(
        r["accuracy"]["all"] is None or abs(r["accuracy"]["all"] - r["accuracy"]["balanced"]) < 1e-9
        for r in rows
    )
    return [name for name in GROUPS if own[name] is not None and not (even and name == "balanced")]


def _verdict(ends: Sequence[float] | None) -> str:
    """Return whether an interval excludes 0, and on which side.

    Example:
        >>> _verdict([0.1, 0.2]), _verdict([-0.2, -0.1]), _verdict([-0.1, 0.1]), _verdict(None)
        ('gain', 'loss', 'noise', '')
    """
    if ends is None:
        return ""
    return "gain" if ends[0] > 0 else "loss" if ends[1] < 0 else "noise"


def _cell(value: float | None, ends: Sequence[float] | None) -> Cell:
    if value is None:
        return Cell("–")
    mark = _verdict(ends)
    return Cell(f"{MARKS[mark]} {percent(value, '+')}\n{span(ends, '+')}".strip(), mark)


def _methods(found: Mapping[str, Any], source: Source) -> Exhibit:
    columns, sizes, first = _columns(found["rows"]), source.scores["groups"], found["rows"][0]
    heads = [f"{n}\n{counted(sizes[n], 'class', 'classes')}" if n in sizes else n for n in columns]
    cells: list[list[str | Cell]] = [["method", *heads]]
    cells.append([
        _head(found, 0), *(f"{percent(first['accuracy'][name])} %" for name in columns)
    ])  # fmt: skip
    cells += [
        [_head(found, place), *(_cell(row["difference"][n], row["interval"][n]) for n in columns)]
        for place, row in enumerate(found["rows"][1:], start=1)
    ]
    rows: list[Row] = [
        [r["label"], n, r["accuracy"][n], r["difference"][n], *(r["interval"][n] or (None, None)),
         _verdict(r["interval"][n])]
        for r in found["rows"] for n in columns
    ]  # fmt: skip
    who = "other networks change" if found["several"] else "each correction changes"
    return Exhibit(
        "answer", f"What {who}, on {found['split']}",
        "First row: accuracy in %; below: points more or less than that, with the 95 % interval "
        "for new images and seeds. ▲ gain and ▼ loss: the interval excludes 0; ≈: within noise. "
        f"few: below {source.scores['bins'][0]} training images; many: above "
        f"{source.scores['bins'][1]}.",
        ("setting", "group", "accuracy", "difference", "low", "high", "verdict"), rows, cells=cells,
    )  # fmt: skip


def _head(found: Mapping[str, Any], place: int) -> Cell:
    """Return a row's head, marked for what to ship."""
    text = visible(found["rows"][place]["label"])
    if place != found["lead"] or len(found["rows"]) == 1:
        return Cell(text)
    said = "keep" if place == 0 else "recommended" if found["advice"] else "best on val"
    return Cell(f"{text}\n★ {said}", "lead")


def _classes(found: Mapping[str, Any], source: Source) -> Exhibit:
    """Return the table of the worst rare classes."""
    settings, worst, split = [row["label"] for row in found["rows"]], found["worst"], found["split"]
    heads: list[str | Cell] = [
        "class",
        "images",
        f"{visible(settings[0])}: right",
        "taken for most",
    ]
    heads += [_head(found, place) for place in range(1, len(settings))]
    if found["lead"]:
        heads.insert(5, "★ then taken for")
    group = source.group[worst[0]["class"]]
    one = "The worst rare class, and where its images go"
    more = f"The {len(worst)} worst rare classes, and where their images go"
    return Exhibit(
        "worst", one if len(worst) == 1 else more,
        f"Classes of the group {group} that the model is right on least often: the share of its "
        f"{split} images that is right, what the others are taken for, with their number, and the "
        f"share that is right with each {'network' if found['several'] else 'correction'}, with "
        "the change in points. A single class has few images: a change here is no proof.",
        ("class", "name", "train_count", "samples", "setting", "accuracy", "change", "taken_for"),
        [line for row in worst for line in _values(row, settings, source)],
        cells=[heads, *(_class(row, found, source) for row in worst)],
    )  # fmt: skip


def _class(row: Mapping[str, Any], found: Mapping[str, Any], source: Source) -> list[str | Cell]:
    """Return the cells of a rare class."""
    c, (own, *after) = row["class"], row["accuracy"]
    images = f"{source.train_count[c]} train\n{source.samples[c]} {found['split']}"
    line: list[str | Cell] = [
        brief(source.names[c]), images, f"{percent(own)} %", _targets(row["before"], source),
        *(f"{percent(a)} %\n{percent(a - own, '+')}" for a in after),
    ]  # fmt: skip
    if found["lead"]:
        line.insert(5, _targets(row["after"], source))
    return line


def _values(row: Mapping[str, Any], settings: Sequence[str], source: Source) -> list[Row]:
    """Return the lines of a rare class in the CSV, one for each setting."""
    c, own = row["class"], row["accuracy"][0]
    taken = "; ".join(f"{brief(source.names[other])} {n:g}" for other, n in row["before"])
    return [
        [c, source.names[c], source.train_count[c], source.samples[c], setting, a,
         round(a - own, 6), taken]
        for setting, a in zip(settings, row["accuracy"], strict=True)
    ]  # fmt: skip


def _targets(taken: Sequence[Sequence[Any]], source: Source) -> str:
    return "\n".join(f"{brief(source.names[c], 24)} {n:g}" for c, n in taken) or "–"


def _tried(tried: Sequence[Mapping[str, Any]]) -> Exhibit:
    """Return the table of the methods that the recommendation tried."""
    columns = [name for name in GROUPS[:-1] if tried[0]["gain"][name] is not None]
    order = sorted(tried, key=lambda row: -row["objective_gain"])
    cells: list[list[str | Cell]] = [["method", *columns, "chosen in"]]
    cells += [
        [visible(r["label"]) + ("" if r["within_limits"] else "\nnot within the limits"),
         *(_cell(r["gain"][n], r["interval"][n]) for n in columns), f"{100 * r['wins']:.0f} %"]
        for r in order
    ]  # fmt: skip
    rows = [
        [r["label"], n, r["gain"][n], *(r["interval"][n] or (None, None)), r["wins"]]
        for r in order for n in columns
    ]  # fmt: skip
    return Exhibit(
        "tried", "What was tried on val",
        "Every method, each with its setting chosen inside the folds: points gained on the val "
        "images that the choice was not made on, and the share of the folds that chose it.",
        ("setting", "group", "gain", "low", "high", "wins"), rows, cells=cells,
    )  # fmt: skip
