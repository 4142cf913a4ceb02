"""What is in a bundle's folder, and how it is read."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltkit.errors import FormatError, InputError
from ltkit.files import classifiers, rules
from ltkit.records import Classifier, Correction, FeatureSet, Rule, classifier_digest
from ltkit.untrusted.budget import opened, stays_in

KIND, MANIFEST, CLASSIFIER, CARD = "bundle", "bundle.json", "classifier.h5", "card.md"
RULES = ("sets", "rejector")
"""Kinds of rules that go with a classifier."""

PIECE = 1 << 20


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was read, all of whose files are as they were written.

    manifest: its content; `ltkit.bundles.writing` says what it has.
    correction: a whole classifier, in one run.
    rules: how its answers are used.
    """

    folder: Path
    manifest: Rule
    correction: Correction
    rules: tuple[Rule, ...]

    def classifier(self, features: FeatureSet) -> Classifier:
        """Return the classifier, for features of the model that it was made for.

        Raises:
            InputError: when the features are of another model or other classes.
        """
        content, where = self.manifest.content, f"{self.folder / MANIFEST}"
        own = head_digest(features)
        if content["head"] and own and content["head"] != own:
            raise InputError(
                f"{features.source}: head: found {own[:12]}, expected {content['head'][:12]} of "
                f"the model in {where}; extract the features with that model"
            )
        known = own and features.classifier().num_classes == self.manifest.num_classes
        base = features.classifier() if known else features.empty_classifier()
        wanted = (self.manifest.num_classes, self.correction.weight.shape[2])
        found = (len(features.classes), features.feature_size)
        if found != wanted:
            raise InputError(
                f"{features.source}: found {found[0]} classes of {found[1]} features, expected "
                f"{wanted[0]} of {wanted[1]} as {where}; extract features of that model"
            )
        classifier = self.correction.classifier(base, 0)
        self.manifest.check(features, classifier)
        return classifier


def check_free(folder: Path) -> None:
    """Refuse a place for a bundle where something is, or that has no folder to be in.

    Raises:
        InputError: then.
    """
    if folder.exists() or folder.is_symlink():
        raise InputError(
            f"{folder}: exists, and a bundle replaces nothing; name another folder, or remove it"
        )
    if not folder.parent.is_dir():
        raise InputError(f"{folder.parent}: no such folder; make it, or name another place")


def head_digest(features: FeatureSet) -> str:
    """Return the digest of the features' own head or base; empty without one."""
    if features.head is None and features.base is None:
        return ""
    return classifier_digest(features.classifier())


def read(folder: Path) -> Bundle:
    """Read a bundle, and check the digest of every file in it.

    Raises:
        InputError: when there is no bundle.
        FormatError: when a file of it is absent, was changed, or is not sound.
    """
    if not (folder / MANIFEST).is_file():
        raise InputError(
            f"{folder}: found no {MANIFEST}, expected a folder that ltkit export --bundle wrote; "
            "check the path"
        )
    manifest = rules.read(folder / MANIFEST, KIND)
    files = _files(manifest)
    for name, digest in files.items():
        found = digest_of(folder / name)
        if found != digest:
            raise FormatError(
                f"{folder / name}: digest: found {found[:12]}, expected {digest[:12]}; it was "
                "changed since the bundle was made; export the bundle again"
            )
    correction, _ = classifiers.read(folder / CLASSIFIER)
    beside = tuple(
        rules.read(folder / f"{kind}.json", kind) for kind in RULES if f"{kind}.json" in files
    )
    return Bundle(folder, manifest, correction, beside)


def _files(manifest: Rule) -> Mapping[str, str]:
    """Return the files of a bundle with their digests.

    Raises:
        FormatError: when the manifest does not say them, or names a file elsewhere.
    """
    files = manifest.content.get("files")
    folder = Path(manifest.source).parent
    if (
        not isinstance(files, dict)
        or not {CLASSIFIER, CARD} <= files.keys()
        or not all(
            isinstance(digest, str) and stays_in(folder, folder / name)
            for name, digest in files.items()
        )
    ):
        raise FormatError(
            f"{manifest.source}: files: found {str(files)[:60]}, expected the names and digests of "
            "the files beside it; export the bundle again"
        )
    for name in ("head", "split", "method"):
        if not isinstance(manifest.content.get(name), str):
            raise _wrong(manifest, name, "a text")
    for name, size in (("bins", 2), ("prior", manifest.num_classes)):
        if not _are_numbers(manifest.content.get(name), size):
            raise _wrong(manifest, name, f"{size} numbers")
    if not isinstance(manifest.content.get("n"), int):
        raise _wrong(manifest, "n", "a whole number")
    if not _are_figures(manifest.content.get("figures")):
        raise _wrong(manifest, "figures", "values with intervals")
    return dict(files)


def _wrong(manifest: Rule, name: str, expected: str) -> FormatError:
    return FormatError(
        f"{manifest.source}: {name}: found {str(manifest.content.get(name))[:60]}, expected "
        f"{expected}; export the bundle again"
    )


def _are_numbers(value: Any, size: int) -> bool:
    """Return whether a value is a list of so many numbers."""
    return (
        isinstance(value, list)
        and len(value) == size
        and all(isinstance(number, int | float) for number in value)
    )


def _are_figures(value: Any) -> bool:
    """Return whether a value is named figures, each with a value and an interval or None."""
    if not isinstance(value, dict) or not value:
        return False
    return all(
        isinstance(figure, dict)
        and isinstance(figure.get("value"), int | float)
        and _are_numbers(figure.get("interval"), 2)
        for figure in value.values()
    )


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece.

    Raises:
        InputError: when there is no such file.
    """
    found = hashlib.sha256()
    with opened(path, "a file of a bundle", "export the bundle again") as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()
