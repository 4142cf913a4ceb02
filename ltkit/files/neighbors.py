"""Neighbours files: the classes nearest to each rare class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.files import hdf5
from ltkit.records import Neighbors


def write(
    path: Path,
    neighbors: Neighbors,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    command: str,
) -> str:
    """Write a neighbours file; return its digest."""
    datasets: dict[str, NDArray[Any]] = {
        "few_class": neighbors.few_class,
        "base_class": neighbors.base_class,
        "distance": neighbors.distance.astype(np.float32),
    }
    return hdf5.write(
        path, hdf5.NEIGHBORS, datasets, {"/": {"metric": neighbors.metric}},
        settings=settings, inputs=inputs, command=command,
    )  # fmt: skip


def read(path: Path) -> Neighbors:
    """Read a neighbours file.

    Raises:
        FormatError: when it is not a sound neighbours file.
        InputError: when there is no such file.
    """
    contents = hdf5.read(path, hdf5.NEIGHBORS)
    few_class = contents.class_ids("few_class")
    base_class = contents.integers("base_class", len(few_class), None)
    distance = contents.floats("distance", *base_class.shape)
    ordered = np.sort(base_class, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise contents.wrong("base_class", "a class twice in a row", "each neighbour once")
    metric = contents.attributes["/"]["metric"]
    if not isinstance(metric, str):
        raise contents.wrong("metric", metric, "text")
    falls = metric != "random-once" and (np.diff(distance, axis=1) < 0).any()
    if falls or (distance < 0).any():
        raise contents.wrong("distance", "numbers that fall, or below 0", "the nearest first")
    return Neighbors(few_class, base_class, distance, metric)
