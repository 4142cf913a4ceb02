"""The writer of features: interrupted, resumed, killed, on a full disk."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import made
import numpy as np
import pytest
from written import writer_of

from ltkit.errors import InputError
from ltkit.files import features, features_writer
from ltkit.files.features_writer import FeaturesWriter
from ltkit.records import ClassTable

pytestmark = pytest.mark.usefixtures("small_blocks")


@pytest.mark.parametrize("size", [1, 7, 9, 1000])
def test_rows_may_come_in_any_sizes(tmp_path, size):
    made.write_features(tmp_path / "whole.h5", command="c")
    with writer_of(tmp_path / "f.h5") as writer:
        for name, values in made.features(made.plan()).items():
            for start in range(0, len(values), size):
                writer.append(name, values[start : start + size])
        writer.finish()
    assert (tmp_path / "f.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("stop", [1, 8, 50, 100])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_resumed_file_has_the_bytes_of_an_uninterrupted_one(tmp_path, stop, dtype):
    plan = made.plan(dtype=dtype)
    made.write_features(tmp_path / "whole.h5", plan, command="c")
    path, rows = tmp_path / "f.h5", 8 if dtype == "float32" else 16
    with writer_of(path, plan) as writer:
        made.append(writer, plan, stop)
    assert made.beside(path) == ["f.h5.journal", "f.h5.partial", "whole.h5"]
    with FeaturesWriter(path, plan, command="another", resume=True) as writer:
        assert writer.done("train") == (100 if stop == 100 else stop // rows * rows)
        made.append(writer, plan)
        writer.finish()
    assert made.beside(path) == ["f.h5", "whole.h5"]
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


KILLED = """
import os, signal, sys
from pathlib import Path
import made
from ltkit import records
from ltkit.files.features_writer import FeaturesWriter
records.arrays.BLOCK_BYTES = 256
writer = FeaturesWriter(Path(sys.argv[1]), made.plan(), command="c", resume=False)
made.append(writer, made.plan(), 77)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_resumed(tmp_path):
    path = tmp_path / "f.h5"
    run = subprocess.run(
        [sys.executable, "-c", KILLED, path],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert run.returncode == -signal.SIGKILL
    assert not path.exists()
    with writer_of(path, resume=True) as writer:
        assert writer.done("train") == 72
        made.append(writer, made.plan())
        writer.finish()
    made.write_features(tmp_path / "whole.h5", command="c")
    assert path.read_bytes() == (tmp_path / "whole.h5").read_bytes()


def interrupted(path, stop=50):
    with writer_of(path) as writer:
        made.append(writer, made.plan(), stop)
    return path.with_name("f.h5.partial"), path.with_name("f.h5.journal")


def finished(path, done):
    """Resume, check how many rows of train were kept, finish; check the bytes."""
    with writer_of(path, resume=True) as writer:
        assert writer.done("train") == done
        made.append(writer, made.plan())
        writer.finish()
    whole = path.with_name("whole.h5")
    made.write_features(whole, command="c")
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "ending",
    [
        b"train 6 12", b"train 6 0000000000000000\n", b"train x 12\n", b"\xff\xfe\n",
        b"nosplit 0 1\n", b"train\n", b"\n", b"val 0 2d06800538d394c2\n", b"train -1 a\n",
    ],
)  # fmt: skip
def test_a_damaged_last_line_of_the_journal_is_dropped(tmp_path, ending):
    _, journal = interrupted(tmp_path / "f.h5")
    with journal.open("ab") as file:
        file.write(ending)
    finished(tmp_path / "f.h5", 48)


def test_a_last_line_without_its_end_is_done_again(tmp_path):
    _, journal = interrupted(tmp_path / "f.h5")
    journal.write_bytes(journal.read_bytes()[:-1])
    finished(tmp_path / "f.h5", 40)


def test_a_block_damaged_after_it_was_noted_is_done_again(tmp_path):
    partial, _ = interrupted(tmp_path / "f.h5")
    content = bytearray(partial.read_bytes())
    at = content.find(made.features(made.plan())["train"][16:24].tobytes())
    content[at] ^= 1
    partial.write_bytes(content)
    finished(tmp_path / "f.h5", 16)


def test_a_run_stopped_while_sealing_is_resumed(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"

    def stop(*paths):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, writer_of(path) as writer:
        patch.setattr(features_writer, "publish", stop)
        made.append(writer, made.plan())
        with pytest.raises(KeyboardInterrupt):
            writer.finish()
    assert not path.exists()
    finished(path, 100)


def test_resuming_nothing_is_a_first_run(tmp_path):
    finished(tmp_path / "f.h5", 0)


def test_without_resume_a_run_starts_anew(tmp_path):
    interrupted(tmp_path / "f.h5")
    with writer_of(tmp_path / "f.h5") as writer:
        assert writer.done("train") == 0


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"a": 2}}, {"inputs": {}}, {"dtype": "float16"}, {"head": None},
        {"classes": ClassTable(np.array([20, 7, 0, 3, 2]), made.NAMES)},
    ],
)  # fmt: skip
def test_another_plan_is_not_resumed(tmp_path, change):
    path = tmp_path / "f.h5"
    interrupted(path)
    made.refused(
        lambda: writer_of(path, made.plan(**change), resume=True),
        "f.h5.partial", "another model, dataset or setting", "without --resume",
        error=InputError,
    )  # fmt: skip
    finished(path, 48)


def test_a_partial_file_without_a_journal_is_not_resumed(tmp_path):
    interrupted(tmp_path / "f.h5")[1].unlink()
    made.refused(lambda: writer_of(tmp_path / "f.h5", resume=True), "f.h5.partial", "belongs to")


@pytest.mark.parametrize("kept", [0, 7, 100, 600, 3000])
def test_a_damaged_partial_file_is_not_resumed(tmp_path, kept):
    partial, _ = interrupted(tmp_path / "f.h5")
    partial.write_bytes(partial.read_bytes()[:kept])
    for resume in (True, False):
        made.refused(
            lambda r=resume: writer_of(tmp_path / "f.h5", resume=r), "f.h5.partial",
            "not known to be ltkit's", "move it away",
        )  # fmt: skip
    assert partial.stat().st_size == kept


def test_two_writers_of_one_file(tmp_path):
    path = tmp_path / "f.h5"
    with writer_of(path) as writer:
        made.append(writer, made.plan(), 50)
        for resume in (False, True):
            made.refused(lambda r=resume: writer_of(path, resume=r), "f.h5", "another process")
        for name, values in made.features(made.plan()).items():
            writer.append(name, values[50 if name == "train" else 0 :])
        writer.finish()
    assert len(features.read(path).split("train")) == 100


def full(code):
    def fail(*arguments):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_disk_too_small_is_said_before_any_work(tmp_path, monkeypatch, code):
    monkeypatch.setattr(os, "posix_fallocate", full(code))
    made.refused(lambda: writer_of(tmp_path / "f.h5"), "f.h5", "disk is full", "free some space")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_what_can_be_resumed(tmp_path, monkeypatch):
    path = tmp_path / "f.h5"
    with writer_of(path) as writer:
        made.append(writer, made.plan(), 50)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full(errno.ENOSPC))
            made.refused(
                lambda: writer.append("train", np.zeros((8, 8))), "f.h5", "disk is full", "--resume"
            )
    assert not path.exists()
    finished(path, 48)


def test_another_failure_to_write_is_said(tmp_path, monkeypatch):
    with writer_of(tmp_path / "f.h5") as writer:
        monkeypatch.setattr(os, "pwrite", full(errno.EIO))
        made.refused(
            lambda: writer.append("train", np.zeros((8, 8))),
            "cannot be written (Input/output error)",
        )


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, view, at: pwrite(file, view[:10], at))
    finished(tmp_path / "f.h5", 0)


LIMITED = """
import resource, sys
from pathlib import Path
import made
from ltkit.errors import InputError
from ltkit.files import neighbors, features
import written
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (written.write_neighbors, made.write_features):
    try:
        write(Path(sys.argv[1]))
    except InputError as error:
        print(error)
"""


def test_a_limit_of_the_system_is_said_in_one_line(tmp_path):
    tests = os.pathsep.join(map(str, Path(__file__).parents[:2]))
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path / "f.h5"],
        env=os.environ | {"PYTHONPATH": tests}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    first, second = run.stdout.splitlines()
    assert "f.h5: cannot be written (File too large); free some space" in first
    assert "f.h5: the disk is full" in second
    assert list(tmp_path.iterdir()) == []


def test_wrong_rows_are_the_callers_fault(tmp_path):
    with writer_of(tmp_path / "f.h5") as writer:
        with pytest.raises(ValueError, match="at most 100 rows of 8"):
            writer.append("train", np.zeros((3, 9)))
        writer.append("train", np.zeros((90, 8)))
        with pytest.raises(ValueError, match="at most 10 rows of 8"):
            writer.append("train", np.zeros((11, 8)))
        with pytest.raises(ValueError, match="train: 88 rows of 100 written"):
            writer.finish()
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_row(tmp_path, value):
    values = np.zeros((60, 8))
    values[41, 3] = value
    with writer_of(tmp_path / "f.h5") as writer:
        writer.append("train", np.zeros((13, 8)))
        made.refused(lambda: writer.append("train", values), "train: row 54:", "not finite")


@pytest.mark.parametrize(
    ("dtype", "value", "hint"),
    [("float16", 70000, "--dtype float32"), ("float32", 1e39, "scale the features")],
)
def test_features_that_do_not_fit_the_type(tmp_path, dtype, value, hint):
    values = np.zeros((3, 8))
    values[2, 1] = value
    with writer_of(tmp_path / "f.h5", made.plan(dtype=dtype)) as writer:
        made.refused(
            lambda: writer.append("train", values), "train: row 2:", f"{value:g}", dtype, hint
        )
