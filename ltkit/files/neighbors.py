"""Neighbours files: which classes each rare class is near to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    datasets = {
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
    return Neighbors(
        contents.read("few_class"),
        contents.read("base_class"),
        contents.read("distance"),
        str(contents.attributes["/"]["metric"]),
    )
