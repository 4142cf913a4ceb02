"""Hostile pickles: nothing in them runs, and what was refused is named in one line."""

import contextlib
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import payloads
import pytest
import torch
from watched import Watched

from ltkit import checkpoints
from ltkit.errors import FormatError, LtkitError
from ltkit.settings import LoadSettings
from ltkit.sources.published_alphanet import read_object

CONTAINERS = ("zip", "old", "alphanet")
MARK = "@@@@@"
SPOTS = {
    "beside": {"beside": MARK},
    "nested": {"beside": [{"deep": (MARK,)}]},
    "among the weights": {"feats": MARK, "state_dict": {"extra": MARK}},
}
ANY = Path("/canary")
CALLS, MENTIONS, TRICKS = (
    list(make(ANY)) for make in (payloads.calls, payloads.mentions, payloads.tricks)
)
SOUND = {"state_dict": {"fc.weight": torch.ones(3, 4)}, "feats": np.ones((4, 6), np.float32),
         "labels": np.arange(4)}  # fmt: skip


@pytest.fixture(scope="module")
def watched():
    with Watched() as child:
        yield child


@pytest.fixture
def canary(tmp_path):
    """A file that must not come to be; beside it a pickle that would make it."""
    folder = tmp_path / "canary"
    folder.mkdir()
    path = folder / "canary"
    evil = payloads.call(payloads.OS_SYSTEM, payloads.text(f"touch {path}"))
    (folder / "evil.pkl").write_bytes(payloads.whole(evil))
    yield path
    assert [p.name for p in folder.iterdir()] == ["evil.pkl"]


def write(folder, container, payload, spot="beside"):
    """Write a file with the payload somewhere; return it."""
    mark, path = payloads.text(MARK), folder / ("m.pt" if container != "alphanet" else "train.pkl")
    content = {**SOUND, **SPOTS[spot]}
    content["state_dict"] = SOUND["state_dict"] | content["state_dict"]
    if container == "zip":
        torch.save(content, path)
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                archive.writestr(name, member.replace(mark, payload))
        return path
    if container == "old":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        del content["state_dict"]
        path.write_bytes(pickle.dumps(content, 2))
    raw = path.read_bytes()
    assert mark in raw
    path.write_bytes(raw.replace(mark, payload))
    return path


def run(watched, path):
    """Read a file as the command line does."""
    if path.suffix == ".pt":
        return watched.run("inspect", file=path)
    folder, classifier = path.parent, path.with_name("classifier.pth")
    torch.save({"weight": torch.ones(4, 6), "bias": torch.zeros(4)}, classifier)
    return watched.run(
        "extract", checkpoint=classifier, from_alphanet=folder, output=folder / "f.h5",
        overwrite=True, quiet=True,
        writes=folder,
    )  # fmt: skip


def skipped(path):
    bare = path.suffix == ".pkl"
    return read_object(path, bare=True)[1] if bare else checkpoints.read(path).skipped


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_a_call_is_refused_and_named(watched, tmp_path, canary, container, name):
    for spot in SPOTS:
        path = write(tmp_path, container, payloads.calls(canary)[name], spot)
        outcome = run(watched, path)
        assert outcome.kind == "refused", outcome
        named = name.split(" ")[0].removeprefix("builtins.")
        assert f"{path}: refused: it holds " in outcome.message
        assert named in outcome.message


@pytest.mark.parametrize("name", MENTIONS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_only_mentioned_is_skipped(watched, tmp_path, canary, container, name):
    for spot in ("beside", "nested"):
        path = write(tmp_path, container, payloads.mentions(canary)[name], spot)
        outcome = run(watched, path)
        expected = "layout not recognised; found" if path.suffix == ".pt" else ""
        assert outcome.kind == ("refused" if expected else "ok"), outcome
        assert expected in outcome.message
        assert name in skipped(path)


@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_what_is_built_stays_as_it_is(watched, tmp_path, canary, container, name):
    for spot in SPOTS:
        outcome = run(watched, write(tmp_path, container, payloads.tricks(canary)[name], spot))
        assert outcome.kind in ("refused", "ok"), outcome
    sound = run(watched, write(tmp_path, container, payloads.ONE))
    assert "wherever" in sound.message or sound.kind in ("ok", "refused")


def test_what_is_refused_in_a_child_is_refused_here(tmp_path, canary):
    """Where coverage sees it."""
    spot = next(iter(SPOTS))
    for table in (payloads.calls(canary), payloads.tricks(canary)):
        for payload in table.values():
            path = write(tmp_path, "zip", payload, spot)
            with contextlib.suppress(LtkitError):  # some are only skipped
                checkpoints.load(path, LoadSettings())
    assert not canary.exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [({"x" * 1000: torch.ones(2)}, "is a name of 1000 characters"),
     ({"fc.weight": torch.zeros(0, 4)}, "found (0, 4), expected values"),
     ({"fc.weight": torch.ones(2, 2), "epoch": 1 << 2000}, "a number of 2001 bits")],
)  # fmt: skip
def test_what_no_checkpoint_holds(tmp_path, content, words):
    torch.save(content, path := tmp_path / "m.pt")
    with pytest.raises(FormatError, match=re.escape(words)):
        checkpoints.load(path, LoadSettings())
