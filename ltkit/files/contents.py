"""The content of a file after checking: kinds of files, and their content by name."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, listed
from ltkit.files.blocks import StoredRows
from ltkit.narrowing import first_lost
from ltkit.records import Ints
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.texts import in_array

FORMAT_VERSION = 1

TEXT_FOLD = 5
"""Memory that texts take, as a multiple of their size in a file."""

Attributes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class FileKind:
    """One kind of file.

    name: the root attribute ``format``.
    attributes: group path to the attributes of it that the digest covers, besides the root's own.
    """

    name: str
    attributes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False)
class Contents:
    """The content of a file: root attributes, attributes of groups, datasets.

    settings: what made the file; inputs: the digests of the files it was made from, by role.
    """

    path: Path
    kind: FileKind
    root: Mapping[str, str]
    settings: dict[str, Any]
    inputs: dict[str, str]
    attributes: Attributes
    datasets: Mapping[str, StoredRows]
    budget: Budget

    def wrong(self, name: str, found: object, expected: object) -> FormatError:
        """Return the error for a value that the format does not allow."""
        return FormatError(
            f"{self.path}: {name}: found {found}, expected {expected}; make the file again"
        )

    def stored(self, name: str, kinds: str, *shape: int | None) -> StoredRows:
        """Return a dataset with an expected kind of type and shape; None allows any length.

        Raises:
            FormatError: when it is absent (the message lists those present), or differs.
        """
        if name not in self.datasets:
            raise FormatError(
                f"{self.path}: {name}: absent; found {listed(sorted(self.datasets))}; make the "
                "file again"
            )
        rows = self.datasets[name]
        fits = len(shape) == len(rows.shape) and all(
            wanted in (None, found) for wanted, found in zip(shape, rows.shape, strict=True)
        )
        if rows.dtype.kind not in kinds or not fits:
            what = {"f": "floats", "iu": "integers", "S": "strings"}.get(kinds, "numbers")
            lengths = ", ".join("any" if n is None else str(n) for n in shape)
            raise self.wrong(name, f"{rows.dtype} {rows.shape}", f"{what} ({lengths})")
        return rows

    def floats(self, name: str, *shape: int | None) -> NDArray[np.float32]:
        """Read a whole dataset of finite float32."""
        found = self.stored(name, "f", *shape)[:]
        with np.errstate(over="ignore", invalid="ignore"):
            values = found.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise self.wrong(name, "NaN or infinity", "finite numbers")
        if first_lost(np.atleast_2d(found), np.atleast_2d(values)) is not None:
            raise self.wrong(name, "numbers that vanish in float32", "larger ones")
        return values

    def integers(self, name: str, *shape: int | None, below: int | None = None) -> Ints:
        """Read a whole dataset of int64 from 0 to below a bound."""
        values = self.stored(name, "iu", *shape)[:].astype(np.int64, copy=False)
        bad = np.argwhere((values < 0) | (values >= (np.inf if below is None else below)))
        if len(bad):
            found = f"{values[tuple(bad[0])]} in row {bad[0][0]}"
            raise self.wrong(name, found, "0 or more" if below is None else f"0..{below - 1}")
        return values

    def class_ids(self, name: str) -> Ints:
        """Read a whole dataset of class ids, ascending."""
        values = self.integers(name, None)
        if (np.diff(values) <= 0).any():
            raise self.wrong(name, "ids in another order", "ascending class ids")
        return values

    def strings(self, name: str, length: int | None) -> NDArray[np.str_]:
        """Read a whole dataset of UTF-8 strings."""
        rows = self.stored(name, "S", length)
        self.budget.take(TEXT_FOLD * rows.row_bytes * rows.shape[0], name)
        values = rows[:]
        letters = values.view(np.uint8).reshape(len(values), values.itemsize) != 0
        if (letters[:, 1:] & ~letters[:, :-1]).any():  # the text ends there, or it is no text
            raise self.wrong(name, "NUL within a text", "UTF-8, padded with NUL")
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise self.wrong(name, "other bytes", "UTF-8") from error


def encode(strings: NDArray[np.str_] | tuple[str, ...]) -> NDArray[np.bytes_]:
    """Return strings as fixed-length UTF-8, as they are stored in files.

    File names may hold bytes that are not UTF-8; they become escapes.
    """
    text = strings if isinstance(strings, np.ndarray) else in_array(strings, "names")
    encoded: NDArray[np.bytes_] = np.char.encode(text, "utf-8", "backslashreplace")
    return encoded if encoded.itemsize else encoded.astype("S1")


def digest_of(
    kind: FileKind,
    root: Mapping[str, Any],
    attributes: Attributes,
    datasets: Mapping[str, StoredRows],
) -> str:
    """Return the SHA-256 that identifies a file's content, whatever command wrote it."""
    manifest = {
        "format": [kind.name, FORMAT_VERSION],
        "settings": root["settings"],
        "inputs": root["inputs"],
        "attributes": {k: dict(sorted(v.items())) for k, v in sorted(attributes.items())},
        "datasets": {
            name: [list(d.shape), d.dtype.str, d.block_rows, d.checksums.tolist()]
            for name, d in sorted(datasets.items())
        },
    }
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
