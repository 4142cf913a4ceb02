"""What hangs, fills the memory or crashes in a child process is a line in this one."""

import os
import signal
import time

import made
import numpy as np
import pytest

from ltkit.cli import inspect
from ltkit.errors import FormatError, InputError
from ltkit.files import isolated, soundness


def busy(path):
    while True:
        pass


def asleep(path):
    time.sleep(60)


def crash(path, *arguments):
    os.abort()


def greedy(path):
    return len(np.empty(2 * isolated.MEMORY + isolated.FOLD * path.stat().st_size, np.uint8))


def large(path):
    return len(np.empty(isolated.MEMORY // 2, np.uint8))


def wrong(path, number):
    raise InputError(f"{path}: {number} a\nb")


def broken(path):
    raise ZeroDivisionError("a bug")


def test_a_result_comes_back_as_json_has_it(path):
    assert isolated.call(soundness.problems, path) == soundness.problems(path) == []
    arguments = [20, 100]
    expected = inspect._ltkit_file(path, arguments)
    assert isolated.call(inspect._ltkit_file, path, arguments) == expected


@pytest.mark.parametrize(
    ("function", "words"),
    [(busy, "took more than 1 s of processor time"), (crash, "was ended by SIGABRT"),
     (greedy, "took too much memory")],
)  # fmt: skip
def test_what_goes_wrong_in_the_child_is_one_line(path, monkeypatch, function, words):
    monkeypatch.setattr(isolated, "SECONDS", 1)
    monkeypatch.setattr(isolated, "WAIT", 3600)
    made.refused(
        lambda: isolated.call(function, path), "f.h5", words, "make it again", error=FormatError
    )


def test_a_child_that_waits_is_ended(path, monkeypatch):
    monkeypatch.setattr(isolated, "WAIT", 1)
    made.refused(lambda: isolated.call(asleep, path), "took more than 1 s;", error=FormatError)


def test_limits_grow_with_the_file(path, monkeypatch):
    made.refused(lambda: isolated.call(greedy, path), "memory", error=FormatError)
    assert isolated.call(large, path) == isolated.MEMORY // 2
    monkeypatch.setattr(isolated, "MEMORY", 1 << 20)
    made.refused(lambda: isolated.call(large, path), "memory", error=FormatError)
    monkeypatch.setattr(isolated, "FOLD", (1 << 31) // path.stat().st_size)
    assert isolated.call(large, path) == 1 << 30


def test_errors_keep_their_kind(path):
    with pytest.raises(InputError) as caught:
        isolated.call(wrong, path, 7)
    assert str(caught.value) == f"{path}: 7 a\nb"
    with pytest.raises(RuntimeError, match="ZeroDivisionError: a bug"):
        isolated.call(broken, path)


@pytest.mark.parametrize("words", [["validate"], ["inspect", "--isolate"]])
def test_commands_end_in_one_line(path, ltkit, monkeypatch, words):
    monkeypatch.setattr(soundness, "problems", crash)
    monkeypatch.setattr(inspect, "_ltkit_file", crash)
    code, out, err = ltkit(*words, path)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"ltkit: {path}: reading it was ended by SIGABRT")


def test_without_isolation_there_is_no_child(path, ltkit, monkeypatch):
    monkeypatch.setattr(isolated, "CHILD", "1 / 0")
    assert ltkit("validate", "--no-isolate", path)[:2] == (0, f"{path}: sound\n")
    assert ltkit("inspect", path)[0] == 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        ltkit("validate", path)


def test_names_that_are_no_text_come_through(tmp_path, ltkit):
    path = tmp_path / os.fsdecode(b"\xff\n.h5")
    made.write_features(path)
    assert isolated.call(soundness.problems, path) == []
    code, out, _ = ltkit("validate", path)
    assert (code, out.count("\n")) == (0, 1)


def test_a_folder_of_modules_is_not_looked_into(path, monkeypatch):
    (path.parent / "numpy.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(path.parent)
    assert isolated.call(soundness.problems, path) == []


def test_a_fork_meets_the_signal_first(path):
    """And nothing of what it does, says or raises is seen here."""
    begun = os.getpid()

    def crash():
        if os.getpid() != begun:
            os.kill(os.getpid(), signal.SIGSEGV)

    made.refused(
        lambda: isolated.try_first(crash, path), "f.h5", "was ended by SIGSEGV", error=FormatError
    )


def test_a_fork_that_raises_or_ends_says_nothing(path, capfd):
    def noisy():
        os.write(1, b"said")
        raise ValueError

    assert isolated.try_first(noisy, path) is None
    assert isolated.try_first(lambda: None, path) is None
    assert capfd.readouterr() == ("", "")
