"""What happens at the edges of commands; the wrong inputs are in the catalogue of bad_inputs."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from bad_inputs.makers import COUNTS, put


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A fresh working folder with feats.h5."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    monkeypatch.delenv("LTKIT_DATA", raising=False)
    put("feats.h5")()
    return tmp_path


def test_unwritable_folder(folder, ltkit, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    code, _, err = ltkit("posthoc", "ncm")
    assert code == 2
    assert "cannot write there" in err


def test_control_codes_in_names_do_not_reach_the_terminal(folder, ltkit):
    names = np.array(["a\x1b[31m", "b", "c", "d", "e\nf", "<script>"])
    put("b.h5", class_names=names)()
    _, out, _ = ltkit("neighbors", "b.h5", "--k", "4")
    assert "\x1b" not in out
    assert "e\\nf (10)" in out


def test_spreadsheet_formulas_are_quoted(folder, ltkit):
    put("b.h5", class_names=np.array(["=cmd()", "b", "c", "d", "e", "f"]))()
    assert ltkit("evaluate", "b.h5", "--per-class", "p.csv")[0] == 0
    assert "'=cmd()" in Path("p.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", ["train", pytest.param("extract", marks=pytest.mark.more)])
def test_ctrl_c_is_exit_130_and_leaves_no_final_file(folder, stage):
    train = ["train", "ce", "--data", "digits_lt", "--arch", "digits_net", "-o", "m.pt"]
    command = [sys.executable, "-m", "ltkit"]
    if stage == "extract":
        subprocess.run([*command, *train, "--epochs", "1"], check=True, capture_output=True)
        words = ["extract", "m.pt", "--data", "digits_lt:ir=1", "--batch-size", "1", "-o", "o.h5"]
        final, waits = Path("o.h5"), Path("o.h5.journal")
    else:
        words, final, waits = [*train, "--epochs", "100000"], Path("m.pt"), Path("m.pt.jsonl")
    process = subprocess.Popen(
        [*command, *words], stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job may ignore it
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (waits.exists() and waits.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert "Traceback" not in err
    assert not final.exists()


def test_ctrl_c_in_a_finalizer_is_not_lost(folder):
    """Python itself only prints an error that is raised there."""
    code = """
import signal, sys, time, weakref
from ltkit import cli

class Thing: pass

def app():
    reference = weakref.ref(thing := Thing(), lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(60)

cli.app = app
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "")


def test_ctrl_c_while_the_locks_are_given_back(folder):
    """The command itself has ended by then, and click no longer catches it."""
    code = """
import os, signal, sys
from pathlib import Path
from ltkit import cli
from ltkit.files import atomic

def app():
    atomic.hold(Path("o.h5"))
    unlink = Path.unlink
    Path.unlink = lambda *a, **k: (signal.raise_signal(signal.SIGINT), unlink(*a, **k))
    sys.exit(0)

cli.app = app
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=50,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr == ""
    assert not list(folder.glob(".ltkit-*"))


def test_ctrl_c_before_the_command_begins_is_exit_130(ltkit, monkeypatch):
    monkeypatch.setattr("ltkit.cli.app", mock.Mock(side_effect=KeyboardInterrupt))
    assert ltkit("evaluate") == (130, "", "")


def test_closed_pipe_is_quiet(folder):
    command = f"{sys.executable} -m ltkit data list | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_a_symlinked_output_replaces_the_link(folder, ltkit):
    Path("target").write_bytes(b"precious")
    Path("o.h5").symlink_to("target")
    assert ltkit("posthoc", "ncm", "-o", "o.h5", "--overwrite")[0] == 0
    assert Path("target").read_bytes() == b"precious"
    assert not Path("o.h5").is_symlink()


def test_rows_have_names_of_their_own_and_a_file_counts_once(folder, ltkit):
    assert ltkit("posthoc", "ncm")[0] == 0
    Path("other").mkdir()
    Path("other/feats.ncm.h5").write_bytes(Path("feats.ncm.h5").read_bytes())
    named = ["--classifier", "feats.ncm.h5", "--classifier", "./feats.ncm.h5"]
    assert ltkit("evaluate", *named, "--per-class", "p.csv")[0] == 0
    assert Path("p.csv").read_text(encoding="utf-8").splitlines()[0].endswith(",baseline,ncm")
    named += ["--classifier", "other/feats.ncm.h5", "--overwrite"]
    assert ltkit("evaluate", *named, "--per-class", "p.csv")[0] == 0
    heading = Path("p.csv").read_text(encoding="utf-8").splitlines()[0]
    assert heading.endswith(",baseline,feats.ncm.h5,other/feats.ncm.h5")


def test_a_limit_that_is_met_exactly_is_met(folder, ltkit):
    labels = np.repeat(np.arange(6), 25)
    logits = 5 * np.eye(6, dtype=np.float32)[labels]
    logits[::25] = -logits[::25]  # 24 of 25 right in each class: 0.96 in every sum
    logits[::25, 0] += 1
    logits[0, 1] += 9
    put("b.h5", weight=np.eye(6, dtype=np.float32), bias=np.zeros(6, np.float32),
        train_features=None, train_labels=None, val_features=None, val_labels=None,
        train_counts=np.array(COUNTS), test_features=logits, test_labels=labels)()  # fmt: skip
    code, out, err = ltkit("evaluate", "b.h5", "--fail-under", "all=0.96")
    assert code == 0, out + err
    assert ltkit("evaluate", "b.h5", "--fail-under", "all=0.961")[0] == 1


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("evaluate", None),
        ("posthoc tau-norm", None),
        ("posthoc ncm", None),
        ("posthoc crt", "features: found"),
        ("posthoc logistic", None),
    ],
)
def test_features_and_head_of_1e30_work_or_are_refused_in_one_line(folder, ltkit, command, said):
    rng = np.random.default_rng(0)
    arrays = {"weight": 1e30 * rng.normal(size=(3, 4)), "bias": np.zeros(3)}
    for split in ("train", "val", "test"):
        arrays[f"{split}_features"] = 1e30 * rng.normal(size=(12, 4))
        arrays[f"{split}_labels"] = np.arange(12) % 3
    np.savez("a.npz", **arrays)
    assert ltkit("import", "a.npz", "-o", "a.h5", "--quiet")[0] == 0
    code, _, err = ltkit(*command.split(), "a.h5", "--quiet")
    assert code == (2 if said else 0)
    assert err.count("\n") == bool(said)
    assert (said or "") in err


def test_few_classes_have_no_top_5(folder, ltkit):
    weight, labels = np.eye(3, 4), np.arange(12) % 3
    np.savez("a.npz", weight=weight, test_features=weight[labels], test_labels=labels,
             train_counts=[200, 50, 5])  # fmt: skip
    assert ltkit("import", "a.npz", "-o", "a.h5", "--quiet")[0] == 0
    code, out, _ = ltkit("evaluate", "a.h5", "--json")
    assert code == 0
    assert not [key for key in json.loads(out)["rows"][0] if key.startswith("top")]
    assert ltkit("evaluate", "a.h5", "--topk", "1,5")[0] == 2
