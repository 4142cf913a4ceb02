"""A comparison in one or two sentences: who is ahead of whom, and by how much."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TOLD = 4
"""Most corrections named with one verdict."""

VERDICTS = {"ahead": "is ahead of {} by", "noise": "is within noise of {}:",
            "behind": "is behind {} by", "unsure": "has no interval to {}:"}  # fmt: skip
"""What is said of a correction and the one that it is compared with."""

Gap = tuple[float, Sequence[float | None] | None]
"""A difference, and its 95 % interval: a bound that is None has no end."""


class _Compared(NamedTuple):
    """What the sentences are about.

    heading: which accuracy is compared.
    reference: the correction that the others are compared with.
    values: the accuracy of each by name; None where it does not get there.
    gaps: first minus second, by their names.
    """

    heading: str
    reference: str
    values: Mapping[str, float | None]
    gaps: Mapping[tuple[str, str], Gap]


def conclusion(document: Mapping[str, Any]) -> str:
    """Return what a comparison comes to, in words.

    Corrections are compared by their few-shot accuracy at the overall accuracy of the one that they
    are compared with, the baseline without another; without few-shot classes, by overall accuracy.

    Args:
        document: of `ltkit.evaluation.compare`.
    """
    compared = _at_equal_accuracy(document) or _overall(document)
    heading, reference, values, gaps = compared
    reached = {n: v for n, v in values.items() if n != reference and v is not None}
    others = sorted(reached, key=lambda name: -reached[name])
    found: dict[str, dict[str, Gap]] = {verdict: {} for verdict in VERDICTS}
    for name in others:
        gap = gaps[name, reference]
        found[_verdict(gap)][name] = gap
    told = [_told(verdict, of, reference) for verdict, of in found.items() if of]
    beyond = [name for name in values if values[name] is None]
    if beyond:
        told.append(f"{_listed(beyond)} {'do' if len(beyond) > 1 else 'does'} not reach it")
    text = f"{heading}: {'; '.join(told)}."
    return f"{text}{_of_the_next(others, gaps)}"


def _of_the_next(others: Sequence[str], gaps: Mapping[tuple[str, str], Gap]) -> str:
    """Return a sentence on the best and the next of them, where they are compared."""
    if len(others) < 2 or (others[0], others[1]) not in gaps:
        return ""
    best, other, *_ = others
    gap = gaps[best, other]
    verdict = _verdict(gap)
    comma = "," if VERDICTS[verdict].endswith("by") else ""
    return f" {_told(verdict, {best: gap}, f'the next, {other}{comma}')}."


def _at_equal_accuracy(document: Mapping[str, Any]) -> _Compared | None:
    """Return the curves' heights at the highest level that the reference and another reach."""
    frontier, methods = document["frontier"], document["methods"]
    if frontier is None:
        return None
    wanted = document["against"]
    reference = methods[0]["name"]
    for method in methods if wanted else ():
        if any(point["label"] == wanted for point in method["points"]):
            reference = method["name"]
    few, levels = frontier["few"], frontier["overall"]
    for number in reversed(range(len(levels))):
        values = {name: heights[number] for name, heights in few.items()}
        there = [name for name, value in values.items() if value is not None]
        if reference in there and len(there) > 1:
            gaps = {
                (g["first"], g["second"]): (g["gap"], g["interval"])
                for g in frontier["gaps"]
                if g["overall"] == levels[number] and g["gap"] is not None
            }
            heading = f"Few-shot accuracy at equal overall accuracy ({100 * levels[number]:g} %)"
            return _Compared(heading, reference, values, gaps)
    return None


def _overall(document: Mapping[str, Any]) -> _Compared:
    standing = [p for m in document["methods"] for p in m["points"] if p["in_pairs"]]
    gaps: dict[tuple[str, str], Gap] = {}
    for pair in document["pairs"]:
        gain, ends = pair["difference"]["all"], pair["interval"]["all"]
        gaps[pair["first"], pair["second"]] = gain, ends
        gaps[pair["second"], pair["first"]] = -gain, ends and [-ends[1], -ends[0]]
    values = {point["label"]: point["accuracy"]["all"] for point in standing}
    return _Compared("Overall accuracy", document["against"] or standing[0]["label"], values, gaps)


def _verdict(gap: Gap) -> str:
    _, ends = gap
    if ends is None:
        return "unsure"
    low, high = ends
    if low is not None and low > 0:
        return "ahead"
    return "behind" if high is not None and high < 0 else "noise"


def _told(verdict: str, found: Mapping[str, Gap], reference: str) -> str:
    """Return a sentence on the corrections of one verdict.

    Example:
        >>> _told("ahead", {"a": (0.05, (0.02, 0.08)), "b": (0.03, (0.01, None))}, "baseline")
        'a is ahead of baseline by 5.0 points (95 % interval 2.0 to 8.0), b by 3.0 (1.0 to ∞)'
    """
    says = VERDICTS[verdict].format(reference)
    link = " by" if says.endswith("by") else ""
    parts = [f"{name}{link} {_points(gap, verdict)}" for name, gap in list(found.items())[:TOLD]]
    first, gap = next(iter(found.items()))
    parts[0] = f"{first} {says} {_points(gap, verdict, ' points', '95 % interval ')}"
    left = len(found) - TOLD
    return ", ".join(parts) + (f", and so {'are' if left > 1 else 'is'} {left} more" * (left > 0))


def _points(gap: Gap, verdict: str, unit: str = "", of: str = "") -> str:
    """Return a difference in points and its interval; those behind, by how much."""
    value, ends = gap
    if verdict == "behind" and ends is not None:
        value, ends = -value, [None if end is None else -end for end in reversed(ends)]
    sign = "+" if verdict in ("noise", "unsure") else ""
    shown = f"{100 * value:{sign}.1f}{unit}"
    if ends is None:
        return shown
    bounds = zip(ends, ("-∞", "∞"), strict=True)
    low, high = (none if end is None else f"{100 * end:{sign}.1f}" for end, none in bounds)
    return f"{shown} ({of}{low} to {high})"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - TOLD
    return ", ".join(names[:TOLD]) + (f" and {more} more" if more > 0 else "")
