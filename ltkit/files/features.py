"""Features files, read as a `FeatureSet`."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.files import hdf5
from ltkit.files.blocks import StoredRows
from ltkit.files.contents import Contents
from ltkit.narrowing import narrowed
from ltkit.records import SPLITS, ClassTable, FeatureSet, FeatureSplit, Head, Normalize


@dataclass(frozen=True, eq=False)
class _Narrowed(StoredRows):
    """Features stored as float64 by another program: read as float32, or refused."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows.

        Raises:
            FormatError: as for other rows. InputError: when float32 cannot hold them.
        """
        where = f"{self.path}: {self.name}: row"
        first = rows.indices(self.shape[0])[0]
        return narrowed(super().__getitem__(rows), np.dtype(np.float32), where, first)


SUMS = 1e-3
"""Largest difference of a row of shares from the sum 1."""


@dataclass(frozen=True, eq=False)
class _Shares(StoredRows):
    """Shares of images in the prototypes of local vectors, each row a histogram."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows.

        Raises:
            FormatError: as for other rows, and for a row that is none of shares.
        """
        found = super().__getitem__(rows)
        sound = np.isfinite(found).all(axis=1) & (found >= 0).all(axis=1)
        sound[sound] = np.abs(found[sound].sum(axis=1, dtype=np.float64) - 1) <= SUMS
        if not sound.all():
            row = rows.indices(self.shape[0])[0] + int(np.argmin(sound))
            raise FormatError(
                f"{self.path}: {self.name}: row {row}: found other values, expected shares, from "
                "0, whose sum is 1; make it again"
            )
        return found


def read(path: Path) -> FeatureSet:
    """Read a features file; the features themselves are read later, block by block.

    Raises:
        FormatError: when the file is not a sound features file, or labels, head and features do
            not fit each other.
        InputError: when there is no such file.
    """
    contents = hdf5.read(path, hdf5.FEATURES)
    counts = contents.integers("classes/train_count", None)
    names, wnids, coarse = (
        None if (column := _strings(contents, f"classes/{name}", len(counts))) is None
        else tuple(column.tolist())
        for name in ("name", "wnid", "coarse")
    )  # fmt: skip
    splits: dict[str, FeatureSplit] = {}
    size: int | None = None
    prototypes = None
    if "local/prototypes" in contents.datasets:
        prototypes = contents.floats("local/prototypes", None, None)
        size = prototypes.shape[1]
        if not len(prototypes):
            raise contents.wrong("local/prototypes", prototypes.shape, "at least one")
    for name in SPLITS:
        if f"{name}/features" in contents.datasets:
            features = contents.stored(f"{name}/features", "f", None, size)
            if features.dtype.itemsize > 4:
                features = _Narrowed(**vars(features))
            length, size = features.shape
            labels = contents.integers(f"{name}/labels", length, below=len(counts))
            ids = _strings(contents, f"{name}/ids", length)
            local = None
            if prototypes is not None:
                stored = contents.stored(f"{name}/local", "f", length, len(prototypes))
                local = _Shares(**vars(stored))
            splits[name] = FeatureSplit(features, labels, ids, local)
    if not size or not splits:
        raise FormatError(f"{path}: found no features, expected train, val or test; make it again")
    return FeatureSet(
        splits,
        ClassTable(counts, names, wnids, coarse),
        _read_head(contents, len(counts), size),
        contents.settings,
        contents.root["digest"],
        str(path),
        prototypes=prototypes,
        moving_mean=_moving_mean(contents, size),
    )


def _moving_mean(contents: Contents, size: int) -> NDArray[np.float32] | None:
    """Return the (D,) moving mean of the training features, where the file has it."""
    name = "head/moving_mean"
    return contents.floats(name, size) if name in contents.datasets else None


def checkpoint_of(features: FeatureSet) -> str:
    """Return the digest of the checkpoint that features with a head were extracted from.

    Raises:
        InputError: when there is no such checkpoint to write into.
    """
    path = Path(features.source)
    digest = hdf5.header(path)["inputs"].get("checkpoint")
    if digest is None or features.head is None:
        what = "were imported" if digest is None else "come from a model without a head"
        raise InputError(
            f"--into: needs features that ltkit extract wrote of a model with a head; those of "
            f"{path} {what}; write the head alone with --to npz"
        )
    return str(digest)


def _strings(contents: Contents, name: str, length: int) -> NDArray[np.str_] | None:
    return contents.strings(name, length) if name in contents.datasets else None


def _read_head(contents: Contents, num_classes: int, feature_size: int) -> Head | None:
    if "head/weight" not in contents.datasets:
        return None
    found = contents.datasets["head/weight"].shape
    parts = math.prod(found[:-2]) * found[-1]
    if len(found) not in (2, 3) or (found[-2], parts) != (num_classes, feature_size):
        raise contents.wrong("head/weight", found, f"({num_classes}, {feature_size})")
    scale, normalize, aggregate = (
        contents.attributes["head"][name] for name in ("scale", "normalize", "aggregate")
    )
    if isinstance(scale, bool) or not isinstance(scale, float | int) or not _is_normal(scale):
        raise contents.wrong("head: scale", scale, "a finite number other than 0 in float32")
    if normalize not in get_args(Normalize):
        raise contents.wrong("head: normalize", normalize, " or ".join(get_args(Normalize)))
    if aggregate != "mean":
        raise contents.wrong("head: aggregate", aggregate, "mean")
    return Head(
        contents.floats("head/weight", *found),
        contents.floats("head/bias", *found[:-1]),
        scale,
        normalize,
    )


def _is_normal(scale: float) -> bool:
    """Return whether a scale is a normal float32, the type in which logits are computed."""
    numbers = np.finfo(np.float32)
    return float(numbers.tiny) <= abs(scale) <= float(numbers.max)
