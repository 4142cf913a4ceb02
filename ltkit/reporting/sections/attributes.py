"""Local pseudo-attributes: how balanced they are, and what rare classes share with others."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.evaluation.analysis import analyze_attributes, nearest_images
from ltkit.reporting.exhibits import Cell, Exhibit, View, brief, label
from ltkit.reporting.look import BEFORE, SERIES, axis
from ltkit.reporting.numbers import hundred, number, percent
from ltkit.reporting.source import Source

KEY = "attributes"
TITLE = "Local pseudo-attributes"

RARE = 8
"""Rarest classes whose nearest images are shown."""

NEAR = 6
"""Images of each."""

POINTS = 200
"""Most points of a curve."""


def gather(source: Source) -> dict[str, Any]:
    """Return the balance of classes and attributes, and the nearest images of the rarest classes.

    All of the train split, or where there is none of the split shown.
    """
    features = source.subject.features
    split = "train" if "train" in features.splits else source.subject.split
    document = analyze_attributes(features, split=split, top=1)
    rarest = sorted(document["classes"], key=lambda c: (c["train_count"], c["class"]))[:RARE]
    return {
        "split": split,
        "balance": {
            name: {key: found[key] for key in ("count", "gini", "evenness")}
            | {"curve": _curve(found["shares"])}
            for name, found in document["balance"].items()
        },
        "nearest": [
            nearest_images(features, split=split, of_class=str(c["class"]), by="cosine", count=NEAR)
            for c in rarest
        ],
    }


def _curve(shares: Sequence[float]) -> list[list[float]]:
    """Return points of the Lorenz curve: a part of all, the smallest first, and its share."""
    sums = np.concatenate([[0.0], np.cumsum(shares[::-1])])
    places = np.unique(np.linspace(0, len(shares), min(POINTS, len(shares) + 1)).astype(int))
    return [[round(p / len(shares), 6), round(float(sums[p]), 6)] for p in places.tolist()]


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the curves, and a row of images for each of the rarest classes."""
    return [_balance(found), _nearest(found, source)]


def _balance(found: Mapping[str, Any]) -> Exhibit:
    traces: list[dict[str, Any]] = []
    for place, (name, one) in enumerate(found["balance"].items()):
        traces.append({
            "type": "scatter", "mode": "lines", "name": label(f"{name}, Gini {one['gini']:.2f}"),
            "x": hundred(x for x, _ in one["curve"]), "y": hundred(y for _, y in one["curve"]),
            "line": {"color": SERIES[place]},
            "hovertemplate": "%{x:.0f} %: %{y:.1f} %<extra>%{fullData.name}</extra>",
        })  # fmt: skip
    same = {
        "type": "scatter", "mode": "lines", "name": "perfectly even", "x": [0, 100], "y": [0, 100],
        "line": {"color": BEFORE, "dash": "dot"}, "hoverinfo": "skip",
    }  # fmt: skip
    layout = {"xaxis": axis("% of classes, or of attributes, the rarest first"),
              "yaxis": axis("% of images, or of positions")}  # fmt: skip
    rows = [[name, *point] for name, one in found["balance"].items() for point in one["curve"]]
    attributes = found["balance"]["attributes"]["count"]
    return Exhibit(
        "attribute-balance", "How evenly classes and attributes are spread",
        f"An attribute is one of {attributes} clusters of the vectors that the network's last "
        "feature map has at its positions. A curve says what part of the images the rarest classes "
        "have, or what part of all positions the rarest attributes: the nearer to the dotted line, "
        f"the more even (Gini 0 is even, near 1 is one for all). {found['split'].capitalize()} "
        "split.",
        ("of", "part", "share"), rows, [View("", [*traces, same], layout)],
    )  # fmt: skip


def _nearest(found: Mapping[str, Any], source: Source) -> Exhibit:
    heads = ["rare class (its images)", *(f"{place}" for place in range(1, NEAR + 1))]
    cells: list[Sequence[str | Cell]] = [heads]
    rows = []
    for one in found["nearest"]:
        query = one["query"]
        text = (
            f"{brief(query['name'])} ({query['train_count']})\n"
            f"{percent(query['share'])} % attribute {one['attribute']}\n"
            f"class {percent(one['share'])} %, all {percent(one['mean'])} %"
        )
        line = [Cell(text, picture=_picture(query, source))]
        line += [
            Cell(f"{brief(hit['name'])} ({hit['train_count']})\n{percent(hit['share'])} %",
                 picture=_picture(hit, source))
            for hit in one["images"]
        ]  # fmt: skip
        cells.append([*line, *[""] * (len(heads) - len(line))])
        rows += [
            [query["name"], one["attribute"], number(one["share"]), place, hit["name"], hit["id"],
             number(hit["share"]), number(hit["cosine"])]
            for place, hit in enumerate(one["images"], start=1)
        ]  # fmt: skip
    shown = any(isinstance(c, Cell) and c.picture for line in cells for c in line)
    absent = (
        "" if shown else " Their pictures are not shown: name the dataset's folder with --images."
        if source.pictures is None else " Their pictures were not found in the folder."
    )  # fmt: skip
    return Exhibit(
        "attribute-nearest", "Images of other classes that share a rare class's attribute",
        "The attribute is the one that the rare class has most of, compared with all classes: its "
        "share of the positions in the picture shown, in the class, and in the mean over classes. "
        "Beside it are the images of other classes that stand out by the same attribute, those "
        "whose attributes are most like the class's first; attributes can be parts, textures or "
        f"backgrounds.{absent}",
        ("class", "attribute", "class_share", "place", "name", "id", "share", "cosine"), rows,
        cells=cells,
    )  # fmt: skip


def _picture(one: Mapping[str, Any], source: Source) -> str:
    if source.pictures is None or one["id"] is None:
        return ""
    return source.pictures(one["id"]) or ""
