"""The material of a report: a split, the scores of its predictions, and the settings in detail.

Numbers come from `ltkit.evaluation`, so that the page says what ``evaluate``, ``compare`` and
``analyze`` print.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import (
    Entry,
    Grouping,
    compare,
    evaluate,
    metrics,
    networks,
    predict_classes,
)
from ltkit.evaluation.analysis import Case, Subject, observe
from ltkit.files import hdf5
from ltkit.neighbors.class_means import class_means
from ltkit.neighbors.wordnet import readable_names
from ltkit.records import FeatureSet, Ints, Neighbors
from ltkit.reporting.advice import Advice
from ltkit.reporting.exhibits import visible
from ltkit.settings import REPLICATES, SHOT_GROUPS, NeighborSettings, PathRule, Select

DETAILED = 8
"""Most settings shown class by class: more than a reader compares, or a page holds."""

LONGEST = 300
"""Most characters of a class name."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Source:
    """A split, what the model's own head and every correction predict on it, and their scores.

    subject: the split and the predictions.
    scores, compared: the documents of ``evaluate`` and ``compare``; without corrections there is
        none of the latter.
    detailed: positions in the subject's cases of those shown class by class: first the recommended
        one, or without a recommendation the best on the validation split.
    on_val: balanced accuracy on the validation split by position, 0 for the model's own head; empty
        where nothing was compared there.
    advice: what was recommended, if anything was.
    pictures: gives an image as a data URL by its id; None: no folder of them is known.
    left_out: how many more would have been.
    k: neighbours of a class.
    rule, level: what a neighbour in WordNet is.
    seed: seed of every random choice.
    """

    subject: Subject
    scores: dict[str, Any]
    compared: dict[str, Any] | None
    detailed: Sequence[int]
    left_out: int
    k: int
    rule: PathRule
    level: int
    seed: int
    on_val: Mapping[int, float]
    advice: Advice | None = None
    pictures: Callable[[str], str | None] | None = None

    @property
    def several(self) -> bool:
        """Whether there are several networks, and not only corrections of one."""
        return len(self.subject.networks) > 1

    @property
    def first(self) -> str:
        """What captions call the model's own head: of several networks, the name of the first."""
        return visible(self.every_setting[0]) if self.several else "the baseline"

    def network(self, case: Case) -> FeatureSet:
        """Return the network of a setting: the features of the page, or others."""
        return case.entry.network or self.subject.features

    def means_of(self, network: FeatureSet) -> tuple[Floats, Ints]:
        """Return (C, D) means of a network's training features, and the classes that have one."""
        if network is self.subject.features:
            return self.subject.means
        means, counts = class_means(network.split("train"), len(network.classes))
        return means, np.flatnonzero(counts)

    @cached_property
    def every_setting(self) -> list[str]:
        """What the settings are called, the model's own head first."""
        return [self.subject.features.baseline, *(case.label for case in self.subject.cases)]

    @cached_property
    def in_detail(self) -> list[int]:
        """Positions in `every_setting` of the settings in detail, the model's own head first."""
        return [0, *(1 + place for place in self.detailed)]

    @cached_property
    def settings(self) -> list[str]:
        """Names of the settings in detail."""
        return [self.every_setting[place] for place in self.in_detail]

    @cached_property
    def cases(self) -> list[Case]:
        """The settings in detail except the model's own head."""
        return [self.subject.cases[place] for place in self.detailed]

    @cached_property
    def shown(self) -> list[NDArray[Any]]:
        """(S, N) predictions of each setting in detail."""
        return [self.subject.before[None], *(case.predicted for case in self.cases)]

    @cached_property
    def accuracy(self) -> list[Floats]:
        """(C,) class accuracies of each setting in detail; NaN where a class has no sample."""
        labels, count = self.subject.labels, len(self.names)
        right = [(predicted == labels).mean(axis=0) for predicted in self.shown]
        return [metrics.class_accuracy(mean, labels, count) for mean in right]

    @cached_property
    def names(self) -> list[str]:
        """(C,) class names, shortened if very long."""
        every = readable_names(self.subject.classes)
        return [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in every]

    @cached_property
    def train_count(self) -> list[int]:
        """(C,) training images."""
        counts: list[int] = self.subject.classes.train_count.tolist()
        return counts

    @cached_property
    def group(self) -> list[str]:
        """(C,) shot groups."""
        group = np.empty(len(self.names), dtype="<U6")
        for name, ids in self.subject.groups.items():
            group[ids] = name
        return [str(name) for name in group]

    @cached_property
    def samples(self) -> list[int]:
        """(C,) samples in the split."""
        counts: list[int] = np.bincount(
            self.subject.labels, minlength=len(self.names)
        ).tolist()  # fmt: skip
        return counts

    @cached_property
    def order(self) -> Ints:
        """(C,) class ids, most training images first."""
        return np.argsort(-self.subject.classes.train_count, kind="stable")

    @cached_property
    def worst(self) -> list[int]:
        """Tested classes of the rarest shot group that has any, those right least often first."""
        own = self.accuracy[0]
        for group in SHOT_GROUPS:
            ids = [c for c, name in enumerate(self.group) if name == group and self.samples[c]]
            if ids:
                return sorted(ids, key=lambda c: (own[c], self.train_count[c]))
        return []

    @property
    def neighbor_settings(self) -> NeighborSettings:
        """How the nearest classes are found."""
        return NeighborSettings(self.k, seed=self.seed)

    @cached_property
    def near(self) -> Neighbors:
        """The nearest base classes of every class with training samples; all if there are few.

        Raises:
            InputError: for fewer than two classes with training samples.
        """
        of, base = self.subject.trained("all"), self.subject.trained("base")
        among = base if len(base) > 1 else of
        k = min(self.k, len(among) - 1)
        if k < 1:
            raise InputError("no all classes with neighbours among all classes")
        return self.subject.nearest(of, among, replace(self.neighbor_settings, k=k))


def collect(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] | None = None,
    grouping: Grouping | None = None,
    rule: PathRule = "path",
    level: int = 4,
    k: int = NeighborSettings.k,
    replicates: int = REPLICATES,
    seed: int = 0,
    advice: Advice | None = None,
    pictures: Callable[[str], str | None] | None = None,
) -> Source:
    """Collect the material of a report on a features file and its corrections.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections, in display order.
        bins: bounds of the medium shot group; None: the file's own.
        grouping: for grouped accuracy.
        rule: WordNet rule.
        level: WordNet level.
        k: neighbours per class.
        replicates: bootstrap replicates.
        seed: seed of the bootstrap and of the map.
        advice: what was recommended.
        pictures: as `Source` has them.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`.
    """
    options: dict[str, Any] = {"bins": bins, "replicates": replicates, "seed": seed}
    scores, _ = evaluate(features, split, entries, grouping=grouping, **options)
    compared = None
    if entries:
        select: Select | None = "balanced" if features.splits.get("val") else None
        compared = compare(
            features, split, entries, select=select, **options,
            against=features.baseline if networks.several(entries) else "baseline",
        )  # fmt: skip
    chosen = np.flatnonzero(
        [
            point["in_pairs"]
            for method in (compared["methods"][1:] if compared else ())
            for point in method["points"]
        ]
    ).tolist()
    subject = observe(features, split, entries, bins)
    on_val = _on_val(subject, chosen)
    if advice is not None and not advice.keep:
        own = entries[advice.entry]
        chosen.sort(key=lambda place: subject.cases[place].entry is not own)
    elif on_val:
        # what follows the frequencies of other images is not judged by balanced accuracy on val
        of_val = [p for p in chosen if "prior" not in subject.cases[p].entry.correction.extra]
        best = max(of_val or chosen, key=lambda place: on_val[1 + place])
        chosen.sort(key=lambda place: place != best)
    left_out = max(0, len(chosen) - DETAILED)
    return Source(
        subject, scores, compared, chosen[:DETAILED], left_out, k, rule, level, seed, on_val,
        advice, pictures,
    )  # fmt: skip


def _on_val(subject: Subject, chosen: Sequence[int]) -> dict[int, float]:
    """Return balanced accuracies on the validation split, by position; 0 is the model's own.

    Of several networks, only where all have the same images in it.
    """
    if not chosen or not all(of.splits.get("val") for of in subject.networks):
        return {}
    own = networks.own_head(subject.features)
    entries = [own, *(replace(c.entry, correction=c.entry.correction.only(c.runs))
                      for c in (subject.cases[place] for place in chosen))]  # fmt: skip
    try:
        every = networks.predict_entries(subject.features, "val", entries, predict_classes)
    except InputError:  # other images
        return {}
    labels, size = subject.features.split("val").labels, len(subject.classes)
    weights = metrics.group_weights(labels, size, subject.groups)

    def balanced(predicted: NDArray[Any]) -> float:
        rows = metrics.class_accuracy(predicted == labels, labels, size)
        found = [metrics.summarize(row, weights)["balanced"] or 0.0 for row in rows]
        return float(np.mean(found))

    places = (0, *(1 + place for place in chosen))
    return {p: balanced(predicted) for p, predicted in zip(places, every, strict=True)}


def provenance(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what ltkit files record about how they were made.

    Raises:
        FormatError: when one is not sound.
    """
    found = []
    for path in paths:
        contents = hdf5.read(path, hdf5.FEATURES, hdf5.CLASSIFIER)
        keys = ("digest", "written_by", "command")
        found.append({
            "file": str(path), "format": contents.kind.name,
            **{key: contents.root[key] for key in keys},
            "settings": contents.settings, "inputs": contents.inputs,
        })  # fmt: skip
    return found
