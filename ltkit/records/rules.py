"""Rules: how the answers of one classifier are used, beside the classifier itself."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.records.features import FeatureSet
from ltkit.records.heads import Classifier


@dataclass(frozen=True)
class Rule:
    """How the answers of a classifier are used: as sets, with abstentions, under another prior.

    kind: of which rule; each kind has its own content.
    content: plain data: numbers, texts, lists and None.
    classifier: `classifier_digest` of the one whose logits it is for.
    num_classes: C.
    class_names: (C,) names, or None.
    settings: what it was made with.
    inputs: digests of the files it was made from.
    source: the file, for messages.
    """

    kind: str
    content: Mapping[str, Any]
    classifier: str
    num_classes: int
    class_names: tuple[str, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    source: str = "memory"

    def check(self, features: FeatureSet, classifier: Classifier) -> None:
        """Refuse features and a classifier that the rule is not for.

        Raises:
            InputError: when the classes or the classifier are others.
        """
        names = features.classes.names
        if len(features.classes) != self.num_classes or (
            names and self.class_names and names != self.class_names
        ):
            raise InputError(
                f"{self.source}: is for {self.num_classes} classes, found {len(features.classes)} "
                f"or others in {features.source}; make it again on these features"
            )
        found = classifier_digest(classifier)
        if found != self.classifier:
            raise InputError(
                f"{self.source}: is for the classifier {self.classifier[:12]}, found {found[:12]} "
                f"of {features.source}; name the --classifier it was made with, or make it again"
            )


def classifier_digest(classifier: Classifier) -> str:
    """Return a digest of what a classifier computes from features: its rows, biases and form.

    The same head has the same digest in every features file, so that a rule made on one file is
    known to be for another one of the same network.

    Example:
        >>> one = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, np.float32))
        >>> two = Classifier(np.eye(2, dtype=np.float32), np.ones(2, np.float32))
        >>> len(classifier_digest(one)), classifier_digest(one) == classifier_digest(two)
        (64, False)
    """
    found = hashlib.sha256(
        f"{classifier.weight.shape} {classifier.normalize_features} {classifier.experts}".encode()
    )
    for values in (classifier.weight, classifier.bias):
        found.update(np.ascontiguousarray(values, np.dtype("<f4")).data)
    return found.hexdigest()
