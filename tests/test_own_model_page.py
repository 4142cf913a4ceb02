"""The page on one's own model: each of its ways runs as shown, and its results are right."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pages
import pytest
import shells
import torch

from ltkit.files import features as features_file

PAGE = Path(__file__).parents[1] / "docs" / "own-model.md"
ORDER = (3, 0, 5, 1, 4, 2)
"""Of each output of the network whose classes are in another order, its class."""

pytestmark = pytest.mark.usefixtures("one_thread")


def shuffled(path, **beside):
    """Write the ResNet with its classes in another order."""
    content = torch.load("resnet20.pt", weights_only=True)
    for name, value in content["state_dict"].items():
        if "linear" in name:
            content["state_dict"][name] = value[list(ORDER)]
    torch.save({**content, **beside}, path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    pages.write_files(PAGE)
    root, names = tmp_path / "shells", [list(shells.COUNTS)[c] for c in ORDER]
    shells.write(root)
    shells.write_resnet("resnet20.pt", root)
    shells.write_own("mine.pt", root, "my_models", "ShellNet")
    shuffled("silent.pt")
    shuffled("stated.pt", class_to_idx={name: i for i, name in enumerate(names)})
    Path("order.txt").write_text("\n".join(names))
    Path("misspelt.txt").write_text("\n".join(names).replace("cowrie", "cowry"))
    shutil.copytree(root, "five", ignore=lambda _, there: ["whelk"] * ("whelk" in there))
    yield tmp_path
    sys.modules.pop("my_models", None)


@pytest.mark.more
def test_the_page(folder, ltkit):
    space = pages.run(PAGE, ltkit)
    assert not Path("wrong.h5").exists()

    mine, own = (features_file.read(Path(name)) for name in ("mine.h5", "own.h5"))
    mine, own = (file.split("test").features[:] for file in (mine, own))
    np.testing.assert_allclose(mine, own, atol=1e-5)  # two ways to the same pictures

    before, after = (torch.load(n, weights_only=True) for n in ("mine.pt", "mine_fixed.pt"))
    changed = [k for k, v in before["model"].items() if not v.equal(after["model"][k])]
    assert changed == ["module.answer.bias"]
    counts = torch.tensor([float(count) for count in shells.COUNTS.values()])
    shift = before["model"][changed[0]] - after["model"][changed[0]]
    torch.testing.assert_close(shift - shift[0], (counts / counts[0]).log(), atol=1e-5, rtol=1e-5)

    stated, plain = (features_file.read(Path(n)) for n in ("stated.h5", "shells.h5"))
    np.testing.assert_array_equal(
        np.array(ORDER)[stated.split("test").labels].tolist(), plain.split("test").labels
    )
    f, g = space["f"], space["g"]
    np.testing.assert_array_equal(f.split("test").features[:], g.split("test").features[:])
    assert g.classes.train_count.tolist() == f.classes.train_count.tolist()
    tokens, labels = space["data"]["test"].dataset.tensors
    with torch.no_grad():
        logits = space["model"](tokens)
    few = labels == 2
    assert (logits.argmax(1) == labels)[few].float().mean() > 0.6


def test_lines_are_compared_in_their_order():
    printed = ["a 86.4 %", "x", "y", "b"]
    assert not pages.missing(["a 85.0 %", "…", "b"], printed)
    assert not pages.missing(["a …", "x"], printed)
    assert "printed 'x'" in pages.missing(["a 86.4 %", "y"], printed)
    assert "not printed" in pages.missing(["…", "c"], printed)


def test_links():
    pages.check_links(PAGE)
