"""Files that a command keeps next to its output until it is done, under names others may use.

Beside ``OUT`` these are ``OUT.journal`` and ``OUT.partial`` (extraction, import), ``OUT.partial``
and the log ``OUT.jsonl`` (training), ``OUT.parts`` (a sweep). Each is made whole and only where
nothing is, says inside that it is ltkit's and of which run, and is read, changed or removed only
when it says so. Links are never followed. Who does any of it holds the lock of ``OUT``.
"""

import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ltkit.errors import FormatError, InputError
from ltkit.files import hdf5, isolated
from ltkit.files.atomic import locked_by, open_own, replacing, stranger, temporary_beside
from ltkit.files.opening import MAGIC
from ltkit.shards import Shard

LINKLESS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors of file systems without hard links."""


def digest_of(run: Mapping[str, Any]) -> str:
    """Return a digest of everything that determines a run's result."""
    return hashlib.sha256(json.dumps(run, sort_keys=True, default=str).encode()).hexdigest()


def plain(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as they come back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(run))
    return found


def opened(path: Path, mode: str = "rb") -> io.FileIO | None:
    """Open what is under one of ltkit's names, unbuffered; return None if nothing is there.

    Args:
        path: the name.
        mode: ``rb``, ``r+b``, or ``a+b``, which here makes no file.

    Raises:
        InputError: when it is not a file.
    """
    flags = {"rb": os.O_RDONLY, "r+b": os.O_RDWR, "a+b": os.O_RDWR | os.O_APPEND}[mode]
    try:
        handle = open_own(path, flags)
    except FileNotFoundError:
        return None
    return io.FileIO(handle, mode)


def read(path: Path) -> bytes | None:
    """Return the bytes under one of ltkit's names, None if nothing is there; see `opened`."""
    file = opened(path)
    if file is None:
        return None
    with file:
        return file.read()


def place(temporary: Path, path: Path) -> None:
    """Rename a finished file to a name not yet in use.

    Raises:
        InputError: when the name is in use.
    """
    try:
        os.link(temporary, path)
    except FileExistsError as error:
        raise stranger(path) from error
    except OSError as error:
        if error.errno not in LINKLESS:
            raise
        if os.path.lexists(path):
            raise stranger(path) from error
        temporary.rename(path)
    else:
        temporary.unlink()


class Parts:
    """A folder of a run's finished parts, next to its output.

    A file in it says of which run they are. A part is known by its name and by the settings that
    it keeps, which are those of the run. Shards of a run put theirs into one folder, and go on with
    what they find there.
    """

    MARK = "ltkit-parts"
    LINE = re.compile(rb"ltkit-parts 1 ([0-9a-f]{64})\n")

    def __init__(
        self, folder: Path, run: Mapping[str, Any], *, resume: bool, shard: Shard | None = None
    ) -> None:
        """Look at what is there, without changes.

        Args:
            folder: the folder.
            run: the settings that all parts share.
            resume: whether to reuse existing parts, as a shard always does.
            shard: which of the parts are made here; None: all.

        Raises:
            InputError: when what is there is not known to be ltkit's, or, on resuming, belongs
                to another run.
        """
        self.folder, self.run, self.shard = folder, dict(run), shard
        resume = resume or shard is not None
        self._line = _line(run)
        found = self._owned()
        self._check()
        if resume and found is not None and found != self._line:
            anew = "start again without --resume" if shard is None else "remove it"
            raise InputError(
                f"{folder}: belongs to a sweep with other settings; resume with the settings of "
                f"the first run, or {anew}"
            )
        self._ready = resume and found is not None

    def _owned(self) -> bytes | None:
        """Return the identifying line of an existing folder, None if there is no folder."""
        if not os.path.lexists(self.folder):
            return None
        if self.folder.is_symlink() or not self.folder.is_dir():
            raise stranger(self.folder)
        line = read(self.folder / self.MARK) or b""
        if not self.LINE.fullmatch(line):
            raise stranger(self.folder)
        return line

    def path(self, name: str) -> Path:
        """Return a part's path."""
        return self.folder / f"{name}.h5"

    def has(self, file: Path) -> bool:
        """Return whether a part exists that may be reused."""
        found = opened(file) if self._ready else None
        if found:
            found.close()
        return found is not None

    def locked(self) -> AbstractContextManager[None]:
        """Hold the lock of the output the parts belong to; see `atomic.locked_by`."""
        return locked_by(self.folder, self.shard)

    def begin(self) -> None:
        """Create the folder, replacing one of a run that is not resumed.

        Raises:
            InputError: when there is something in it that is not known to be ltkit's.
        """
        if self._ready:
            return
        if self.shard is None:
            self.remove()
        try:
            with replacing(self.folder) as made:
                made.unlink()
                made.mkdir()
                (made / self.MARK).write_bytes(self._line)
        except (InputError, OSError):
            if self.shard is None or self._owned() != self._line:
                raise  # it is not that another shard has made the folder by now
        self._ready = True

    def _check(self) -> None:
        """Refuse a folder that holds anything not known to be ltkit's."""
        line = self._owned()
        if line is None:
            return
        for path in sorted(self.folder.iterdir()):
            if path.name != self.MARK and not _temporary(path) and not self._is_part(path, line):
                raise stranger(path)

    def _is_part(self, path: Path, line: bytes) -> bool:
        """Return whether a file is a part of the run with this identifying line."""
        file = opened(path)
        if file is None:  # another shard's temporary file, which has its name by now
            return True
        with file:
            if path.suffix != ".h5" or file.read(len(MAGIC)) != MAGIC:
                return False
        try:
            isolated.try_first(lambda: hdf5.read(path, hdf5.CLASSIFIER), path)
            settings = hdf5.read(path, hdf5.CLASSIFIER).settings
        except FormatError:
            return False
        return line == _line(settings)

    def remove(self) -> None:
        """Remove the folder and everything in it.

        Raises:
            InputError: when something in it is not known to be ltkit's; then nothing is removed.
        """
        self._check()
        if os.path.lexists(self.folder):
            with temporary_beside(self.folder) as gone:  # which a kill leaves, under that name
                gone.unlink()
                self.folder.rename(gone)


def _line(run: Mapping[str, Any]) -> bytes:
    return f"ltkit-parts 1 {digest_of(run)}\n".encode()


def _temporary(path: Path) -> bool:
    """Return whether a file was left by a killed process."""
    return path.name.startswith(".ltkit-") and path.is_file() and not path.is_symlink()
