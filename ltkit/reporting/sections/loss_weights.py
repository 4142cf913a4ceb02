"""The weight of a training sample, by loss."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import FeatureSet, Ints
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
    costs at equal logits, over the cost without weights. Another network has the curves in which it
    differs from the first: by its training images, or the means of its features.
    """
    present = np.flatnonzero(source.train_count)
    if len(present) < 2:
        raise InputError("a single class with training images, whose weight is 1")
    found: dict[str, NDArray[np.float64]] = {}
    for network in source.subject.networks:
        for name, curve in _curves(network, present, source).items():
            if name not in found:
                found[name] = curve
            elif not np.array_equal(found[name], curve):
                found[f"{network.called}: {name}"] = curve
    order = source.order[: len(present)]  # the others come last
    places = np.searchsorted(present, order)
    size = together(len(present))
    return {
        "classes_each": size,
        "class": order[::size].tolist(),
        "curves": [
            {"name": n, "weight": numbers(averages(w[places], size))} for n, w in found.items()
        ],
    }


def _curves(network: FeatureSet, present: Ints, source: Source) -> dict[str, NDArray[np.float64]]:
    """Return a network's weights of some classes by loss; none if it has no images of one."""
    import torch

    from ltkit.losses import class_balanced, weighted

    count = len(present)
    counts = torch.from_numpy(network.classes.train_count[present])
    if not bool((counts > 0).all()):
        return {}
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
    return found | _by_similarity(network, present, source)


def _by_similarity(
    network: FeatureSet, present: Ints, source: Source
) -> dict[str, NDArray[np.float64]]:
    """Return the weights that also depend on the means of features, where all classes have one."""
    import torch

    from ltkit.losses import similarity_window, swrm

    if network is not source.subject.features and "train" not in network.splits:
        return {}
    means, trained = source.means_of(network)
    if not np.isin(present, trained).all():
        return {}
    counts = torch.from_numpy(network.classes.train_count[present]).double()
    positions = torch.from_numpy(swrm.project(means[present], source.seed, "pca"))
    window = min(15, len(present))
    raw, _ = similarity_window(counts, positions, window=window, beta=1.0)
    return {f"swrm, window {window}": raw.numpy() / raw.numpy().mean()}


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
