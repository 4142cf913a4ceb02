"""A process that has imported everything runs commands in forks of itself, and lets them go wrong.

A fork of a warm process takes a tenth of a second, where a start takes seconds: so that a thousand
kills are affordable. It has one thread. `shim.c` stands between the libraries and the system.
"""

import contextlib
import ctypes
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

HOWS = ("count", "once", "on", "short", "before", "after", "cut")
"""In the order of the shim: see `Fault`."""

BLOCK_BYTES = 64 * 4 * 30
"""Blocks of 30 rows of the small network's features, so that small data has many."""

SPACE = 32 << 20
"""Bytes of a small file system."""

PATIENCE = 120
"""Seconds that a command may take."""


@dataclass(frozen=True)
class Fault:
    """What goes wrong at the n-th call that changes a file in the folder.

    how: ``once`` and ``on`` (this call, or all from then on but removing, fail with the error
        `value`), ``short`` (writes from then on take half of what they are given), ``before``,
        ``after`` and ``cut`` (the signal `value` comes before or after the call, or when a write
        is half done), ``count`` (nothing goes wrong).
    """

    at: int = 0
    how: str = "count"
    value: int = 0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    code: the exit code; of a signal, its number, negative.
    calls: how many calls changed files; called: the one that went wrong.
    """

    code: int
    out: str
    err: str
    calls: int
    called: str
    seconds: float

    @property
    def message(self) -> str:
        """The one line of an exit code 2; raises when there is more or less, or another code."""
        lines = self.err.splitlines()
        if self.code != 2 or len(lines) != 1 or not lines[0].startswith("ltkit: "):
            raise ValueError(f"exit code {self.code}, {self.err[-2000:]!r}")
        return lines[0]


def compiler() -> str | None:
    """Return the C compiler, None where there is none: the shim needs one."""
    return shutil.which("cc")


class Warm:
    """Starts the process, and asks it to run commands; `inputs` is a folder of files for them."""

    def __init__(self, mount=None) -> None:
        """Compile the shim, start the process, and wait until it has imported everything.

        Args:
            mount: a folder that becomes a small file system of its own, for the process alone.
        """
        self.scratch = tempfile.TemporaryDirectory()
        self.inputs = Path(self.scratch.name) / "inputs"
        self.inputs.mkdir()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONUNBUFFERED", None)  # Python loses the rest of a short write then
        if cc := compiler():
            library = Path(self.scratch.name) / "shim.so"
            source = Path(__file__).with_name("shim.c")
            made = [cc, "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
            subprocess.run(made, check=True)
            environment |= {"LD_PRELOAD": str(library)}
        command = [sys.executable, __file__, self.scratch.name]
        if mount is not None:
            script = f'mount -t tmpfs -o size={SPACE} tmpfs "$0" && exec "$@"'
            command = ["unshare", "-r", "-m", "sh", "-c", script, str(mount), *command]
        self.server = subprocess.Popen(
            command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        if self.server.stdout.readline() != "ready\n":
            raise RuntimeError("the warm process did not start")

    def root(self, path) -> Path:
        """Return the name under which a path of the process is seen from here."""
        return Path(f"/proc/{self.server.pid}/root{path}")

    def run(self, folder, *words, fault=Fault(), after=None, number=signal.SIGKILL, largest=None,
            stdout=None, block=BLOCK_BYTES, whole=False) -> Ended:  # fmt: skip
        """Run a command line in a folder.

        Args:
            folder: the working folder, whose files' calls are counted.
            *words: what comes after ``ltkit``.
            fault: what goes wrong.
            after: seconds after which a signal comes.
            number: the signal.
            largest: bytes of the largest file that may be written.
            stdout: where stdout goes: a file, or ``closed``, a pipe that nobody reads.
            block: bytes of a block of the files' data.
            whole: whether the libraries' own endings are run, too, which take a second.
        """
        asked = {
            "folder": str(folder), "words": [str(w) for w in words], "fault": asdict(fault),
            "after": after, "number": int(number), "largest": largest,
            "stdout": None if stdout is None else str(stdout), "block": block, "whole": whole,
        }  # fmt: skip
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return Ended(**json.loads(self.server.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self.server.stdin.close()
        self.server.wait(PATIENCE)
        self.server.stdout.close()
        self.scratch.cleanup()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def _command(words) -> int:
    """Run a command line as a process of its own would; return its exit code."""
    from ltkit import cli

    sys.argv = ["ltkit", *words]
    code = 0
    try:
        cli.main()
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
    except OSError:
        traceback.print_exc()
        code = 120  # as Python says it at its end
    sys.stderr.flush()
    return code


def _child(asked, shim, output, errors) -> int:
    """Do in a fork what is asked for; return the exit code."""
    from ltkit import records

    os.chdir(asked["folder"])
    if asked["stdout"] == "closed":
        read, output = os.pipe()
        os.close(read)
    elif asked["stdout"]:
        output = os.open(asked["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    records.arrays.BLOCK_BYTES = asked["block"]
    if asked["largest"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked["largest"], asked["largest"]))
    if shim:
        fault = asked["fault"]
        folder = os.fsencode(Path(asked["folder"]).resolve())
        shim.arm(folder, fault["at"], HOWS.index(fault["how"]), fault["value"])
    return _command(asked["words"])


def _forked(asked, shim) -> Ended:
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        begun = time.monotonic()
        child = os.fork()
        if not child:
            code = _child(asked, shim, output.fileno(), errors.fileno())
            if asked["whole"]:
                sys.exit(code)
            os._exit(code)
        status = 0
        if asked["after"] is not None:
            time.sleep(asked["after"])
            os.kill(child, asked["number"])  # not yet waited for, so it is still ours
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            if time.monotonic() - begun > PATIENCE:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.001)
        status = ended[1]
        seconds = time.monotonic() - begun
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode(errors="backslashreplace"))
    calls, called = (shim.calls(), shim.called().decode()) if shim else (0, "")
    return Ended(os.waitstatus_to_exitcode(status), *texts, calls, called, seconds)


SAID = "--device cpu --quiet"
DATA = "--data digits_lt:ir=20"

TRAIN = f"train ce {DATA} --arch digits_net --epochs 3 --batch-size 64 {SAID}"
EXPERTS = TRAIN.replace(" ce ", " ride ").replace("digits_net", "digits_net_3experts_reduced")
EXTRACT = f"extract net.pt {DATA} --batch-size 64 {SAID}"


def chain(run, folder) -> None:
    """Run commands of all kinds, in order; each reads what those before have written."""
    for line in (
        f"{TRAIN} -o net.pt", f"{EXTRACT} -o f.h5", "validate f.h5 --no-isolate",
        f"{EXPERTS} -o experts.pt",
        "inspect net.pt", "neighbors f.h5 --k 2 --bins 20,50 -o n.h5",
        "posthoc logit-adjust f.h5 --quiet -o p.h5",
        "alphanet fit f.h5 --k 2 --bins 20,50 --epochs 1 --quiet -o a.h5",
        "train balanced-softmax f.h5 --epochs 2 --quiet -o h.h5",
        "alphanet sweep f.h5 --k 1 --rho 1 --seeds 1 --epochs 1 --bins 20,50 --quiet -o s.h5",
        "analyze distance f.h5 p.h5 --bins 20,50 --quiet",
        "evaluate f.h5 --json --replicates 100 --per-class c.csv",
        "export p.h5 --into net.pt -o e.pt", "export p.h5 --to npz -o e.npz",
        "export p.h5 --to safetensors -o e.safetensors", "export p.h5 --to csv -o e.csv",
    ):  # fmt: skip
        ended = run(folder, *line.split())
        if ended.code:
            raise RuntimeError(f"ltkit {line}: exit code {ended.code}: {ended.err}")


def _serve(scratch) -> None:
    """Import everything, then run what is asked for."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    library = Path(scratch) / "shim.so"
    shim = ctypes.CDLL(str(library)) if library.is_file() else None
    if shim:
        shim.called.restype = ctypes.c_char_p
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the asker

    import torch

    from ltkit import records

    torch.set_num_threads(1)
    before, records.arrays.BLOCK_BYTES = records.arrays.BLOCK_BYTES, BLOCK_BYTES

    def here(folder, *words):
        with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet):
            return Ended(_command(words), "", "", 0, "", 0.0)

    folder = Path(scratch) / "inputs"
    with contextlib.chdir(folder):
        chain(here, folder)
    records.arrays.BLOCK_BYTES = before
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        replies.write(json.dumps(asdict(_forked(json.loads(line), shim))) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve(sys.argv[1])
