"""Norms of the classifier's rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.evaluation.analysis import norm_summary, row_norms
from ltkit.reporting.exhibits import Exhibit, View, visible
from ltkit.reporting.look import axis, class_lines, log_axis, means, shared, together
from ltkit.reporting.numbers import lengths
from ltkit.reporting.source import Source

KEY = "norms"
TITLE = "Classifier norms"

SPREAD = 20
"""Largest norm over the smallest from which a logarithmic scale is easier to read."""


def gather(source: Source) -> dict[str, Any]:
    """Return the norm of each class's row of the classifier, before and after, and by group."""
    found = [row_norms(source.subject.base)[:1]]
    for case in source.cases:
        network, correction = source.network(case), case.entry.correction
        found.append(
            np.stack([row_norms(network.corrected(correction, run))[0] for run in case.runs])
        )
    size = together(len(source.names))
    return {
        "classes_each": size,
        "class": source.order[::size].tolist(),
        "norm": [lengths(means(n.mean(axis=0)[source.order], size)) for n in found],
        "groups": [norm_summary(n, source.subject.groups) for n in found],
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
            f"has the curve of {source.first}, drawn wide.{shared(size)}",
            ("rank", "class", "name", "train_count", *source.settings),
            [[1 + size * place, c, source.names[c], source.train_count[c],
              *(row[place] for row in curves)] for place, c in enumerate(ids)],
            [View("", traces, {"xaxis": axis("class, by training images"),
                               "yaxis": height, "hovermode": "closest"})],
        ),
        _by_group(found["groups"], source.settings),
    ]  # fmt: skip


def _by_group(groups: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> Exhibit:
    """Return the table of mean norms by shot group, and their deviation."""
    heads = [name for name, mean in groups[0]["mean"].items() if mean is not None]
    named = list(zip(settings, groups, strict=True))
    return Exhibit(
        "norms-groups", "Length of classifiers by shot group",
        "Mean L2 norm of the classes' rows, and 100 times its standard deviation over all classes, "
        "which tells losses apart: the more even, the smaller. Means over seeds.",
        ("setting", "group", "mean", "deviation"),
        [[n, g, of["mean"][g], of["deviation"][g]] for n, of in named for g in heads],
        cells=[
            ["setting", *heads, "100 × deviation"],
            *([visible(n), *(f"{of['mean'][g]:#.3g}" for g in heads),
               f"{100 * of['deviation']['all']:.1f}"] for n, of in named),
        ],
    )  # fmt: skip
