"""Checks before HDF5 reads a file: does it exist, is it HDF5, how large is it."""

import os
from contextlib import suppress
from pathlib import Path

from ltkit.errors import FormatError, InputError
from ltkit.untrusted.budget import opened

MAGIC = b"\x89HDF\r\n\x1a\n"

MOST_HOLES = 1000
"""Most holes of a sparse file that are looked for."""


def sniff(path: Path) -> None:
    """Reject a file that is not HDF5, saying what it seems to be.

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


def size_on_disk(path: Path) -> int:
    """Return a file's size without holes, since a few bytes can declare a hole of any size."""
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
