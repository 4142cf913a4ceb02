"""A child process that runs ltkit's commands and tells all that happened in it.

A hostile file must do nothing but be read: hooks of Python's audit tell of every process, socket,
import, compiled text, looked-up global and file opened for writing; the error stream is kept as a
whole, what libraries print from C included; memory is limited, so an attempt to fill it is seen.
"""

import ast
import contextlib
import inspect
import io
import json
import os
import resource
import select
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path

import typer

SECONDS = 5.0
"""A file that takes more processor time hangs."""

PATIENCE = 60
"""How many times as long it may take by the clock: the machine may be busy."""

MEMORY = 4 << 30
"""Bytes of address space that reading may take beyond what the imports take."""

LONGEST = 4000
"""A message must not be longer."""

MOST = 100_000
"""Characters of output that are told."""

ACTS = (
    "builtins.breakpoint", "builtins.input", "code.__new__", "cpython.", "ctypes.", "ftplib.",
    "function.__new__", "http.", "imaplib.", "nntplib.", "os.", "pickle.find_class",
    "poplib.", "pty.", "resource.", "shutil.", "signal.", "smtplib.", "socket.", "sqlite3.",
    "subprocess.", "sys.addaudithook", "sys.set", "telnetlib.", "tempfile.", "urllib.",
    "webbrowser.",
)  # fmt: skip
LOOKS = ("os.listdir", "os.scandir", "os.walk", "os.fwalk")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

MODULES = {
    "encodings", "ltkit", "numpy", "onnx", "onnxruntime", "open_clip", "pyarrow",
    "timm", "torch",
    "torchvision", "transformers",
}  # fmt: skip
"""Packages whose parts may be imported while a file is read, as their code sees fit."""


@dataclass(frozen=True)
class Outcome:
    """What became of one command.

    seconds: of processor time.
    kind: ok, refused, noise (more than the one line on stderr), traceback, crash, hang, executed.
    acts: what was done beside reading.
    output: what it printed on stdout.
    isolated: it would have ended or held up this process, and so was read in one of its own.
    """

    kind: str
    seconds: float
    message: str = ""
    acts: tuple[str, ...] = ()
    output: str = ""
    isolated: bool = False


class Watched:
    """A child that runs command lines one by one, and is started anew when it dies."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """Start nothing yet."""
        self.seconds, self.child = seconds, None

    def run(self, command, *, writes=None, seconds=None, **named) -> Outcome:
        """Run a command with these arguments.

        Args:
            command: its name in `ltkit.cli`, or that of a function of tests/fuzz/readers.py.
            writes: a folder where it may write.
            seconds: how long it may take, where that is not as usual.
            **named: its arguments.
        """
        begun = time.monotonic()
        if self.child is None:
            self.child = subprocess.Popen(
                [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self.child.stdout.readline()  # it is ready
            begun = time.monotonic()
        used = self._used()
        request = json.dumps([command, named, str(writes or "")], default=as_json)
        self.child.stdin.write(request + "\n")
        self.child.stdin.flush()
        limit = seconds or self.seconds
        while not select.select([self.child.stdout], [], [], limit / 4)[0]:
            if self._used() - used >= limit or time.monotonic() - begun >= PATIENCE * limit:
                self.close()
                return Outcome("hang", limit)
        seconds = self._used() - used
        line = self.child.stdout.readline()
        if not line:
            code = self.child.wait()
            self.close()
            return Outcome("crash", seconds, signal.strsignal(-code) if code < 0 else str(code))
        kind, message, acts, output = json.loads(line)
        acted = acts and not named.get("trust_code")  # what is trusted may compile
        return Outcome("executed" if acted else kind, seconds, message, tuple(acts), output)

    def _used(self) -> float:
        """Return the child's processor time so far."""
        stat = Path(f"/proc/{self.child.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the child."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child.stdin.close()
            self.child.stdout.close()
            self.child = None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def as_json(path):
    """Return a path as JSON has it here."""
    return {"a path": str(path)}


class Hook:
    """An audit hook that notes what is done beside reading, while `armed`."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self.armed, self.acts, self.writes = False, [], ""
        own = {str(Path(p).resolve()) for p in sysconfig.get_paths().values()}
        own.add(str(Path(__file__).resolve().parents[1] / "ltkit"))
        self.own = (*own, "<frozen", "<__array")

    def __call__(self, event, arguments):
        if self.armed and self.is_act(event, arguments):
            self.acts.append(f"{event} {str(arguments)[:100]}")

    def is_act(self, event, arguments) -> bool:
        """Say whether an event is more than reading."""
        if event == "open":
            path, mode, flags = arguments
            writing = (mode and set(mode) & set("wax+")) or (flags or 0) & WRITING
            inside = self.writes and str(path).startswith(self.writes)
            return bool(writing) and not inside and path != os.devnull and not isinstance(path, int)
        if event == "os.truncate" and isinstance(arguments[0], int):
            return False  # its opening was noticed
        if event == "import":
            return arguments[0].split(".")[0] not in MODULES and not self.importing()
        if event in ("subprocess.Popen", "os.kill") and self.isolating():
            return False
        if event == "compile" and sys._getframe(2).f_code.co_filename == ast.__file__:
            return False  # `ast.literal_eval` only parses
        if event in ("compile", "exec"):
            file = getattr(arguments[0], "co_filename", None) or str(arguments[-1])
            return not file.startswith(self.own) and not self.importing()
        if event == "ctypes.dlopen" and arguments[0] == "libnvidia-ml.so.1":
            return False  # torch's build for CUDA counts its devices
        if event == "os.fork" and sys._getframe(2).f_code.co_filename.endswith("isolated.py"):
            return False  # the fork that reads a file first
        if event in ("os.remove", "os.rmdir") and self.writes and arguments[-1] >= 0:
            return not str(Path(f"/proc/self/fd/{arguments[-1]}").readlink()).startswith(
                self.writes
            )
        if event in ("os.putenv", "os.unsetenv") and b"PYDANTIC_DISABLE_PLUGINS" in arguments:
            return False  # what parses a command line does it each time
        if self.writes and any(str(a).startswith(self.writes) for a in arguments):
            return False
        return event.startswith(ACTS) and event not in LOOKS and not self.importing()

    @staticmethod
    def isolating() -> bool:
        """Say whether this is the child that runs ONNX models, started or ended."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename.endswith("ltkit/files/onnx_runs.py"):
                return True
            frame = frame.f_back
        return False

    @staticmethod
    def importing() -> bool:
        """Say whether a module is just being imported, which compiles and looks things up."""
        frame = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                return True
            frame = frame.f_back
        return False


def _run(command, named) -> tuple[str, str]:
    """Run a command; return what became of it, and its message."""
    from fuzz import readers

    from ltkit import cli

    own = vars(readers).get(command)  # it imports commands, too
    function = own if inspect.isfunction(own) else getattr(getattr(cli, command), command)
    cli.app = lambda: function(**named)
    try:
        cli.main()
        return "ok", ""
    except SystemExit as exit_:
        return ("refused" if exit_.code == 2 else "traceback"), ""
    except typer.Exit:  # a check says no
        return "no", ""
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error}"[:LONGEST] + _where(error)


def _where(error) -> str:
    """Return the places of an error, without the source that `traceback` would compile."""
    frames = [
        f"{f.f_code.co_filename}:{line}" for f, line in traceback.walk_tb(error.__traceback__)
    ]
    return "".join(f"\n{frame}" for frame in frames[-12:]) + "\n"


KEPT = []


def _warm() -> None:
    """Read sound files, so that what is imported on the way is there."""
    import torch
    from extras import missing_operators  # declares what torchvision's import needs
    from fuzz import readers
    from safetensors.torch import save_file

    readers.prepare()
    KEPT.append(missing_operators.DECLARED)
    state = {"conv1.weight": torch.zeros(1)}
    with tempfile.TemporaryDirectory() as folder:
        for number, save in enumerate((torch.save, _save_old, save_file)):
            save(state, Path(folder) / f"{number}")
            _run("inspect", {"file": Path(folder) / f"{number}"})


def _save_old(state, path) -> None:
    import torch

    torch.save(state, path, _use_new_zipfile_serialization=False)


def _serve() -> None:
    """Read commands, write what became of them."""
    replies = os.fdopen(os.dup(1), "w")
    streams = output, errors = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    _warm()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with Path("/proc/self/statm").open() as statm:
        limit = int(statm.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("always")
    hook = Hook()
    sys.addaudithook(hook)
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        command, named, hook.writes = json.loads(line, object_hook=_paths)
        for stream in streams:
            stream.seek(0)
            stream.truncate()
        hook.acts.clear()
        hook.armed = True
        kind, message = _run(command, named)
        hook.armed = False
        sys.stdout.flush()
        sys.stderr.flush()
        for stream in streams:
            stream.seek(0)
        shown, said = (stream.read().decode(errors="backslashreplace") for stream in streams)
        right = said.count("\n") == 1 and said.startswith("ltkit: ") and len(said) < LONGEST
        noted = all(line.startswith("note: ") for line in said.splitlines())
        if (kind == "refused" and not right) or (kind in ("ok", "no") and not noted):
            kind = "noise"
        kind = "refused" if kind == "no" else kind
        reply = [kind, message + said.rstrip("\n"), hook.acts, shown[:MOST]]
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def _paths(entry):
    return Path(entry["a path"]) if entry.keys() == {"a path"} else entry


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, io.UnsupportedOperation):
        _serve()
