"""A child process that runs ltkit's command line and tells all that happened in it.

A hostile file must do nothing but be read: hooks of Python's audit tell of every process, socket,
import, compiled text, looked-up global and file opened for writing; the error stream is kept as a
whole, what libraries print from C included; memory is limited, so an attempt to fill it is seen.
"""

import contextlib
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

SECONDS = 5.0
"""A file that takes longer hangs."""

MEMORY = 4 << 30
"""Bytes of address space that reading may take beyond what the imports take."""

LONGEST = 4000
"""A message must not be longer."""

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
    "encodings", "numpy", "onnx", "onnxruntime", "open_clip", "timm", "torch", "torchvision",
    "transformers",
}  # fmt: skip
"""Packages whose parts may be imported while a file is read, as their code sees fit."""


@dataclass(frozen=True)
class Outcome:
    """What became of one command.

    kind: ok, refused, noise (more than the one line on stderr), traceback, crash, hang, executed.
    acts: what was done beside reading.
    """

    kind: str
    seconds: float
    message: str = ""
    acts: tuple[str, ...] = ()


class Watched:
    """A child that runs command lines one by one, and is started anew when it dies."""

    def __init__(self, seconds: float = SECONDS) -> None:
        """Start nothing yet."""
        self.seconds, self.child = seconds, None

    def run(self, command, *, writes=None, seconds=None, **named) -> Outcome:
        """Run a command with these arguments.

        Args:
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
        request = json.dumps([command, named, str(writes or "")], default=as_json)
        self.child.stdin.write(request + "\n")
        self.child.stdin.flush()
        ready, _, _ = select.select([self.child.stdout], [], [], seconds or self.seconds)
        seconds = time.monotonic() - begun
        if not ready:
            self.close()
            return Outcome("hang", seconds)
        line = self.child.stdout.readline()
        if not line:
            code = self.child.wait()
            self.close()
            return Outcome("crash", seconds, signal.strsignal(-code) if code < 0 else str(code))
        kind, message, acts = json.loads(line)
        acted = acts and not named.get("trust_code")  # what is trusted may compile
        return Outcome("executed" if acted else kind, seconds, message, tuple(acts))

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
    return {"path": str(path)}


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
        if event == "import":
            return arguments[0].split(".")[0] not in MODULES and not self.importing()
        if event in ("compile", "exec"):
            file = getattr(arguments[0], "co_filename", None) or str(arguments[-1])
            return not file.startswith(self.own) and not self.importing()
        if self.writes and any(str(a).startswith(self.writes) for a in arguments):
            return False
        return event.startswith(ACTS) and event not in LOOKS and not self.importing()

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
    from ltkit import cli

    cli.app = lambda: getattr(getattr(cli, command), command)(**named)
    try:
        cli.main()
        return "ok", ""
    except SystemExit as exit_:
        return ("refused" if exit_.code == 2 else "traceback"), ""
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
    from extras import conftest  # declares what torchvision's import needs
    from safetensors.torch import save_file

    KEPT.append(conftest.DECLARED)
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
    errors = tempfile.TemporaryFile()  # noqa: SIM115 (open to the end)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
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
        errors.seek(0)
        errors.truncate()
        hook.acts.clear()
        hook.armed = True
        kind, message = _run(command, named)
        hook.armed = False
        sys.stdout.flush()
        sys.stderr.flush()
        errors.seek(0)
        said = errors.read().decode(errors="backslashreplace")
        right = said.count("\n") == 1 and said.startswith("ltkit: ") and len(said) < LONGEST
        if (kind == "refused" and not right) or (kind == "ok" and said):
            kind = "noise"
        replies.write(json.dumps([kind, message + said.rstrip("\n"), hook.acts]) + "\n")
        replies.flush()


def _paths(entry):
    return Path(entry["path"]) if entry.keys() == {"path"} else entry


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, io.UnsupportedOperation):
        _serve()
