"""What several commands read: a features file, what stands for its head, and corrections of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ltkit.cli import _output, _paths

if TYPE_CHECKING:
    from ltkit.evaluation import Entry
    from ltkit.records import FeatureSet

RecalibrateOn = Annotated[
    str | None,
    typer.Option(
        metavar="FEATS[:SPLIT]",
        help="Features with labels to choose or calibrate on, in the place of val; default split: "
        "val.",
        show_default=False,
    ),
]


def read_features(
    path: Path, base: Path | None, quiet: bool, corrections: Sequence[Path] = ()
) -> "FeatureSet":
    """Read a features file, with a classifier in the place of its head where that is wanted.

    Without a head it is what the corrections were made from, or the only such file beside it, and a
    note says so.

    Raises:
        FormatError: when a file is not sound.
        InputError: when there is neither head nor such a file, or it does not belong to them.
    """
    from ltkit.files import bases
    from ltkit.files import features as features_file

    features = features_file.read(path)
    if base is None and features.head is None:
        base = bases.only(path, features, corrections)
        _output.say(f"note: {path} has no head: {base} stands for it", quiet)
    return features if base is None else bases.read(base, features)


def recalibrated(features: "FeatureSet", on: str | None) -> "tuple[FeatureSet, dict[str, str]]":
    """Return features with another file's split in the place of val, and that file's digest.

    Args:
        features: as read.
        on: of ``--recalibrate-on``; None leaves them as they are.

    Raises:
        InputError: when there is no such file or split, or it is of other classes.
    """
    from ltkit.files import features as features_file
    from ltkit.records import SPLITS

    if on is None:
        return features, {}
    name, _, split = on.rpartition(":")
    if split not in SPLITS:
        name, split = on, "val"
    other = features_file.read(Path(name))
    return features.recalibrated(other, split), {"recalibrated": other.digest}


def read_judged(
    path: Path, base: Path | None, named: list[Path] | None, quiet: bool, split: str | None = None
) -> "tuple[FeatureSet, list[Entry]]":
    """Read features as `read_features`, and corrections of them as `read_entries`.

    Args:
        path: the features file.
        base: what stands for its head.
        named: classifier files, and features files of further networks.
        quiet: print no notes.
        split: where all networks' samples are to be the same; None: they do not matter.
    """
    from ltkit.files import hdf5

    kinds = {file: hdf5.header(file).get("format") for file in named or ()}
    others = [file for file, kind in kinds.items() if kind == hdf5.FEATURES.name]
    if others:
        rest = [file for file in kinds if file not in others]
        return _read_networks([path, *others], base, rest, quiet, split)
    features = read_features(path, base, quiet, named or ())
    return features, read_entries(path, features, named, quiet)


def _read_networks(
    paths: list[Path], base: Path | None, files: list[Path], quiet: bool, split: str | None
) -> "tuple[FeatureSet, list[Entry]]":
    """Read several networks, and of each the named corrections, told by what they were made from.

    Raises:
        FormatError: when a file is not sound.
        InputError: when a file is of none of the networks, or these have other classes or samples.
    """
    from ltkit.evaluation import networks

    of = {file: _network_of(file, paths) for file in (*files, *([base] if base else []))}
    read = [
        read_features(path, base if base and of[base] == path else None, quiet,
                      [file for file in files if of[file] == path])
        for path in paths
    ]  # fmt: skip
    first, *others = networks.named(read)
    for other in others:
        networks.check_classes(first, other)
        for line in networks.assumed(first, other, split):
            _output.say(f"note: {line}", quiet)
    found = []
    for path, network in zip(paths, (first, *others), strict=True):
        found += [] if network is first else [networks.own_head(first, network)]
        own = read_entries(path, network, [file for file in files if of[file] == path], quiet)
        found += [networks.of_network(entry, network, first) for entry in own]
    return first, found


def _network_of(file: Path, paths: Sequence[Path]) -> Path:
    """Return the features that a classifier file was made from; the first, where none are."""
    from ltkit.files import hdf5

    made_from = hdf5.header(file).get("inputs", {}).get("features")
    same = (path for path in paths if hdf5.header(path).get("digest") == made_from)
    return next(same, paths[0])


def read_entries(
    path: Path, features: "FeatureSet", named: list[Path] | None, quiet: bool
) -> "list[Entry]":
    """Read the named classifier files, or all those next to the features file made from it.

    Of those that are not named, one that cannot be used is left out, with a note. The base is none.

    Raises:
        FormatError: when a named file is not sound.
        InputError: when a named file was made from other features.
    """
    from ltkit.errors import LtkitError
    from ltkit.evaluation import entries_of
    from ltkit.files import bases, classifiers, hdf5

    files = bases.beside(path, features.digest) if named is None else named
    every = {file.resolve(): file for file in files}
    if features.base is not None:
        every.pop(Path(features.base.source).resolve(), None)
    read = []
    for file in every.values():
        try:
            read.append((file, classifiers.read_for(file, features)))
        except LtkitError as error:
            if named is not None:
                raise
            _output.say(f"note: left out: {error}", quiet)
    for file, correction in read:
        if "prior" in correction.extra and (
            hdf5.header(file)["inputs"].get("target") == features.digest
        ):
            _output.say(f"note: {file}: was adapted to images of {path}, without labels", quiet)
    if named is None and read:
        _output.say(f"with {', '.join(file.name for file, _ in read)}", quiet)
    return entries_of(read, [features.baseline] if features.base else (), path.stem)


def features_and_named(
    files: list[str] | None, quiet: bool, classifiers: Sequence[Path] | None = None
) -> tuple[Path, list[Path] | None]:
    """Return the features file and the named classifiers; None when none is named.

    A classifier named first also implies its features file.

    Args:
        files: as they are named on the command line.
        quiet: whether nothing is said of a features file that was not named.
        classifiers: further ones, of ``--classifier``.
    """
    from ltkit.files import hdf5

    path = _paths.features_path(files[0] if files else None, quiet)
    named = [Path(file) for file in (files or [])[1:]] + list(classifiers or ())
    if files and files[0] != "-":
        first = Path(files[0])
        if hdf5.header(first).get("format") == hdf5.CLASSIFIER.name:
            named.insert(0, first)
    return path, named or None
