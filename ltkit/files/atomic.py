"""A file or folder appears whole or not at all: written beside its name, then renamed onto it."""

import errno
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ltkit.errors import InputError


def check_output(path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse an output that cannot or must not be written, before any work is done.

    Args:
        path: the output.
        overwrite: whether an existing file may be replaced.
        inputs: files the command reads, which must not be its output.

    Raises:
        InputError: when the folder is absent or not writable, the output is a folder or an input,
            or exists without `overwrite`.
    """
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it, or choose another output with -o")
    if path.is_dir():
        raise InputError(
            f"{path}: is a folder, expected a file name; choose another output with -o"
        )
    if path.exists() and not path.is_file():
        raise InputError(f"{path}: is a device, not a file; choose another output")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise InputError(f"{path}: is an input too; choose another output with -o")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists; pass --overwrite to replace it, or choose another -o")
    if not _writable(folder):
        raise InputError(f"{folder}: cannot write there; choose another output with -o")


def _writable(folder: Path) -> bool:
    try:
        with uninterrupted():
            handle, name = tempfile.mkstemp(dir=folder, prefix=".ltkit-")
            os.close(handle)
            Path(name).unlink()
    except OSError:
        return False
    return True


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success sync it and rename it onto `path`.

    There is an empty file at the temporary path; a folder may be put in its place, and takes a name
    that is free. A symbolic link at `path` is replaced, never followed. On any error what is at the
    temporary path is removed and `path` is as it was.

    Raises:
        InputError: when the disk is full or the file cannot be written.
    """
    temporary = None
    try:
        with uninterrupted():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".ltkit-")
            temporary = Path(name)
            os.close(handle)
        yield temporary
        temporary.chmod((0o777 if temporary.is_dir() else 0o666) & ~_umask())
        publish(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free some space"
            ) from error
        raise
    finally:
        with uninterrupted():
            if temporary and temporary.is_dir():
                shutil.rmtree(temporary)
            elif temporary:
                temporary.unlink(missing_ok=True)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C until the end of the block.

    torch's writer, when it is interrupted in a write, ends in another error or ends the process.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only
        return
    waiting: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting:
        raise KeyboardInterrupt


def publish(temporary: Path, path: Path) -> None:
    """Sync a finished file or folder, rename it onto its final name and sync the parent.

    Raises:
        InputError: when a folder would take the place of something.
    """
    for part in (*temporary.rglob("*"), temporary):
        _sync(part)
    if temporary.is_dir() and (path.exists() or path.is_symlink()):
        raise InputError(
            f"{path}: exists, and the output is a folder, which replaces nothing; choose another "
            "output with -o"
        )
    temporary.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
