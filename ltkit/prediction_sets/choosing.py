"""Which of several sets to ship, by what is wanted of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.settings import SHOT_GROUPS, SetGoal


def best(
    rows: Sequence[Mapping[str, Any]],
    pairs: Sequence[tuple[str, str]],
    goal: SetGoal,
    coverage: float,
) -> tuple[int, str | None]:
    """Return the place of the smallest sets that serve a goal, and a note where none does.

    ``images``: those that guarantee the coverage of all images together. ``groups``: those whose
    coverage reaches it in each shot group, up to one standard error. ``classes``: those that
    guarantee it of each class.

    Args:
        rows: figures of each pair, by cross-fitting.
        pairs: of a score and a threshold.
        goal: see above.
        coverage: the wanted one.

    Example:
        >>> ends = {"few": [0.84, 0.88], "many": [0.9, 0.94]}
        >>> row = {"coverage": {"few": 0.86, "many": 0.92}, "coverage_interval": ends}
        >>> wide = row | {"coverage": {"few": 0.9, "many": 0.92}, "size": {"all": 9.0}}
        >>> rows, pairs = [row | {"size": {"all": 3.0}}, wide], [("aps", "marginal")] * 2
        >>> best(rows, pairs, "groups", 0.9), best(rows, pairs, "images", 0.9)
        ((1, None), (0, None))
    """
    if goal == "classes":
        fit = [threshold == "class-wise" for _, threshold in pairs]
    elif goal == "images":
        fit = [threshold != "interpolated" for _, threshold in pairs]
    else:
        fit = [_reached(row, coverage) for row in rows]
    places = [place for place, fits in enumerate(fit) if fits]
    if places:
        return min(places, key=lambda place: rows[place]["size"]["all"]), None
    if goal == "groups":
        most = max(range(len(rows)), key=lambda place: _lowest(rows[place]))
        return (
            most,
            "no sets reach the coverage in each shot group: those are taken that lack least",
        )
    note = f"none of these guarantees the goal {goal}: the smallest sets are taken"
    return min(range(len(rows)), key=lambda place: rows[place]["size"]["all"]), note


def _reached(row: Mapping[str, Any], coverage: float) -> bool:
    """Return whether each shot group's coverage is reached, up to one standard error."""
    for name in SHOT_GROUPS:
        value, ends = row["coverage"].get(name), row["coverage_interval"].get(name)
        error = 0.0 if ends is None else (ends[1] - ends[0]) / 4
        if value is not None and value + error < coverage:
            return False
    return True


def _lowest(row: Mapping[str, Any]) -> float:
    return min(float(v) for n in SHOT_GROUPS if (v := row["coverage"][n]) is not None)
