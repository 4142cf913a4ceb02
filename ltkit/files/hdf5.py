"""The only module that uses h5py: writes whole files, reads checked contents (docs/format.md).

Every dataset is contiguous and has checksums of its blocks; a root attribute ``digest`` covers
them, the shapes, the types and the attributes that carry meaning. Reading checks links, layout,
sizes and the digest when a file is opened, and each block when it is read; nothing of h5py leaves
this module.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, listed
from ltkit.files import strict_json
from ltkit.files.atomic import replacing, uninterrupted
from ltkit.files.blocks import StoredRows, block_checksums, bytes_of, put
from ltkit.files.contents import FORMAT_VERSION, Attributes, Contents, FileKind, digest_of
from ltkit.files.held import Held
from ltkit.files.opening import MAGIC, size_on_disk, sniff
from ltkit.records import block_rows
from ltkit.untrusted.budget import Budget
from ltkit.version import __version__

CHECKSUMS = "checksums"
LIBRARY = ("v108", "v108")
"""Library versions: objects as written by HDF5 1.8, the first with checksums over metadata."""

MOST_MEMBERS = 10_000
"""Most datasets and groups in a file."""

MOST_BLOCK = 1 << 28
"""Most bytes of a block: each is read whole, to compare its checksum before use."""

CHECKSUM_FOLD = 10
"""Memory that checksums take as Python numbers, as a multiple of their size in a file."""

REQUIRED = ("digest", "written_by", "command", "settings", "inputs")

DAMAGED = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
"""Errors that h5py and NumPy raise for a damaged file's metadata."""

FEATURES = FileKind("ltkit-features", {"head": ("scale", "normalize", "aggregate")})
CLASSIFIER = FileKind("ltkit-classifier", {"/": ("method", "normalize_features")})
NEIGHBORS = FileKind("ltkit-neighbors", {"/": ("metric",)})
KINDS = {kind.name: kind for kind in (FEATURES, CLASSIFIER, NEIGHBORS)}


def root_attributes(
    kind: FileKind, settings: Mapping[str, Any], inputs: Mapping[str, str], command: str
) -> dict[str, Any]:
    """Return the root attributes that every file has, except its digest."""
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
    kind: FileKind,
    datasets: Mapping[str, NDArray[Any]],
    attributes: Attributes,
    *,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    command: str,
) -> str:
    """Write a whole file from memory; return its digest."""
    root = root_attributes(kind, settings, inputs, command)
    with replacing(path) as temporary:
        create(temporary, root, attributes, {k: (v.shape, v.dtype) for k, v in datasets.items()})
        places = offsets(temporary)
        with temporary.open("r+b", buffering=0) as file:
            for name, values in datasets.items():
                put(file.fileno(), bytes_of(values), places[name])
        return seal(temporary, {name: block_checksums(v)[1] for name, v in datasets.items()})


def _layouts() -> tuple[Any, Any]:
    """Return the storage layouts, chosen so that equal contents give equal bytes."""
    data = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    data.set_layout(h5py.h5d.CONTIGUOUS)
    data.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    data.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    group = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    for made in (data, group):
        made.set_obj_track_times(False)
    return data, group


def create(
    path: Path,
    root: Mapping[str, Any],
    attributes: Attributes,
    shapes: Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]],
) -> None:
    """Write a file with all its metadata, space for its data, and ``complete = 0``."""
    layout, plain = _layouts()

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
    """Set attributes; text has a fixed length, because HDF5 has no checksum for other text."""
    for name, value in attributes.items():
        text = isinstance(value, str)
        stored = value.encode() if text else value
        length = max(1, len(stored)) if text else None
        group.attrs.create(name, stored, dtype=h5py.string_dtype(length=length) if text else None)


def seal(path: Path, checksums: Mapping[str, NDArray[np.uint64]]) -> str:
    """Write the checksums and the digest of a file with its data in place, and ``complete = 1``."""
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
    """Open a file for changes, written at the end of the block unless it fails."""
    with Held(path, new=new) as held, uninterrupted():  # h5py loses a Ctrl-C
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


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file for reading; any error in it, also in later use, becomes a `FormatError`."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except DAMAGED as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{path}: cannot be read ({detail}); it is truncated or damaged, make it again"
        ) from error


def offsets(path: Path) -> dict[str, int]:
    """Return the offset of each dataset's bytes in the file.

    Raises:
        FormatError: when the file is damaged.
    """
    with _opened(path) as file:
        return {name: rows.offset for name, rows in _datasets(file, path).items()}


def command_of(path: Path) -> str:
    """Return the command that started a file, which may be incomplete.

    Raises:
        FormatError: when the file is damaged.
    """
    with _opened(path) as file:
        return _root(file, path)["command"]


def is_unfinished(path: Path, kind: FileKind) -> bool:
    """Return whether a file is one of ltkit's whose writing was started and not completed."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return (_plain(file.attrs["format"]), _whole(file.attrs["complete"])) == (kind.name, 0)
    except DAMAGED:
        return False


def read(path: Path, *kinds: FileKind) -> Contents:
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
        budget = Budget(path, size_on_disk(path))
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
    """Return the text attributes of the root; all must be present."""
    root = {}
    for name in REQUIRED:
        if name not in file.attrs:
            raise FormatError(
                f"{path}: {name}: attribute absent; found {listed(sorted(file.attrs))}; "
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


def _attributes(file: Any, path: Path, kind: FileKind) -> Attributes:
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
    """Return an attribute as a Python value; other writers may use fixed-length strings."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode() if isinstance(value, bytes) else value


def _whole(value: Any) -> int:
    """Return an attribute that is a whole number."""
    value = _plain(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} for a whole number")
    return value


def _datasets(file: Any, path: Path, budget: Budget | None = None) -> dict[str, StoredRows]:
    """Describe every dataset with checksums; refuse what reaches outside the file.

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
    """Yield every member of a group and its subgroups, with its path.

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
    """Return a group or dataset, None if absent; never follow a link to it."""
    for part in filter(None, name.split("/")):
        links = group.id.links  # the low level, because h5py's own `in` follows links
        if not links.exists(part.encode()):
            return None
        if links.get_info(part.encode()).type != h5py.h5l.TYPE_HARD:
            raise FormatError(f"{path}: {name}: found a link, expected data; refused")
        group = group[part]
    return group


def _checked(dataset: Any, name: str, path: Path, size: int) -> Any:
    """Return a dataset stored plainly within the file itself."""
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
    """Return whether a dataset's bytes mean what its NumPy type says.

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
    """Return ``format``, ``digest`` and ``inputs`` of a file; empty if it is not one of ltkit's.

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
