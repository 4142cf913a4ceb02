"""An ensemble of networks as one of them: features side by side, logits that are their mean."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation.networks import check_classes, same_samples
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import Classifier, FeatureSet, FeatureSplit, Floats, Head, Rows, progress


@dataclass(frozen=True, eq=False)
class _Joined:
    """Features of several networks side by side, each as its head takes them."""

    parts: Sequence[tuple[Rows, Classifier]]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, D), D over all networks."""
        return (self.parts[0][0].shape[0], sum(rows.shape[1] for rows, _ in self.parts))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Single precision."""
        return np.dtype(np.float32)

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows."""
        return np.concatenate([head.prepare(every[rows]) for every, head in self.parts], axis=1)


def ensemble(networks: Sequence[FeatureSet]) -> FeatureSet:
    """Return several networks as one, whose logits are the mean of theirs.

    Its features are theirs, side by side, divided by their norms where a head does that; its head
    is linear, with an expert for each network, or for each expert of one, where all are equally
    wide. So it can be evaluated, and corrected, like any other. The mean is of logits, not of
    probabilities: a network with larger logits counts for more.

    Args:
        networks: two or more, with heads, of one dataset. The classes and training counts are those
            of the first.

    Returns:
        With the splits whose samples all have in common.

    Raises:
        InputError: for a single network, other classes, or no split in common.
    """
    first, *others = networks
    if not others:
        raise InputError(f"{first.source}: found one network, expected two or more; name another")
    for other in others:
        check_classes(first, other)
    heads = [of.classifier() for of in networks]
    splits = {}
    for name in first.splits:
        shared = _shared(networks, name)
        if shared is not None:
            rows = _Joined([(of.features, head) for of, head in zip(shared, heads, strict=True)])
            splits[name] = replace(shared[0], features=rows, local=None)
    if not splits:
        raise InputError(
            f"{first.source}: found no split with the samples of {others[0].source}, expected "
            "networks of one dataset; extract all from it"
        )
    return FeatureSet(
        splits, first.classes, joined_head(heads), {"ensemble": [of.source for of in networks]},
        source=" + ".join(of.source for of in networks), called="ensemble",
    )  # fmt: skip


def _shared(networks: Sequence[FeatureSet], split: str) -> list[FeatureSplit] | None:
    """Return every network's part of a split, in one order; None where samples differ."""
    try:
        return [same_samples(networks[0], of, split) for of in networks]
    except InputError:
        return None


def joined_head(heads: Sequence[Classifier]) -> Head:
    """Return the head of features side by side whose logits are the mean of several heads'.

    Example:
        >>> one = Classifier(np.float32([[1, 2]]), np.float32([3]))
        >>> other = Classifier(np.float32([[5, 6]]), np.float32([7]))
        >>> joined_head([one, other]).fold().weight.tolist()  # halves, side by side
        [[0.5, 1.0, 2.5, 3.0]]
        >>> joined_head([one, other]).weight.tolist()
        [[[1.0, 2.0]], [[5.0, 6.0]]]
    """
    count, size = len(heads), sum(head.experts for head in heads)
    widths = {head.feature_size // head.experts for head in heads}
    biases = np.stack([head.bias for head in heads])
    bias: Floats = biases.mean(axis=0, dtype=np.float64).astype(np.float32)
    rows = np.concatenate([head.weight for head in heads], axis=1)  # (C, D)
    if len(widths) > 1:
        return Head(rows / np.float32(count), bias)
    parts = rows.reshape(len(rows), size, -1).transpose(1, 0, 2)  # (E, C, D / E)
    scale = np.float32(size / count)
    return Head(np.ascontiguousarray(parts * scale), np.repeat(bias[None], size, axis=0))


def write_ensemble(
    networks: Sequence[FeatureSet],
    output: Path,
    *,
    command: str,
    report: progress.Report = progress.silent,
) -> list[str]:
    """Write several networks as one features file; return the splits that they do not share.

    Args:
        networks: as for `ensemble`, read from files.
        output: the file.
        command: that made it.
        report: called after each block.

    Raises:
        InputError: as `ensemble`.
    """
    made = ensemble(networks)
    plan = Plan(
        made.feature_size, "float32",
        {name: SplitPlan(split.labels, split.ids) for name, split in made.splits.items()},
        made.classes, made.head, dict(made.settings),
        {f"network {place}": of.digest for place, of in enumerate(networks, start=1)},
    )  # fmt: skip
    total = sum(map(len, made.splits.values()))
    done = 0
    with FeaturesWriter(output, plan, command=command, resume=False) as writer:
        for name, split in made.splits.items():
            for _, block, labels in split.blocks():
                writer.append(name, block)
                done += len(labels)
                report("row", done, total)
        writer.finish()
    return [name for name in networks[0].splits if name not in made.splits]
