"""A file or folder appears whole or not at all: written beside its name, then renamed onto it.

Of one output there is one writer at a time: who would write it holds its lock, a command from its
first check to its end. Shards of one run hold it together, and none of them writes the output.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from ltkit.errors import InputError
from ltkit.shards import Shard

SCRATCH = (".journal", ".partial", ".parts", ".jsonl")
"""Suffixes of the names next to an output that belong to its writer; see `scratch`."""

PATIENCE = 1.0
"""Seconds that a shard waits for a lock, which others hold alone for a moment as they end."""

_held: dict[tuple[str, str], int] = {}
"""This process's locks by folder and name, with the number of times each is held."""

_command: list[ExitStack] = []
"""Locks that the running command holds until its end."""


@contextmanager
def command() -> Iterator[None]:
    """Hold the locks of all checked outputs until the end of the block."""
    with ExitStack() as locks:
        _command.append(locks)
        try:
            yield
        finally:
            _command.pop()


def hold(path: Path, *, shared: bool = False) -> None:
    """Lock an output until the command's end; outside a command, only check that nobody writes it.

    Args:
        path: the output.
        shared: as `locked`.

    Raises:
        InputError: when another process writes it, or its folder does not support locks.
    """
    with ExitStack() as now:
        (_command[-1] if _command else now).enter_context(locked(path, shared=shared))


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the lock of an output and its writer's files until the end of the block.

    A process may hold it more than once. The lock is one of the system, on a file beside the
    output, and goes with the process; the file is removed at the end, but not by a kill.

    Args:
        path: the output.
        shared: whether others may hold it as well, if they share it, too.

    Raises:
        InputError: when another process writes it, or its folder does not support locks.
    """
    name = path.name
    while ends := [end for end in SCRATCH if name.endswith(end) and name != end]:
        name = name.removesuffix(ends[0])
    key = os.path.realpath(path.parent), name
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()
    file = path.with_name(f".ltkit-lock-{digest[:16]}")
    handle = None
    try:
        with uninterrupted():
            if not _held.get(key):
                handle = _lock(file, path, shared)
            _held[key] = _held.get(key, 0) + 1
        yield
    finally:
        with uninterrupted():
            if key in _held:
                _held[key] -= 1
            if handle is not None:
                _held.pop(key)
                try:
                    if not shared or _alone(handle):
                        file.unlink(missing_ok=True)
                finally:
                    os.close(handle)


@contextmanager
def locked_by(path: Path, shard: Shard | None) -> Iterator[None]:
    """Hold the lock of an output alone or, as one shard of a run, together with the others.

    Raises:
        InputError: as `locked`, or when another process is the same shard.
    """
    with ExitStack() as locks:
        locks.enter_context(locked(path, shared=shard is not None))
        if shard is not None:
            locks.enter_context(locked(path.with_name(f"{path.name}.{shard.label}")))
        yield


def _lock(file: Path, path: Path, shared: bool) -> int:
    """Lock the file that stands for an output, creating it if absent; return its descriptor."""
    while True:
        handle = open_own(file, os.O_RDWR | os.O_CREAT)  # NFS locks only what may be written
        with ExitStack() as undo:
            undo.callback(os.close, handle)
            own = os.fstat(handle)
            if own.st_size:
                raise stranger(file)
            flock(handle, path, shared=shared)
            with suppress(FileNotFoundError):  # its holder may have removed it since it was opened
                if os.path.samestat(own, file.stat(follow_symlinks=False)):
                    undo.pop_all()
                    return handle


def flock(handle: int, path: Path, *, shared: bool = False) -> None:
    """Lock an open file that only the writer of an output, or only its shards, may use.

    Raises:
        InputError: when another has locked it, or its file system does not support locks.
    """
    until = time.monotonic() + PATIENCE * shared
    try:
        while not _taken(handle, shared):
            if time.monotonic() >= until:
                raise InputError(
                    f"{path}: another process{_holder(os.fstat(handle).st_ino)} is writing it; "
                    "wait, or choose another -o"
                )
            time.sleep(0.02)
    except OSError as error:
        raise InputError(
            f"{path}: its folder does not support locks ({error.strerror}), so two writers could "
            "mix; choose an -o on another file system"
        ) from error


def _taken(handle: int, shared: bool) -> bool:
    """Lock an open file; return False where another has it."""
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alone(handle: int) -> bool:
    """Return whether no other process shares a lock, by taking it alone."""
    with suppress(OSError):
        return _taken(handle, shared=False)
    return False


def open_own(path: Path, flags: int) -> int:
    """Open a file under one of ltkit's names; refuse a link, pipe or folder; see `os.open`.

    Raises:
        InputError: when there is something else.
        OSError: when it may not be opened, or there is nothing.
    """
    flags |= os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):  # a link, a folder, a socket
            raise stranger(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise stranger(path)
    return handle


def stranger(path: Path) -> InputError:
    """Return the error for something under one of ltkit's names that is not known to be its own."""
    return InputError(
        f"{path}: found something not known to be ltkit's, expected nothing or an unfinished run; "
        "move it away, or choose another -o"
    )


def _holder(inode: int) -> str:
    """Return which process holds a file's lock, and since when it runs, as far as known."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            _, kind, _, _, process, file, *_ = line.split()
            if kind == "FLOCK" and file.endswith(f":{inode}"):
                begun = datetime.fromtimestamp(Path(f"/proc/{process}").stat().st_mtime)
                return f" ({process}, since {begun:%Y-%m-%d %H:%M})"
    return ""


def check_output(
    path: Path, *, overwrite: bool, inputs: tuple[Path, ...] = (), writes: bool = True,
    shared: bool = False,
) -> None:  # fmt: skip
    """Refuse an output that cannot or must not be written, before any work; `hold` it.

    Args:
        path: the output.
        overwrite: whether an existing file may be replaced.
        inputs: files the command reads, which must not be its output.
        writes: whether this process writes; of several with one output, only one does.
        shared: whether this process is a shard of the run that writes; see `locked`.

    Raises:
        InputError: when the folder is absent or not writable, the output is a folder or an input,
            exists without `overwrite`, or is just being written.
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
    _refuse_existing(path, overwrite)
    if not _writable(folder):
        raise InputError(f"{folder}: cannot write there; choose another output with -o")
    if writes:
        hold(path, shared=shared)
        _refuse_existing(path, overwrite)  # who held it before may have written it by now


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists; pass --overwrite to replace it, or choose another -o")


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
    """Yield a temporary path next to `path`; on success sync it and rename it onto `path`.

    There is an empty file at the temporary path; a folder may be put in its place, and takes a name
    that is free. A symbolic link at `path` is replaced, never followed. On any error what is at the
    temporary path is removed and `path` is as it was.

    Raises:
        InputError: when the disk is full, the file cannot be written, or another process writes it.
    """
    try:
        with locked(path), temporary_beside(path) as temporary:
            yield temporary
            usual_mode(temporary)
            publish(temporary, path)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); free some space"
            ) from error
        raise


@contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield the path of a new empty file next to `path`; remove whatever is there at the end."""
    temporary = None
    try:
        with uninterrupted():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".ltkit-")
            temporary = Path(name)
            os.close(handle)
        yield temporary
    finally:
        with uninterrupted():
            if temporary and temporary.is_dir():
                shutil.rmtree(temporary)
            elif temporary:
                temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield the path of a new empty folder next to `path`; remove it at the end."""
    with temporary_beside(path) as folder:
        with uninterrupted():
            folder.unlink()
            folder.mkdir(mode=0o700)
        yield folder


def usual_mode(path: Path) -> None:
    """Give a new file or folder the usual permissions."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C until the end of the block.

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
    """Sync a finished file or folder, rename it to its final name and sync the parent.

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
    """Write a whole text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
