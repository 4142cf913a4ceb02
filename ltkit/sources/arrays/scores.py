r"""Features that are a model's outputs: logits, or probabilities, whose log is taken.

Softmax probabilities p are logits but for a constant,
:math:`\log p_c = z_c - \log \sum_j e^{z_j}`,
so every correction of logits is right on their log, and none is on p itself. Those of a softmax
with a temperature T give logits divided by T: a tau chosen on validation data takes that in.
Outputs of a sigmoid give their logits by :math:`\log p - \log (1 - p)`; of two classes one output
is enough.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import SettingError
from ltkit.sources.arrays.stored import Stored

SMALL = 1e-4
"""What zeros among probabilities count as at most, where the least positive one is larger."""

TOLERANCE = 2e-3
"""How far a row of probabilities may be from its sum: half precision, and four printed digits."""

PER_CENT = 100.0

Change = Callable[[NDArray[Any]], NDArray[Any]]


def as_they_are(block: NDArray[Any]) -> NDArray[Any]:
    """Return a block as it is."""
    return block


class _Seen:
    """What all rows together look like."""

    def __init__(self, stored: Mapping[str, Stored]) -> None:
        self.least, self.most, self.zeros, self.smallest = np.inf, -np.inf, 0, np.inf
        self.sums, self.far = dict[str, tuple[float, float]](), np.inf
        for split, array in stored.items():
            low, high = np.inf, -np.inf
            for block in _blocks(array):
                if not len(block):
                    continue
                sums = block.sum(axis=1)
                low, high = min(low, float(sums.min())), max(high, float(sums.max()))
                self.least = min(self.least, float(block.min()))
                self.most = max(self.most, float(block.max()))
                self.zeros += int((block == 0).sum())
                positive = block[block > 0]
                self.smallest = min(self.smallest, float(positive.min(initial=np.inf)))
            if high >= low:
                self.sums[split] = low, high

    def sums_to(self, total: float) -> list[str]:
        """Return the splits whose rows all sum to a number."""
        near = TOLERANCE * total
        return [
            split for split, (low, high) in self.sums.items()
            if total - near <= low and high <= total + near
        ]  # fmt: skip


def _blocks(stored: Stored) -> Iterator[NDArray[np.float64]]:
    for block in stored.rows():
        yield block.astype(np.float64)


def of_outputs(
    stored: Mapping[str, Stored], asked: str, num_classes: int, notes: list[str]
) -> Change:
    """Return what makes logits of outputs that are as many as the classes; say what they are.

    Args:
        stored: the features of each split, (N, C), or (N, 1) of a sigmoid and two classes.
        asked: what the user says they are: ``auto``, ``logits``, ``probabilities`` or ``sigmoid``.
        num_classes: C.
        notes: takes what was assumed.

    Raises:
        InputError: when they are not what the user says, or may be several things.
    """
    if asked == "logits":
        return as_they_are
    seen = _Seen(stored)
    if asked == "sigmoid":
        return _sigmoid(seen, num_classes, notes)
    within = seen.least >= 0
    total = next((t for t in (1.0, PER_CENT) if within and len(seen.sums_to(t)) == len(seen.sums)),
                 None)  # fmt: skip
    if total is not None and seen.sums:
        return _softmax(seen, notes)
    if asked == "probabilities":
        lows, highs = zip(*seen.sums.values(), strict=True) if seen.sums else ((1.0,), (1.0,))
        if within and min(lows) > 0 and max(highs) <= 1 + TOLERANCE:  # the largest of each row
            return _softmax(seen, notes)
        raise SettingError(
            "scores",
            f"probabilities: found values from {seen.least:.3g} to {seen.most:.3g} in rows of "
            f"sums up to {max(highs):.3g}, expected 1; say logits or sigmoid",
        )
    if within and seen.most <= 1 and seen.sums:
        raise SettingError(
            "scores",
            "absent; rows have a value a class, from 0 to 1, that do not sum to 1; say logits, "
            "probabilities, sigmoid or features",
        )
    some = seen.sums_to(1.0)
    if some and len(some) < len(seen.sums):
        raise SettingError(
            "scores",
            f"absent; rows of {', '.join(some)} sum to 1 as probabilities do, others do not; save "
            "all splits alike, or say logits",
        )
    return as_they_are


def _softmax(seen: _Seen, notes: list[str]) -> Change:
    least = min(seen.smallest, SMALL)  # one-hot rows have none but 1
    zeros = f"; {seen.zeros} zeros as {least:.2g}" if seen.zeros else ""
    notes.append(f"a value a class, rows sum to 1: probabilities, their log is taken{zeros}")
    return lambda block: np.log(np.maximum(block.astype(np.float64), least))


def _sigmoid(seen: _Seen, num_classes: int, notes: list[str]) -> Change:
    """Return what makes the logits of a sigmoid; 0 and 1 are as far as the nearest others."""
    if not (seen.least >= 0 and seen.most <= 1 and seen.smallest < np.inf):
        raise SettingError(
            "scores",
            f"sigmoid: found values from {seen.least:.3g} to {seen.most:.3g}, expected 0 to 1",
        )
    numbers = np.finfo(np.float32)
    least = min(max(seen.smallest, float(numbers.tiny)), float(numbers.eps))
    notes.append("outputs of a sigmoid: log p - log (1 - p) is taken")

    def change(block: NDArray[Any]) -> NDArray[Any]:
        p = np.clip(block.astype(np.float64), least, 1 - least)
        logits = np.log(p) - np.log1p(-p)
        if block.shape[1] == 1 and num_classes == 2:
            return np.hstack([np.zeros_like(logits), logits])
        return logits

    return change
