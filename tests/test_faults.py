"""What goes wrong on the way: short runs of tests/faults, and what else may happen to a command.

Kills, full and broken disks, Ctrl-C, a closed pipe, a folder that is read only, a clock that goes
backwards, a process of several that is lost. Two writers of one file are in test_writer.py, a full
memory in test_full_memory.py, a lost child process in test_isolated.py.
"""

import errno
import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import made
import pytest

import ltkit
from ltkit import architectures, cli, datasets
from ltkit.errors import InputError
from ltkit.files import atomic, features
from ltkit.files.atomic import write_text
from ltkit.files.features_writer import FeaturesWriter, check_finished
from ltkit.sources import extraction
from ltkit.training import checkpoint

sys.path.append(str(Path(__file__).parent / "faults"))
import disk
import kill
import overlap
import warm
from warm import Ended, Fault

pytestmark = pytest.mark.usefixtures("one_thread")

SEED = 5

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"


@pytest.fixture(scope="module")
def own():
    if warm.compiler() is None:
        pytest.skip("no C compiler (cc), which tests/faults/shim.c needs")
    with warm.Warm() as process:
        yield process


@pytest.fixture(scope="module")
def inputs(own):
    """A folder with all inputs."""
    disk.write_arrays(own.inputs / "a.npz")
    return own.inputs


# Kills


def killed(own, inputs, folder, name, count):
    killer = kill.Killer(kill.JOBS[name], own.run, inputs, folder)
    kill.kill(killer, count, SEED, every=False)
    assert not killer.wrong
    assert killer.found["kills"] >= count
    assert killer.found["looked at"] >= count // 4
    assert killer.found["resumed"] >= count // 6
    assert killer.found["identical"] >= killer.found["resumed"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("extract", 6), ("extract", 12), ("train", 8),
        pytest.param("train-contrastive", 6, marks=pytest.mark.more),
        pytest.param("train-oltr", 6, marks=pytest.mark.more),
        pytest.param("extract-local", 6, marks=pytest.mark.more),
        pytest.param("train-lpa", 6, marks=pytest.mark.more),
        pytest.param("train-targeted", 6, marks=pytest.mark.more),
        pytest.param("train-tde", 6, marks=pytest.mark.more),
        pytest.param("train-stages", 6, marks=pytest.mark.more),
        pytest.param("train-mislas", 6, marks=pytest.mark.more),
        pytest.param("train-unlabelled", 6, marks=pytest.mark.more),
        pytest.param("train-experts", 6, marks=pytest.mark.more),
        pytest.param("train-router", 6, marks=pytest.mark.more),
        pytest.param("train-expert-weights", 6, marks=pytest.mark.more),
    ],
)  # fmt: skip
def test_what_was_killed_is_resumed(own, inputs, tmp_path, name, count):
    killed(own, inputs, tmp_path, name, count)


@pytest.mark.slow
@pytest.mark.parametrize("name", kill.JOBS)
def test_what_was_killed_a_hundred_times_is_resumed(own, inputs, tmp_path, name):
    killed(own, inputs, tmp_path, name, 100)


# Disks


def faulty(own, inputs, folder, name):
    return disk.Faulty(disk.COMMANDS[name], own.run, inputs, folder)


@pytest.mark.more
@pytest.mark.parametrize("name", ["extract", "train"])
def test_disks_that_fail(own, inputs, tmp_path, name):
    command = faulty(own, inputs, tmp_path, name)
    command.at_calls(disk.FAULTS, stride=command.calls * 2 // 3)
    command.limited(1)
    assert not command.wrong
    assert {*disk.FAULTS, "limit"} <= command.found.keys()


def test_disks_that_fail_at_any_call(own, inputs, tmp_path):
    command = faulty(own, inputs, tmp_path, "evaluate-csv")
    command.at_calls(["broken"])
    assert not command.wrong
    assert command.found["broken: refused"] == command.calls > 5


@pytest.mark.slow
@pytest.mark.parametrize("name", disk.COMMANDS)
def test_disks_that_fail_at_many_calls(own, inputs, tmp_path, name):
    command = faulty(own, inputs, tmp_path, name)
    command.at_calls(disk.FAULTS, stride=3)
    command.limited(9)
    assert not command.wrong


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("name", ["extract", "train", "alphanet-fit", "report", "export-csv"])
def test_a_folder_that_is_read_only(own, inputs, tmp_path, name, number):
    command = disk.COMMANDS[name]
    for file in command.inputs:
        (tmp_path / file).write_bytes((inputs / file).read_bytes())
    ended = own.run(tmp_path, *command.words.split(), fault=Fault(1, "on", number))
    assert "cannot write there; choose another output" in ended.message
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(command.inputs)


# Two writers


@pytest.fixture(scope="module")
def pair(own):
    with warm.Warm() as other:
        overlap.prepare(own.inputs)
        yield own.run, other.run


def overlapped(pair, inputs, folder, name, count):
    found = overlap.Overlapper(overlap.KINDS[name], pair, inputs, folder)
    overlap.overlap(found, count, SEED, name)
    assert not found.wrong
    assert found.found["overlaps"] == count
    assert found.found["one ended with 0"] + found.found["both ended with 0"] >= count // 2


@pytest.mark.more
@pytest.mark.parametrize("name", overlap.KINDS)
def test_two_writers_of_one_output(pair, inputs, tmp_path, name):
    overlapped(pair, inputs, tmp_path, name, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", overlap.KINDS)
def test_two_writers_of_one_output_a_hundred_times(pair, inputs, tmp_path, name):
    overlapped(pair, inputs, tmp_path, name, 100)


# Signals and streams


@pytest.mark.parametrize("name", ["extract", "train"])
def test_ctrl_c_at_any_time(own, inputs, tmp_path, name):
    command = faulty(own, inputs, tmp_path, name)
    rng = random.Random(SEED)
    for _ in range(3):
        command.disturbed("interrupted", after=rng.uniform(0, command.seconds), number=2)
    assert not command.wrong


@pytest.mark.parametrize("words", [
    "evaluate f.h5 --replicates 100 --quiet", "evaluate f.h5 --replicates 100 --quiet --json",
    "neighbors f.h5 --k 2 --bins 20,50 --quiet", "inspect f.h5", "data list", "extract --help",
])  # fmt: skip
def test_a_pipe_that_nobody_reads(own, inputs, words):
    ended = own.run(inputs, *words.split(), stdout="closed")
    assert (ended.code, ended.err) == (0, "")


def test_what_is_written_before_a_pipe_closes_is_whole(own, inputs, tmp_path):
    (tmp_path / "f.h5").write_bytes((inputs / "f.h5").read_bytes())
    words = ["evaluate", "f.h5", "--replicates", "100", "--quiet", "--per-class"]
    assert own.run(tmp_path, *words, "sound.csv").code == 0
    ended = own.run(tmp_path, *words, "o.csv", stdout="closed")
    assert (ended.code, ended.err) == (0, "")
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found["o.csv"] == found["sound.csv"]
    assert found.keys() == {"f.h5", "o.csv", "sound.csv"}


@pytest.mark.parametrize("ending", [KeyboardInterrupt, InputError])
def test_an_interrupted_extraction_says_how_to_go_on(tmp_path, monkeypatch, capsys, ending):
    monkeypatch.chdir(tmp_path)
    recipe = {"arch": "digits_net", "cosine": False, "scale": 1.0, "dataset": {}}
    network = architectures.build("digits_net", 10)
    checkpoint.save(Path("m.pt"), recipe, 1, network, datasets.load("digits_lt"))

    def interrupted(*given, **named):
        raise ending("no")

    monkeypatch.setattr(extraction, "extract", interrupted)
    with pytest.raises(ending):
        cli.extract.extract(Path("m.pt"), "digits_lt", output=Path("o.h5"), quiet=True)
    said = "interrupted; finished blocks are kept, continue with --resume"
    assert (said in capsys.readouterr().err) == (ending is KeyboardInterrupt)


# Other writers


def test_a_writer_that_finishes_while_another_opens_its_lock(tmp_path, monkeypatch):
    """The lock is free then, but of a file that has no name any more."""
    lock, locked = fcntl.flock, []

    def finished(file, how):
        if not locked:
            (found,) = tmp_path.glob(".ltkit-lock-*")
            found.unlink()
        locked.append(os.fstat(file).st_ino)
        lock(file, how)

    monkeypatch.setattr(fcntl, "flock", finished)
    with atomic.locked(tmp_path / "f.h5"):
        (found,) = tmp_path.glob(".ltkit-lock-*")
        assert found.stat().st_ino == locked[-1]
        assert len(locked) == 2


def test_a_finished_file_of_another_plan_is_not_gone_on_with(tmp_path):
    path, plan = tmp_path / "f.h5", made.plan()
    made.write_features(path, plan)
    assert check_finished(path, plan) == features.read(path).digest
    others = (
        made.plan(settings={"dtype": "float64"}), made.plan(inputs={}), made.plan(head=None),
        made.plan(classes=replace(plan.classes, names=None)), made.plan(dtype="float16"),
        made.plan(splits={"train": plan.splits["train"]}),
        made.plan(splits=plan.splits | {"val": plan.splits["test"]}),
    )  # fmt: skip
    for other in others:
        made.refused(lambda o=other: check_finished(path, o), "f.h5: exists", "--overwrite")


# The clock


@pytest.mark.parametrize("date", [0, 4_000_000_000])
def test_a_clock_that_goes_backwards(tmp_path, monkeypatch, date):
    whole, path = tmp_path / "whole.h5", tmp_path / "f.h5"
    made.write_features(whole)
    clock = iter(range(1_000_000_000, 0, -1000))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 10**9)
    plan, command = made.plan(), "ltkit import x.npz"
    with FeaturesWriter(path, plan, command=command, resume=False) as writer:
        made.append(writer, plan, 50)
    for file in tmp_path.iterdir():
        os.utime(file, (date, date))
    with FeaturesWriter(path, plan, command=command, resume=True) as writer:
        made.append(writer, plan)
        writer.finish()
    assert path.read_bytes() == whole.read_bytes()


# Several processes


@pytest.mark.slow
def test_a_process_of_several_that_is_lost(tmp_path):
    """Torchrun ends the others; what was there stays, and the same command gives the same."""
    words = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
        "-m", "ltkit", "train", "balanced-softmax", DEMO, "--device", "cpu", "--quiet",
    ]  # fmt: skip
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    named = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    few, output = [*words, "--epochs", "3", "-o"], tmp_path / "o.h5"
    subprocess.run([*few, tmp_path / "whole.h5"], check=True, timeout=120, **named)
    write_text(output, "previous")
    many = [*words, "--epochs", "100000", "--overwrite", "-o", output]
    with subprocess.Popen(many, **named) as launched:
        try:
            worker = None
            while worker is None:
                time.sleep(0.2)
                assert launched.poll() is None
                worker = busy(launched.pid)
            os.kill(worker, signal.SIGKILL)
            assert launched.wait(120) != 0
        finally:
            launched.terminate()
    assert output.read_text() == "previous"
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".ltkit-")]
    subprocess.run([*few, output, "--overwrite"], check=True, timeout=120, **named)
    same = [disk.content(path.read_bytes()) for path in (output, tmp_path / "whole.h5")]
    assert same[0] == same[1]


def busy(parent):
    """Return a child of a process that has worked for a while, None where there is none yet."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in map(int, reversed(children)):
        used = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        if int(used[11]) > 6 * os.sysconf("SC_CLK_TCK"):
            return child
    return None


# The harness itself


def ended(code, err="", called=""):
    return Ended(code, "", err, 9, called, 0.1)


class Fake:
    """A command that is undisturbed once; then its ending and its files are given."""

    def __init__(self, told, files):
        self.told, self.files, self.calls = told, files, 0

    def __call__(self, folder, *words, **disturbance):
        if words[0] in ("validate", "inspect"):
            return ended(0)
        self.calls += 1
        for name, content in ({"f": "right"} if self.calls == 1 else self.files).items():
            path = folder / f"{name}.h5"
            path.unlink() if content is None else path.write_text(content)
        return ended(0) if self.calls == 1 else ended(*self.told)


@pytest.mark.parametrize(("kind", "told", "files", "problem"), [
    ("full", (0, "", "fsync"), {"f": "right"}, "fsync failed unnoticed"),
    ("full", (0, "", "unlink"), {"f": "right"}, ""),
    ("full", (0, "", "unlink"), {"f": "other"}, "wrong files"),
    ("full", (0, "", "unlink"), {"f": "right", "more": "x"}, "left: ['more.h5']"),
    ("broken", (2, "ltkit: broken\n"), {}, ""),
    ("broken", (2, "ltkit: broken\n"), {"f": "half"}, "neither the old file nor the new one"),
    ("broken", (2, "ltkit: broken\n"), {"f": None}, "neither the old file nor the new one"),
    ("broken", (2, "ltkit: broken\n"), {"in": "changed"}, "an input has changed"),
    ("broken", (1, "Traceback\nOSError\n"), {}, "exit code 1"),
    ("broken", (-11, ""), {}, "exit code -11"),
    ("short", (2, "ltkit: broken\n"), {}, "short writes are no failure"),
    ("interrupted", (130, ""), {}, ""),
    ("interrupted", (130, "Traceback\n"), {}, "130"),
    ("terminated", (-15, ""), {"more": "x"}, ""),
    ("terminated", (0, ""), {"f": "right"}, ""),
    ("terminated", (1, ""), {}, "1"),
])  # fmt: skip
def test_what_a_disk_spoils_is_seen(tmp_path, kind, told, files, problem):
    (inside := tmp_path / "inside").mkdir()
    (tmp_path / "in.h5").write_text("sound")
    command = disk.Command("make", ("f.h5",), ("in.h5",))
    found = disk.Faulty(command, Fake(told, files), tmp_path, inside)
    found.disturbed(kind)
    assert len(found.wrong) == bool(problem)
    assert problem in "".join(found.wrong)


@pytest.mark.parametrize(("told", "files", "problem"), [
    ((-9,), {"f": "half"}, "a file under the final name that is not the result"),
    ((-9,), {"more": "half"}, "more.h5 looks complete and is not"),
    ((1, "Traceback"), {}, "exit code 1"),
    ((0,), {"f": "other"}, "the result differs"),
    ((0,), {"f": "right"}, ""),
    ((-9,), {"f": "right"}, ""),
])  # fmt: skip
def test_what_a_kill_spoils_is_seen(tmp_path, told, files, problem):
    job = kill.Job("x", "make -o f.h5", "f.h5")
    killer = kill.Killer(job, Fake(told, files), tmp_path, tmp_path)
    killer.disturbed([("a time", {"after": 1})])
    assert len(killer.wrong) == bool(problem)
    assert problem in "".join(killer.wrong)
    assert killer.found["identical"] == (not problem)
    assert killer.found["kills"] == (told == (-9,))


@pytest.mark.parametrize(("codes", "flags", "files", "problem"), [
    ((0, 2), ("", ""), {"o.h5": "0"}, ""),
    ((2, 0), ("", ""), {"o.h5": "1"}, ""),
    ((0, 2), ("", ""), {"o.h5": "1"}, "not the result of one that ended with 0"),
    ((0, 2), ("", ""), {"o.h5": "01"}, "not the result"),
    ((0, 2), ("", ""), {}, "not the result"),
    ((0, 2), ("", ""), {"o.h5": "0", "o.h5.partial": "x"}, "left: ['o.h5.partial']"),
    ((0, 2), ("", ""), {"o.h5": "0", "o.h5.jsonl": "{}"}, "the log is that of no training"),
    ((2, 2), ("", ""), {}, ""),
    ((2, 2), ("", ""), {"o.h5": "0"}, "not the result"),
    ((0, 0), ("", ""), {"o.h5": "1"}, "neither was to replace anything"),
    ((0, 0), ("", "--overwrite"), {"o.h5": "1"}, ""),
    ((0, 0), ("", "--resume"), {"o.h5": "0"}, ""),
    ((0, 1), ("", ""), {"o.h5": "0"}, "exit code 1"),
])  # fmt: skip
def test_what_two_writers_spoil_is_seen(tmp_path, codes, flags, files, problem):
    class Alone:
        """Each command gives its own result alone."""

        def __call__(self, folder, *words):
            (folder / "o.h5").write_text(words[1])
            return ended(0)

    kind = overlap.Kind(("make 0", "make 1"), flags=tuple(dict.fromkeys(flags)))
    found = overlap.Overlapper(kind, (Alone(), None), tmp_path, tmp_path)
    found.lay(before=False)
    for name, content in files.items():
        (found.folder / name).write_text(content)
    lines = [f"make {n} {flag} -o o.h5".replace("  ", " ") for n, flag in enumerate(flags)]
    both = [ended(code, "ltkit: o.h5: another process\n" if code else "") for code in codes]
    seen = found.look(lines, both, before=False)
    assert problem in seen
    assert bool(problem) == bool(seen)
