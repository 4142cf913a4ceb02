"""What the functions take: NumPy arrays, lists or tensors; corrections, or their files."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import Entry
from ltkit.evaluation.networks import own_head
from ltkit.narrowing import as_float32
from ltkit.records import Correction, FeatureSet, Floats, Ints

Array = Any
"""A NumPy array, a list, or a tensor."""

Split = tuple[Array, Array]
"""Features (N, D) and labels (N,)."""

Judged = (
    Correction | tuple[str, Correction] | str | Path
    | FeatureSet | tuple[str, FeatureSet] | tuple[str, Correction, FeatureSet]
)  # fmt: skip
"""A correction, a correction with a name, or the classifier file that holds it; another network by
its features, with a name or without; a correction of that, with a name, and its features."""

COMMAND = "import ltkit"
"""The command recorded in files written from Python."""


def whole_numbers(values: Array) -> Ints:
    """Return an array of int64; the numbers must be whole."""
    held = numbers(values)
    found = held.astype(np.int64)
    if not np.array_equal(found, held):
        raise InputError("found numbers with fractions, expected whole ones")
    return found


def single(values: Array, name: str) -> Floats:
    """Return an array of float32.

    Args:
        values: finite numbers.
        name: of the parameter.

    Raises:
        InputError: when they are not finite, or float32 loses them.
    """
    return as_float32(numbers(values), name, "multiply all of them by one large number")


def numbers(values: Array) -> NDArray[Any]:
    """Return an array of numbers of the type they have."""
    narrow = str(getattr(values, "dtype", "")) == "torch.bfloat16"  # NumPy has none
    values = values.float() if narrow else values
    held = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if held.dtype.kind not in "biuf":
        raise InputError(f"found an array of {held.dtype}, expected numbers")
    return held


def entries_of(corrections: Sequence[Judged]) -> list[Entry]:
    """Return the corrections to evaluate, each with a unique name, by default its method's."""
    found: list[Entry] = []
    for one in corrections:
        if isinstance(one, FeatureSet):
            one = (Path(one.source).stem, one)
        elif isinstance(one, Correction):
            one = (one.method, one)
        if not isinstance(one, tuple):
            found.append(Entry(Path(one).stem, str(one), read_correction(one)))
        elif isinstance(one[1], FeatureSet):
            name, network = one[:2]
            found.append(replace(own_head(network, network), name=name))
        else:
            found.append(Entry(one[0], one[0], *one[1:]))
    names = [entry.name for entry in found]
    return [
        entry if names.count(entry.name) == 1
        else replace(entry, name=f"{entry.name} ({names[: place + 1].count(entry.name)})")
        for place, entry in enumerate(found)
    ]  # fmt: skip


def read_correction(path: str | Path) -> Correction:
    """Read a classifier file, with all its runs.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, or another kind of file.
    """
    from ltkit.files import classifiers

    return classifiers.read(Path(path))[0]
