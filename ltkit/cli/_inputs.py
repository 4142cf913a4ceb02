"""Input that several commands read: a features file and its corrections."""

from pathlib import Path
from typing import TYPE_CHECKING

from ltkit.cli import _output, _paths

if TYPE_CHECKING:
    from ltkit.evaluation import Entry
    from ltkit.records import FeatureSet


def read_entries(
    path: Path, features: "FeatureSet", named: list[Path] | None, quiet: bool
) -> "list[Entry]":
    """Read the named classifier files, or all those next to the features file made from it.

    Without names, an unusable file is left out with a note that says why.

    Raises:
        FormatError: when a named file is not sound.
        InputError: when a named file was made from other features.
    """
    from ltkit.errors import LtkitError
    from ltkit.evaluation import entries_of
    from ltkit.files import classifiers

    files = _paths.classifiers_of(path, features.digest) if named is None else named
    read = []
    for file in {file.resolve(): file for file in files}.values():
        try:
            read.append((file, classifiers.read_for(file, features)))
        except LtkitError as error:
            if named is not None:
                raise
            _output.say(f"note: left out: {error}", quiet)
    if named is None and read:
        _output.say(f"with {', '.join(file.name for file, _ in read)}", quiet)
    return entries_of(read)


def features_and_named(files: list[str], quiet: bool) -> tuple[Path, list[Path] | None]:
    """Return the features file and the named classifiers; None when none is named.

    A classifier named first also implies its features file.
    """
    from ltkit.files import hdf5

    path = _paths.features_path(files[0] if files else None, quiet)
    named = [Path(file) for file in files[1:]]
    if (
        files
        and files[0] != "-"
        and hdf5.header(Path(files[0])).get("format") == (hdf5.CLASSIFIER.name)
    ):
        named.insert(0, Path(files[0]))
    return path, named or None
