"""Neighbours files: which classes each rare class is near to."""

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
    return Neighbors(few_class, base_class, distance, str(contents.attributes["/"]["metric"]))
