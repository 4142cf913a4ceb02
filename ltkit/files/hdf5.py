"""The door to HDF5: whole files out, checked contents in (docs/format.md).

Every dataset is contiguous and has checksums of its blocks; a root attribute ``digest`` covers
them, the shapes, the types and the attributes that carry meaning. Reading checks links, layout,
sizes and the digest when a file is opened, and each block when it is read; nothing of h5py leaves
this module.
"""

import hashlib
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.files import strict_json
from ltkit.files.atomic import replacing, uninterrupted
from ltkit.files.narrowing import first_lost
from ltkit.records import Ints, block_rows
from ltkit.untrusted.budget import Budget, opened
from ltkit.untrusted.texts import in_array
from ltkit.version import __version__

MAGIC = b"\x89HDF\r\n\x1a\n"
FORMAT_VERSION = 1
CHECKSUMS = "checksums"
LIBRARY = ("v108", "v108")
"""Objects as HDF5 1.8 writes them: the first with a checksum over each piece of metadata."""

PAGE = 1 << 12
"""Bytes of the pieces in which changes are kept in memory."""

MOST_MEMBERS = 10_000
"""Datasets and groups of a file."""

MOST_BLOCK = 1 << 28
"""Bytes of a block: each is read whole, so that its checksum is compared before it is used."""

CHECKSUM_FOLD, TEXT_FOLD = 10, 5
"""How many times their size in a file checksums (Python's numbers) and texts take in memory."""

MOST_HOLES = 1000
"""Holes of a sparse file that are looked for."""

REQUIRED = ("digest", "written_by", "command", "settings", "inputs")

DAMAGED = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""What h5py and NumPy raise at the metadata of a damaged file."""

Attributes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    name: the root attribute ``format``.
    attributes: group path to the attributes of it that the digest covers, besides the root's own.
    """

    name: str
    attributes: Mapping[str, tuple[str, ...]]


FEATURES = Kind("ltkit-features", {"head": ("scale", "normalize", "aggregate")})
CLASSIFIER = Kind("ltkit-classifier", {"/": ("method", "normalize_features")})
NEIGHBORS = Kind("ltkit-neighbors", {"/": ("metric",)})
KINDS = {kind.name: kind for kind in (FEATURES, CLASSIFIER, NEIGHBORS)}


@dataclass(frozen=True, eq=False)
class StoredRows:
    """A dataset of a file, (N, ...), read by slices; each block read is checked."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    block_rows: int
    checksums: NDArray[np.uint64]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows in native byte order.

        Raises:
            FormatError: when a block does not have its checksum; the message names the rows.
        """
        start, stop, _ = rows.indices(self.shape[0])
        first = start // self.block_rows
        last = max(first, math.ceil(stop / self.block_rows))
        begin, end = first * self.block_rows, min(last * self.block_rows, self.shape[0])
        count = (end - begin) * math.prod(self.shape[1:])
        offset = self.offset + begin * self.row_bytes
        values = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(values) < count:
            raise FormatError(f"{self.path}: {self.name}: truncated; make the file again")
        values = values.reshape(end - begin, *self.shape[1:])
        for block in range(first, last):
            at = (block - first) * self.block_rows
            if checksum(values[at : at + self.block_rows]) != self.checksums[block]:
                until = min((block + 1) * self.block_rows, self.shape[0]) - 1
                raise FormatError(
                    f"{self.path}: {self.name}: block {block} (rows {block * self.block_rows}.."
                    f"{until}) does not have its checksum; the file is damaged, make it again"
                )
        values = values[start - begin : max(stop, start) - begin]
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def verify(self, *, finite: bool = False) -> Iterator[str]:
        """Read every block; yield a line for each without its checksum, or with no finite numbers.

        Args:
            finite: whether all numbers must be finite.
        """
        for start in range(0, self.shape[0], self.block_rows):
            try:
                block = self[start : start + self.block_rows]
            except FormatError as error:
                yield str(error)
                continue
            if finite and not np.isfinite(block).all():
                row = start + np.argwhere(~np.isfinite(block))[0][0]
                yield (
                    f"{self.path}: {self.name}: row {row}: found NaN or infinity, expected finite "
                    "numbers; make the file again"
                )


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds: root attributes, attributes of groups, datasets.

    settings: what made the file; inputs: the digests of the files it was made from, by role.
    """

    path: Path
    kind: Kind
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
        """Return a dataset of the expected kinds of type and shape; None stands for any length.

        Raises:
            FormatError: when it is absent (the message lists those present), or is another.
        """
        if name not in self.datasets:
            present = ", ".join(sorted(self.datasets)) or "none"
            raise FormatError(f"{self.path}: {name}: absent; found {present}; make the file again")
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
        """Read a whole dataset of int64 from 0, below a bound."""
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


def checksum(values: NDArray[Any]) -> int:
    """Return the 64-bit checksum (XXH3) of the bytes of an array."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(values).view(np.uint8).data)


def block_checksums(values: NDArray[Any]) -> tuple[int, NDArray[np.uint64]]:
    """Return (rows a block, checksum of each block) of an array in memory."""
    rows = block_rows(values.dtype.itemsize * math.prod(values.shape[1:]))
    sums = [checksum(values[i : i + rows]) for i in range(0, len(values), rows)]
    return rows, np.array(sums, dtype=np.uint64)


def encode(strings: NDArray[np.str_] | tuple[str, ...]) -> NDArray[np.bytes_]:
    """Return strings as fixed-length UTF-8, the form in which files hold them.

    File names may hold bytes that are no UTF-8; they become escapes.
    """
    text = strings if isinstance(strings, np.ndarray) else in_array(strings, "names")
    encoded: NDArray[np.bytes_] = np.char.encode(text, "utf-8", "backslashreplace")
    return encoded if encoded.itemsize else encoded.astype("S1")


def digest_of(
    kind: Kind, root: Mapping[str, Any], attributes: Attributes, datasets: Mapping[str, StoredRows]
) -> str:
    """Return the SHA-256 that identifies a file's contents, whatever command wrote them."""
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


def root_attributes(
    kind: Kind, settings: Mapping[str, Any], inputs: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Return the root attributes that every file has, without its digest."""
    return {
        "format": kind.name,
        "format_version": FORMAT_VERSION,
        "written_by": f"ltkit {__version__}",
        "command": command.encode("utf-8", "backslashreplace").decode(),
        "settings": strict_json.dumps(settings),
        "inputs": strict_json.dumps(inputs),
    }


def write(
    path: Path,
    kind: Kind,
    datasets: Mapping[str, NDArray[Any]],
    attributes: Attributes,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    command: str,
) -> str:
    """Write a whole file that fits in memory; return its digest."""
    root = root_attributes(kind, settings, inputs, command)
    with replacing(path) as temporary:
        create(temporary, root, attributes, {k: (v.shape, v.dtype) for k, v in datasets.items()})
        places = offsets(temporary)
        with temporary.open("r+b", buffering=0) as file:
            for name, values in datasets.items():
                put(file.fileno(), bytes_of(values), places[name])
        return seal(temporary, {name: block_checksums(v)[1] for name, v in datasets.items()})


def create(
    path: Path,
    root: Mapping[str, Any],
    attributes: Attributes,
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Write a file with all its metadata and the room for its data, and ``complete = 0``."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    layout.set_obj_track_times(False)  # the same contents give the same bytes
    plain = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    plain.set_obj_track_times(False)

    def room(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype)
        h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout)

    paths = [PurePosixPath(top, name) for name in shapes for top in ("", CHECKSUMS)]
    with _written(path, new=True) as file:
        for group in sorted({str(parent) for name in paths for parent in name.parents} - {"."}):
            h5py.h5g.create(file.id, group.encode(), gcpl=plain)
        for name, (shape, dtype) in sorted(shapes.items()):
            rows = block_rows(dtype.itemsize * math.prod(shape[1:]))
            room(file, name, shape, dtype)
            room(file, f"{CHECKSUMS}/{name}", (math.ceil(shape[0] / rows),), np.dtype("<u8"))
            file[f"{CHECKSUMS}/{name}"].attrs["block_rows"] = rows
        for group, values in attributes.items():
            _set(file[group], values)
        _set(file, {**root, "digest": "0" * 64, "complete": 0})


def _set(group: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes; text has a fixed length, because HDF5 has no checksum over other text."""
    for name, value in attributes.items():
        text = isinstance(value, str)
        stored = value.encode() if text else value
        length = max(1, len(stored)) if text else None
        group.attrs.create(name, stored, dtype=h5py.string_dtype(length=length) if text else None)


def seal(path: Path, checksums: Mapping[str, NDArray[np.uint64]]) -> str:
    """Write the checksums and the digest of a file whose data is in place, and ``complete = 1``."""
    with _written(path) as file:
        for name, values in checksums.items():
            if len(values):
                file[f"{CHECKSUMS}/{name}"][...] = values
        kind, root = KINDS[_plain(file.attrs["format"])], _root(file, path)
        digest = digest_of(kind, root, _attributes(file, path, kind), _datasets(file, path))
        file.attrs.modify("digest", np.bytes_(digest))
        file.attrs.modify("complete", 1)
    return digest


@contextmanager
def _written(path: Path, *, new: bool = False) -> Iterator[Any]:
    """Open a file for changes, which are written at the end of the block, unless it fails."""
    with _Held(path, new=new) as held, uninterrupted():  # h5py loses a Ctrl-C
        if new:
            untimed = h5py.h5p.create(h5py.h5p.FILE_CREATE)
            untimed.set_obj_track_times(False)
            checked = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
            checked.set_libver_bounds(h5py.h5f.LIBVER_V18, h5py.h5f.LIBVER_V18)
            checked.set_fileobj_driver(h5py.h5fd.fileobj_driver, held)
            h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, untimed, checked).close()
        with h5py.File(held, "r+", libver=LIBRARY) as file:
            yield file
        held.commit()


class _Held(io.RawIOBase):
    """A file whose changes stay in memory until `commit`.

    HDF5 itself writes when objects are closed, where h5py loses errors; after one, the library
    ends the process with a segmentation fault when that wants to end. So it never sees a full disk.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        self._file = path.open("w+b" if new else "r+b", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._place = 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._place = offset + (self._size if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def truncate(self, size: int | None = None, /) -> int:
        self._size = self._place if size is None else size
        return self._size

    def _pieces(self, length: int) -> Iterator[tuple[bytearray, slice, slice]]:
        """Yield the pages at this place, and which part of each is which part of so many bytes."""
        begin = self._place
        self._place += length
        for number in range(begin // PAGE, math.ceil(self._place / PAGE)):
            page = self._pages.get(number)
            if page is None:
                stored = os.pread(self._file.fileno(), PAGE, number * PAGE)
                page = self._pages[number] = bytearray(stored.ljust(PAGE, b"\0"))
            first, last = max(begin, number * PAGE), min(self._place, (number + 1) * PAGE)
            yield (
                page, slice(first - number * PAGE, last - number * PAGE),
                slice(first - begin, last - begin),
            )  # fmt: skip

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        for page, there, here in self._pieces(len(view)):
            view[here] = page[there]
        return len(view)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        for page, there, here in self._pieces(len(view)):
            page[there] = view[here]
        self._size = max(self._size, self._place)
        return len(view)

    def commit(self) -> None:
        """Write all changes."""
        os.ftruncate(self._file.fileno(), self._size)
        for number, page in sorted(self._pages.items()):
            begin = number * PAGE
            put(self._file.fileno(), memoryview(page)[: max(0, self._size - begin)], begin)

    def close(self) -> None:
        self._file.close()
        super().close()


def bytes_of(values: NDArray[Any]) -> memoryview:
    """Return the bytes of an array, row by row."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def put(descriptor: int, content: memoryview, offset: int) -> None:
    """Write bytes at an offset, in as many calls as it takes."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; whatever is wrong with it, also in its use, is a `FormatError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except DAMAGED as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{path}: cannot be read ({detail}); it is truncated or damaged, make it again"
        ) from error


def offsets(path: Path) -> dict[str, int]:
    """Return where in the file each dataset's bytes begin.

    Raises:
        FormatError: when the file is damaged.
    """
    with _opened(path) as file:
        return {name: rows.offset for name, rows in _datasets(file, path).items()}


def command_of(path: Path) -> str:
    """Return the command that began a file, which need not be complete.

    Raises:
        FormatError: when the file is damaged.
    """
    with _opened(path) as file:
        return _root(file, path)["command"]


def is_unfinished(path: Path, kind: Kind) -> bool:
    """Say whether a file is one of ltkit's own whose writing has begun and not ended."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return (_plain(file.attrs["format"]), _whole(file.attrs["complete"])) == (kind.name, 0)
    except DAMAGED:
        return False


def sniff(path: Path) -> None:
    """Refuse what is not an HDF5 file, saying what it seems to be.

    Raises:
        FormatError: see above. InputError: when there is no such file.
    """
    if not path.exists():
        raise InputError(f"{path}: not found{_beside(path)}")
    with opened(path, "an ltkit file") as file:
        start = file.read(512)
    if start.startswith(MAGIC):
        return
    if not start:
        raise FormatError(f"{path}: is empty; make the file again")
    guesses = (
        (b"version https://git-lfs", "a Git-LFS pointer; fetch the file itself with git lfs pull"),
        (b"<", "a web page; download the file itself"),
        (b"PK\x03\x04", "a zip archive, as .npz or .pt; use ltkit import or ltkit extract"),
        (b"\x80", "a pickle; use ltkit extract"),
    )
    for magic, guess in guesses:
        if start.lstrip().startswith(magic):
            raise FormatError(f"{path}: not an HDF5 file but {guess}")
    raise FormatError(f"{path}: not an HDF5 file; expected one that ltkit wrote")


def _beside(path: Path) -> str:
    beside = sorted(p.name for p in path.parent.glob("*.h5")) if path.parent.is_dir() else []
    return f"; beside it: {', '.join(beside[:5])}" if beside else "; check the path"


def read(path: Path, *kinds: Kind) -> Contents:
    """Open a file of one of the given kinds, check all but its large data, and close it.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is damaged, incomplete, unsafe, of another kind or a newer version.
    """
    sniff(path)
    with _opened(path) as file:
        found = str(_plain(file.attrs.get("format", "none")))
        names = [kind.name for kind in kinds]
        if found not in names:
            hint = "use ltkit import" if found == "none" else "name another file"
            raise FormatError(
                f"{path}: format: found {found}, expected {' or '.join(names)}; {hint}"
            )
        version = _whole(file.attrs.get("format_version", 0))
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{path}: format_version: found {version}, expected {FORMAT_VERSION}; "
                + ("upgrade ltkit" if version > FORMAT_VERSION else "make the file again")
            )
        if _whole(file.attrs.get("complete", 0)) != 1:
            raise FormatError(f"{path}: complete: found 0, expected 1; finish it with --resume")
        kind, root = KINDS[found], _root(file, path)
        budget = Budget(path, _size_on_disk(path))
        contents = Contents(
            path, kind, root, _object(root, "settings"), _object(root, "inputs"),
            _attributes(file, path, kind), _datasets(file, path, budget), budget,
        )  # fmt: skip
        expected = digest_of(kind, root, contents.attributes, contents.datasets)
    if root["digest"] != expected:
        raise FormatError(
            f"{path}: digest: found {root['digest'][:12]}, expected {expected[:12]}; "
            "the file is damaged, make it again"
        )
    return contents


def _root(file: Any, path: Path) -> dict[str, str]:
    """Return the root attributes that are text, every one of them there."""
    root = {}
    for name in REQUIRED:
        if name not in file.attrs:
            raise FormatError(
                f"{path}: {name}: attribute absent; found {', '.join(sorted(file.attrs))}; "
                "make the file again"
            )
        value = _plain(file.attrs[name])
        if not isinstance(value, str):
            raise TypeError(f"{name} is not text")
        value.encode()  # h5py lets bytes that are no UTF-8 pass as surrogates
        root[name] = value
    return root


def _object(root: Mapping[str, str], name: str) -> dict[str, Any]:
    """Return a root attribute that is a JSON object."""
    try:
        value = strict_json.loads(root[name])
    except ValueError as error:
        raise ValueError(f"{name}: found {error} in its JSON") from error
    if not isinstance(value, dict):
        raise TypeError(f"{name} is not a JSON object")
    return value


def _attributes(file: Any, path: Path, kind: Kind) -> Attributes:
    found: dict[str, dict[str, Any]] = {}
    for name, required in kind.attributes.items():
        group = _member(file, name, path)
        if group is not None:
            for attribute in required:
                if attribute not in group.attrs:
                    raise FormatError(
                        f"{path}: {name}: {attribute}: attribute absent; make the file again"
                    )
            found[name] = {a: _plain(group.attrs[a]) for a in required}
    return found


def _plain(value: Any) -> Any:
    """Return an attribute as Python has it; other writers may use strings of fixed length."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def _whole(value: Any) -> int:
    """Return an attribute that is a whole number."""
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} for a whole number")
    return value


def _size_on_disk(path: Path) -> int:
    """Return how many bytes of a file are not holes, of which a few bytes can claim any number."""
    with path.open("rb") as file:
        descriptor, data, holes = file.fileno(), 0, 0
        size = os.fstat(descriptor).st_size
        with suppress(OSError):  # the file system knows no holes, or there is no data after one
            for _ in range(MOST_HOLES):
                hole = os.lseek(descriptor, data, os.SEEK_HOLE)  # the end is one
                holes += size - hole
                data = os.lseek(descriptor, hole, os.SEEK_DATA)
                holes -= size - data
    return size - holes


def _datasets(file: Any, path: Path, budget: Budget | None = None) -> dict[str, StoredRows]:
    """Describe every dataset that has checksums; refuse what reaches outside the file.

    All that is described is taken from the budget, where one is given: nothing in a sound file
    lies where something else does.
    """
    budget = budget or Budget(path)
    found: dict[str, StoredRows] = {}
    size = path.stat().st_size
    for name, member in _walk(_member(file, CHECKSUMS, path), path):
        target = _checked(_member(file, name, path), name, path, size)
        sums = _checked(member, f"{CHECKSUMS}/{name}", path, size)
        budget.take(_claimed(target), name)
        budget.take(CHECKSUM_FOLD * _claimed(sums), f"{CHECKSUMS}/{name}")
        rows = _whole(sums.attrs["block_rows"])
        block = min(rows, target.shape[0]) * _claimed(target) // max(1, target.shape[0])
        if block > MOST_BLOCK:
            raise FormatError(
                f"{path}: {name}: block_rows: found {rows}, which makes a block of {block} bytes, "
                f"expected at most {MOST_BLOCK}; write it with smaller blocks"
            )
        if rows < 1 or sums.shape != (math.ceil(target.shape[0] / rows),):
            raise FormatError(f"{path}: {name}: checksums do not fit; make the file again")
        found[name] = StoredRows(
            path, name, target.shape, target.dtype, target.id.get_offset() or 0, rows,
            sums[:].astype(np.uint64),
        )  # fmt: skip
    return found


def _walk(group: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield all that is in a group and its groups, with its path from there.

    Groups may hold each other, so there is no end to the paths of some files.
    """
    groups, members = [] if group is None else [("", group)], 0
    while groups:
        prefix, group = groups.pop(0)
        for part in group:
            members += 1
            if members > MOST_MEMBERS:
                raise FormatError(
                    f"{path}: {CHECKSUMS}: found more than {MOST_MEMBERS} members; refused"
                )
            member = _member(group, part, path)
            if isinstance(member, h5py.Group):
                groups.append((f"{prefix}{part}/", member))
            else:
                yield f"{prefix}{part}", member


def _member(group: Any, name: str, path: Path) -> Any:
    """Return a group or dataset, None where it is absent; refuse to follow a link to it."""
    for part in filter(None, name.split("/")):
        links = group.id.links  # the low level, because h5py's own `in` follows links
        if not links.exists(part.encode()):
            return None
        if links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise FormatError(f"{path}: {name}: found a link, expected data; refused")
        group = group[part]
    return group


def _checked(dataset: Any, name: str, path: Path, size: int) -> Any:
    """Return a dataset that lies in the file itself, plainly, and within its size."""
    if not isinstance(dataset, h5py.Dataset):
        found = "nothing" if dataset is None else "a group"
        raise FormatError(f"{path}: {name}: found {found}, expected data; make the file again")
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{path}: {name}: its data lies in other files; refused")
    offset = dataset.id.get_offset()
    if dataset.chunks is not None or dataset.ndim < 1 or (offset is None and dataset.size):
        raise FormatError(
            f"{path}: {name}: found chunked, filtered or no data, expected it contiguous; "
            "make it again"
        )
    if dataset.dtype.kind not in "fiuS":
        raise FormatError(f"{path}: {name}: found the type {dataset.dtype}; make the file again")
    if not _is_plain(dataset):
        raise FormatError(
            f"{path}: {name}: found a type of HDF5 like {dataset.dtype} in other bits, expected "
            "the usual integers, IEEE floats and text padded with NUL; convert it"
        )
    end = (offset or 0) + _claimed(dataset)
    if end > size:
        raise FormatError(
            f"{path}: {name}: declared up to byte {end}, the file has {size}; it is truncated"
        )
    return dataset


def _claimed(dataset: Any) -> int:
    """Return how many bytes a dataset claims."""
    claimed: int = dataset.dtype.itemsize * math.prod(dataset.shape)
    return claimed


def _is_plain(dataset: Any) -> bool:
    """Say whether the bytes of a dataset mean what its NumPy type says.

    h5py gives the nearest type that can hold the values: float32 for bfloat16 of two bytes, int32
    for an enumeration or for twelve bits of four bytes. HDF5 would convert them; here the bytes
    are read as they are.
    """
    stored = dataset.id.get_type()
    if dataset.dtype.kind == "S":  # the character set does not matter: it is decoded here
        padding = stored.get_strpad()
        same = stored.get_size() == dataset.dtype.itemsize and padding != h5py.h5t.STR_SPACEPAD
    else:
        same = stored.equal(h5py.h5t.py_create(dataset.dtype))
    return bool(same)


def header(path: Path) -> dict[str, Any]:
    """Return ``format``, ``digest`` and ``inputs`` of a file; empty when it is not one of ours.

    For looking through a folder: nothing else of the file is read or checked.
    """
    if not path.is_file():
        return {}
    try:
        with path.open("rb") as start:
            if start.read(len(MAGIC)) != MAGIC:
                return {}
        with h5py.File(path, "r", locking=False) as file:
            kind = _plain(file.attrs["format"])
            if kind not in KINDS or _whole(file.attrs["complete"]) != 1:
                return {}
            root = _root(file, path)
            return {"format": kind, "digest": root["digest"], "inputs": _object(root, "inputs")}
    except (*DAMAGED, FormatError):
        return {}
