"""The Python face: its page, its notebook, its types; and that it says what the commands say."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import ltkit
from ltkit.errors import InputError
from ltkit.files import classifiers
from ltkit.records import Correction

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "ltkit" / "data" / "demo" / "feats.h5"
X, Y = [[1.0, 0.0], [0.9, 0.2], [0.1, 1.0]], [0, 0, 1]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO, tmp_path / "feats.h5")
    return tmp_path


def test_the_page_runs(folder):
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    space = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), space)
    assert space["table"]["accuracy"].loc["baseline", "all"] == pytest.approx(0.3954)
    assert (folder / "adjusted.h5").is_file()
    assert np.load(folder / "head.npz")["weight"].shape == (100, 64)


def test_the_notebook_runs(folder):
    notebook = json.loads((ROOT / "examples" / "weak_tail.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert not any(c.get("outputs") for c in notebook["cells"])
    space = {}
    for cell in cells:
        exec(compile(cell, "weak_tail.ipynb", "exec"), space)
    few = space["table"]["accuracy"]["few"]
    assert (few.iloc[1:] > few.iloc[0]).all()


def test_frames_hold_what_the_command_prints(folder, ltkit_command):
    made = ltkit.posthoc.logit_adjust(ltkit.read("feats.h5"), tau=1.0)
    frame = ltkit.evaluate(ltkit.read("feats.h5"), made)
    ltkit_command("posthoc", "logit-adjust", "--set", "tau=1", "-q")
    _, out, _ = ltkit_command("evaluate", "--json", "-q")
    rows = json.loads(out)["rows"]
    assert frame.attrs["document"]["rows"][1]["accuracy"] == rows[1]["accuracy"]
    for group, value in rows[1]["accuracy"].items():
        assert frame["accuracy"][group].iloc[1] == value
        low, high = rows[1]["difference_interval"][group]
        assert frame["difference_low"][group].iloc[1] == low
        assert frame["difference_high"][group].iloc[1] == high
    assert frame["difference"].iloc[0].isna().all()
    file, _ = classifiers.read(Path("feats.logit-adjust.h5"))
    np.testing.assert_array_equal(file.bias, made.bias)


@pytest.fixture
def ltkit_command(request):
    return request.getfixturevalue("ltkit")


def test_what_is_not_set_is_chosen_as_the_command_chooses(folder, ltkit_command):
    ltkit_command("posthoc", "tau-norm", "-q")
    file, _ = classifiers.read(Path("feats.tau-norm.h5"))
    found = ltkit.posthoc.tau_norm(ltkit.read("feats.h5"))
    assert found.runs == file.runs
    np.testing.assert_array_equal(found.weight, file.weight)


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_arrays_of_every_kind(kind):
    found = ltkit.features(
        train=(kind(X), kind(Y)), test=(kind(X), kind(Y)), weight=kind([[1.0, 0.0], [0.0, 1.0]])
    )
    frame = ltkit.evaluate(found, bins=(2, 3), replicates=100)
    assert frame["accuracy"]["all"].tolist() == [1.0]
    assert isinstance(frame, pd.DataFrame)
    logits = kind([[0.0, 0.0]])
    assert ltkit.loss("ce", logits, kind([1]), kind([9, 1])).item() == pytest.approx(np.log(2))


def test_a_loss_gives_gradients_and_a_stateful_one_works():
    logits = torch.zeros(1, 2, requires_grad=True)
    ltkit.loss("balanced-softmax", logits, [1], [90, 10]).backward()
    np.testing.assert_allclose(logits.grad, [[0.9, -0.9]], rtol=1e-5)
    assert ltkit.loss("cdb", [[0.0, 0.0]], [1], [90, 10]).item() > 0


def test_names_of_corrections():
    found = ltkit.features(train=(X, Y), test=(X, Y), weight=np.eye(2))
    ncm = ltkit.posthoc.ncm(found)
    frame = ltkit.evaluate(found, ncm, ncm, ("mine", ncm), bins=(2, 3), replicates=100)
    assert frame.index.tolist() == ["baseline", "ncm (1)", "ncm (2)", "mine"]


def test_a_file_stands_for_its_correction(folder):
    found = ltkit.read("feats.h5")
    made = ltkit.posthoc.ncm(found)
    assert ltkit.save(found, made, "mine.h5") == Path("mine.h5")
    frame = ltkit.evaluate(found, "mine.h5", replicates=100)
    assert frame.index[1] == "mine"
    assert ltkit.read_correction("mine.h5").method == "ncm"
    with pytest.raises(InputError, match="exists"):
        ltkit.save(found, made, "mine.h5")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "found no split"),
        ({"train": (X, Y[:2])}, r"train: found features \(3, 2\) and labels \(2,\)"),
        ({"train": (X, [0, 1, -1])}, "negative label"),
        ({"train": ([[np.nan, 1.0]], [0])}, "NaN"),
        ({"train": (X, [0, 1, 0.5])}, "fractions"),
        ({"train": (X, ["a", "b", "c"])}, "expected numbers"),
        ({"train": (np.eye(3, 2) * 1e-50, Y)}, "train: row 0: values of .* multiply all of them"),
        ({"test": (np.eye(3, 2) * 1e50, Y), "train_counts": [2, 1]}, "test: holds .* beyond"),
        ({"train": (X, Y), "weight": np.eye(2) * 1e-50}, "weight: row 0: values of .* are lost"),
        ({"train": (X, Y), "weight": np.eye(2), "bias": [1e-50, 0]}, "bias: values of .* are lost"),
        ({"train": (X, Y), "test": ([[1.0]], [0])}, "differ in width"),
        ({"test": (X, Y)}, "train_counts: absent"),
        ({"test": (X, Y), "train_counts": [3]}, "train_counts: found 1, expected 2"),
        ({"train": (X, Y), "weight": np.eye(3)}, r"weight: found \(3, 3\)"),
        ({"train": (X, Y), "weight": np.eye(2), "bias": [1.0]}, "bias"),
        ({"train": (X, Y), "class_names": ["a"]}, "class_names: found 1, expected 2"),
    ],
)
def test_features_that_do_not_fit(given, said):
    with pytest.raises(InputError, match=said):
        ltkit.features(**given)


def test_other_refusals(tmp_path):
    found = ltkit.features(train=(X, Y), test=(X, Y), weight=np.eye(2))
    made = ltkit.posthoc.ncm(found)
    with pytest.raises(InputError, match="in memory alone"):
        ltkit.save(found, made, tmp_path / "a.h5")
    with pytest.raises(InputError, match="base: absent"):
        ltkit.export(made, tmp_path / "a.npz")
    with pytest.raises(InputError, match="to: found doc"):
        ltkit.export(made, tmp_path / "a.npz", base=found, to="doc")
    with pytest.raises(InputError, match="no parameter"):
        ltkit.posthoc.ncm(found, colour=1)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ltkit.nothing  # noqa: B018
    for name in ("nothing", "_stacked2"):
        with pytest.raises(AttributeError, match=f"no method '{name}'"):
            getattr(ltkit.posthoc, name)


def test_import_is_quick_and_help_is_enough():
    seen = "import sys, ltkit; print('torch' in sys.modules, 'pandas' in sys.modules, *dir(ltkit))"
    done = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    torch_in, pandas_in, *names = done.stdout.split()
    assert (torch_in, pandas_in) == ("False", "False")
    for name in names:
        assert getattr(ltkit, name).__doc__
    assert "Args:" in ltkit.posthoc.blend.__call__.__doc__


def test_baseline_and_whole_by_hand():
    found = ltkit.features(train=(X, Y), weight=np.eye(2))
    own = Correction.baseline(found.classifier())
    assert own.class_id.tolist() == []
    assert own.runs == ({},)
