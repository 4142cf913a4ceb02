"""Whether an ltkit file is sound: structure, values and every block."""

from pathlib import Path

from ltkit.errors import FormatError
from ltkit.files import classifiers, features, hdf5, neighbors

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
            READERS[contents.kind.name](path)
    except FormatError as error:
        return [str(error)]
    return found
