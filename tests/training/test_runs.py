"""What ``ltkit train`` does, in a call."""

from functools import partial
from pathlib import Path

import pytest
from made import refused, write_features

from ltkit import datasets
from ltkit.errors import SettingError
from ltkit.files import classifiers
from ltkit.settings import HeadSettings, TrainPlan, TrainSettings
from ltkit.training import runs
from ltkit.training.recipe import recipe

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_call_gives_what_the_command_gives(ltkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--data", "digits_lt:ir=5", "--arch", "digits_net", "--epochs", "2", "--drw", "1")
    given = ("--set", "beta=0.9", "--seed", "3", "--device", "cpu", "--keep-best", "-q")
    assert ltkit("train", "ldam", *words, *given, "-o", "command.pt")[0] == 0
    said, written = [], []
    made = runs.train_networks(
        datasets.load("digits_lt:ir=5"), TrainPlan("ldam", {"beta": 0.9}, drw=1),
        TrainSettings(epochs=2, seed=3), Path("call.pt"), arch="digits_net", keep_best=True,
        report=lambda path: lambda progress: said.append((path, progress.epoch)),
        wrote=written.append,
    )  # fmt: skip
    assert made == written == [Path("call.pt")]
    assert said == [(Path("call.pt"), 1), (Path("call.pt"), 2)]
    assert Path("call.pt").read_bytes() == Path("command.pt").read_bytes()
    assert Path("call.best.pt").read_bytes() == Path("command.best.pt").read_bytes()


def test_heads_of_several_seeds_are_runs_of_one_file(ltkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(Path("f.h5"))
    plan, settings = TrainPlan("focal", {"gamma": 2.0}), HeadSettings(epochs=2)
    found = runs.train_heads(
        Path("f.h5"), plan, settings, Path("call.h5"), seeds=2, command="made"
    )  # fmt: skip
    assert found == Path("call.h5")
    ltkit("train", "focal", "f.h5", "--set", "gamma=2", "--epochs", "2", "--seeds", "2", "-q",
          "--device", "cpu", "-o", "command.h5")  # fmt: skip
    call, command = (classifiers.read(Path(name))[0] for name in ("call.h5", "command.h5"))
    assert call.runs == command.runs == ({"gamma": 2.0, "seed": 0}, {"gamma": 2.0, "seed": 1})
    assert (call.weight == command.weight).all()
    again = partial(runs.train_heads, Path("f.h5"), plan, settings, Path("call.h5"))
    refused(again, "call.h5: exists")


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (TrainPlan("ce", {"bta": 1}), "parameters bta: ce has no parameter of that name"),
        (TrainPlan("ldam", {"beta": "x"}), "parameters beta: found x, expected a finite number"),
        (TrainPlan("ldam", {"max-margin": 1, "max_margin": 2}), "found max_margin twice"),
        (TrainPlan("ce", {"mix.alpha": 1}), "parameters mix.alpha: found no mixing"),
        (TrainPlan("ce", then="focal"), "then: needs from_epoch"),
        (TrainPlan("ce", from_epoch=2, then="ldam"), "then ldam: needs a cosine head"),
        (TrainPlan("ce", drw=-1), "drw: found -1, expected a whole number from 0"),
        (TrainPlan("ce", drw=1), "drw: ce has no class weights to defer"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_the_name_of_its_parameter(plan, message):
    refused(partial(recipe, plan, TrainSettings()), message, error=SettingError)


def test_seeds_are_at_least_one(tmp_path):
    call = partial(runs.train_heads, tmp_path / "f.h5", TrainPlan("ce"), HeadSettings())
    refused(partial(call, tmp_path / "o.h5", seeds=0), "seeds: found 0", error=SettingError)
