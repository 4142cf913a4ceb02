"""Backbones without a head: extracted as embeddings, with what was left out named."""

import itertools
import json
import sys

import made
import numpy as np
import pytest
import torch
from test_layouts import HEAD, C, body, network, randn

from ltkit import checkpoints
from ltkit.cli import main
from ltkit.errors import InputError
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")
NOTE = "no head: the features are what the backbone gives"


def under(prefix, seed=0):
    return {prefix + name: t for name, t in body(seed).state_dict().items()}


def mlp(prefix, *widths):
    pairs = enumerate(itertools.pairwise(widths))
    return {f"{prefix}{2 * n}.weight": torch.ones(b, a) for n, (a, b) in pairs}


DINO_HEAD = {
    **mlp("head.mlp.", 64, 32, 16), "head.last_layer.weight_g": torch.ones(99, 1),
    "head.last_layer.weight_v": torch.ones(99, 16),
}  # fmt: skip
FILES = {
    "plain": (under(""), ""),
    "torchvision's fc taken away": ({"state_dict": under("module.")}, ""),
    "SimCLR": ({"state_dict": under("backbone.") | mlp("projector.", 64, 64, 32)}, "projector"),
    "SimCLR, square": (under("backbone.") | mlp("projection_head.", 64, 64, 64), "projection_head"),
    "momentum": (
        under("backbone.") | under("momentum_backbone.", 3) | mlp("projector.", 64, 32),
        "momentum_backbone, beside the network",
    ),
    "BYOL": (under("online.") | under("target_network.", 3), "target_network"),
    "DINO": (
        {"student": under("backbone.", 3) | DINO_HEAD, "teacher": under("backbone.") | DINO_HEAD,
         "optimizer": {"state": {}}, "dino_loss": {"center": torch.zeros(1, 99)}, "epoch": 3},
        "weights: ema taken",
    ),
    "with losses": (under("encoder.") | {"nt_xent_loss.mask": torch.ones(3)}, "nt_xent_loss"),
}  # fmt: skip


def dataset():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(pixels, np.arange(4), np.array(list("abcd")))
    return Dataset(
        {"train": split}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3, 0, False,
        {"spec": "random", "index_digest": "x"},
    )  # fmt: skip


@torch.no_grad()
@pytest.mark.parametrize("name", FILES)
def test_the_features_are_the_backbones(path, tmp_path, name):
    saved, left = FILES[name]
    torch.save(saved, path)
    found, data, output = checkpoints.load(path), dataset(), tmp_path / "f.h5"
    assert (found.head, found.network.record()) == (None, None)
    assert NOTE in found.notes
    assert left in " / ".join(found.notes)
    extraction.extract(found, data, ("train",), output, ExtractSettings())
    features = features_file.read(output)
    assert features.head is None
    values = torch.from_numpy(data.split("train").images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (found.mean, found.std))
    expected = body()((values - mean) / std)
    np.testing.assert_allclose(features.split("train").features[:], expected, rtol=1e-4, atol=1e-4)


def test_no_head_takes_no_correction(path, tmp_path):
    torch.save(under(""), path)
    found = checkpoints.load(path)
    changed = Correction("m", np.array([0]), np.ones((1, 1, 64), np.float32),
                         np.ones((1, 1), np.float32), ({},))  # fmt: skip
    made.refused(
        lambda: export_into(path, changed, 0, tmp_path / "o.pt", made_from=found.digest),
        "is a backbone without a head", "--to npz", error=InputError,
    )  # fmt: skip
    classifier = made  # no head asks for nothing of it
    made.refused(lambda: found.network.hold(classifier), "backbone without one", error=InputError)


@pytest.mark.parametrize(
    ("extra", "words"),
    [({"fc.weight": torch.ones(C, 9)}, "found 0 that are 64 wide"),
     ({"projector.0.weight": torch.ones(64, 64), "fc.weight": HEAD["weight"]}, "found 2 that are"),
     ({"criterion.weight": HEAD["weight"]}, "if it is the head, name it with --head")],
)  # fmt: skip
def test_what_may_be_a_head_is_not_left_out(path, extra, words):
    torch.save(under("") | extra, path)
    made.refused(lambda: checkpoints.load(path), words, error=InputError)


def test_a_head_that_is_named_and_absent(path):
    torch.save(under(""), path)
    words = "head: found 0 that are 64 wide"
    made.refused(lambda: checkpoints.load(path, LoadSettings(head="fc")), words, error=InputError)


def test_a_projection_that_cannot_stand_before_the_head_is_left_out(path):
    torch.save(network() | mlp("projector.", 64, 64, 32), path)
    found = checkpoints.load(path)
    assert found.head.num_classes == C
    assert found.notes[0] == "left out: projector.0.weight, projector.2.weight"
    assert torch.equal(found.network.head.weight, HEAD["weight"])
    assert found.network(randn(1, 3, 32, 32)).shape == (1, C)


@pytest.fixture
def ltkit(monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ltkit", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return run


def test_inspect_shows_a_backbone(path, ltkit):
    torch.save(under(""), path)
    code, said = ltkit("inspect", str(path))
    assert code == 0
    assert "head:         none" in said.out
    assert NOTE in said.out


def test_inspect_lists_the_families(ltkit):
    _, said = ltkit("inspect", "--families", "--json")
    rows = json.loads(said.out)["families"]
    assert rows == checkpoints.families_table()
    assert {"family": "native", "files": "ltkit train ('ltkit-checkpoint')"} in rows
    _, said = ltkit("inspect", "--families")
    assert [line.split()[0] for line in said.out.splitlines()] == [r["family"] for r in rows]
    code, said = ltkit("inspect")
    assert code == 2
    assert "expected FILE, or --families" in said.err
