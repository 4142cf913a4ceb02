"""A file appears whole or not at all."""

import errno
import os
import signal
import stat
import tempfile
import threading

import pytest

from ltkit.errors import InputError
from ltkit.files import atomic


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "out.bin"
    path.write_text("old")
    return path


def contents(folder):
    return {p.name: p.read_text() for p in folder.iterdir()}


def test_a_file_is_replaced_whole(path):
    with atomic.replacing(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert path.read_text() == "old"
    assert contents(path.parent) == {"out.bin": "new"}


def test_text_and_bytes(tmp_path):
    atomic.write_text(tmp_path / "text", "α\n")
    assert (tmp_path / "text").read_bytes() == b"\xce\xb1\n"
    atomic.write_bytes(tmp_path / "bytes", b"\x00\xff")
    assert (tmp_path / "bytes").read_bytes() == b"\x00\xff"


def test_the_file_has_the_usual_permissions(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.write_text(tmp_path / "out", "x")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, PermissionError])
def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, error):
    def fail():
        with atomic.replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert contents(path.parent) == {"out.bin": "old"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
def test_a_full_disk_is_said(path, monkeypatch, code):
    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    message = rf"out\.bin: cannot be written \({os.strerror(code)}\); free some space"
    with pytest.raises(InputError, match=message):
        atomic.write_text(path, "new")
    assert contents(path.parent) == {"out.bin": "old"}


@pytest.mark.parametrize("target", ["target", "nowhere"])
def test_a_link_is_replaced_and_its_target_left(tmp_path, target):
    (tmp_path / "target").write_text("kept")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / target)
    atomic.write_text(link, "new")
    assert not link.is_symlink()
    assert contents(tmp_path) == {"target": "kept", "link": "new"}


@pytest.mark.parametrize("name", ["é" * 127, "🦎" * 63, "a\nb", " -x"])
def test_names_that_a_file_system_takes(tmp_path, name):
    atomic.write_text(tmp_path / name, "x")
    assert contents(tmp_path) == {name: "x"}


# Refusals before any work is done


def test_outputs_that_are_fine(path):
    atomic.check_output(path, overwrite=True)
    atomic.check_output(path.with_name("new"), overwrite=False, inputs=(path,))
    link = path.with_name("link")
    link.symlink_to(path.with_name("nowhere"))
    atomic.check_output(link, overwrite=False)  # a link to nowhere is no file to protect


def test_a_check_leaves_no_file(path):
    atomic.check_output(path.with_name("new"), overwrite=False)
    assert contents(path.parent) == {"out.bin": "old"}


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="nowhere: no such folder; make it, or"):
        atomic.check_output(tmp_path / "nowhere/out", overwrite=True)


def test_an_output_that_is_a_folder(tmp_path):
    with pytest.raises(InputError, match="is a folder, expected a file name"):
        atomic.check_output(tmp_path, overwrite=True)


def test_an_output_that_is_an_input_too(path):
    link = path.with_name("link")
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(InputError, match="is an input too; choose another output"):
            atomic.check_output(output, overwrite=True, inputs=(path.with_name("none"), path))


def test_an_output_that_exists(path):
    with pytest.raises(InputError, match=r"out\.bin: exists; pass --overwrite"):
        atomic.check_output(path, overwrite=False)


def test_a_folder_that_cannot_be_written(path, monkeypatch):
    def fail(**options):
        raise PermissionError

    monkeypatch.setattr(tempfile, "mkstemp", fail)
    with pytest.raises(InputError, match="cannot write there; choose another output"):
        atomic.check_output(path, overwrite=True)


@pytest.fixture
def heeding_ctrl_c():
    """Python's own handler, also where a background job was started that ignores the signal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_is_put_off_until_the_end_of_the_block():
    seen = []
    with pytest.raises(KeyboardInterrupt), atomic.uninterrupted():  # noqa: PT012 (both must run)
        signal.raise_signal(signal.SIGINT)
        seen.append("went on")
    assert seen == ["went on"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_threads_are_not_asked_about_signals():
    done = []

    def work():
        with atomic.uninterrupted():
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
