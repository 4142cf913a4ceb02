"""Shards: which points they have, how they share an output, and that they give the single run."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from made import refused
from studies import short
from studies.short import theorem_points

import ltkit as package
from ltkit.alphanet import study as fits
from ltkit.errors import InputError
from ltkit.files import atomic
from ltkit.files.scratch import Parts
from ltkit.shards import Shard
from ltkit.studies import _networks, theorems

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = Path(package.__file__).parent / "data" / "demo" / "feats.h5"
SWEEP = ("alphanet", "sweep", "feats.h5", "--k", "2,3", "--rho", "0.5,1", "--metric",
         "euclidean,random", "--seeds", "2", "--epochs", "1", "--device", "cpu", "-o", "s.h5",
         "--csv", "s.csv")  # fmt: skip
STUDY = ("study", "theorems", "-o", "t")


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "2", "a/b", "", "1/0", "-1/4", "1/4/2", "1/1000000"]
)
def test_what_is_no_shard_is_refused(text):
    refused(lambda: Shard.of(text), "shard: found", "expected i/n", "as 2/4")


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_every_point_has_one_shard(count):
    shards = [Shard.of(f"{number}/{count}") for number in range(1, count + 1)]
    dealt = [shard.own(range(10)) for shard in shards]
    assert sorted(point for own in dealt for point in own) == list(range(10))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1


# Locks

HOLDER = """
import sys
from pathlib import Path
from ltkit.files import atomic
from ltkit.shards import Shard
with atomic.locked_by(Path(sys.argv[1]), Shard.of(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Have another process be shard 1/2 of f; return a function that ends it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "f", "1/2"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"

    def end():
        process.stdin.close()
        process.wait()

    yield end
    process.kill()
    process.wait()
    process.stdout.close()


def test_shards_share_an_output_and_nobody_else_does(tmp_path, other):
    path, words = tmp_path / "f", ("another process (", "is writing it; wait")
    with atomic.locked_by(path, Shard.of("2/2")):
        assert len(list(tmp_path.iterdir())) == 3
    refused(lambda: atomic.locked_by(path, None).__enter__(), *words)
    refused(lambda: atomic.locked_by(path, Shard.of("1/2")).__enter__(), "f.shard-1-of-2", *words)
    with atomic.command():
        atomic.check_output(path, overwrite=False, shared=True)
        assert not path.exists()
    other()
    assert list(tmp_path.iterdir()) == []
    with atomic.locked_by(path, None):
        assert len(list(tmp_path.iterdir())) == 1
    assert atomic._held == {}


def test_a_shard_waits_a_moment_for_who_holds_the_lock_alone(tmp_path, monkeypatch):
    taken, seen = atomic._taken, []

    def busy(handle, shared):
        seen.append(shared)
        return len(seen) > 2 and taken(handle, shared)

    monkeypatch.setattr(atomic, "_taken", busy)
    with atomic.locked(tmp_path / "f", shared=True):
        assert seen == [True] * 3
    monkeypatch.setattr(atomic, "_taken", lambda handle, shared: False)
    monkeypatch.setattr(atomic, "PATIENCE", 0.05)
    refused(lambda: atomic.locked(tmp_path / "f", shared=True).__enter__(), "is writing it")


# Parts


def test_two_shards_that_begin_at_once_make_one_folder(tmp_path):
    first, second = (
        Parts(tmp_path / "o.parts", {"a": 1}, resume=False, shard=Shard(n, 2)) for n in (1, 2)
    )
    stranger = Parts(tmp_path / "o.parts", {"a": 2}, resume=False, shard=Shard(1, 2))
    first.begin()
    second.begin()
    assert [path.name for path in tmp_path.iterdir()] == ["o.parts"]
    with pytest.raises(InputError, match="exists"):
        stranger.begin()
    refused(
        lambda: Parts(tmp_path / "o.parts", {"a": 2}, resume=False, shard=Shard(1, 2)),
        "other settings", "or remove it",
    )  # fmt: skip


def test_a_file_that_another_shard_renames_is_no_strangers(tmp_path):
    parts = Parts(tmp_path / "o.parts", {}, resume=False, shard=Shard(1, 2))
    parts.begin()
    assert parts._is_part(tmp_path / "o.parts" / ".ltkit-gone", parts._line)


# Sweeps


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Return a function that goes into a new folder with the features."""

    def enter(name):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        shutil.copy(DEMO, "feats.h5")
        return tmp_path / name

    return enter


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_merged_shards_of_a_sweep_are_the_single_run(folders, ltkit, monkeypatch):
    whole = folders("whole")
    assert ltkit(*SWEEP)[0] == 0
    parts = folders("parts")
    code, out, err = ltkit(*SWEEP, "--shard", "2/3", "--json")
    assert code == 0, err
    assert json.loads(out) == {
        "schema": "ltkit.shard/1", "shard": "2/3", "parts": 1, "of": 4, "kept": "s.h5.parts",
        "output": "s.h5",
    }  # fmt: skip
    assert "shard 2/3: 1 of 4 parts are in s.h5.parts" in err
    assert "with --resume and without --shard writes s.h5" in err
    assert sorted(path.name for path in parts.iterdir()) == ["feats.h5", "s.h5.parts"]
    fit, done = fits.Study.fit, []

    def killed(self, runs, k, metric, device="cpu"):
        if done:
            raise KeyboardInterrupt
        done.append(k)
        return fit(self, runs, k, metric, device)

    monkeypatch.setattr(fits.Study, "fit", killed)
    assert ltkit(*SWEEP, "--shard", "1/3")[0] == 130
    monkeypatch.setattr(fits.Study, "fit", fit)
    again = ltkit(*SWEEP, "--shard", "1/3")
    assert again[0] == 0
    assert again[2].count("taken from") == again[2].count("runs fitted") == 1
    code, _, err = ltkit(*SWEEP, "--resume")  # shard 3/3 never ran
    assert code == 0
    assert (err.count("taken from"), err.count("runs fitted")) == (3, 1)
    assert contents(parts) == contents(whole)


def test_shards_of_other_settings_are_refused(folders, ltkit):
    folder = folders("a")
    assert ltkit(*SWEEP, "--shard", "1/4")[0] == 0
    before = contents(folder)
    for words in (("--shard", "2/4"), ("--resume",)):
        code, _, err = ltkit(*SWEEP, "--seed", "1", *words)
        assert code == 2
        assert "s.h5.parts: belongs to a sweep with other settings" in err
    assert contents(folder) == before


# Corrections of several seeds


@pytest.mark.parametrize("more", [(), ("--sweep",)])
@pytest.mark.parametrize("method", ["crt", "lws", "marc", "weight-balancing"])
def test_merged_shards_of_a_correction_are_the_single_run(folders, ltkit, method, more):
    words = ("posthoc", method, "feats.h5", "--seeds", "3", "--set", "epochs=1", "--set",
             "batch_size=128", "-o", "c.h5", *more)  # fmt: skip
    whole = folders("whole")
    assert ltkit(*words)[0] == 0
    parts = folders("parts")
    code, _, err = ltkit(*words, "--shard", "1/2")
    assert code == 0, err
    assert "shard 1/2: 2 of 3 parts are in c.h5.parts" in err
    assert "with --resume and without --shard writes c.h5" in err
    assert sorted(path.name for path in (parts / "c.h5.parts").glob("*.h5")) == [
        "seed-0.h5", "seed-2.h5",
    ]  # fmt: skip
    seeds = [path.stat().st_mtime_ns for path in (parts / "c.h5.parts").glob("*.h5")]
    assert ltkit(*words, "--shard", "1/2")[0] == 0  # all is there
    assert [p.stat().st_mtime_ns for p in (parts / "c.h5.parts").glob("*.h5")] == seeds
    assert ltkit(*words, "--resume")[0] == 0  # shard 2/2 never ran
    assert contents(parts) == contents(whole)


def test_what_shards_of_a_correction_refuse(folders, ltkit):
    folder = folders("a")
    words = ("posthoc", "crt", "feats.h5", "--set", "epochs=1", "-o", "c.h5")
    assert ltkit(*words, "--seeds", "2", "--shard", "1/2")[0] == 0
    before = contents(folder)
    for other in (
        ("--seeds", "3"),
        ("--seeds", "2", "--sweep"),
        ("--seeds", "2", "--set", "seed=4"),
    ):
        for shared in (("--shard", "2/2"), ("--resume",)):
            code, _, err = ltkit(*words, *other, *shared)
            assert code == 2
            assert "c.h5.parts: belongs to a sweep with other settings" in err
    for method in ("crt", "bias"):
        code, _, err = ltkit("posthoc", method, "feats.h5", "--shard", "1/2")
        assert code == 2
        assert f"--shard: {method}: found 1 seed; shares of a correction are seeds" in err
    code, _, err = ltkit("posthoc", "adapt", "feats.h5", "--to", "feats.h5", "--resume")
    assert (code, err) == (2, "ltkit: --shard: adapt has none; leave it out\n")
    assert contents(folder) == before


# Studies


def test_merged_shards_of_a_study_are_the_single_run(folders, ltkit, monkeypatch):
    theorem_points(monkeypatch)
    monkeypatch.setattr("ltkit.studies._running.find_spec", lambda name: None)
    whole = folders("whole")
    assert ltkit(*STUDY)[0] == 0
    parts = folders("parts")
    frame = package.study("theorems", output="t", shard="2/2")
    assert len(frame) == frame.attrs["document"]["own"] * 9 == 9
    measure, done = theorems.measure, []

    def killed(point, given):
        if done:
            raise KeyboardInterrupt
        done.append(point)
        return measure(point, given)

    monkeypatch.setattr(theorems, "measure", killed)
    assert ltkit(*STUDY, "--shard", "1/2")[0] == 130
    assert sorted(path.name for path in (parts / "t").iterdir()) == [
        ".ltkit-shard-1-of-2", "points.shard-1-of-2.json", "points.shard-2-of-2.json",
    ]  # fmt: skip
    monkeypatch.setattr(theorems, "measure", measure)
    code, _, err = ltkit(*STUDY)
    assert code == 2
    assert "t: exists; --resume goes on with it" in err
    code, _, err = ltkit(*STUDY, "--resume")
    assert code == 0
    assert (err.count("taken from"), err.count(": measured")) == (2, 1)
    assert contents(parts) == contents(whole)
    code, out, err = ltkit(*STUDY, "--shard", "1/2", "--json")  # all is there
    assert (code, json.loads(out)["parts"], err.count("taken from")) == (0, 2, 2)
    assert ltkit(*STUDY, "--resume")[0] == 0
    assert contents(parts) == contents(whole)


def test_what_shards_of_a_study_refuse(folders, ltkit, monkeypatch):
    theorem_points(monkeypatch)
    folder = folders("a")
    assert ltkit(*STUDY, "--shard", "1/2")[0] == 0
    before = contents(folder)
    for words in (("--shard", "2/2"), ("--resume",)):
        code, _, err = ltkit(*STUDY, "--seed", "1", *words)
        assert code == 2
        assert "t: belongs to a study with other settings" in err
    code, _, err = ltkit(*STUDY, "--shard", "2/2", "--overwrite")
    assert (code, err) == (
        2,
        "ltkit: --overwrite: a shard goes on with what others do; leave it out\n",
    )
    assert contents(folder) == before
    code, _, err = ltkit(*STUDY, "--overwrite", "--seed", "1")
    assert code == 0
    assert not list((folder / "t").glob("points.shard*"))


def test_what_lies_where_a_shard_trains_is_left_alone(folders, ltkit, monkeypatch):
    theorem_points(monkeypatch)
    folder = folders("a")
    (folder / "t").mkdir()
    mine = folder / "t" / ".ltkit-shard-1-of-2"
    for make in (lambda: mine.write_text("mine"), lambda: mine.symlink_to(folder)):
        make()
        for words in (("--shard", "1/2"), ("--resume",)):
            code, _, err = ltkit(*STUDY, *words)
            assert code == 2
            assert "t/.ltkit-shard-1-of-2: found something not known to be ltkit's" in err
            assert list((folder / "t").iterdir()) == [mine]
        mine.unlink()


@pytest.mark.more
def test_shards_that_train_networks_do_not_meet(folders, ltkit, monkeypatch):
    """Each has a folder of its own, which an interrupted one goes on with."""
    short.toy_points(monkeypatch)
    words = ("study", "toy-minority", "--data", "digits_lt:ir=1", "-o", "t", "--device", "cpu")
    monkeypatch.setattr("ltkit.studies._running.find_spec", lambda name: None)
    whole = folders("whole")
    code, _, err = ltkit(*words)
    assert code == 0, err
    parts = folders("parts")
    (parts / "t" / ".ltkit-shard-2-of-2").mkdir(parents=True)
    (parts / "t" / ".ltkit-shard-2-of-2" / "network.h5").write_text("of a run that was killed")
    seen, train = [], _networks.train

    def watched(images, point, given, output, **how):
        seen.append(output)
        train(images, point, given, output, **how)

    monkeypatch.setattr(_networks, "train", watched)
    assert ltkit(*words, "--shard", "1/2")[0] == 0
    assert [path.parent.name for path in seen] == [".ltkit-shard-1-of-2"]
    assert ltkit(*words, "--resume")[0] == 0
    assert contents(parts) == contents(whole)


PROGRAM = """
import os, signal, sys
from ltkit.cli import main
from ltkit.studies import _networks, theorems
from ltkit.studies._kept import Kept
theorems.DRAWS = {"small": 5}
keep = Kept.keep
def killed(self, *given):
    keep(self, *given)
    os.kill(os.getpid(), signal.SIGKILL)
if "killed" in sys.argv:
    sys.argv.remove("killed")
    Kept.keep = killed
main()
"""


@pytest.mark.more
def test_shards_at_once_one_of_them_killed(folders, ltkit, monkeypatch):
    """Processes of their own; a study with all its points."""
    monkeypatch.setattr(theorems, "DRAWS", {"small": 5})
    whole = folders("whole")
    assert ltkit(*STUDY)[0] == 0
    parts = folders("parts")
    begun = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, *STUDY, "--shard", *words])
        for words in (["1/3"], ["2/3", "killed"], ["3/3"])
    ]
    assert [process.wait() for process in begun] == [0, -signal.SIGKILL, 0]
    own = json.loads((parts / "t" / "points.shard-2-of-3.json").read_text(encoding="utf-8"))
    assert len(own["points"]) == 1
    code, _, err = ltkit(*STUDY, "--shard", "2/3")
    assert (code, err.count("taken from"), err.count(": measured")) == (0, 1, 5)
    code, _, err = ltkit(*STUDY, "--resume")
    assert (code, err.count(": measured")) == (0, 0)
    assert contents(parts) == contents(whole)
