"""The door to HDF5: whole files out, checked contents in (docs/format.md).

Every dataset is contiguous and has checksums of its blocks; a root attribute ``digest`` covers
them, the shapes, the types and the attributes that carry meaning. Reading checks links, layout,
sizes and the digest when a file is opened, and each block when it is read; nothing of h5py leaves
this module.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xxhash
from numpy.typing import NDArray

from ltkit import __version__
from ltkit.errors import FormatError, InputError
from ltkit.files.atomic import replacing
from ltkit.records import block_rows

MAGIC = b"\x89HDF\r\n\x1a\n"
FORMAT_VERSION = 1
CHECKSUMS = "checksums"

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
        values = values.reshape(-1, *self.shape[1:])
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

    def verify(self) -> Iterator[str]:
        """Read every block; yield a line for each that does not have its checksum."""
        for start in range(0, self.shape[0], self.block_rows):
            try:
                self[start : start + self.block_rows]
            except FormatError as error:
                yield str(error)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file holds: root attributes, attributes of groups, datasets."""

    path: Path
    kind: Kind
    root: Mapping[str, Any]
    attributes: Attributes
    datasets: Mapping[str, StoredRows]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that made the file."""
        settings: dict[str, Any] = json.loads(self.root["settings"])
        return settings

    @property
    def inputs(self) -> dict[str, str]:
        """The digests of the files it was made from, by role."""
        inputs: dict[str, str] = json.loads(self.root["inputs"])
        return inputs

    def read(self, name: str) -> NDArray[Any]:
        """Read a whole dataset.

        Raises:
            FormatError: when it is absent; the message lists those present.
        """
        if name not in self.datasets:
            raise FormatError(
                f"{self.path}: {name}: absent; found {', '.join(sorted(self.datasets)) or 'none'}; "
                "make the file again"
            )
        return self.datasets[name][:]

    def strings(self, name: str) -> NDArray[np.str_] | None:
        """Read a dataset of UTF-8 strings; None when it is absent."""
        if name not in self.datasets:
            return None
        try:
            return np.char.decode(self.read(name), "utf-8")
        except (UnicodeDecodeError, TypeError) as error:
            raise FormatError(f"{self.path}: {name}: not UTF-8 strings; make it again") from error


def checksum(values: NDArray[Any]) -> int:
    """Return the 64-bit checksum (XXH3) of the bytes of an array."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(values).view(np.uint8).data)


def block_checksums(values: NDArray[Any]) -> tuple[int, NDArray[np.uint64]]:
    """Return (rows a block, checksum of each block) of an array in memory."""
    rows = block_rows(values.dtype.itemsize * math.prod(values.shape[1:]))
    sums = [checksum(values[i : i + rows]) for i in range(0, len(values), rows)]
    return rows, np.array(sums, dtype=np.uint64)


def encode(strings: NDArray[np.str_] | tuple[str, ...]) -> NDArray[np.bytes_]:
    """Return strings as fixed-length UTF-8, the form in which files hold them."""
    encoded: NDArray[np.bytes_] = np.char.encode(np.asarray(strings, dtype=np.str_), "utf-8")
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
        "command": command,
        "settings": json.dumps(settings, sort_keys=True),
        "inputs": json.dumps(inputs, sort_keys=True),
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
        with h5py.File(temporary, "r+") as file:
            for name, values in datasets.items():
                if values.size:
                    file[name][...] = values
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
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)

    def room(file: Any, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        space, kind = h5py.h5s.create_simple(shape), h5py.h5t.py_create(dtype)
        h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=layout, lcpl=links)

    with h5py.File(path, "w") as file:
        for name, (shape, dtype) in sorted(shapes.items()):
            rows = block_rows(dtype.itemsize * math.prod(shape[1:]))
            room(file, name, shape, dtype)
            room(file, f"{CHECKSUMS}/{name}", (math.ceil(shape[0] / rows),), np.dtype("<u8"))
            file[f"{CHECKSUMS}/{name}"].attrs["block_rows"] = rows
        for group, values in attributes.items():
            file.require_group(group).attrs.update(values)
        file.attrs.update(root)
        file.attrs["digest"] = "0" * 64
        file.attrs["complete"] = 0


def seal(path: Path, checksums: Mapping[str, NDArray[np.uint64]]) -> str:
    """Write the checksums and the digest of a file whose data is in place, and ``complete = 1``."""
    with h5py.File(path, "r+") as file:
        for name, values in checksums.items():
            if len(values):
                file[f"{CHECKSUMS}/{name}"][...] = values
        kind = KINDS[file.attrs["format"]]
        digest = digest_of(kind, file.attrs, _attributes(file, kind), _datasets(file, path))
        file.attrs.modify("digest", digest)
        file.attrs.modify("complete", 1)
    return digest


def offsets(path: Path) -> dict[str, int]:
    """Return where in the file each dataset's bytes begin."""
    with h5py.File(path, "r") as file:
        return {name: rows.offset for name, rows in _datasets(file, path).items()}


def sniff(path: Path) -> None:
    """Refuse what is not an HDF5 file, saying what it seems to be.

    Raises:
        FormatError: see above. InputError: when there is no such file.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected an ltkit file")
    if not path.exists():
        raise InputError(f"{path}: not found{_beside(path)}")
    with path.open("rb") as file:
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
    try:
        with h5py.File(path, "r", locking=False) as file:
            contents = _read(file, path, kinds)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        detail = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise FormatError(
            f"{path}: cannot be read ({detail}); it is truncated or damaged, make it again"
        ) from error
    expected = digest_of(contents.kind, contents.root, contents.attributes, contents.datasets)
    if contents.root["digest"] != expected:
        raise FormatError(
            f"{path}: digest: found {str(contents.root['digest'])[:12]}, expected {expected[:12]}; "
            "the file is damaged, make it again"
        )
    return contents


def _read(file: Any, path: Path, kinds: tuple[Kind, ...]) -> Contents:
    found = str(file.attrs.get("format", "none"))
    names = [kind.name for kind in kinds]
    if found not in names:
        hint = "use ltkit import" if found == "none" else "name another file"
        raise FormatError(f"{path}: format: found {found}, expected {' or '.join(names)}; {hint}")
    version = int(file.attrs.get("format_version", 0))
    if version != FORMAT_VERSION:
        raise FormatError(
            f"{path}: format_version: found {version}, expected {FORMAT_VERSION}; "
            + ("upgrade ltkit" if version > FORMAT_VERSION else "make the file again")
        )
    if int(file.attrs.get("complete", 0)) != 1:
        raise FormatError(f"{path}: complete: found 0, expected 1; finish it with --resume")
    required = ("digest", "written_by", "command", "settings", "inputs")
    missing = [name for name in required if name not in file.attrs]
    if missing:
        raise FormatError(
            f"{path}: {missing[0]}: attribute absent; found {', '.join(sorted(file.attrs))}; "
            "make the file again"
        )
    kind = KINDS[found]
    root = {name: file.attrs[name] for name in required}
    return Contents(path, kind, root, _attributes(file, kind), _datasets(file, path))


def _attributes(file: Any, kind: Kind) -> Attributes:
    return {
        group: {name: _plain(file[group].attrs[name]) for name in names}
        for group, names in kind.attributes.items()
        if group in file
    }


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _datasets(file: Any, path: Path) -> dict[str, StoredRows]:
    """Describe every dataset that has checksums; refuse what reaches outside the file."""
    found: dict[str, StoredRows] = {}
    size = path.stat().st_size
    for name in _walk(file[CHECKSUMS], path, CHECKSUMS):
        target = _checked(file, name, path, size)
        sums = _checked(file, f"{CHECKSUMS}/{name}", path, size)
        rows = int(sums.attrs["block_rows"])
        if rows < 1 or sums.shape != (math.ceil(target.shape[0] / rows),):
            raise FormatError(f"{path}: {name}: checksums do not fit; make the file again")
        found[name] = StoredRows(
            path, name, target.shape, target.dtype, target.id.get_offset() or 0, rows,
            sums[:].astype(np.uint64),
        )  # fmt: skip
    return found


def _walk(group: Any, path: Path, where: str) -> Iterator[str]:
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{path}: {where}/{name}: found a link, expected data; refused")
        child = group[name]
        if isinstance(child, h5py.Group):
            yield from (f"{name}/{inner}" for inner in _walk(child, path, f"{where}/{name}"))
        else:
            yield name


def _checked(file: Any, name: str, path: Path, size: int) -> Any:
    """Return a dataset that lies in the file itself, plainly, and within its size."""
    parent = file
    for part in name.split("/"):
        link = parent.get(part, getlink=True)
        if link is None:
            raise FormatError(f"{path}: {name}: absent; make the file again")
        if not isinstance(link, h5py.HardLink):
            raise FormatError(f"{path}: {name}: found a link, expected data; refused")
        parent = parent[part]
    dataset = parent
    if not isinstance(dataset, h5py.Dataset):
        raise FormatError(f"{path}: {name}: found a group, expected data; make the file again")
    if dataset.is_virtual or dataset.external:
        raise FormatError(f"{path}: {name}: its data lies in other files; refused")
    if dataset.chunks is not None or dataset.ndim < 1:
        raise FormatError(
            f"{path}: {name}: found chunked or filtered data, expected it contiguous; make it again"
        )
    if dataset.dtype.kind not in "fiuS":
        raise FormatError(f"{path}: {name}: found the type {dataset.dtype}; make the file again")
    end = (dataset.id.get_offset() or 0) + dataset.dtype.itemsize * math.prod(dataset.shape)
    if end > size:
        raise FormatError(
            f"{path}: {name}: declared up to byte {end}, the file has {size}; it is truncated"
        )
    return dataset


def header(path: Path) -> dict[str, Any]:
    """Return ``format``, ``digest`` and ``inputs`` of a file; empty when it is not one of ours.

    For looking through a folder: nothing else of the file is read or checked.
    """
    with path.open("rb") as start:
        if start.read(len(MAGIC)) != MAGIC:
            return {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs["format"] not in KINDS or int(file.attrs["complete"]) != 1:
                return {}
            inputs = json.loads(file.attrs["inputs"])
            return {
                "format": file.attrs["format"],
                "digest": file.attrs["digest"],
                "inputs": inputs,
            }
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return {}
