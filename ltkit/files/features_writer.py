"""Features files, written block by block, so that an interrupted run can be resumed."""

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.files import hdf5, isolated, scratch
from ltkit.files.atomic import (
    flock,
    locked,
    publish,
    stranger,
    temporary_beside,
    uninterrupted,
    usual_mode,
)
from ltkit.files.blocks import block_checksums, bytes_of, checksum, put
from ltkit.files.contents import encode
from ltkit.files.opening import MAGIC
from ltkit.narrowing import narrowed
from ltkit.records import BLOCK_BYTES, ClassTable, Head, Ints, block_rows

SYNC_BYTES = 64 << 20
"""Bytes of rows between syncs to disk: a power failure costs little more."""

JOURNAL = re.compile(rb"ltkit-journal 2 ([0-9a-f]{64}) (\d{1,20}) (\d{1,20})\n")
"""First line of a journal: a digest of the run, and inode and size of the file it describes."""


@dataclass(frozen=True, eq=False)
class SplitPlan:
    """What is known of a split before its features: (N,) labels and ids, None without ids."""

    labels: Ints
    ids: NDArray[np.str_] | None
    skipped: NDArray[np.str_] | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """A dataset that is written block by block: (N, width) of a split."""

    dataset: str
    rows: int
    width: int
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * self.width

    @property
    def block(self) -> int:
        """Rows of a block."""
        return block_rows(self.row_bytes)


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything in a features file except the features.

    prototypes: (K, D) of local vectors, beside which there are each split's (N, K) shares.
    moving_mean: (D,) of the training features, beside a head.
    """

    feature_size: int
    dtype: str
    splits: Mapping[str, SplitPlan]
    classes: ClassTable
    head: Head | None
    settings: Mapping[str, Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    prototypes: NDArray[np.float32] | None = None
    moving_mean: NDArray[np.float32] | None = None

    def streams(self) -> dict[str, Stream]:
        """Return what is written block by block, as the journal calls it: ``train``, ..."""
        stored, found = np.dtype(self.dtype).newbyteorder("<"), {}
        for split, plan in self.splits.items():
            rows = len(plan.labels)
            found[split] = Stream(f"{split}/features", rows, self.feature_size, stored)
            if self.prototypes is not None:
                name, width = f"{split}/local", len(self.prototypes)
                found[name] = Stream(name, rows, width, np.dtype("<f4"))
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the datasets other than features, by path."""
        classes = self.classes
        found: dict[str, NDArray[Any]] = {"classes/train_count": classes.train_count}
        for name, column in (
            ("name", classes.names), ("wnid", classes.wnids), ("coarse", classes.coarse),
        ):  # fmt: skip
            if column is not None:
                found[f"classes/{name}"] = encode(column)
        for split, plan in self.splits.items():
            found[f"{split}/labels"] = plan.labels
            if plan.ids is not None:
                found[f"{split}/ids"] = encode(plan.ids)
            if plan.skipped is not None and len(plan.skipped):
                found[f"{split}/skipped"] = encode(plan.skipped)
        if self.prototypes is not None:
            found["local/prototypes"] = self.prototypes.astype(np.float32)
        if self.head is not None:
            found["head/weight"] = self.head.weight.astype(np.float32)
            found["head/bias"] = self.head.bias.astype(np.float32)
        if self.moving_mean is not None:
            found["head/moving_mean"] = self.moving_mean.astype(np.float32)
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
    interrupted. As a context manager it lets go of an unfinished file, so that it can be resumed.

    A partial file is known to be ltkit's when it is the file, unchanged in size, that the journal
    is about, or says itself that it is an unfinished features file; a journal by its first line.
    """

    def __init__(self, path: Path, plan: Plan, *, command: str, resume: bool) -> None:
        """Reserve space, or continue what an interrupted run left.

        Raises:
            InputError: when the disk is too small, another process writes the same file, or what
                there is to resume belongs to other inputs.
            FormatError: when what there is to resume is damaged.
        """
        self.path, self.plan = path, plan
        self.partial = path.with_name(f"{path.name}.partial")
        self.journal = path.with_name(f"{path.name}.journal")
        self._streams, self._small = plan.streams(), plan.arrays()
        self._sums: dict[str, list[int]] = {name: [] for name in self._streams}
        self._pending: dict[str, list[NDArray[Any]]] = {name: [] for name in self._streams}
        self._unsynced = 0
        self._mine: list[Path] = []
        self._files = ExitStack()
        with ExitStack() as undo:
            undo.callback(self.close)
            self._files.enter_context(locked(path))
            begun = self._find()
            if resume and begun is not None:
                self._take_up(begun)
            else:
                self._start(command)
            undo.pop_all()

    def __enter__(self) -> Self:
        """Write until the end of the block."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Release the file."""
        self.close()

    def _identity(self) -> str:
        """Return a digest of everything that the file will be."""
        digest = hashlib.sha256(json.dumps(self.plan.settings, sort_keys=True).encode())
        digest.update(json.dumps(dict(self.plan.inputs), sort_keys=True).encode())
        digest.update(f"{self.plan.feature_size} {self.plan.dtype}".encode())
        for name, values in sorted(self._small.items()):
            digest.update(f"{name} {values.shape} {values.dtype}".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def _find(self) -> bytes | None:
        """Open what an earlier run left; return the run's digest, None if nothing was begun.

        Raises:
            InputError: when what is there is not known to be ltkit's.
        """
        known: tuple[bytes, ...] = (b"", b"", b"")
        if journal := scratch.opened(self.journal, "a+b"):
            self._lines = self._files.enter_context(journal)
            flock(self._lines.fileno(), self.path)  # the other lock is this process's
            self._lines.seek(0)
            line = JOURNAL.match(self._lines.read(256))
            if not line:
                raise stranger(self.journal)
            known = line.groups()
            self._mine.append(self.journal)
        partial = scratch.opened(self.partial, "r+b")
        if partial is None:
            return None
        self._file = self._files.enter_context(partial)
        own = os.fstat(self._file.fileno())
        if self._file.read(len(MAGIC)) != MAGIC:
            raise stranger(self.partial)
        if known[1:] != (b"%d" % own.st_ino, b"%d" % own.st_size):  # not as it was left, or a copy
            isolated.try_first(self._is_unfinished, self.partial)
            if not self._is_unfinished():
                raise stranger(self.partial)
        self._mine.append(self.partial)
        return known[0]

    def _is_unfinished(self) -> bool:
        return hdf5.is_unfinished(self.partial, hdf5.FEATURES)

    def _create(self, path: Path, command: str) -> None:
        """Write the metadata, reserving space for the data."""
        plan = self.plan
        shapes = {name: (v.shape, v.dtype) for name, v in self._small.items()}
        for each in self._streams.values():
            shapes[each.dataset] = ((each.rows, each.width), each.dtype)
        root = hdf5.root_attributes(hdf5.FEATURES, plan.settings, plan.inputs, command)
        hdf5.create(path, root, plan.attributes(), shapes)

    def _start(self, command: str) -> None:
        with ExitStack() as undo:
            undo.callback(self.abandon)
            self.abandon()
            with (
                self._failing(), temporary_beside(self.path) as new,
                temporary_beside(self.path) as journal,
            ):  # fmt: skip
                self._create(new, command)
                made = new.stat()
                line = f"ltkit-journal 2 {self._identity()} {made.st_ino} {made.st_size}\n"
                journal.write_bytes(line.encode())
                for temporary, path in ((journal, self.journal), (new, self.partial)):
                    usual_mode(temporary)
                    with uninterrupted():
                        scratch.place(temporary, path)
                        self._mine.append(path)  # with both there is something to resume
            self._find()
            with self._failing():
                self._open()
            undo.pop_all()

    def _take_up(self, begun: bytes) -> None:
        if begun != self._identity().encode():
            raise InputError(
                f"{self.partial}: belongs to another model, dataset or setting; "
                "run as the first time, or start again without --resume"
            )
        with self._failing():
            self._renew()
            self._open()
        self._lines.seek(0)
        first, *lines = self._lines.read().splitlines(keepends=True)
        kept = len(first)
        for line in lines:
            name = line.partition(b" ")[0].decode(errors="replace")
            if name not in self._sums or self.done(name) == self._streams[name].rows:
                break
            value = self._stored_checksum(name)
            if line != self._line(name, value):
                break
            self._sums[name].append(value)
            kept += len(line)
        self._lines.truncate(kept)

    def _renew(self) -> None:
        """Rewrite all but what is written in blocks, since only that has checksums already."""
        with temporary_beside(self.path) as fresh:
            self._create(fresh, hdf5.command_of(self.partial))
            offsets, size = hdf5.offsets(fresh), fresh.stat().st_size
            kept = sorted(
                (offsets[each.dataset], each.rows * each.row_bytes)
                for each in self._streams.values()
            )
            with fresh.open("rb") as source:
                for begin, length in [*kept, (size, 0)]:
                    while left := max(0, begin - source.tell()):
                        at = source.tell()
                        piece = source.read(min(left, BLOCK_BYTES))
                        put(self._file.fileno(), memoryview(piece), at)
                    source.seek(max(source.tell(), begin + length))

    def _open(self) -> None:
        """Open the file with its metadata in place; reserve the disk, write the small data."""
        self._offsets = hdf5.offsets(self.partial)
        os.posix_fallocate(self._file.fileno(), 0, self.partial.stat().st_size)
        for name, values in self._small.items():
            put(self._file.fileno(), bytes_of(values), self._offsets[name])

    def _offset(self, name: str) -> int:
        """Return the offset of a stream's next block."""
        each = self._streams[name]
        return self._offsets[each.dataset] + self.done(name) * each.row_bytes

    def _line(self, name: str, value: int) -> bytes:
        """Return the journal line for a stream's next block."""
        return f"{name} {len(self._sums[name])} {value:016x}\n".encode()

    def _stored_checksum(self, name: str) -> int:
        """Return the checksum of the bytes where a stream's next block goes."""
        each = self._streams[name]
        rows = min(each.block, each.rows - self.done(name))
        stored = os.pread(self._file.fileno(), rows * each.row_bytes, self._offset(name))
        return checksum(np.frombuffer(stored, np.uint8))

    def done(self, name: str) -> int:
        """Return how many rows of a split, or of its ``SPLIT/local``, are finished."""
        each = self._streams[name]
        return min(len(self._sums[name]) * each.block, each.rows)

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Append the next rows of a split's features, or of its ``SPLIT/local``.

        Args:
            name: a split of the plan, or where it has prototypes ``SPLIT/local``.
            rows: (B, D) or (B, K), any float type.

        Raises:
            InputError: for rows that are not finite, or do not fit the stored type; when the
                disk is full (what is there can be resumed).
        """
        each, pending = self._streams[name], self._pending[name]
        left, waiting = each.rows - self.done(name), sum(map(len, pending))
        if rows.shape[1:] != (each.width,) or waiting + len(rows) > left:
            raise ValueError(
                f"{name}: found features {rows.shape}, expected at most {left - waiting} rows "
                f"of {each.width}"
            )
        stored = narrowed(rows, each.dtype, f"{name}: row", self.done(name) + waiting)
        pending.append(stored)
        if waiting + len(stored) < min(each.block, left):
            return
        rows = np.concatenate(pending)
        while len(rows) >= each.block or len(rows) == left > 0:
            self._write_block(name, rows[: each.block])
            rows = rows[each.block :]
            left = each.rows - self.done(name)
        self._pending[name] = [rows]

    def _write_block(self, name: str, block: NDArray[Any]) -> None:
        value = checksum(block)
        with self._failing():
            put(self._file.fileno(), bytes_of(block), self._offset(name))
            self._unsynced += block.nbytes
            if self._unsynced >= SYNC_BYTES:
                self._unsynced = 0
                os.fdatasync(self._file.fileno())
            self._note(self._line(name, value))
        self._sums[name].append(value)

    def _note(self, line: bytes) -> None:
        """Add a line to the journal."""
        while line:
            line = line[self._lines.write(line) :]

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn the system's write errors into error messages."""
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise InputError(
                    f"{self.path}: the disk is full; free some space and run it again "
                    "(an extraction with --resume)"
                ) from error
            raise InputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def finish(self) -> str:
        """Seal the file, rename it, remove the journal; return the digest."""
        for name, each in self._streams.items():
            if (done := self.done(name)) != each.rows:
                raise ValueError(f"{name}: {done} rows of {each.rows} written")
        sums = {
            each.dataset: np.array(self._sums[name], dtype=np.uint64)
            for name, each in self._streams.items()
        }
        for name, values in self._small.items():
            sums[name] = block_checksums(values)[1]
        with self._failing():
            os.fdatasync(self._file.fileno())
            if not os.path.samestat(os.fstat(self._file.fileno()), os.lstat(self.partial)):
                raise stranger(self.partial)
            digest = hdf5.seal(self.partial, sums)
            publish(self.partial, self.path)
        self.journal.unlink(missing_ok=True)
        self.close()
        return digest

    def abandon(self) -> None:
        """Remove the partial file and the journal, when nothing is worth keeping."""
        while self._mine:
            self._mine.pop().unlink(missing_ok=True)

    def close(self) -> None:
        """Release an unfinished file, so that it can be resumed."""
        self._files.close()


def is_finished(path: Path) -> bool:
    """Return whether a file exists without an unfinished one that would replace it."""
    return path.is_file() and not path.with_name(f"{path.name}.partial").is_file()


def check_finished(path: Path, plan: Plan) -> str:
    """Return the digest of a finished file with a given plan.

    Raises:
        InputError: when its plan differs.
        FormatError: when it is not a sound features file.
    """
    contents = hdf5.read(path, hdf5.FEATURES)
    streams = {each.dataset: each for each in plan.streams().values()}
    found = {
        name: (rows.dtype, rows.shape, () if name in streams else tuple(rows.checksums.tolist()))
        for name, rows in contents.datasets.items()
    }
    expected = {
        name: (v.dtype, v.shape, tuple(block_checksums(v)[1].tolist()))
        for name, v in plan.arrays().items()
    } | {name: (each.dtype, (each.rows, each.width), ()) for name, each in streams.items()}
    if (contents.settings, contents.inputs, found) != (
        json.loads(json.dumps(plan.settings)), dict(plan.inputs), expected,
    ):  # fmt: skip
        raise InputError(
            f"{path}: exists, and is of another model, dataset or setting; choose another -o, or "
            "start again with --overwrite and without --resume"
        )
    return contents.root["digest"]
