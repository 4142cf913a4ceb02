"""What a diagnosis says to a person."""

from collections.abc import Mapping
from typing import Any

MEANING = {
    "prior": "the head favours frequent classes",
    "rows": "its row points elsewhere",
    "confusion": "it overlaps with frequent classes near it",
    "separation": "the features do not tell it apart",
}
"""Of each cause, in a few words."""

MENDS = {
    "prior": "offsets mend it: ltkit posthoc logit-adjust or bias, or a loss with a prior",
    "rows": "rows made anew mend it: ltkit posthoc blend, crt or alphanet-plus, or ltkit alphanet "
    "fit",
    "confusion": "no linear head tells these apart: merge them, show both, or train the features "
    "anew with more images of the pair",
    "separation": "no head mends it: train the features anew, with more images or self-supervision",
}
"""Which corrections can help."""

UNSURE = 0.95
"""Share of replicates below which the cause is said to be unsure."""


def answer(document: Mapping[str, Any]) -> list[str]:
    """Return the lines that a person reads first."""
    few = len(document["classes"])
    head = f"error of {few} rare class{'es' * (few != 1)}: {_points(document, 'error')}"
    lines = [f"{head} ({document['split']}, out of fold)"]
    for cause, meaning in MEANING.items():
        value, ends = document["parts"][cause], document["intervals"][cause]
        lines.append(f"  {cause:<11}{_told(value, ends):<22} {meaning}")
    offset = document["offset"]
    lines.append(
        f"offsets give these classes {100 * offset['gained']:.1f} points and take "
        f"{100 * offset['taken']:.1f} from frequent ones: the second is overlap, not prior"
    )
    return [*lines, conclusion(document)]


def conclusion(document: Mapping[str, Any]) -> str:
    """Return the main cause, how sure it is, and what can mend it.

    Example:
        >>> conclusion({"cause": None})
        'no rare class has an error: nothing to mend'
        >>> conclusion({"cause": "separation", "sure": None}).split(":")[0]
        'mostly separation (too few images to say how sure)'
    """
    cause = document["cause"]
    if cause is None:
        return "no rare class has an error: nothing to mend"
    sure = document["sure"]
    told = "too few images to say how sure"
    if sure is not None:
        told = f"the largest in {100 * sure:.0f} % of resamples"
        told += ": unsure" * (sure < UNSURE)
    return f"mostly {cause} ({told}): {MENDS[cause]}"


def _points(document: Mapping[str, Any], key: str) -> str:
    return _told(document[key], document["interval"])


def _told(value: float, ends: list[float] | None) -> str:
    """Return a fraction in per cent, with its interval."""
    if ends is None:
        return f"{100 * value:5.1f} [no interval]"
    return f"{100 * value:5.1f} [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
