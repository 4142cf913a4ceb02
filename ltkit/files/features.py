"""Features files: written row block by row block, resumable; read as a `FeatureSet`."""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.files import hdf5
from ltkit.files.atomic import publish
from ltkit.records import (
    SPLITS,
    ClassTable,
    FeatureSet,
    FeatureSplit,
    Head,
    Ints,
    block_rows,
)


@dataclass(frozen=True, eq=False)
class SplitPlan:
    """What is known of a split before its features are: (N,) labels and ids, None for no ids."""

    labels: Ints
    ids: NDArray[np.str_] | None
    skipped: NDArray[np.str_] | None = None


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything of a features file but the features."""

    feature_size: int
    dtype: str
    splits: Mapping[str, SplitPlan]
    classes: ClassTable
    head: Head | None
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the datasets other than features, by path."""
        classes = self.classes
        found: dict[str, NDArray[Any]] = {"classes/train_count": classes.train_count}
        for name, column in (
            ("name", classes.names), ("wnid", classes.wnids), ("coarse", classes.coarse),
        ):  # fmt: skip
            if column is not None:
                found[f"classes/{name}"] = hdf5.encode(column)
        for split, plan in self.splits.items():
            found[f"{split}/labels"] = plan.labels
            if plan.ids is not None:
                found[f"{split}/ids"] = hdf5.encode(plan.ids)
            if plan.skipped is not None and len(plan.skipped):
                found[f"{split}/skipped"] = hdf5.encode(plan.skipped)
        if self.head is not None:
            found["head/weight"] = self.head.weight.astype(np.float32)
            found["head/bias"] = self.head.bias.astype(np.float32)
        return found

    def attributes(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of groups."""
        if self.head is None:
            return {}
        scale, normalize = float(self.head.scale), self.head.normalize
        return {"head": {"scale": scale, "normalize": normalize, "aggregate": "mean"}}


class FeaturesWriter:
    """Writes a features file so that neither a kill nor a full disk loses finished blocks.

    The file grows as ``OUT.partial``: all metadata and the room for the data come first, then rows
    are written in place, and each finished block gets a line with its checksum in
    ``OUT.journal``. `finish` seals the file and renames it. Blocks that a journal lists are
    checked again before they are kept, so the result is the same bytes whether or not it was
    interrupted.
    """

    def __init__(self, path: Path, plan: Plan, *, command: str, resume: bool) -> None:
        """Make room, or take up what an interrupted run has left.

        Raises:
            InputError: when the disk is too small, another process writes the same file, or what
                there is to resume belongs to other inputs.
        """
        self.path, self.plan = path, plan
        self.partial = path.with_name(f"{path.name}.partial")
        self.journal = path.with_name(f"{path.name}.journal")
        self._dtype = np.dtype(plan.dtype).newbyteorder("<")
        self._rows = block_rows(self._dtype.itemsize * plan.feature_size)
        self._small = plan.arrays()
        self._sums: dict[str, list[int]] = {split: [] for split in plan.splits}
        self._pending: dict[str, list[NDArray[Any]]] = {split: [] for split in plan.splits}
        identity = self._identity()
        self._lines = self.journal.open("a+", encoding="utf-8")
        self._lock()
        try:
            if resume and self.partial.is_file():
                self._take_up(identity)
            else:
                self._start(identity, command)
        except BaseException:
            self._lines.close()
            raise

    def _identity(self) -> str:
        digest = hashlib.sha256(json.dumps(self.plan.settings, sort_keys=True).encode())
        digest.update(json.dumps(dict(self.plan.inputs), sort_keys=True).encode())
        digest.update(f"{self.plan.feature_size} {self.plan.dtype}".encode())
        for name, values in sorted(self._small.items()):
            digest.update(f"{name} {values.shape} {values.dtype}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lines, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lines.close()
            raise InputError(
                f"{self.path}: another process is writing it; wait, or choose another -o"
            ) from error

    def _start(self, identity: str, command: str) -> None:
        plan = self.plan
        shapes = {name: (v.shape, v.dtype) for name, v in self._small.items()}
        for split, rows in plan.splits.items():
            shapes[f"{split}/features"] = ((len(rows.labels), plan.feature_size), self._dtype)
        root = hdf5.root_attributes(hdf5.FEATURES, plan.settings, plan.inputs, command)
        self._lines.truncate(0)
        self.partial.unlink(missing_ok=True)
        try:
            hdf5.create(self.partial, root, plan.attributes(), shapes)
            self._open()
            os.posix_fallocate(self._file, 0, os.fstat(self._file).st_size)
            for name, values in self._small.items():
                self._write(np.ascontiguousarray(values), self._offsets[name])
            self._note(identity)
        except OSError as error:
            self.abandon()
            raise self._failed(error) from error

    def _take_up(self, identity: str) -> None:
        self._lines.seek(0)
        lines = self._lines.read().splitlines()
        if not lines or lines[0] != identity:
            raise InputError(
                f"{self.partial}: belongs to another model, dataset or setting; "
                "run as the first time, or start again without --resume"
            )
        try:
            self._open()
        except (OSError, KeyError) as error:
            raise FormatError(f"{self.partial}: damaged; start again without --resume") from error
        kept = [lines[0]]
        for line in lines[1:]:
            split, block, value = line.split() if line.count(" ") == 2 else ("", "0", "")
            if split not in self._sums or int(block) != len(self._sums[split]):
                break
            if f"{self._stored_checksum(split, int(block)):016x}" != value:
                break
            self._sums[split].append(int(value, 16))
            kept.append(line)
        self._lines.truncate(0)
        for line in kept:
            self._note(line)

    def _open(self) -> None:
        self._offsets = hdf5.offsets(self.partial)
        self._file = os.open(self.partial, os.O_RDWR)

    def _stored_checksum(self, split: str, block: int) -> int:
        rows = min(self._rows, len(self.plan.splits[split].labels) - block * self._rows)
        row_bytes = self._dtype.itemsize * self.plan.feature_size
        at = self._offsets[f"{split}/features"] + block * self._rows * row_bytes
        return hdf5.checksum(np.frombuffer(os.pread(self._file, rows * row_bytes, at), np.uint8))

    def done(self, split: str) -> int:
        """Return how many rows of a split are finished; go on from there."""
        return min(len(self._sums[split]) * self._rows, len(self.plan.splits[split].labels))

    def append(self, split: str, features: NDArray[Any]) -> None:
        """Add the next rows of a split.

        Args:
            split: of the plan.
            features: (B, D), any float type.

        Raises:
            InputError: for features that are not finite, or do not fit the stored type; when the
                disk is full (what is there can be resumed).
        """
        with np.errstate(over="ignore"):
            stored = features.astype(self._dtype)
        if not np.isfinite(stored).all():
            self._refuse(split, features, stored)
        pending = [*self._pending[split], stored]
        waiting = sum(map(len, pending))
        last = len(self.plan.splits[split].labels) - self.done(split)
        if waiting < min(self._rows, last):
            self._pending[split] = pending
            return
        rows = np.concatenate(pending)
        while len(rows) and len(rows) >= min(self._rows, last):
            block, rows = rows[: self._rows], rows[self._rows :]
            self._write_block(split, block)
            last = len(self.plan.splits[split].labels) - self.done(split)
        self._pending[split] = [rows] if len(rows) else []

    def _refuse(self, split: str, features: NDArray[Any], stored: NDArray[Any]) -> None:
        row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        number = self.done(split) + sum(map(len, self._pending[split])) + row
        if np.isfinite(features[row]).all():
            largest = float(np.abs(features[row]).max())
            raise InputError(
                f"{split}: row {number}: value {largest:g} does not fit {self._dtype.name}; "
                "use --dtype float32"
            )
        raise InputError(
            f"{split}: row {number}: features are not finite; the model or the image is damaged"
        )

    def _write_block(self, split: str, block: NDArray[Any]) -> None:
        number = len(self._sums[split])
        at = number * self._rows * self._dtype.itemsize * self.plan.feature_size
        value = hdf5.checksum(block)
        try:
            self._write(block, self._offsets[f"{split}/features"] + at)
            self._note(f"{split} {number} {value:016x}")
        except OSError as error:
            raise self._failed(error) from error
        self._sums[split].append(value)

    def _write(self, values: NDArray[Any], offset: int) -> None:
        view = memoryview(values.reshape(-1).view(np.uint8))
        while view:
            written = os.pwrite(self._file, view, offset)
            view, offset = view[written:], offset + written

    def _note(self, line: str) -> None:
        self._lines.write(line + "\n")
        self._lines.flush()

    def _failed(self, error: OSError) -> InputError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return InputError(f"{self.path}: the disk is full; free some space, then use --resume")
        return InputError(f"{self.path}: cannot be written ({error.strerror})")

    def finish(self) -> str:
        """Seal the file, give it its name, remove the journal; return the digest."""
        for split, plan in self.plan.splits.items():
            if self.done(split) != len(plan.labels):
                raise ValueError(f"{split}: {self.done(split)} rows of {len(plan.labels)} written")
        sums = {f"{s}/features": np.array(v, dtype=np.uint64) for s, v in self._sums.items()}
        for name, values in self._small.items():
            sums[name] = hdf5.block_checksums(values)[1]
        os.fdatasync(self._file)
        os.close(self._file)
        digest = hdf5.seal(self.partial, sums)
        self.partial.chmod(0o644)
        publish(self.partial, self.path)
        self.journal.unlink(missing_ok=True)
        self._lines.close()
        return digest

    def abandon(self) -> None:
        """Remove the partial file and the journal; nothing was worth keeping."""
        self.partial.unlink(missing_ok=True)
        self.journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of an unfinished file, so that it can be resumed."""
        os.close(self._file)
        self._lines.close()


def read(path: Path) -> FeatureSet:
    """Read a features file; the features themselves are read block by block later.

    Raises:
        FormatError: when the file is not a sound features file, or labels, head and features do
            not fit each other.
        InputError: when there is no such file.
    """
    contents = hdf5.read(path, hdf5.FEATURES)
    classes = ClassTable(
        contents.read("classes/train_count"),
        *(_strings(contents, f"classes/{column}") for column in ("name", "wnid", "coarse")),
    )
    splits = {}
    for name in SPLITS:
        if f"{name}/features" in contents.datasets:
            labels = contents.read(f"{name}/labels")
            _check_labels(path, name, labels, len(classes))
            features = contents.datasets[f"{name}/features"]
            splits[name] = FeatureSplit(features, labels, contents.strings(f"{name}/ids"))
    if not splits:
        raise FormatError(f"{path}: found no split, expected train, val or test; make it again")
    head = _read_head(contents, path, len(classes), next(iter(splits.values())).features.shape[1])
    return FeatureSet(splits, classes, head, contents.settings, contents.root["digest"], str(path))


def _strings(contents: hdf5.Contents, name: str) -> tuple[str, ...] | None:
    values = contents.strings(name)
    return None if values is None else tuple(values.tolist())


def _check_labels(path: Path, split: str, labels: Ints, num_classes: int) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise FormatError(
            f"{path}: {split}/labels: row {wrong[0]}: found {labels[wrong[0]]}, expected "
            f"0..{num_classes - 1}; make the file again"
        )


def _read_head(
    contents: hdf5.Contents, path: Path, num_classes: int, feature_size: int
) -> Head | None:
    if "head/weight" not in contents.datasets:
        return None
    values = contents.attributes["head"]
    head = Head(
        contents.read("head/weight"), contents.read("head/bias"), values["scale"],
        values["normalize"],
    )  # fmt: skip
    if (head.num_classes, head.feature_size) != (num_classes, feature_size):
        raise FormatError(
            f"{path}: head: found {head.num_classes} classes x {head.feature_size} features, "
            f"expected {num_classes} x {feature_size}; make the file again"
        )
    return head
