"""``ltkit fix``: one command from a checkpoint to a corrected one, and what it leaves alone."""

import shlex
from html import escape

import numpy as np
import pytest
import torch
from made import refused

import ltkit
from ltkit.face import Model
from ltkit.face.fixing import command_of
from ltkit.recommendation import Wanted
from ltkit.settings import LoadSettings, ViewSettings

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = "--methods", "logit-adjust,group-bias"
SAID = Wanted(methods=("logit-adjust", "group-bias"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint of the digits, trained for a few epochs."""
    from typer.testing import CliRunner

    from ltkit.cli import app

    path = tmp_path_factory.mktemp("digits") / "digits.pt"
    words = ["train", "ce", "--data", "digits_lt", "--epochs", "6", "-o", str(path), "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    return path


@pytest.fixture
def folder(trained, tmp_path, monkeypatch):
    (tmp_path / "digits.pt").write_bytes(trained.read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def head_and_rest(path):
    """The last layer of a checkpoint in plain torch, and its other tensors."""
    state = torch.load(path, weights_only=True)["state_dict"]
    head = {name: state.pop(name) for name in list(state) if name.startswith("head.")}
    assert len(head) == 2
    return head, state


def test_a_checkpoint_is_corrected_in_one_command(ltkit, folder):
    code, out, said = ltkit("fix", "digits.pt", "--data", "digits_lt", *QUICK, "-o", "fixed.pt")
    assert (code, out) == (0, "fixed.pt\n"), said
    steps = [line[2:] for line in said.splitlines() if line.startswith("$ ")]
    assert [shlex.split(step)[1] for step in steps] == ["extract", "recommend", "export", "report"]
    (before, rest), (after, same) = head_and_rest("digits.pt"), head_and_rest("fixed.pt")
    assert all(torch.equal(rest[name], same[name]) for name in rest)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    code, out, _ = ltkit("evaluate", "--json")
    assert code == 0
    for step in steps[1:]:  # each is a command that does the same again
        words = shlex.split(step)[1:]
        assert ltkit(*words, *([] if "--overwrite" in words else ["--overwrite"]))[0] == 0
    again, _ = head_and_rest("fixed.pt")
    assert all(torch.equal(after[name], again[name]) for name in after)


def stopped(*_, **__):
    raise KeyboardInterrupt


def test_a_stopped_run_goes_on(ltkit, folder, monkeypatch):
    words = "fix", "digits.pt", "--data", "digits_lt", *QUICK, "-o", "fixed.pt"
    with monkeypatch.context() as patch:
        patch.setattr("ltkit.face.fixing.recommend", stopped)
        assert ltkit(*words)[0] == 130
    kept = (folder / "feats.h5").stat().st_mtime_ns
    assert not (folder / "fixed.pt").exists()
    assert ltkit(*words)[0] == 0
    assert (folder / "feats.h5").stat().st_mtime_ns == kept
    code, _, said = ltkit(*words)
    assert code == 2
    assert "fixed.pt: exists" in said


def test_features_of_something_else_are_kept(ltkit, folder):
    assert ltkit("extract", "digits.pt", "--data", "digits_lt:ir=2", "-q")[0] == 0
    before = (folder / "feats.h5").read_bytes()
    words = "fix", "digits.pt", "--data", "digits_lt", *QUICK, "-o", "fixed.pt"
    code, _, said = ltkit(*words)
    assert code == 2
    assert "feats.h5" in said
    assert (folder / "feats.h5").read_bytes() == before
    code, _, said = ltkit(*words, "--overwrite")
    assert code == 0
    assert "note: extracted anew: " in said


def test_a_file_in_the_way_of_the_recommendation(ltkit, folder):
    (folder / "feats.recommended.h5").write_text("mine")
    code, _, said = ltkit("fix", "digits.pt", "--data", "digits_lt", *QUICK, "-o", "fixed.pt")
    assert code == 2
    assert "feats.recommended.h5" in said
    assert (folder / "feats.recommended.h5").read_text() == "mine"


def test_features_alone_give_a_head_alone(ltkit, folder):
    assert ltkit("extract", "digits.pt", "--data", "digits_lt", "-q")[0] == 0
    code, out, said = ltkit("fix", "feats.h5", *QUICK, "-o", "head.npz")
    assert (code, out) == (0, "head.npz\n"), said
    assert np.load("head.npz")["weight"].shape[0] == 10
    (folder / "report.html").unlink()
    words = "fix", "digits.pt", "--data", "digits_lt", *QUICK, "--features-only"
    assert ltkit(*words, "-o", "own.safetensors")[0] == 0
    code, _, said = ltkit(*words, "-o", "fixed.pt")
    assert code == 2
    assert "fixed.pt: found pt as the ending, expected one of npz" in said
    assert "found no as the ending" in ltkit("fix", "feats.h5", "-o", "head")[2]


def test_a_head_that_is_right_is_kept(ltkit, folder):
    code, _, said = ltkit("fix", "digits.pt", "--data", "digits_lt", *QUICK, "--keep", "all=90",
                          "-o", "fixed.pt")  # fmt: skip
    assert code == 0
    assert "keep the baseline" in said
    assert "fixed.pt has the head as it was" in said
    before, after = head_and_rest("digits.pt")[0], head_and_rest("fixed.pt")[0]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_same_as_a_call(folder):
    lines = []
    found = ltkit.fix(Model(folder / "digits.pt", "digits_lt"), folder / "fixed.pt", wanted=SAID,
                      say=lines.append)  # fmt: skip
    assert found.output.exists()
    text = found.page.read_text()
    assert text.startswith("<!doctype html>")
    assert "What was tried on val" in text
    (shipped,) = (line for line in lines if line.startswith("$ ltkit export"))
    assert f'<code id="command">{escape(shipped[2:])}</code>' in text
    assert str(found.recommendation).startswith("recommended: ")
    assert lines[0].startswith("$ ltkit extract")
    features = ltkit.read(found.features)
    page = ltkit.report(features, recommended=found.recommendation, output=folder / "own.html")
    assert "★ recommended" in page.read_text()
    refused(lambda: ltkit.report(features, output=page), "exists")
    advice = ltkit.recommend(features, methods=["logit-adjust"], recalibrate_on=features)
    assert advice.document["n"] == 200


def test_commands_are_printed_as_they_are_typed(tmp_path):
    model = Model(
        tmp_path / "a b.pt", "d:x=1", root=tmp_path, columns={"path": "F"}, follow_links=True,
        load=LoadSettings(mean=(0.5, 0.25), model="p:m", model_args=("a=1", "b=2")),
        view=ViewSettings(image_size=32, window=(0.0, 4095.0), interpolation="bicubic"),
    )  # fmt: skip
    words = shlex.split(model.command(tmp_path / "f.h5"))
    assert words[:3] == ["ltkit", "extract", str(tmp_path / "a b.pt")]
    text = " ".join(words)
    for part in (
        "--mean 0.5,0.25",
        "--model p:m",
        "--model-arg a=1 --model-arg b=2",
        "--image-size 32",
        "--window 0,4095",
        "--interpolation bicubic",
        "--follow-links",
        "--columns path=F",
    ):
        assert part in text
    assert command_of("recommend", keep=["all=-1", "few=2"]) == (
        "ltkit recommend --keep all=-1 --keep few=2"
    )
