"""Weights of doubles are computed with in float32 where it holds them, and refused elsewhere."""

import warnings

import made
import numpy as np
import pytest
import torch
from torch import nn

import ltkit
from ltkit import architectures, checkpoints
from ltkit.architectures.normed_heads import BatchNormHead, WeightNormHead
from ltkit.errors import InputError, LtkitError
from ltkit.records import Classifier
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = 1e-50
LOST = "are lost in float32; save weights that float32 holds"


class Own(nn.Module):
    """A network of the user's."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, images):
        return self.fc(self.conv(images).mean((2, 3)))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build("resnet20", 5)


def doubled(state, name="", factor=1.0):
    """Make all values doubles, and those of one layer small."""
    found = {n: v.double() if v.is_floating_point() else v for n, v in state.items()}
    return found | {n: v * factor for n, v in found.items() if name and n.startswith(name)}


@pytest.mark.parametrize(
    ("name", "factor", "word"),
    [("head.", TINY, "head.weight: values of at most"), ("backbone.conv1", TINY, "conv1"),
     ("head.weight", 1e-44, "head.weight"), ("head.", 1e60, "NaN or infinity")],
)  # fmt: skip
def test_weights_that_float32_loses(tmp_path, name, factor, word):
    torch.save(doubled(network().state_dict(), name, factor), tmp_path / "m.pt")
    with pytest.raises(LtkitError, match=word):
        checkpoints.load(tmp_path / "m.pt", LoadSettings())


def test_weights_that_float32_holds(tmp_path):
    net = network().eval()
    torch.save(doubled(net.state_dict()), tmp_path / "m.pt")
    found = checkpoints.load(tmp_path / "m.pt", LoadSettings())
    assert any("float64 weights are computed with in float32" in note for note in found.notes)
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(found.network(images), net(images))


def test_a_network_of_the_users_own(tmp_path):
    torch.save(doubled(Own().state_dict(), "fc", TINY), tmp_path / "m.pt")
    wanted = LoadSettings(model=f"{__name__}:Own")
    made.refused(
        lambda: checkpoints.load(tmp_path / "m.pt", wanted), "fc.weight", LOST, error=InputError
    )


def test_a_program(tmp_path):
    net = Own().double()
    with torch.no_grad():
        net.fc.weight.mul_(TINY)
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(net), tmp_path / "m.pt")
    made.refused(
        lambda: checkpoints.load(tmp_path / "m.pt", LoadSettings(trust_code=True)),
        "fc.weight", LOST, error=InputError,
    )  # fmt: skip


def test_batch_norm_whose_fold_vanishes():
    head = BatchNormHead(4, 3).eval()
    with torch.no_grad():
        head.norm.weight.fill_(1e-25)
        head.linear.weight.normal_().mul_(1e-25)
    made.refused(head.record, "batch norm times weight: row 0", "lost in float32", error=InputError)


@pytest.mark.parametrize("size", [1.0, 1e-18, 1e-30])
def test_weight_norm_of_directions_of_any_size(size):
    """As torch computes it in float64."""
    head = WeightNormHead(4, 3)
    with torch.no_grad():
        head.v.mul_(size)
        head.g.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
    expected = torch._weight_norm(head.v.double(), head.g.double(), 0)
    np.testing.assert_allclose(head.record().weight, expected.detach(), rtol=1e-5)
    features = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(
        head(features).detach(), head.record().fold().logits(features.numpy()), rtol=1e-4, atol=1e-6
    )
    held = head.hold(Classifier(np.eye(3, 4, dtype=np.float32), head.record().fold().bias))
    np.testing.assert_allclose(held["g"], np.ones((3, 1)))


def batches(model, factor=1.0):
    rows = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).double() * factor
    return model, {"train": [(rows, torch.arange(8) % 3)]}


@pytest.mark.parametrize(
    ("features", "weight", "word"),
    [(TINY, 1.0, "features of row 0: values of"), (1.0, TINY, "0.weight: row 0: values of"),
     (1e50, 1.0, "does not fit float32|is not finite")],
)  # fmt: skip
def test_a_model_of_doubles_in_memory(tmp_path, features, weight, word):
    model = nn.Sequential(nn.Linear(4, 3, bias=False)).double()
    with torch.no_grad():
        model[0].weight.mul_(weight)
    with pytest.raises(InputError, match=word):
        ltkit.extract(*batches(model, features), tmp_path / "f.h5")
    assert not [*tmp_path.iterdir()]


def test_a_model_of_doubles_that_float32_holds(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3)).double()
    model, given = batches(model)
    found = ltkit.extract(model, given, tmp_path / "f.h5")
    rows = given["train"][0][0]
    np.testing.assert_allclose(found.split("train").features[:], rows.numpy(), rtol=1e-6)
