"""What every file is asked before its container reads it: is it there, and is it a checkpoint."""

import hashlib
import re
import zipfile
from pathlib import Path

from ltkit.errors import FormatError, InputError

ZIP_RATIO, ZIP_SLACK = 2, 64 << 20
"""A zip may say that it unpacks to so many times its size and so many bytes more: torch stores
weights as they are, and compresses only a program's text."""

OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
"""Names that lead out of the folder that they are in."""


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file that may be a checkpoint.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is empty, a web page, a Git-LFS pointer, or a zip that would unpack to
            far more than it is or has members outside of it.
    """
    if not path.exists():
        raise InputError(f"{path}: not found; check the path")
    if not path.is_file():
        raise InputError(f"{path}: is a device or pipe, expected a checkpoint file")
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise FormatError(f"{path}: is empty; fetch the checkpoint again")
    if start.startswith(b"version https://git-lfs"):
        raise FormatError(f"{path}: is a Git-LFS pointer; fetch the file itself with git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise FormatError(f"{path}: is a web page; download the checkpoint itself")
    if start.startswith(b"PK"):
        _check_zip(path)
    return start


def digest_of(paths: list[Path]) -> str:
    """Return the SHA-256 of a file; of several, that of their digests in the order of names."""
    digests = []
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


def reason(error: BaseException) -> str:
    r"""Return what an error says, in one short line; its kind where it says nothing.

    Example:
        >>> reason(ValueError("no such thing\nat line 3")), reason(KeyError())
        ('no such thing', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def members(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return what a zip lists, by name; nothing when it is none or is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {info.filename: info for info in archive.infolist()}
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile):
        return {}


def _check_zip(path: Path) -> None:
    found, size = members(path), path.stat().st_size
    for name in found:
        if OUTSIDE.search(name):
            raise FormatError(f"{path}: refused: its member {name!r} lies outside of it")
    unpacked = sum(info.file_size for info in found.values())
    if unpacked > ZIP_RATIO * size + ZIP_SLACK:
        raise FormatError(
            f"{path}: refused: {size} bytes that unpack to {unpacked}; torch stores weights as "
            "they are, save the checkpoint again"
        )
