"""Norms of the classifier's rows."""

from typing import Any

import numpy as np

from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.look import axis, class_lines, log_axis, means, shared, together
from ltkit.reporting.numbers import lengths
from ltkit.reporting.source import Source

KEY = "norms"
TITLE = "Classifier norms"

SPREAD = 20
"""Largest norm over the smallest from which a logarithmic scale is easier to read."""


def gather(source: Source) -> dict[str, Any]:
    """Return the norm of each class's row of the classifier, before and after."""
    own = np.linalg.norm(source.subject.base.weight.astype(np.float64), axis=1)
    found = [own]
    for case in source.cases:
        after = own.copy()
        rows = case.entry.correction.weight[case.runs].astype(np.float64)
        after[case.class_id] = np.linalg.norm(rows, axis=2).mean(axis=0)
        found.append(after)
    size = together(len(own))
    return {
        "classes_each": size,
        "class": source.order[::size].tolist(),
        "norm": [lengths(means(n[source.order], size)) for n in found],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw one line per setting over the classes."""
    ids, curves, size = found["class"], found["norm"], found["classes_each"]
    traces = class_lines(zip(source.settings, curves, strict=True), ids, size)
    low, high = min(map(min, curves)), max(map(max, curves))
    height = log_axis("norm") if 0 < low < high / SPREAD else axis("norm", rangemode="tozero")
    return [
        Exhibit(
            "norms", "Length of each class's classifier",
            "Classes from most to fewest training images; height: the L2 norm of the class's row. "
            "A trained head falls towards the rare classes, whose logits are then too small. "
            "Methods scale their rows differently: compare shapes. One that changes biases only "
            f"has the baseline's curve, drawn wide.{shared(size)}",
            ("rank", "class", "name", "train_count", *source.settings),
            [[1 + size * place, c, source.names[c], source.train_count[c],
              *(row[place] for row in curves)] for place, c in enumerate(ids)],
            [View("", traces, {"xaxis": axis("class, by training images"),
                               "yaxis": height, "hovermode": "closest"})],
        )
    ]  # fmt: skip
