"""What the functions take: NumPy arrays, lists or tensors; corrections, or their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation import Entry
from ltkit.records import Correction

Array = Any
"""A NumPy array, a list, or a tensor."""

Split = tuple[Array, Array]
"""Features (N, D) and labels (N,)."""

Judged = Correction | tuple[str, Correction] | str | Path
"""A correction, a correction with a name, or the classifier file that holds it."""

COMMAND = "import ltkit"
"""The command recorded in files written from Python."""


def array_of(values: Array, dtype: type[Any]) -> Any:
    """Return an array of a type; integers must be whole numbers."""
    held = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if held.dtype.kind not in "biuf":
        raise InputError(f"found an array of {held.dtype}, expected numbers")
    found = held.astype(dtype)
    if dtype is np.int64 and not np.array_equal(found, held):
        raise InputError("found numbers with fractions, expected whole ones")
    return found


def entries_of(corrections: Sequence[Judged]) -> list[Entry]:
    """Return the corrections to evaluate, each with a unique name, by default its method's."""
    found: list[Entry] = []
    for one in corrections:
        if isinstance(one, tuple):
            found.append(Entry(one[0], one[0], one[1]))
        elif isinstance(one, Correction):
            found.append(Entry(one.method, one.method, one))
        else:
            found.append(Entry(Path(one).stem, str(one), read_correction(one)))
    names = [entry.name for entry in found]
    return [
        entry if names.count(entry.name) == 1
        else Entry(f"{entry.name} ({names[: place + 1].count(entry.name)})", entry.file,
                   entry.correction)
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
