"""Every case of the catalogue: its exit code, its one line, and nothing half-written."""

import shlex
import shutil

import pytest
from bad_inputs import makers
from bad_inputs.catalogue import ROWS

pytestmark = pytest.mark.usefixtures("one_thread")

LARGE = 1 << 26

LOUD = {"data", "inspect", "validate", "nonsense"}
"""Commands without --quiet."""


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with what every case starts from."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        makers.put("feats.h5")()
        makers.native("m.pt")()
    return folder


@pytest.fixture
def folder(sound, tmp_path, monkeypatch):
    """A fresh working folder with feats.h5 and m.pt."""
    shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    for name in ("LTKIT_FEATURES", "LTKIT_DATA"):
        monkeypatch.setenv(name, "")  # so that what a maker sets is taken back
        monkeypatch.delenv(name)
    return tmp_path


def contents(folder):
    """What lies in a folder; of pipes, and of files that are a hole, what they are."""
    return {
        p: p.read_bytes() if p.is_file() and p.stat().st_size < LARGE else p.lstat().st_mode
        for p in folder.rglob("*")
    }


def test_cases_have_names_of_their_own():
    assert len({row.case for row in ROWS}) == len({row[1:] for row in map(str, ROWS)}) == len(ROWS)


@pytest.mark.parametrize("row", ROWS, ids=[row.case for row in ROWS])
def test_case(folder, ltkit, row):
    row.make()
    before, words = contents(folder), shlex.split(row.command)
    if row.code == 2 and words[0] not in LOUD:
        words.append("--quiet")
    code, out, err = ltkit(*words)
    assert code == row.code, out + err
    assert "Traceback" not in err
    *others, last = err.splitlines() or [""]
    said = out + err if row.code != 2 else last
    for word in row.said:
        assert word in said, said
    if row.code == 2:
        assert last.startswith("ltkit: ")
        assert len(last) <= len("ltkit: ") + 300
        assert not others
        assert out == ""
    if row.code:
        assert contents(folder) == before
    else:
        after = contents(folder)
        assert {path: after.get(path) for path in before} == before
