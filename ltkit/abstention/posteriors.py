"""What a rejector needs of a classifier's posteriors: by shot group, not by class.

Beside the dimensions of `ltkit.records`: `G` shot groups that have classes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation.probabilities import logit_blocks, softmax
from ltkit.records import Classifier, FeatureSplit, Ints, ShotGroups

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Groups:
    """The shot groups that have classes.

    names: G of few, medium, many.
    of_class: (C,) place of each class's group in `names`.
    """

    names: tuple[str, ...]
    of_class: Ints

    @classmethod
    def among(cls, groups: ShotGroups, num_classes: int) -> "Groups":
        """Return those that have classes.

        Example:
            >>> from ltkit.records import shot_groups
            >>> found = Groups.among(shot_groups(np.array([500, 5])), 2)
            >>> found.names, found.of_class.tolist()
            (('few', 'many'), [1, 0])
        """
        there = [(name, ids) for name, ids in groups.items() if len(ids)]
        of_class = np.zeros(num_classes, np.int64)
        for place, (_, ids) in enumerate(there):
            of_class[ids] = place
        return cls(tuple(name for name, _ in there), of_class)

    def __len__(self) -> int:
        """G."""
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Posteriors:
    """The softmax probabilities of N samples, summed up by group.

    mass: (N, G) sum of the probabilities of a group's classes.
    top: (N, G) the largest of them.
    leader: (N, G) the class that it belongs to.
    """

    mass: Floats
    top: Floats
    leader: NDArray[np.int32]

    def __len__(self) -> int:
        """N."""
        return len(self.mass)

    def at(self, rows: Ints) -> "Posteriors":
        """Return those of some samples."""
        return replace(self, mass=self.mass[rows], top=self.top[rows], leader=self.leader[rows])


def posterior_blocks(
    split: FeatureSplit, classifier: Classifier, groups: Groups
) -> Iterator[tuple[slice, Posteriors]]:
    """Yield (rows, their posteriors), a few MiB of logits at a time.

    Raises:
        InputError: when logits are not finite.
    """
    for rows, logits, _ in logit_blocks(split, classifier):
        yield rows, by_group(logits, groups)


def by_group(logits: Floats, groups: Groups) -> Posteriors:
    """Return the posteriors of (B, C) logits, which are overwritten."""
    p, size = softmax(logits), len(groups)
    mass, top = np.empty((len(p), size)), np.empty((len(p), size))
    leader = np.empty((len(p), size), np.int32)
    for place in range(size):
        ids = np.flatnonzero(groups.of_class == place)
        own = p[:, ids]
        best = own.argmax(axis=1)
        mass[:, place], top[:, place] = own.sum(axis=1), own[np.arange(len(p)), best]
        leader[:, place] = ids[best]
    return Posteriors(mass, top, leader)


def posteriors(split: FeatureSplit, classifier: Classifier, groups: Groups) -> Posteriors:
    """Return the posteriors of a split's samples, by group.

    Raises:
        InputError: when logits are not finite.

    Example:
        >>> split = FeatureSplit(np.float32([[1]]), np.array([0]))
        >>> head = Classifier(np.zeros((3, 1), np.float32), np.log(np.float32([5, 3, 2])))
        >>> found = posteriors(split, head, Groups(("few", "many"), np.array([1, 0, 0])))
        >>> found.mass.round(2).tolist(), found.leader.tolist()
        ([[0.5, 0.5]], [[1, 0]])
    """
    parts = [found for _, found in posterior_blocks(split, classifier, groups)]
    if not parts:
        none = np.empty((0, len(groups)))
        return Posteriors(none, none, none.astype(np.int32))
    return Posteriors(*(np.concatenate([getattr(part, of) for part in parts])
                        for of in ("mass", "top", "leader")))  # fmt: skip
