"""Standard streams that are closed, full, or that nobody reads: in a real shell, and every command.

Every command is run in forks of a process that has imported everything; a fork makes of its streams
what Python makes of them at its start, which some commands in a real shell confirm.
"""

import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from bad_inputs import makers

TESTS = Path(__file__).resolve().parent

COMMANDS = {
    "data list": 0,
    "data info digits_lt": 0,
    "inspect feats.h5": 0,
    "validate feats.h5 --no-isolate": 0,
    "import a.npz -o i.h5": 0,
    "neighbors feats.h5 --k 2": 0,
    "neighbors feats.h5 --k 2 -o n.h5": 0,
    "posthoc --list": 0,
    "posthoc tau-norm feats.h5": 0,
    "train --list": 0,
    "train ce feats.h5 --epochs 1 --device cpu": 0,
    "extract m.pt --data digits_lt -o e.h5 --device cpu": 0,
    "evaluate feats.h5": 0,
    "evaluate feats.h5 --json": 0,
    "evaluate feats.h5 --json --fail-under few=1": 1,
    "compare feats.h5 feats.ncm.h5": 0,
    "report feats.h5 -o r.html --replicates 100": 0,
    "export feats.ncm.h5 --to npz -o o.npz": 0,
    "alphanet fit feats.h5 --k 2 --epochs 1 --device cpu": 0,
    "alphanet sweep feats.h5 --k 2 --rho 1 --seeds 1 --epochs 1 --device cpu": 0,
    "alphanet show feats.h5 a.h5 --rho 1": 0,
    "alphanet apply left.h5 feats.h5": 0,
    "analyze distance feats.h5 feats.ncm.h5 --k 2": 0,
    "analyze flows feats.h5 feats.ncm.h5 --k 2": 0,
    "analyze deltas feats.h5 a.h5": 0,
    "--help": 0,
    "--version": 0,
    "evaluate none.h5": 2,
    "evaluate -": 2,
    "nonsense": 2,
}
"""Command lines and their exit codes."""

CLOSED, GONE = {0: "closed", 1: "closed", 2: "closed"}, {1: "gone", 2: "gone"}

WAYS = [
    *((command, way) for command in COMMANDS for way in (CLOSED, GONE, {1: "full"})),
    *(
        (command, {stream: way})
        for command in ("posthoc tau-norm feats.h5", "evaluate -", "evaluate feats.h5 --json")
        for stream, way in ((0, "closed"), (1, "closed"), (2, "closed"), (2, "full"))
    ),
    ("evaluate feats.h5", {0: "closed", 1: "closed"}),
    ("evaluate feats.h5", {0: "closed", 2: "closed"}),
]
"""Command lines, and what becomes of which stream."""


def inputs():
    """Make what the commands read."""
    makers.put("feats.h5")()
    makers.native("m.pt")()
    makers.corrected()()
    makers.npz()()
    Path("bad.npz").rename("a.npz")


class Forks:
    """A process that runs commands in forks of itself."""

    def __init__(self, folder):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(
            [sys.executable, __file__], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def run(self, folder, command, streams):
        """Return exit code, stdout and stderr, None of those that are not kept."""
        self.process.stdin.write(json.dumps([str(folder), shlex.split(command), streams]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        inputs()
    forks = Forks(folder)
    for command in (
        "alphanet fit feats.h5 --k 2 --rho 0.5,1 --epochs 1 --device cpu -o a.h5",
        "alphanet fit feats.h5 --k 2 --epochs 1 --device cpu --leave-out 5 -o left.h5",
    ):
        assert forks.run(folder, command, {})[0] == 0
    yield folder, forks
    forks.close()


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    for file in sound[0].iterdir():
        (tmp_path / file.name).hardlink_to(file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return tmp_path


@pytest.mark.parametrize(("command", "streams"), WAYS)
def test_a_command_with_its_streams(sound, folder, command, streams):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    code, out, err = sound[1].run(folder, command, streams)
    expected = COMMANDS[command]
    if streams == {1: "full"} and expected < 2:
        assert code == 2
        assert err.splitlines()[-1].startswith("ltkit: stdout: No space left on device; free some")
        return
    assert code == expected, (out, err)
    assert "Traceback" not in (err or "")
    assert "rror" not in (out or "")
    for name, content in before.items():  # no stream was a file's
        assert Path(name).read_bytes() == content
    for path in folder.iterdir():
        if path.name not in before and path.is_file():
            assert b"ltkit: " not in path.read_bytes()[:9]
            assert path.stat().st_size > 0


def shell(line, **variables):
    """Run a line in a real shell, with ``ltkit`` in it."""
    line = line.replace("ltkit", f"{shlex.quote(sys.executable)} -m ltkit")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, env=environment | variables, check=False
    )


def test_closed_streams_in_a_shell(folder):
    done = shell("ltkit data list >&-; echo $?; ltkit evaluate - <&-; echo $?")
    assert done.stdout == b"0\n2\n"
    assert done.stderr.startswith(b"ltkit: -: stdin was empty")
    assert done.stderr.count(b"\n") == 1
    done = shell("ltkit evaluate none.h5 2>&-; echo $?; ltkit evaluate none.h5 <&- >&- 2>&-")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"2\n", b"")


def test_a_reader_that_leaves_and_a_full_disk_in_a_shell(folder):
    done = shell("ltkit --help | true; echo ${PIPESTATUS[0]}; ltkit data list >/dev/full; echo $?")
    assert done.stdout == b"0\n2\n"
    said = b"ltkit: stdout: No space left on device; free some space, or write elsewhere\n"
    assert done.stderr == said


@pytest.mark.parametrize("name", [b" a\nb .h5", b"\xff.h5"])
def test_any_name_goes_through_a_pipe(folder, name):
    line = 'ltkit posthoc ncm feats.h5 -q -o "$NAME" | ltkit neighbors - --k 2'
    done = shell(line, NAME=name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"4 (10): ")
    assert Path(os.fsdecode(name)).is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", b"stdin was empty"),
        (b"\n", b"stdin was empty"),
        (b"a.h5\nb.h5\n", b"found 2 lines on stdin"),
        (b"a\0.h5\n", b"found 'a\\x00.h5' on stdin"),
        (b"x" * 70_000, b"found xxx"),
        (b"none.h5\n", b"none.h5: not found"),
    ],
)
def test_what_is_no_path_on_stdin_is_one_line(folder, monkeypatch, ltkit, content, said):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, out, err = ltkit("neighbors", "-", "--k", "2")
    assert (code, out) == (2, "")
    assert said.decode() in err
    assert err.count("\n") == 1


def _fork(folder, words, streams, keep):
    """Run a command in a fork; return its exit code."""
    from ltkit import cli

    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        os.chdir(folder)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            way = streams.get(str(number))
            if way == "closed":
                os.close(number)
                setattr(sys, name, None)
                setattr(sys, f"__{name}__", None)
                continue
            if way == "gone":
                read, handle = os.pipe()
                os.close(read)
            elif way == "full":
                handle = os.open("/dev/full", os.O_WRONLY)
            else:
                handle = keep[number]
            os.dup2(handle, number)
        os.closerange(3, 256)
        sys.argv = ["ltkit", *words]
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = exit_.code or 0
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _serve():
    replies = os.fdopen(os.dup(1), "w")
    import torch

    from ltkit.sources import arrays  # noqa: F401

    torch.set_num_threads(1)
    replies.write("ready\n")
    replies.flush()
    for line in sys.stdin:
        folder, words, streams = json.loads(line)
        with (
            Path(os.devnull).open() as nothing,
            tempfile.TemporaryFile() as out,
            tempfile.TemporaryFile() as err,
        ):
            code = _fork(folder, words, streams, [nothing.fileno(), out.fileno(), err.fileno()])
            texts = []
            for number, file in ((1, out), (2, err)):
                file.seek(0)
                kept = str(number) not in streams
                texts.append(file.read().decode(errors="backslashreplace") if kept else None)
        replies.write(json.dumps([code, *texts]) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
