"""The classes that have training images as a problem of their own, and the way back to all classes.

A head, or a list of names, may have classes that the data has no images of. Nothing can be learned
of them, and a prior of 0 has no logarithm: methods are fitted among the other classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ltkit.records.arrays import Ints
from ltkit.records.features import Base, ClassTable, FeatureSet, FeatureSplit
from ltkit.records.heads import NEVER, Classifier

NAMED = 3
"""Most classes named in a note."""


def never_predicted(features: FeatureSet) -> Classifier:
    """Return rows of zeros whose biases keep every class from being predicted."""
    blank = features.empty_classifier()
    return replace(blank, bias=np.full_like(blank.bias, NEVER))


@dataclass(frozen=True, eq=False)
class Present:
    """Some classes of a table, numbered anew from 0 in the same order.

    ids: (P,) int64 class ids, ascending.
    num_classes: C.

    Example:
        >>> some = Present(np.array([0, 2]), 3)
        >>> split = FeatureSplit(np.zeros((3, 1)), np.array([2, 1, 0]))
        >>> some.split(split).labels.tolist()
        [1, 0]
    """

    ids: Ints
    num_classes: int

    @classmethod
    def of(cls, features: FeatureSet) -> "Present":
        """Return the classes with training images.

        All classes, where none has any, or where counts and samples contradict each other: methods
        that need them then refuse the file as they do any other, by its own class ids.
        """
        every = np.arange(len(features.classes))
        uncounted = features.classes.train_count == 0
        odd = (uncounted != (features.train_samples == 0)).any()
        return cls(every if odd or uncounted.all() else every[~uncounted], len(every))

    @property
    def whole(self) -> bool:
        """Whether no class is left out."""
        return len(self.ids) == self.num_classes

    @property
    def left_out(self) -> Ints:
        """The other classes."""
        return np.setdiff1d(np.arange(self.num_classes), self.ids)

    def classifier(self, every: Classifier) -> Classifier:
        """Return the rows of these classes."""
        return replace(every, weight=every.weight[self.ids], bias=every.bias[self.ids])

    def split(self, split: FeatureSplit) -> FeatureSplit:
        """Return the samples of these classes."""
        place = np.full(self.num_classes, -1, np.int64)
        place[self.ids] = np.arange(len(self.ids))
        labels = place[split.labels]
        rows = np.flatnonzero(labels >= 0)
        renumbered = replace(split, labels=labels)
        return renumbered if len(rows) == len(labels) else renumbered.at(rows)

    def features(self, features: FeatureSet) -> FeatureSet:
        """Return everything of these classes, as a file without the others would have it."""
        head, base, table = features.head, features.base, features.classes

        def column(values: Sequence[str] | None) -> tuple[str, ...] | None:
            return None if values is None else tuple(values[c] for c in self.ids)

        if head is not None:
            head = replace(
                head, weight=head.weight[..., self.ids, :], bias=head.bias[..., self.ids]
            )
        if base is not None:
            base = Base(base.name, self.classifier(base.classifier), base.source, base.digest)
        return replace(
            features,
            splits={name: self.split(split) for name, split in features.splits.items()},
            classes=ClassTable(
                table.train_count[self.ids],
                *(column(values) for values in (table.names, table.wnids, table.coarse)),
            ),
            head=head,
            base=base,
        )

    def widened(self, found: Classifier, others: Classifier) -> Classifier:
        """Return a classifier of all classes.

        Args:
            found: rows of these classes.
            others: (C, D) rows and biases, of which those of the other classes are taken.
        """
        if self.whole:
            return found
        weight, bias = others.weight.copy(), others.bias.copy()
        weight[self.ids], bias[self.ids] = found.weight, found.bias
        return replace(found, weight=weight, bias=bias)


def note_of_left_out(classes: ClassTable, ids: Ints, then: str) -> str:
    """Return what to tell the user of classes without training images.

    Args:
        classes: all classes.
        ids: those that are left out.
        then: what becomes of them.

    Example:
        >>> note_of_left_out(ClassTable(np.array([5, 0, 4])), np.array([1]), "it has no neighbour")
        '1 of 3 classes has no training image (1) and is left out: it has no neighbour'
    """
    names = ", ".join(f"{classes.name(int(c)):.40}" for c in ids[:NAMED])
    more = ", ..." if len(ids) > NAMED else ""
    has, is_ = ("has", "is") if len(ids) == 1 else ("have", "are")
    return (
        f"{len(ids)} of {len(classes)} classes {has} no training image ({names}{more}) and {is_} "
        f"left out: {then}"
    )
