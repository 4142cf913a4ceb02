"""Work on a file in a child process: a hang, full memory or crash there becomes an error here.

The HDF5 library, which is written in C, trusts what a file says of itself more than a stranger's
file deserves. The child answers in JSON, so nothing it says can run code here.
"""

import faulthandler
import importlib
import json
import math
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ltkit import errors
from ltkit.errors import FormatError

SECONDS, BYTES_PER_SECOND = 2, 50e6
"""Processor time for a small file, and the slowest pace allowed for a large one."""

WAIT, SLOWEST = 60, 1e6
"""The same in wall-clock time, for slow disks."""

MEMORY, FOLD = 2 << 30, 16
"""Bytes for a small file, and the multiple of its size for a large one: text takes most."""

CHILD = "from ltkit.files.isolated import serve; serve()"


def call(function: Callable[..., Any], path: Path, *arguments: Any, unpacked: int = 0) -> Any:
    """Return ``function(path, *arguments)``, computed by a child process with limits.

    The limits, on processor time, time and memory, grow with the size of the file.

    Args:
        function: a module's function, found by name; its result must be JSON-serialisable.
        path: the file, its first argument.
        *arguments: the others, such as JSON can hold.
        unpacked: bytes that the file's contents take, where they are gone through unpacked.

    Raises:
        LtkitError: of the kind that the function raises, with its message.
        FormatError: when the child does not end in time, or ends without an answer.
        RuntimeError: with the child's traceback, for any other error of the function.

    Example:
        >>> import math
        >>> call(os.path.basename, Path("folder/feats.h5"))
        'feats.h5'
    """
    size = max(path.stat().st_size if path.is_file() else 0, unpacked)
    request = {
        "module": function.__module__, "function": function.__qualname__, "path": str(path),
        "arguments": arguments, "seconds": SECONDS + int(size / BYTES_PER_SECOND),
        "memory": MEMORY + FOLD * size,
    }  # fmt: skip
    wait = WAIT + size / SLOWEST
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", CHILD],
            input=json.dumps(request), capture_output=True, text=True, timeout=wait,
            errors="backslashreplace", env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _useless(path, f"took more than {wait:.0f} s") from None
    if child.returncode == -signal.SIGXCPU:
        raise _useless(path, f"took more than {request['seconds']} s of processor time")
    if child.returncode < 0:
        raise _useless(path, f"was ended by {signal.Signals(-child.returncode).name}")
    if child.returncode:
        raise RuntimeError(f"{path}: in a child process:\n{child.stderr}")
    answer = json.loads(child.stdout)
    if "error" in answer:
        raise vars(errors)[answer["error"]](answer["message"])
    return answer["value"]


def _useless(path: Path, what: str) -> FormatError:
    return FormatError(f"{path}: reading it {what}; it is damaged or hostile, make it again")


def try_first(action: Callable[[], object], path: Path) -> None:
    """Let a fork of this process use a file first; refuse the file if that kills the fork.

    It costs milliseconds, where `call` costs a start of Python; and it has no limits.

    Raises:
        FormatError: when a signal, such as a segmentation fault, has ended it.
    """
    child = os.fork()
    if not child:
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            faulthandler.disable()
            with Path(os.devnull).open("w") as nowhere:
                for stream in (1, 2):
                    os.dup2(nowhere.fileno(), stream)
            action()
        finally:
            os._exit(0)  # an error is met again, and said, where the file is read
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise _useless(path, f"was ended by {signal.Signals(os.WTERMSIG(status)).name}")


def serve() -> None:
    """As the child, answer the request on stdin."""
    request = json.load(sys.stdin)
    function = vars(importlib.import_module(request["module"]))[request["function"]]
    limit(request["seconds"], request["memory"])
    answer: dict[str, Any]
    try:
        answer = {"value": function(Path(request["path"]), *request["arguments"])}
    except errors.LtkitError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        answer = {
            "error": "FormatError",
            "message": str(_useless(Path(request["path"]), "took too much memory")),
        }
    json.dump(answer, sys.stdout)


def limit(seconds: int | None, memory: int | None) -> None:
    """Limit this process's time and memory from now on; modules imported so far are not counted.

    None lifts an earlier limit.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    with Path("/proc/self/statm").open(encoding="ascii") as statm:
        held = int(statm.read().split()[0]) * resource.getpagesize()
    begun = math.ceil(used.ru_utime + used.ru_stime)
    wanted = {
        resource.RLIMIT_CPU: None if seconds is None else begun + seconds,
        resource.RLIMIT_AS: None if memory is None else held + memory,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, most = resource.getrlimit(kind)
        lifted = value is None or (most != resource.RLIM_INFINITY and value > most)
        resource.setrlimit(kind, (most if lifted else value, most))  # type: ignore[arg-type]
