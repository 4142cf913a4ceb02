"""The weight of a training sample, by loss."""

from collections.abc import Callable, Mapping, Sequence
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
    costs at equal logits, over the cost without weights. Of several networks, each has its curves,
    by its training images and the means of its features, if they are not all those of the first.
    """
    present = np.flatnonzero(source.train_count)
    if len(present) < 2:
        raise InputError("a single class with training images, whose weight is 1")
    every = [(of.called, _curves(of, present, source)) for of in source.subject.networks]
    _, own = every[0]
    every = [(name, found) for name, found in every if found is own or not _within(found, own)]
    order = source.order[: len(present)]  # the others come last
    places = np.searchsorted(present, order)
    size = together(len(present))
    return {
        "classes_each": size,
        "class": order[::size].tolist(),
        "curves": [
            {"network": network, "name": n, "weight": numbers(averages(w[places], size))}
            for network, found in every for n, w in found.items()
        ],
    }  # fmt: skip


PROJECTED = 1000
"""Most classes that are laid out by similarity, which takes seconds."""

Curves = dict[str, NDArray[np.float64]]


def _within(found: Curves, own: Curves) -> bool:
    """Tell whether all of a network's curves are those of the first."""
    return all(n in own and np.array_equal(curve, own[n]) for n, curve in found.items())


def _curves(network: FeatureSet, present: Ints, source: Source) -> Curves:
    """Return a network's weights of some classes by loss; none if it has no images of one."""
    import torch

    from ltkit.losses import class_balanced, weighted

    count = len(present)
    counts = torch.from_numpy(network.classes.train_count[present])
    if not bool((counts > 0).all()):
        return {}
    zeros = torch.zeros(1, count, dtype=torch.float64)
    _, first, like = np.unique(counts.numpy(), return_index=True, return_inverse=True)

    def weights(loss: Callable[..., Any], **parameters: Any) -> NDArray[np.float64]:
        """Return what a sample of each class costs; those of as many images cost as much."""
        costs = [float(loss(zeros, torch.tensor([c]), counts, **parameters)) for c in first]
        return np.array(costs, dtype=np.float64)[like] / float(np.log(count))

    found = {
        f"class-balanced, beta {beta:g}": weights(class_balanced.loss, beta=beta)
        for beta in (0.99, 0.999, 0.9999)
    }
    for scheme in ("inverse", "square-root", "logarithm"):
        found[f"weighted, {scheme}"] = weights(weighted.loss, scheme=scheme, reduction="batch")
    return found | _by_similarity(network, present, source)


def _by_similarity(network: FeatureSet, present: Ints, source: Source) -> Curves:
    """Return the weights that also depend on the means of features, where all classes have one."""
    import torch

    from ltkit.losses import similarity_window, swrm

    if network is not source.subject.features and "train" not in network.splits:
        return {}
    if len(present) > PROJECTED:
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
    """Draw one line per loss over the classes, in a view for each network."""
    ids, curves, size = found["class"], found["curves"], found["classes_each"]
    names = list(dict.fromkeys(c["network"] for c in curves))
    several = len(names) > 1
    layout = {"xaxis": axis("class, by training images"), "hovermode": "closest",
              "yaxis": log_axis("weight")}  # fmt: skip
    views = []
    for name in names:
        own = [curve for curve in curves if curve["network"] == name]
        views.append(View(name if several else "", _lines(own, ids, size), layout))
    columns = [f"{c['network']}: {c['name']}" if several else c["name"] for c in curves]
    return [
        Exhibit(
            "weights", "What a training sample weighs, by loss",
            "Classes from most to fewest training images; height, on a log scale: the weight of "
            "one sample, its mean over classes being 1. Smooth curves follow the counts; swrm "
            f"also looks at the classes around, and is left out of more than {PROJECTED:,} classes."
            f"{shared(size)}",
            ("rank", "class", "name", "train_count", *columns),
            [[1 + size * place, c, source.names[c], source.train_count[c],
              *(curve["weight"][place] for curve in curves)] for place, c in enumerate(ids)],
            views, height=320,
        )
    ]  # fmt: skip


def _lines(
    curves: Sequence[Mapping[str, Any]], ids: Sequence[int], size: int
) -> list[dict[str, Any]]:
    """Return the traces of a network's curves, none of them in the colour of the baseline."""
    return class_lines([("", ()), *((c["name"], c["weight"]) for c in curves)], ids, size)[1:]
