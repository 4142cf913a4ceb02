"""Fixtures that several test files use."""

import sys
import textwrap

import numpy as np
import pytest
import torch
from importable import arrays
from own_networks import CODE, NAMES
from PIL import Image

from ltkit.files import features
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays


@pytest.fixture
def run(tmp_path):
    """Import arrays; return what the features file holds, and the notes."""

    def run(names=None, dtype="float32", save=np.savez, **changes):
        save(tmp_path / "a.npz", **arrays(**changes))
        output = tmp_path / "f.h5"
        digest, notes = import_arrays(
            tmp_path / "a.npz", output, names=names, settings=ImportSettings(dtype=dtype),
            command="c",
        )  # fmt: skip
        found = features.read(output)
        assert found.digest == digest
        return found, notes

    return run


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, and a checkpoint of its network."""
    (tmp_path / "my_networks.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("my_networks", None)
    import my_networks

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = my_networks.Net().eval()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    yield network
    sys.modules.pop("my_networks", None)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 3 classes, whose pictures have a colour each."""
    rng = np.random.default_rng(0)
    for split, each in (("train", 6), ("test", 8)):
        for c, name in enumerate(NAMES):
            (tmp_path / "pics" / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 60, (32, 32, 3))
                pixels[..., c] += 150
                file = tmp_path / "pics" / split / name / f"{i}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "pics"
