"""The page on embeddings: what it shows runs in order, and its heads are right in plain code."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from ltkit.files import classifiers

PAGE = (Path(__file__).parents[1] / "docs" / "embeddings.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def ran(tmp_path, monkeypatch, ltkit):
    """Run the page; return the variables of its Python, and what each command said."""
    monkeypatch.chdir(tmp_path)
    space, said = {}, {}
    for kind, block in re.findall(
        r"^```(python|console)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
    ):
        if kind == "python":
            exec(compile(block, "docs/embeddings.md", "exec"), space)
            continue
        for line in block.splitlines():
            words = shlex.split(line.removeprefix("$ ltkit "))
            code, out, err = ltkit(*words)
            assert code == 0, err
            said[line] = out + err
    return space, said


def test_the_page(ran):
    space, said = ran
    for block in re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        assert len(block.splitlines()) <= 5
    assert (
        "labels are names: 6 classes in the order bicycle, camera"
        in said["$ ltkit import texts.npz -o texts.h5"]
    )
    assert "no head: texts.ce.h5 stands for it" in said["$ ltkit posthoc logit-adjust texts.h5"]
    table = said["$ ltkit evaluate texts.h5"]
    assert " ce " in table
    assert "logit-adjust tau" in table
    base, _ = classifiers.read(Path("texts.ce.h5"))
    test, labels = space["encoder"].transform(space["texts"]["test"]), space["labels"]["test"]
    logits = test @ base.weight[0].T + base.bias[0]
    before = space["names"][logits.argmax(axis=1)] == np.array(labels)
    assert space["right"].mean() > before.mean()
    layer = space["layer"](torch.from_numpy(test).float()).detach().numpy()
    np.testing.assert_allclose(layer, space["logits"], rtol=1e-3, atol=1e-4)
    assert (
        space["right"].mean()
        == pytest.approx(float(re.findall(r"logit-adjust.*", table)[0].split()[6]) / 100, abs=1e-3)
        or "all" in table
    )


def test_both_heads_together(ran):
    space, _ = ran
    both = np.load("both.npz")
    assert both["normalize_features"] == 1
    test = torch.from_numpy(space["encoder"].transform(space["texts"]["test"])).float()
    logits = functional.normalize(test) @ torch.from_numpy(both["weight"]).T
    predicted = (logits + torch.from_numpy(both["bias"])).argmax(dim=1).numpy()
    right = space["names"][predicted] == np.array(space["labels"]["test"])
    zero = (
        functional.normalize(test)
        @ functional.normalize(torch.from_numpy(np.load("classes.npy")).float()).T
    )
    alone = space["names"][zero.argmax(dim=1).numpy()] == np.array(space["labels"]["test"])
    assert right.mean() > alone.mean() + 0.03
