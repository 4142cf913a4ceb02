"""Accuracy over a tree of groups."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.neighbors.wordnet import load_wordnet
from ltkit.reporting.exhibits import Exhibit, View, label
from ltkit.reporting.look import CIVIDIS
from ltkit.reporting.numbers import hundred, percent
from ltkit.reporting.source import Source

KEY = "tree"
TITLE = "Tree of groups"

NESTED = 0.8
"""Largest share of the parent synset's classes that a shown synset has."""

EVEN = [[t / 5, color] for t, color in enumerate(CIVIDIS)]


def gather(source: Source) -> dict[str, Any]:
    """Return the tree of groups, with the mean class accuracy of each node.

    From WordNet each synset takes its first parent; one that has nearly all classes of the one
    above, or a single one, is left out.
    """
    classes = source.subject.classes
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
    nodes = ["", *parents]
    return {
        "kind": kind,
        "node": nodes,
        "name": [names[node] for node in nodes],
        "parent": [None, *parents.values()],
        "classes": [len(below[node]) for node in nodes],
        "accuracy": [[_mean(row[below[node]]) for node in nodes] for row in source.accuracy],
    }


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(known.mean()), 6) if len(known) else None


def _wordnet_above(wnids: Sequence[str]) -> tuple[list[list[str]], dict[str, str]]:
    """Return each class's synsets from itself up to the root "", and their names."""
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


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw a view for each setting, with box widths by number of classes."""
    nodes = found["node"]
    ids = [node or "root" for node in nodes]
    parents = ["" if parent is None else parent or "root" for parent in found["parent"]]
    boxes = {
        "type": "icicle", "ids": ids, "labels": [label(name, 30) for name in found["name"]],
        "parents": parents, "values": found["classes"], "branchvalues": "total", "maxdepth": 5,
        "sort": False,
        "customdata": [int(node.removeprefix("class ")) if node.startswith("class ") else None
                       for node in nodes],
        "meta": "tree",
    }  # fmt: skip
    views = [
        View(
            name,
            [{
                **boxes, "text": [percent(v) for v in accuracy],
                "marker": {"colors": hundred(accuracy), "colorscale": EVEN, "cmin": 0, "cmax": 100,
                           "colorbar": {"title": {"text": "%"}, "thickness": 12}},
                "hovertemplate": "%{label}: %{text} %, %{value} classes<extra></extra>",
                "tiling": {"orientation": "v"},
            }],
            {"margin": {"l": 8, "r": 8, "t": 12, "b": 12},
             "uniformtext": {"minsize": 11, "mode": "hide"}},
        )
        for name, accuracy in zip(source.settings, found["accuracy"], strict=True)
    ]  # fmt: skip
    return [
        Exhibit(
            "tree", f"Accuracy by group: {found['kind']}",
            "A box is a group of classes, as wide as it has classes, with its parts below; colour: "
            "the mean accuracy of its classes. Choose a box to go in, the top one to go back.",
            ("node", "name", "parent", "classes", *source.settings),
            [[node, found["name"][i], parents[i], found["classes"][i],
              *(row[i] for row in found["accuracy"])] for i, node in enumerate(ids)],
            views, height=560,
        )
    ]  # fmt: skip
