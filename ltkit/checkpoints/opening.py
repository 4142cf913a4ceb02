"""Checks made before a container reads a file: does it exist, and is it a checkpoint."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from ltkit.errors import FormatError
from ltkit.untrusted.budget import opened
from ltkit.untrusted.zips import OUTSIDE, Zip

__all__ = ["OUTSIDE", "digest_of", "reason", "start_of", "zipped"]


def start_of(path: Path) -> bytes:
    """Return the first bytes of a file that may be a checkpoint.

    Raises:
        InputError: when there is no such file.
        FormatError: when it is empty, a web page, a Git-LFS pointer, or a zip that is not sound.
    """
    with opened(path, "a checkpoint file") as file:
        start = file.read(512)
    if not start:
        raise FormatError(f"{path}: is empty; fetch the checkpoint again")
    if start.startswith(b"version https://git-lfs"):
        raise FormatError(f"{path}: is a Git-LFS pointer; fetch the file itself with git lfs pull")
    if start.lstrip()[:1] == b"<":
        raise FormatError(f"{path}: is a web page; download the checkpoint itself")
    if start.startswith(b"PK"):
        Zip(path).file.close()
    return start


def digest_of(paths: list[Path]) -> str:
    """Return the SHA-256 of a file, or of several files' digests in the order of names."""
    digests = []
    for path in sorted(paths, key=lambda path: path.name):
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").digest())
    return digests[0].hex() if len(digests) == 1 else hashlib.sha256(b"".join(digests)).hexdigest()


def reason(error: BaseException) -> str:
    r"""Return an error's message in one short line, or its type if it has none.

    Example:
        >>> reason(ValueError("no such thing\nat line 3")), reason(KeyError())
        ('no such thing', 'KeyError')
    """
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


def zipped(path: Path, start: bytes, asked: Callable[[Zip], bool]) -> bool:
    """Return whether a file is a zip of some kind.

    Args:
        path: the file.
        start: its first bytes.
        asked: returns whether a zip is of that kind.
    """
    if not start.startswith(b"PK"):
        return False
    with Zip(path) as archive:
        return asked(archive)
