"""Classifier files: the rows that a method changed, in one or more runs."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    datasets: dict[str, NDArray[Any]] = {
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
    runs = _runs(contents)
    class_id = contents.class_ids("class_id")
    weight = contents.floats("weight", len(runs), len(class_id), None)
    bias = contents.floats("bias", len(runs), len(class_id))
    extra = {}
    for name, rows in contents.datasets.items():
        if name.startswith("extra/"):
            stored = contents.stored(name, "fiuS", len(runs), *rows.shape[1:])
            extra[name.removeprefix("extra/")] = stored[:]
    root = contents.attributes["/"]
    if root["normalize_features"] not in (0, 1):
        raise contents.wrong("normalize_features", root["normalize_features"], "0 or 1")
    correction = Correction(
        str(root["method"]), class_id, weight, bias, runs, bool(root["normalize_features"]), extra
    )
    return correction, contents.inputs


def _runs(contents: hdf5.Contents) -> tuple[dict[str, Any], ...]:
    """Return what made each run, JSON objects."""
    runs = []
    for row, text in enumerate(contents.strings("runs", None).tolist()):
        try:
            runs.append(json.loads(text))
        except ValueError:
            runs.append(None)
        if not isinstance(runs[-1], dict):
            raise contents.wrong("runs", f"{text!r} in row {row}", "JSON objects")
    return tuple(runs)
