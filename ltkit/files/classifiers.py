"""Classifier files: the rows that a method changed, in one or more runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.files import hdf5
from ltkit.records import Correction


def write(
    path: Path,
    correction: Correction,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    command: str,
) -> str:
    """Write a classifier file; return its digest."""
    datasets = {
        "class_id": correction.class_id,
        "weight": correction.weight.astype(np.float32),
        "bias": correction.bias.astype(np.float32),
        "runs": hdf5.encode(
            tuple(json.dumps(dict(run), sort_keys=True) for run in correction.runs)
        ),
    }
    for name, values in correction.extra.items():
        datasets[f"extra/{name}"] = values
    root = {"method": correction.method, "normalize_features": int(correction.normalize_features)}
    return hdf5.write(
        path, hdf5.CLASSIFIER, datasets, {"/": root},
        settings=settings, inputs=inputs, command=command,
    )  # fmt: skip


def read(path: Path) -> tuple[Correction, dict[str, str]]:
    """Read a classifier file; return it and the digests of the files it was made from.

    Raises:
        FormatError: when it is not a sound classifier file.
        InputError: when there is no such file.
    """
    contents = hdf5.read(path, hdf5.CLASSIFIER)
    runs = contents.strings("runs")
    extra = {
        name.removeprefix("extra/"): contents.read(name)
        for name in contents.datasets
        if name.startswith("extra/")
    }
    correction = Correction(
        str(contents.attributes["/"]["method"]),
        contents.read("class_id"),
        contents.read("weight"),
        contents.read("bias"),
        tuple(json.loads(run) for run in (() if runs is None else runs)),
        bool(contents.attributes["/"]["normalize_features"]),
        extra,
    )
    return correction, contents.inputs
