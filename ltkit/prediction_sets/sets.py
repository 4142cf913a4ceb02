"""Sets of classes: a rule's thresholds applied to features or logits, block by block."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.evaluation.probabilities import AT_ONCE, logit_blocks, softmax
from ltkit.prediction_sets.scores import SCORES, Score
from ltkit.records import Classifier, FeatureSplit, Ints, Rule, blocks
from ltkit.settings import RANGES, ConformalSettings

Floats = NDArray[np.float64]

KIND = "sets"
"""Of the rule files."""


@dataclass(frozen=True, eq=False)
class Sets:
    """A score, and the threshold up to which a class is in a set.

    thresholds: (C,), infinite for a class that is in every set.
    """

    score: Score
    thresholds: Floats

    def members(self, logits: Floats) -> NDArray[np.bool_]:
        """Return (B, C) which classes are in the sets, from (B, C) float64 logits, which change."""
        found: NDArray[np.bool_] = self.score.of(softmax(logits)) <= self.thresholds
        return found


def content_of(sets: Sets, told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a rule file.

    Args:
        sets: what it applies.
        told: what else it says.
    """
    score = sets.score
    return {
        "score": score.name, "penalty": score.penalty, "free": score.free,
        "prior": score.prior.tolist() if score.name == "pas" else None,
        "thresholds": [None if np.isinf(t) else float(t) for t in sets.thresholds],
        **told,
    }  # fmt: skip


def read_content(rule: Rule) -> Sets:
    """Return the sets of a rule.

    Raises:
        InputError: for a rule of another kind.
        FormatError: when the content is not sound.
    """
    if rule.kind != KIND:
        raise InputError(f"{rule.source}: is a rule of {rule.kind}, expected {KIND}; check it")
    content, size = rule.content, rule.num_classes
    name = next((known for known in SCORES if known == content.get("score")), None)
    if name is None:
        raise _wrong(rule, "score", content.get("score"), f"one of {', '.join(SCORES)}")
    penalty = content.get("penalty", ConformalSettings.rank_penalty)
    free = content.get("free", ConformalSettings.free_ranks)
    for field, value, like in (("penalty", penalty, "rank_penalty"), ("free", free, "free_ranks")):
        if not _number(value) or value not in RANGES[like]:
            raise _wrong(rule, field, value, str(RANGES[like]))
    limits = _numbers(rule, "thresholds", size, lambda v: v is None or _number(v))
    prior = [1.0] * size
    if name == "pas":
        prior = _numbers(rule, "prior", size, lambda v: _number(v) and 0 < v <= 1)
    thresholds = np.array([inf if limit is None else limit for limit in limits], np.float64)
    return Sets(Score(name, np.array(prior, np.float64), float(penalty), int(free)), thresholds)


def predict_sets(split: FeatureSplit, classifier: Classifier, rule: Rule) -> list[Ints]:
    """Return the set of each sample: class ids, the most likely first.

    Args:
        split: N samples.
        classifier: the one that the rule is for.
        rule: of `ltkit.conformal`.

    Raises:
        InputError, FormatError: as `read_content`.
    """
    sets = read_content(rule)
    return [one for _, logits, _ in logit_blocks(split, classifier) for one in _of(sets, logits)]


def sets_of_logits(logits: NDArray[Any], rule: Rule) -> list[Ints]:
    """Return the set of each row of (N, C) logits, as `predict_sets`.

    Raises:
        InputError: for logits of other classes, or that are not finite; else as `read_content`.

    Example:
        >>> content = {"score": "softmax", "thresholds": [0.5, None, 0.9]}
        >>> rule = Rule("sets", content, "", 3)
        >>> logits = np.log([[0.6, 0.1, 0.3], [0.2, 0.3, 0.5]])
        >>> [one.tolist() for one in sets_of_logits(logits, rule)]  # scores 0.4, 0.9, 0.7, ...
        [[0, 2, 1], [2, 1]]
    """
    if logits.ndim != 2 or logits.shape[1] != rule.num_classes:
        raise InputError(
            f"logits: found {logits.shape}, expected a column for each of the {rule.num_classes} "
            f"classes of {rule.source}"
        )
    if logits.dtype.kind not in "iuf" or not np.isfinite(logits).all():
        raise InputError("logits: found NaN, infinity or no numbers, expected finite numbers")
    return list(_rows(read_content(rule), logits))


def _rows(sets: Sets, logits: NDArray[Any]) -> Iterator[Ints]:
    for part in blocks(len(logits), max(1, AT_ONCE // (8 * logits.shape[1]))):
        yield from _of(sets, logits[part].astype(np.float64))


def _of(sets: Sets, logits: Floats) -> Iterator[Ints]:
    """Yield the set of each row, the most likely class first."""
    order = np.argsort(-logits, axis=1, kind="stable")
    members = np.take_along_axis(sets.members(logits), order, axis=1)
    for ids, inside in zip(order, members, strict=True):
        yield ids[inside].astype(np.int64)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(rule: Rule, field: str, size: int, sound: Callable[[Any], bool]) -> list[Any]:
    """Return a list of C numbers from a rule's content.

    Raises:
        FormatError: when it is another.
    """
    found = rule.content.get(field)
    if not isinstance(found, list) or len(found) != size or not all(map(sound, found)):
        raise _wrong(rule, field, found, f"a number for each of {size} classes")
    return found


def _wrong(rule: Rule, field: str, found: object, expected: str) -> FormatError:
    return FormatError(
        f"{rule.source}: content: {field}: found {str(found)[:60]}, expected {expected}; make the "
        "file again"
    )
