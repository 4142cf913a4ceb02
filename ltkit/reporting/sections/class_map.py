"""Class means in the plane."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.neighbors.class_means import around_centre
from ltkit.reporting.exhibits import Exhibit, View, label
from ltkit.reporting.look import BEFORE, COLORS, axis
from ltkit.reporting.numbers import lengths, numbers
from ltkit.reporting.source import Source
from ltkit.settings import SHOT_GROUPS

KEY = "map"
TITLE = "Map of the classes"

MAPPED = 5000
"""Most classes for which t-SNE takes seconds."""

LINED = 1000
"""Most classes between which lines are still seen."""

LETTER, LINE = 7 / 850, 14 / 480
"""Width of a letter and height of a line, as shares of the figure's."""


def gather(source: Source) -> dict[str, Any]:
    """Return classes in the plane, by PCA and t-SNE of their means, with lines to neighbours."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    means, trained = source.subject.means
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
        "points": {name: lengths(xy, 4) for name, xy in found.items()},
        "explained": numbers(pca.explained_variance_ratio_),
        "lines": [
            [int(c), int(other)]
            for c, row in zip(near.few_class, near.base_class, strict=True)
            if len(order) <= LINED and c in source.subject.groups.few
            for other in row
        ],
    }  # fmt: skip


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw a view for each projection, t-SNE first."""
    points = found["points"]
    views = [_view(name, found, source) for name in sorted(points, reverse=True)]
    lines = ", lines run from few-shot classes to their nearest base classes"
    if len(found["class"]) > LINED:
        lines = f"; without the lines to neighbours that {LINED} classes or fewer have"
    return [
        Exhibit(
            "map", "Class means in the plane",
            f"A mark is a class at its mean training feature{lines}; names where there is room, "
            "rare classes first. In t-SNE neighbourhoods mean something, distances and axes do "
            "not; PCA keeps large distances and loses small ones.",
            ("class", "name", "group", *(f"{n} {i}" for n in points for i in (1, 2))),
            [[c, source.names[c], source.group[c],
              *(v for xy in points.values() for v in xy[place])]
             for place, c in enumerate(found["class"])],
            views, height=560,
        )
    ]  # fmt: skip


def _view(name: str, found: dict[str, Any], source: Source) -> View:
    at = dict(zip(found["class"], found["points"][name], strict=True))
    ends = [[at[a], at[b], (None, None)] for a, b in found["lines"]]
    named = _named(at, source)
    traces: list[dict[str, Any]] = [{
        "type": "scatter", "mode": "lines", "hoverinfo": "skip", "name": "to neighbours",
        "line": {"color": BEFORE, "width": 0.6}, "opacity": 0.6,
        "x": [p[0] for line in ends for p in line], "y": [p[1] for line in ends for p in line],
    }] if ends else []  # fmt: skip
    for group in reversed(SHOT_GROUPS):
        ids = [c for c in found["class"] if source.group[c] == group]
        if ids:
            traces.append({
                "type": "scatter", "mode": "markers+text", "name": group, "meta": "class",
                "text": [named.get(c, "") for c in ids], "textposition": "top center",
                "textfont": {"size": 10},
                "customdata": ids, "x": [at[c][0] for c in ids], "y": [at[c][1] for c in ids],
                "marker": {"color": COLORS[group], "size": 8},
            })  # fmt: skip
    shares = found["explained"] if name == "PCA" else ()
    titles = [f"{name} {i + 1}" for i in range(2)]
    titles = [f"{t}, {100 * s:.0f} %" for t, s in zip(titles, shares, strict=False)] or titles
    axes = dict(zip(("xaxis", "yaxis"), map(axis, titles), strict=False))
    setting = min(1, len(source.settings) - 1)
    return View(name, traces, {**axes, "hovermode": "closest"}, setting)


def _named(at: Mapping[int, Sequence[float]], source: Source) -> dict[int, str]:
    """Return names of classes that do not overlap, of the rarest classes first."""
    places = np.array(list(at.values()))
    low = places.min(axis=0)
    scaled = (places - low) / np.maximum(places.max(axis=0) - low, 1e-12)
    where = dict(zip(at, scaled.tolist(), strict=True))
    found: dict[int, str] = {}
    for c in (int(c) for c in source.order[::-1] if int(c) in at):
        text, (x, y) = label(source.names[c], 16), where[c]
        apart = (
            abs(y - where[o][1]) > LINE or abs(x - where[o][0]) > LETTER * (len(text) + len(t)) / 2
            for o, t in found.items()
        )
        if all(apart):
            found[c] = text
    return found
