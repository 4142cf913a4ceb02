"""HDF5 files that other programs wrote: what is in them, and their data in plain .npy files.

The HDF5 library trusts a file more than a stranger's deserves, so both functions are called in a
child process (`ltkit.files.isolated`). Links are not followed, and data in other files is not read.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ltkit.errors import FormatError
from ltkit.records import block_rows, blocks
from ltkit.untrusted.texts import in_array

MOST_MEMBERS = 10_000
"""Datasets and groups of a file."""

KINDS = "biufSU"


def listing(path: Path) -> list[list[Any]]:
    """Return name, shape and type of every dataset that numbers or texts are in.

    Raises:
        FormatError: when the file is damaged, or has no end of members.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return [[name, list(d.shape), _dtype(d).str] for name, d in _walk(path, file)]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def copy(path: Path, name: str, target: str) -> None:
    """Write a dataset into an .npy file, block by block.

    Raises:
        FormatError: when it cannot be read, as with a filter that is not there.
    """
    try:
        with h5py.File(path, "r", locking=False) as file, Path(target).open("wb") as out:
            dataset = dict(_walk(path, file))[name]
            if _is_text(dataset):
                np.save(out, in_array([_decoded(text) for text in dataset[:].flat], name))
                return
            dtype = dataset.dtype.newbyteorder("=")
            header = {
                "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
                "shape": dataset.shape,
            }  # fmt: skip
            np.lib.format.write_array_header_2_0(out, header)
            if not dataset.shape:
                out.write(np.asarray(dataset[()], dtype).tobytes())
                return
            row = dtype.itemsize * math.prod(dataset.shape[1:])
            for rows in blocks(dataset.shape[0], block_rows(row)):
                out.write(np.ascontiguousarray(dataset[rows], dtype).tobytes())
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error


def _walk(path: Path, file: Any) -> Iterator[tuple[str, Any]]:
    """Yield the datasets that lie in the file itself; groups may hold each other without end."""
    groups, members = [("", file)], 0
    while groups:
        prefix, group = groups.pop(0)
        for part in group:
            members += 1
            if members > MOST_MEMBERS:
                raise FormatError(f"{path}: found more than {MOST_MEMBERS} members; refused")
            kind = group.id.links.get_info(part.encode()).type
            if kind != h5py.h5l.TYPE_HARD:
                continue
            member, name = group[part], f"{prefix}{part}"
            if isinstance(member, h5py.Group):
                groups.append((f"{name}/", member))
            elif isinstance(member, h5py.Dataset) and _is_plain(member):
                yield name, member


def _is_plain(dataset: Any) -> bool:
    inside = not dataset.is_virtual and not dataset.external and dataset.shape is not None
    return inside and (dataset.dtype.kind in KINDS or _is_text(dataset))


def _is_text(dataset: Any) -> bool:
    return h5py.check_string_dtype(dataset.dtype) is not None


def _dtype(dataset: Any) -> np.dtype[Any]:
    """Return the type that a copy has; of texts only that they are such."""
    found: np.dtype[Any] = np.dtype("U1") if _is_text(dataset) else dataset.dtype.newbyteorder("=")
    return found


def _decoded(text: bytes | str) -> str:
    return text if isinstance(text, str) else text.rstrip(b"\0").decode("utf-8")


def _damaged(path: Path, error: Exception) -> FormatError:
    said = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return FormatError(f"{path}: cannot be read ({said}); write it again, or as .npz")
