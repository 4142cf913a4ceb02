"""What the catalogue's files take before they are refused: bounded memory, bounded time.

Every refused row that is a stranger's file is read in one child process, as a user reads it. Its
peak is reset before each, so a peak is that of one command, whatever came before.
"""

import shlex
import shutil
from pathlib import Path

import pytest
from bad_inputs import makers
from bad_inputs.of_arrays import ARRAYS_AND_LISTS, IMPORT
from bad_inputs.of_checkpoints import CHECKPOINTS, TORCH_FILES
from bad_inputs.of_files import ANY_FILE
from bad_inputs.of_images import DATA, FOLDERS
from bad_inputs.of_numbers import RECORDS_AND_NUMBERS
from test_bad_inputs_catalogue import LOUD
from watched import Watched

BOUND = 1536 << 20
"""Bytes beyond the data."""

OFTEN = {
    "20,000 logits in few bytes", "labels that unpack to gigabytes", "groups of gigabytes",
    "nested tuples in a set, cifar", "many attributes", "compression bomb",
}  # fmt: skip
"""Bombs of each kind of file, which `make test` meets."""

BOMBS = OFTEN | {
    "gigabytes of a packed list", "gigabytes of nothing", "a list without lines",
    "zip with two lists", "nested tuples as a key, zip", "a dictionary of itself, old",
    "a storage in a storage", "the same bytes again and again, zip",
    "labels of CIFAR in lists of lists", "pipe for published features",
    "one storage shown ten thousand times", "endless shape",
}  # fmt: skip
"""Rows that must be among them."""

ROWS = [
    row
    for rows in (
        CHECKPOINTS, TORCH_FILES, IMPORT, ARRAYS_AND_LISTS, DATA, FOLDERS, ANY_FILE,
        RECORDS_AND_NUMBERS,
    )
    for row in rows if row.code == 2
]  # fmt: skip

WROTE = ("ok", "executed")
"""Outcomes of what may have written beside its output: the names are relative here."""


def refused(found):
    """Say whether a command ended with one line that is not of a full memory."""
    said = found.message.splitlines()
    right = len(said) == 1 and said[0].startswith("ltkit: ") and "out of memory" not in said[0]
    return right and found.kind in ("refused", "executed")


class Peaks(Watched):
    """A child whose peak of memory is known."""

    def peak(self, words, folder):
        """Run a command in a folder; return what became of it, and by how much it grew."""
        if self.child is None:
            self.run("said", words=["--version"], folder=folder, writes=folder, seconds=100)
        Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")
        before = self.held("VmRSS")
        found = self.run("said", words=words, folder=folder, writes=folder)
        grown = self.held("VmHWM") - before if self.child else BOUND
        return found, grown

    def held(self, what):
        """Return bytes, from what the system knows of the child."""
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith(what):
                return int(line.split()[1]) << 10
        raise KeyError(what)


@pytest.fixture(scope="module")
def child():
    with Peaks() as child:
        yield child


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A folder with what every row starts from."""
    folder = tmp_path_factory.mktemp("sound")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        makers.put("feats.h5")()
        makers.native("m.pt")()
    return folder


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=row.case, marks=() if row.case in OFTEN else pytest.mark.more)
        for row in ROWS
    ],
)
def test_a_refusal_takes_little_memory_and_comes_soon(child, sound, tmp_path, monkeypatch, row):
    here = tmp_path / "here"
    shutil.copytree(sound, here)
    monkeypatch.chdir(here)
    row.make()
    words = shlex.split(row.command)
    words += [] if words[0] in LOUD else ["--quiet"]
    found, grown = child.peak(words, here)
    assert refused(found)
    assert grown <= BOUND, f"{grown / (1 << 20):.0f} MB"


def test_the_bombs_are_among_them():
    assert {row.case for row in ROWS} >= BOMBS


def test_growth_is_seen(child, tmp_path):
    """Of a command whose data are 80 MB."""
    import numpy as np

    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((100_000, 100)))
    np.save(tmp_path / "y.npy", np.arange(100_000) % 10)
    words = ["import", "--train", "x.npy,y.npy", "-o", "o.h5", "--quiet"]
    found, grown = child.peak(words, tmp_path)
    _, small = child.peak(["validate", "none.h5"], tmp_path)
    assert found.kind in WROTE
    assert not found.message
    assert small < grown < BOUND
