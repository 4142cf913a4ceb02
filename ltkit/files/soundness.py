"""Whether an ltkit file is sound: structure, values and every block."""

from pathlib import Path

from ltkit.errors import FormatError
from ltkit.files import classifiers, features, hdf5, neighbors
from ltkit.files.blocks import StoredRows
from ltkit.records import FeatureSet

READERS = {
    hdf5.FEATURES.name: features.read, hdf5.CLASSIFIER.name: classifiers.read,
    hdf5.NEIGHBORS.name: neighbors.read,
}  # fmt: skip


def problems(path: Path) -> list[str]:
    """Read a whole file; return one line per problem, none for a sound file.

    Raises:
        InputError: when there is no such file.
    """
    try:
        contents = hdf5.read(path, *hdf5.KINDS.values())
        found = [
            line
            for name, rows in contents.datasets.items()
            for line in rows.verify(finite=name.endswith("/features") and rows.dtype.kind == "f")
        ]
        if not found:
            whole = READERS[contents.kind.name](path)
            splits = whole.splits.values() if isinstance(whole, FeatureSet) else ()
            shares = [s.local for s in splits if isinstance(s.local, StoredRows)]
            found = [line for rows in shares for line in rows.verify()]
    except FormatError as error:
        return [str(error)]
    return found
