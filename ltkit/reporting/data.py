"""Everything that a report shows, gathered from features and corrections: plain data, no drawing.

Numbers come from `ltkit.evaluation`, so that the page says
what ``evaluate``, ``compare`` and ``analyze`` print. What is returned holds lists, texts, numbers
and None only, and nothing of the size of the split: a section of a thousand classes is small.
Accuracies and shares are fractions in 0..1.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.class_means import around_centre, class_means
from ltkit.errors import InputError
from ltkit.evaluation import (
    Entry,
    Grouping,
    analysis,
    compare,
    evaluate,
    metrics,
    predict,
    predict_classes,
    settings_of,
)
from ltkit.evaluation.analysis import STATUSES, Case
from ltkit.files import hdf5
from ltkit.hierarchy import load_wordnet, readable_names, related_classes
from ltkit.records import (
    Classifier,
    ClassTable,
    Correction,
    FeatureSet,
    Ints,
    Neighbors,
    ShotGroups,
    members,
    shot_groups,
)
from ltkit.settings import BINS, NeighborSettings, PathRule, Select
from ltkit.studies import Study

DETAILED = 8
"""Settings that are shown class by class, at most: more than a reader compares, or a page holds."""

CELLS = 100
"""Rows of a confusion matrix, at most: of more classes, neighbours in the order share a row."""

MISTAKEN = 5
"""Classes named of those that a class is mistaken for."""

PAIRS = 25
"""Most confused pairs."""

LONGEST = 300
"""Characters of a class name."""

MAPPED = 5000
"""Classes up to which t-SNE takes seconds."""

NESTED = 0.8
"""The part of the classes of the synset above that one shown has, at most."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Source:
    """A split, and what the model's own head and every correction predict of it.

    split: its name.
    labels: (N,) true classes.
    before: (N,) predictions of the model's own head.
    cases: every setting of every correction, and beside each `made`: its entry and runs.
    detailed: positions in `cases` of those shown class by class.
    """

    features: FeatureSet
    groups: ShotGroups
    k: int
    seed: int
    rule: PathRule
    level: int
    split: str
    labels: Ints
    before: Ints
    cases: Sequence[Case]
    made: Sequence[tuple[Entry, list[int]]]
    detailed: Sequence[int]

    @property
    def classes(self) -> ClassTable:
        """What is known of the C classes."""
        return self.features.classes

    @cached_property
    def names(self) -> list[str]:
        """(C,) what the classes are called, cut where it is very long."""
        every = readable_names(self.classes)
        return [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in every]

    @cached_property
    def base(self) -> Classifier:
        """The model's own head."""
        return self.features.classifier()

    @cached_property
    def order(self) -> Ints:
        """(C,) class ids, most training images first."""
        return np.argsort(-self.classes.train_count, kind="stable")

    @cached_property
    def shown(self) -> list[tuple[str, NDArray[Any]]]:
        """Label and (S, N) predictions: the model's own head, then the settings in detail."""
        cases = [self.cases[place] for place in self.detailed]
        return [("baseline", self.before[None]), *((c.label, c.predicted) for c in cases)]

    @cached_property
    def means(self) -> tuple[Floats, Ints]:
        """(C, D) means of the training features, and the classes that have one."""
        means, counts = class_means(self.features.split("train"), len(self.classes))
        return means, np.flatnonzero(counts)

    @cached_property
    def near(self) -> Neighbors:
        """The nearest base classes of every class with training samples; all where base is small.

        Raises:
            InputError: for fewer than two classes with training samples.
        """
        return self.nearest("all", "base" if len(self.trained("base")) > 1 else "all")

    def trained(self, group: str) -> Ints:
        """Return the classes of a group that have training samples."""
        return np.intersect1d(members(self.groups, group, ""), self.means[1])

    def nearest(self, of: str, among: str) -> Neighbors:
        """Return the nearest classes of one group for each of another.

        Raises:
            InputError: where there are none.
        """
        chosen, others = self.trained(of), self.trained(among)
        k = min(self.k, len(others) - bool(np.isin(others, chosen).any()))
        if not len(chosen) or k < 1:
            raise InputError(f"no {of} classes with neighbours among {among} classes")
        study = Study(self.features, chosen, others, chosen[:0], self.means[0])
        return study.neighbors(k, NeighborSettings.metric, self.seed)


def gather(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] = BINS,
    grouping: Grouping | None = None,
    rule: PathRule = "path",
    level: int = 4,
    k: int = NeighborSettings.k,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Gather what a report of a features file and corrections of it shows.

    Args:
        features: with a head.
        split: which split.
        entries: corrections, in the order to be shown.
        bins: of the shot groups.
        grouping: for grouped accuracy.
        rule: what a neighbour in WordNet is.
        level: likewise.
        k: neighbours of a class.
        replicates: of the bootstrap.
        seed: of the bootstrap and the map.

    Returns:
        ``evaluate`` and ``compare``: the documents of these commands (the latter None without
        corrections). ``settings``: every one, baseline first, and whether it is shown in detail.
        ``classes``: columns, and the class accuracies of the settings in detail. And by section
        its data, or ``{"absent": why}``.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`.
    """
    options: dict[str, Any] = {"bins": bins, "replicates": replicates, "seed": seed}
    scores, _ = evaluate(features, split, entries, grouping=grouping, **options)
    compared = None
    if entries:
        select: Select | None = "balanced" if features.splits.get("val") else None
        compared = compare(
            features, split, entries, select=select, against="baseline", **options
        )  # fmt: skip
    data, base = features.split(split), features.classifier()
    corrections = [Correction.baseline(base), *(e.correction for e in entries)]
    before, *after = predict_classes(data, base, corrections)
    cases = analysis.cases(entries, after)
    chosen = [
        point["in_pairs"]
        for method in (compared["methods"][1:] if compared else ())
        for point in method["points"]
    ]
    source = Source(
        features, shot_groups(features.classes.train_count, bins), k, seed, rule, level, split,
        data.labels, before[0].astype(np.int64), cases,
        [(entry, runs) for entry in entries for _, runs in settings_of(entry.correction)],
        np.flatnonzero(chosen)[:DETAILED].tolist(),
    )  # fmt: skip
    sections: dict[str, Callable[[Source], dict[str, Any]]] = {
        "neighbors": _neighbors,
        "deltas": _deltas,
        "flows": _flows,
        "alpha": _alpha,
        "norms": _norms,
        "weights": _weights,
        "map": _map,
        "tree": _tree,
    }
    return {
        "evaluate": scores,
        "compare": compared,
        "settings": _settings(source, int(np.sum(chosen))),
        "classes": _classes(source),
        "confusion": _confusion(source),
        "reliability": _reliability(source),
    } | {name: _or_absent(section, source) for name, section in sections.items()}


def _or_absent(section: Callable[[Source], dict[str, Any]], source: Source) -> dict[str, Any]:
    """Return a section's data, or why there is none."""
    try:
        return section(source)
    except InputError as error:
        return {"absent": str(error)}


def _numbers(values: NDArray[Any], digits: int = 6) -> list[Any]:
    """Return rounded numbers for JSON; None for what is not defined."""
    rounded = np.round(values.astype(np.float64), digits)
    found = rounded.astype(object)
    found[np.isnan(rounded)] = None
    numbers: list[Any] = found.tolist()
    return numbers


def _lengths(values: NDArray[Any], digits: int = 6) -> list[Any]:
    """Return numbers in the features' unit, which may be small, with so many digits at least."""
    largest = float(np.nanmax(np.abs(values), initial=0))
    more = -math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0
    return _numbers(values, digits + more)


def _settings(source: Source, chosen: int) -> dict[str, Any]:
    """Return every setting's label, and the positions of those in detail; 0 is the baseline."""
    return {
        "label": ["baseline", *(case.label for case in source.cases)],
        "runs": [1, *(len(case.predicted) for case in source.cases)],
        "detailed": [0, *(1 + place for place in source.detailed)],
        "left_out": chosen - len(source.detailed),
    }


def _classes(source: Source) -> dict[str, Any]:
    """Return the columns of the class table; accuracies and mistakes of the settings in detail."""
    classes, count = source.classes, len(source.classes)
    group = np.empty(count, dtype="<U6")
    for name, ids in source.groups.items():
        group[ids] = name
    accuracy = [
        metrics.class_accuracy((p == source.labels).mean(axis=0), source.labels, count)
        for _, p in source.shown
    ]
    return {
        "name": source.names,
        "train_count": classes.train_count.tolist(),
        "group": group.tolist(),
        "samples": np.bincount(source.labels, minlength=count).tolist(),
        "accuracy": [_numbers(row) for row in accuracy],
        "mistaken": [_mistaken(*confusions(p, source.labels), count) for _, p in source.shown],
    }


def confusions(predicted: NDArray[Any], labels: Ints) -> tuple[Ints, Ints, Floats]:
    """Return (true, predicted, mean samples over S runs) of every pair that occurs.

    Args:
        predicted: (S, N) class ids.
        labels: (N,) true classes.

    Example:
        >>> pairs = confusions(np.array([[0, 1], [1, 1]]), np.array([0, 1]))
        >>> [column.tolist() for column in pairs]
        [[0, 0, 1], [0, 1, 1], [0.5, 0.5, 1.0]]
    """
    size = int(max(predicted.max(), labels.max())) + 1
    keys, count = np.unique(labels * size + predicted, return_counts=True)
    return keys // size, keys % size, count / len(predicted)


def _mistaken(true: Ints, predicted: Ints, count: Floats, num_classes: int) -> list[Any]:
    """Return for each class [class, samples] of those it is most often mistaken for."""
    found: list[Any] = [[] for _ in range(num_classes)]
    for place in np.lexsort((predicted, -count)):
        row = found[true[place]]
        if true[place] != predicted[place] and len(row) < MISTAKEN:
            row.append([int(predicted[place]), round(float(count[place]), 2)])
    return found


def _confusion(source: Source) -> dict[str, Any]:
    """Return confusion matrices of the settings in detail, by group, and the worst pairs.

    Classes are ordered by training count. Rows are shares of a true class's samples, or of those
    of neighbouring classes together where there are more than `CELLS`.
    """
    count = len(source.classes)
    per_cell = -(-count // CELLS)
    cell = np.empty(count, dtype=np.int64)
    cell[source.order] = np.arange(count) // per_cell
    names = [name for name, ids in source.groups.items() if len(ids)]
    group = np.empty(count, dtype=np.int64)
    for place, name in enumerate(names):
        group[members(source.groups, name, "")] = place
    found = [confusions(predicted, source.labels) for _, predicted in source.shown]
    tables = [dict(zip(zip(t.tolist(), p.tolist(), strict=True), n.tolist(), strict=True))
              for t, p, n in found]  # fmt: skip
    cells = [source.order[i : i + per_cell].tolist() for i in range(0, count, per_cell)]
    worst = sorted((-n, pair) for pair, n in tables[0].items() if pair[0] != pair[1])[:PAIRS]
    return {
        "per_cell": per_cell,
        "cells": cells,
        "count": [_table(cell[t], cell[p], n, len(cells)) for t, p, n in found],
        "groups": names,
        "by_group": [_table(group[t], group[p], n, len(names)) for t, p, n in found],
        "pairs": [
            {"true": pair[0], "predicted": pair[1],
             "count": [round(table.get(pair, 0.0), 6) for table in tables]}
            for _, pair in worst
        ],
    }  # fmt: skip


def _table(rows: Ints, columns: Ints, count: Floats, size: int) -> list[list[Any]]:
    table = np.bincount(rows * size + columns, count, minlength=size * size).reshape(size, size)
    found: list[list[Any]] = table.round(4).tolist()
    return found


def _reliability(source: Source) -> dict[str, Any]:
    """Return how sure the settings in detail are and how often right, by bins of confidence.

    Of each shot group that has samples, for each of the bins: samples, a mean over runs, and their
    mean confidence and accuracy, None where there are none.
    """
    labels, chosen = source.labels, []
    for place in source.detailed:
        entry, runs = source.made[place]
        chosen.append(entry.correction.only(runs))
    corrections = [Correction.baseline(source.base), *chosen]
    found = predict(source.features.split(source.split), source.base, corrections)
    groups = metrics.group_weights(labels, len(source.classes), source.groups)
    inside = {name: w[labels] > 0 for name, w in groups.items() if name != "balanced"}
    rows = []
    for one in found:
        right = one.predicted == labels
        row = {}
        for name, within in inside.items():
            count, sure, correct = metrics.reliability(
                one.confidence[:, within].astype(np.float64).ravel(), right[:, within].ravel()
            )
            some = np.where(count, count, np.nan)
            row[name] = {
                "samples": _numbers(count / len(right), 4),
                "confidence": _numbers(sure / some),
                "accuracy": _numbers(correct / some),
            }
        rows.append(row)
    return {"bins": metrics.ECE_BINS, "rows": rows}


def _neighbors(source: Source) -> dict[str, Any]:
    """Return every class's nearest base classes, and how distance and accuracy go together."""
    near = source.near
    few = np.flatnonzero(np.isin(near.few_class, source.groups.few))
    rare = Neighbors(near.few_class[few], near.base_class[few], near.distance[few], near.metric)
    related = []
    tested = np.isin(source.labels, rare.few_class).any()
    for label, predicted in source.shown if tested else ():
        by = analysis.by_distance(
            source.before, predicted, source.labels, len(source.classes), rare
        )
        related.append({"label": label, "r": _number(by.after_r), "change": _number(by.change_r)})
    return {
        "k": near.k,
        "metric": near.metric,
        "class": near.few_class.tolist(),
        "neighbor": near.base_class.tolist(),
        "distance": _lengths(near.distance),
        "mean": _lengths(near.distance.mean(axis=1, dtype=np.float64)),
        "spearman": related,
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)


def _deltas(source: Source) -> dict[str, Any]:
    """Return the change of accuracy against rho, of fits with several."""
    with_rho = [c for c in source.cases if {"rho", "k", "metric"} <= c.settings.keys()]
    curves = analysis.rho_curves(
        with_rho, source.before, source.labels, len(source.classes), source.groups
    )
    found = [curve for curve in curves if len(curve.rho) > 1]
    if not found:
        raise InputError("no fit with several rho; make one with alphanet fit --rho 0.5,1,1.5")
    return {
        "curves": [
            {
                "name": c.name, "metric": c.metric, "rho": c.rho.tolist(), "runs": c.runs.tolist(),
                "change": {g: _numbers(v, 12) for g, v in c.change.items()},
                "std": {g: _numbers(v, 12) for g, v in c.std.items()},
            }
            for c in found
        ]
    }  # fmt: skip


def _flows(source: Source) -> dict[str, Any]:
    """Return where predictions went, by group of samples and kind of neighbours."""
    if not source.detailed:
        raise InputError("no correction, so nothing moved")
    kinds = []
    for samples, among in (("few", "base"), ("base", "few"), ("all", "all")):
        try:
            near = source.nearest(samples, among)
        except InputError:  # a group without classes, or no training features
            continue
        kinds.append((samples, f"{near.k} nearest by features", analysis.pairs_of(near)))
    if source.classes.wnids is not None:
        table = related_classes(source.classes.wnids, rule=source.rule, level=source.level)
        pairs = analysis.pairs_within(table)
        near_by = f"WordNet, {source.rule} rule, level {source.level}"
        kinds += [(samples, near_by, pairs) for samples in ("few", "base", "all")]
    rows = []
    for label, predicted in source.shown[1:]:
        for samples, by, pairs in kinds:
            inside = np.isin(source.labels, members(source.groups, samples, ""))
            if not inside.any():
                continue
            found = analysis.flow(
                source.before[inside], predicted[:, inside], source.labels[inside],
                len(source.classes), pairs,
            )  # fmt: skip
            mean, std = analysis.mean_and_std(found.count)
            rows.append({
                "label": label, "samples": samples, "by": by, "n": found.n,
                "count": _numbers(mean), "std": _numbers(std),
            })  # fmt: skip
    if not rows:
        raise InputError("no classes with neighbours, by training features or in WordNet")
    return {"statuses": list(STATUSES), "rows": rows}


def _alpha(source: Source) -> dict[str, Any]:
    """Return the learned coefficients of fits, means over runs."""
    rows = []
    for place in source.detailed:
        entry, runs = source.made[place]
        if "alpha" not in entry.correction.extra:
            continue
        case = source.cases[place]
        changes = analysis.class_changes(
            entry.correction, runs, source.base, source.before, case.predicted, source.labels,
            entry.correction.class_id.tolist(),
        )  # fmt: skip
        rows.append({
            "setting": 1 + source.detailed.index(place),
            "label": case.label,
            "same": all(int(c.used.min()) == len(runs) for c in changes),
            "class": [c.class_id for c in changes],
            "neighbor": [c.neighbor.tolist() for c in changes],
            "alpha": [_numbers(c.alpha.sum(axis=0) / c.used) for c in changes],
        })  # fmt: skip
    if not rows:
        raise InputError("no AlphaNet fit among those in detail; make one with alphanet fit")
    return {"rows": rows}


def _norms(source: Source) -> dict[str, Any]:
    """Return the length of each class's row of the classifier, before and after."""
    own = np.linalg.norm(source.base.weight.astype(np.float64), axis=1)
    found = [own]
    for place in source.detailed:
        entry, runs = source.made[place]
        after = own.copy()
        rows = entry.correction.weight[runs].astype(np.float64)
        after[entry.correction.class_id] = np.linalg.norm(rows, axis=2).mean(axis=0)
        found.append(after)
    return {"class": source.order.tolist(), "norm": [_lengths(n[source.order]) for n in found]}


def _weights(source: Source) -> dict[str, Any]:
    """Return what a sample of each class weighs in weighted losses; the mean over classes is 1.

    A loss's weight is what a sample costs at equal logits, over the cost without weights.
    """
    import torch

    from ltkit.losses import class_balanced, similarity_window, swrm, weighted

    count = len(source.classes)
    if count < 2:
        raise InputError("a single class, whose weight is 1")
    counts = torch.from_numpy(source.classes.train_count)
    zeros = torch.zeros(1, count, dtype=torch.float64)

    def weights(loss: Callable[..., Any], **parameters: Any) -> Floats:
        costs = [float(loss(zeros, torch.tensor([c]), counts, **parameters)) for c in range(count)]
        return np.array(costs, dtype=np.float64) / float(np.log(count))

    found = {
        f"class-balanced, beta {beta:g}": weights(class_balanced.loss, beta=beta)
        for beta in (0.99, 0.999, 0.9999)
    }
    for scheme in ("inverse", "square-root", "logarithm"):
        found[f"weighted, {scheme}"] = weights(weighted.loss, scheme=scheme, reduction="batch")
    means, trained = source.means
    if len(trained) == count:
        positions = torch.from_numpy(swrm.project(means, source.seed))
        window = min(15, count)
        raw, _ = similarity_window(counts.double(), positions, window=window, beta=1.0)
        found[f"swrm, window {window}"] = raw.numpy() / raw.numpy().mean()
    order = source.order
    return {
        "class": order.tolist(),
        "curves": [{"name": n, "weight": _numbers(w[order])} for n, w in found.items()],
    }


def _map(source: Source) -> dict[str, Any]:
    """Return classes in the plane, by PCA and t-SNE of their means, and lines to neighbours."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    means, trained = source.means
    if len(trained) < 3:
        raise InputError(f"{len(trained)} classes with training samples, too few for a map")
    order = trained[np.lexsort(means[trained].T)]  # ids must not matter
    points = around_centre(means[order])
    if not points.any():
        raise InputError("all classes have the same mean feature, which leaves nothing to map")
    if points.shape[1] < 2:
        points = np.hstack([points, np.zeros_like(points)])
    pca = PCA(2, random_state=source.seed)
    found = {"PCA": pca.fit_transform(points)}
    if 4 <= len(order) <= MAPPED:
        tsne = TSNE(
            2, perplexity=min(30.0, (len(order) - 1) / 3), init="pca", random_state=source.seed
        )
        found["t-SNE"] = tsne.fit_transform(points.astype(np.float32))
    near = source.near
    return {
        "class": order.tolist(),
        "points": {name: _lengths(xy, 4) for name, xy in found.items()},
        "explained": _numbers(pca.explained_variance_ratio_),
        "lines": [
            [int(c), int(other)]
            for c, row in zip(near.few_class, near.base_class, strict=True)
            if c in source.groups.few
            for other in row
        ],
    }  # fmt: skip


def _tree(source: Source) -> dict[str, Any]:
    """Return the tree of groups, with the mean class accuracy of each node.

    From WordNet each synset takes its first parent; one that has nearly all classes of the one
    above, or a single one, is left out.
    """
    classes, labels = source.classes, source.labels
    if classes.wnids is not None:
        kind, above, names = "WordNet", *_wordnet_above(classes.wnids)
    elif classes.coarse is not None:
        kind = "superclasses"
        above = [[f"coarse {name}", ""] for name in classes.coarse]
        names = {f"coarse {name}": name for name in classes.coarse}
    else:
        raise InputError("the classes have neither WordNet ids nor superclasses")
    below: dict[str, list[int]] = {}
    parents: dict[str, str] = {}
    for c, path in enumerate(above):
        for node, parent in zip([f"class {c}", *path], path, strict=False):
            parents[node] = parent
        for node in (f"class {c}", *path):
            below.setdefault(node, []).append(c)
    names |= {f"class {c}": name for c, name in enumerate(source.names)} | {"": "all classes"}
    accuracy = [
        metrics.class_accuracy((p == labels).mean(axis=0), labels, len(classes))
        for _, p in source.shown
    ]
    nodes = ["", *parents]
    means = [[_mean(row[below[node]]) for node in nodes] for row in accuracy]
    return {
        "kind": kind,
        "node": nodes,
        "name": [names[node] for node in nodes],
        "parent": [None, *parents.values()],
        "classes": [len(below[node]) for node in nodes],
        "accuracy": means,
    }


def _mean(values: Floats) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _wordnet_above(wnids: Sequence[str]) -> tuple[list[list[str]], dict[str, str]]:
    """Return each class's synsets from itself up to "", the root, and their names."""
    wordnet = load_wordnet()
    paths = []
    for wnid in wnids:
        path = [wnid]
        while parents := wordnet.parents.get(path[-1]):
            path.append(parents[0])
        paths.append(path)
    below = Counter(node for path in paths for node in path)
    kept = []
    for path in paths:
        chain, last = [""], len(wnids)
        for node in reversed(path):
            if 1 < below[node] <= NESTED * last:
                chain.append(node)
                last = below[node]
        kept.append(chain[::-1])
    names = {node: wordnet.names[node].split(",")[0] for path in kept for node in path[:-1]}
    return kept, names


def provenance(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Return what is recorded in ltkit files of how they were made.

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


def details(gathered: Mapping[str, Any]) -> list[str]:
    """Return the labels of the settings in detail, baseline first."""
    settings = gathered["settings"]
    return [settings["label"][place] for place in settings["detailed"]]
