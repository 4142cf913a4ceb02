"""The weight of a training sample, by loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.look import axis, class_lines, log_axis, shared, together
from ltkit.reporting.look import means as averages
from ltkit.reporting.numbers import numbers
from ltkit.reporting.source import Source

KEY = "weights"
TITLE = "Loss weights"


def gather(source: Source) -> dict[str, Any]:
    """Return a sample's weight for each class in weighted losses; the mean over classes is 1.

    Classes without training images have none, and are left out. A loss's weight is what a sample
    costs at equal logits, over the cost without weights.
    """
    import torch

    from ltkit.losses import class_balanced, similarity_window, swrm, weighted

    present = np.flatnonzero(source.train_count)
    count = len(present)
    if count < 2:
        raise InputError("a single class with training images, whose weight is 1")
    counts = torch.from_numpy(source.subject.classes.train_count[present])
    zeros = torch.zeros(1, count, dtype=torch.float64)

    def weights(loss: Callable[..., Any], **parameters: Any) -> NDArray[np.float64]:
        costs = [float(loss(zeros, torch.tensor([c]), counts, **parameters)) for c in range(count)]
        return np.array(costs, dtype=np.float64) / float(np.log(count))

    found = {
        f"class-balanced, beta {beta:g}": weights(class_balanced.loss, beta=beta)
        for beta in (0.99, 0.999, 0.9999)
    }
    for scheme in ("inverse", "square-root", "logarithm"):
        found[f"weighted, {scheme}"] = weights(weighted.loss, scheme=scheme, reduction="batch")
    means, trained = source.subject.means
    if np.isin(present, trained).all():
        positions = torch.from_numpy(swrm.project(means[present], source.seed, "pca"))
        window = min(15, count)
        raw, _ = similarity_window(counts.double(), positions, window=window, beta=1.0)
        found[f"swrm, window {window}"] = raw.numpy() / raw.numpy().mean()
    order = source.order[:count]  # the others come last
    places = np.searchsorted(present, order)
    size = together(count)
    return {
        "classes_each": size,
        "class": order[::size].tolist(),
        "curves": [
            {"name": n, "weight": numbers(averages(w[places], size))} for n, w in found.items()
        ],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw one line per loss over the classes."""
    ids, curves, size = found["class"], found["curves"], found["classes_each"]
    traces = class_lines([("", ()), *((c["name"], c["weight"]) for c in curves)], ids, size)[1:]
    return [
        Exhibit(
            "weights", "What a training sample weighs, by loss",
            "Classes from most to fewest training images; height, on a log scale: the weight of "
            "one sample, its mean over classes being 1. Smooth curves follow the counts; swrm "
            f"also looks at the classes around.{shared(size)}",
            ("rank", "class", "name", "train_count", *(c["name"] for c in curves)),
            [[1 + size * place, c, source.names[c], source.train_count[c],
              *(curve["weight"][place] for curve in curves)] for place, c in enumerate(ids)],
            [View("", traces, {"xaxis": axis("class, by training images"), "hovermode": "closest",
                               "yaxis": log_axis("weight")})],
            height=320,
        )
    ]  # fmt: skip
