"""How far an untrusted file is read: it must be a regular file, and reading it has limits.

A few bytes can say that they unpack to gigabytes, or to a structure that takes for ever to walk,
and a name can lead to a pipe that never answers. So every reader of files that others made opens
them here, and adds up what a file says of itself before anything of that size is made.
"""

import errno
import io
import os
import re
import stat
from pathlib import Path

from ltkit.errors import FormatError, InputError

BYTES, FOLD = 512 << 20, 4
"""Bytes that reading may take for a small file, and the multiple of its size for a large one."""

STEPS, STEPS_PER_BYTE = 1_000_000, 4
"""Objects made or visited for a small file, and how many more per byte of a large one."""

CACHED, BLOB = re.compile(r"(models|datasets)--.+"), re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""What the hub's cache calls a download's folder, and the files that its snapshots link to."""


class Budget:
    """Limits on reading one file, including everything packed in it.

    One budget goes along with the file through every reader of it, so that many small claims add up
    as one large claim does.

    Example:
        >>> budget = Budget(Path("a.npz"), size=100)
        >>> budget.take(1 << 40, "labels")
        Traceback (most recent call last):
        ...
        ltkit.errors.FormatError: a.npz: labels: claims 1099511627776 bytes, expected at most
        536871312 for a file of 100; it is damaged or hostile, make it again
    """

    def __init__(self, path: Path, size: int | None = None) -> None:
        """Start with nothing used.

        Args:
            path: the file, for messages.
            size: of the file, in bytes; looked up where it is not given.
        """
        self.path = path
        self.size = path.stat().st_size if size is None else size
        self.bytes, self.steps = 0, 0

    @property
    def most_bytes(self) -> int:
        """How many bytes the file may take in all."""
        return BYTES + FOLD * self.size

    def take(self, count: int, what: str = "") -> None:
        """Count bytes that are about to be allocated.

        Raises:
            FormatError: when the file takes too many, or a negative number.
        """
        self.bytes += count
        if count < 0 or self.bytes > self.most_bytes:
            raise FormatError(
                f"{self.path}: {what + ': ' if what else ''}claims "
                f"{min(count, 0) or self.bytes} bytes, expected at most "
                f"{self.most_bytes} for a file of {self.size}; it is damaged or hostile, make it "
                "again"
            )

    def step(self, count: int = 1) -> None:
        """Count objects that are made or visited.

        Raises:
            FormatError: when the file takes too many.
        """
        self.steps += count
        if self.steps > STEPS + STEPS_PER_BYTE * self.size:
            raise FormatError(
                f"{self.path}: reading its {self.size} bytes takes over {self.steps - count} "
                "steps; it is damaged or hostile, make it again"
            )


def opened(path: Path, what: str, mend: str = "check the path") -> io.BufferedReader:
    """Open a regular file for reading; refuse a pipe, device or folder, which might never answer.

    Args:
        path: the file; links to a file are followed.
        what: what it should be, for the message, as ``a list of images``.
        mend: advice for an absent file.

    Raises:
        InputError: when there is no such file, or it is no regular file.
        OSError: when it may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(f"{path}: not found, expected {what}; {mend}") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise _irregular(path, "a socket", what) from None
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise _irregular(path, "a folder" if stat.S_ISDIR(mode) else "a device or pipe", what)
    return os.fdopen(handle, "rb")


def stays_in(folder: Path, path: Path) -> bool:
    """Return whether a path, with all its links followed, stays in a folder.

    The folder itself may be a link: whoever named it chose so. The cache of Hugging Face's hub has
    the files of ``models--x--y/snapshots/z`` as links to ``models--x--y/blobs``; those stay, too.

    Args:
        folder: where it should stay.
        path: of what is to be read; it need not be there.

    Example:
        >>> stays_in(Path("data"), Path("data/ant/../bee/1.png"))
        True
        >>> stays_in(Path("data"), Path("data/../secret.txt"))
        False
    """
    root, real = (Path(os.path.realpath(place)) for place in (folder, path))
    if real.is_relative_to(root):
        return True
    for snapshot in (root, *root.parents):
        download = snapshot.parent.parent
        if snapshot.parent.name == "snapshots" and CACHED.fullmatch(download.name):
            return real.parent == download / "blobs" and BLOB.fullmatch(real.name) is not None
    return False


def _irregular(path: Path, found: str, what: str) -> InputError:
    return InputError(f"{path}: is {found}, expected {what}; name a file")


def read_bytes(path: Path, what: str, most: int) -> bytes:
    """Read a whole small file; see `opened`.

    Args:
        path: the file.
        what: what it should be, for the message.
        most: most bytes that it may have.

    Raises:
        InputError: when there is no such file, or it is no regular file.
        FormatError: when it is larger.
    """
    with opened(path, what) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise FormatError(
                f"{path}: found {size} bytes, expected at most {most} of {what}; check the path"
            )
        return file.read(most)
