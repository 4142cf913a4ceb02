"""Heads in other forms: each gives its origin's logits, and takes a correction back."""

import made
import numpy as np
import pytest
import torch
from test_layouts import C, body, randn
from torch import nn

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.exports.checkpoint import export_into
from ltkit.records import Correction
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread", "torch_seed")
D = 64


@pytest.fixture
def torch_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class WithHead(nn.Module):
    """A network as a user writes it: a known backbone and last layers of their own."""

    def __init__(self, **parts: nn.Module):
        super().__init__()
        self.backbone = body()
        self.parts = list(parts)
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, images):
        out = self.backbone(images)
        for name in self.parts:
            out = self.get_submodule(name)(out)
        return out


def normed(width=D, affine=True):
    norm = nn.BatchNorm1d(width, affine=affine)
    norm.running_mean.normal_(0, 0.5)
    norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias)
    return norm


def old_weight_norm(layer):
    import warnings

    with warnings.catch_warnings(action="ignore"):
        return nn.utils.weight_norm(layer)


def new_weight_norm(layer):
    return nn.utils.parametrizations.weight_norm(layer)


def lengthened(layer):
    """Make rows of different lengths."""
    with torch.no_grad():
        layer.weight.mul_(torch.linspace(0.5, 2, len(layer.weight))[:, None])
    return layer


Seq, Lin = nn.Sequential, nn.Linear
HEADS = {
    "plain": lambda: {"fc": Lin(D, C)},
    "dropout": lambda: {"fc": Seq(nn.Dropout(), Lin(D, C))},
    "dropout twice": lambda: {"head": Seq(nn.Flatten(), nn.Dropout(), Lin(D, C))},
    "inside": lambda: {"head": nn.ModuleDict({"fc": Lin(D, C)})["fc"]},
    "old weight norm": lambda: {"fc": old_weight_norm(lengthened(Lin(D, C)))},
    "new weight norm": lambda: {"fc": new_weight_norm(lengthened(Lin(D, C)))},
    "weight norm without bias": lambda: {"fc": new_weight_norm(lengthened(Lin(D, C, bias=False)))},
    "dropout, weight norm": lambda: {"fc": Seq(nn.Dropout(), old_weight_norm(Lin(D, C)))},
    "batch norm": lambda: {"fc": Seq(normed(), Lin(D, C))},
    "batch norm, dropout": lambda: {"fc": Seq(normed(), nn.Dropout(), Lin(D, C))},
    "batch norm beside": lambda: {"bottleneck": normed(), "classifier": Lin(D, C)},
    "MLP": lambda: {"fc": Seq(Lin(D, 32), nn.ReLU(), Lin(32, C))},
    "MLP of three": lambda: {"head": Seq(Lin(D, 48), nn.ReLU(), nn.Dropout(), Lin(48, 16),
                                         nn.ReLU(), Lin(16, C))},
    "MLP as wide as the features": lambda: {"fc": Seq(Lin(D, D), nn.ReLU(), Lin(D, C))},
    "MLP, no activation": lambda: {"fc": Seq(Lin(D, 32), Lin(32, C))},
    "MLP without bias": lambda: {"fc": Seq(Lin(D, 32, bias=False), nn.ReLU(), Lin(32, C))},
    "MLP, batch norm": lambda: {"fc": Seq(Lin(D, 32), normed(32), nn.ReLU(), Lin(32, C))},
    "MLP, batch norm last": lambda: {"fc": Seq(Lin(D, 32), nn.ReLU(), normed(32), Lin(32, C))},
    "fastai": lambda: {"head": Seq(nn.Flatten(), normed(), nn.Dropout(), Lin(D, 32), nn.ReLU(),
                                   normed(32), nn.Dropout(), Lin(32, C))},
    "layer norm": lambda: {"head": Seq(nn.LayerNorm(D), Lin(D, C))},
    "two attributes": lambda: {"fc1": Seq(Lin(D, 32), nn.ReLU())[0], "fc2": Lin(32, C)},
}  # fmt: skip
NEEDS_LINEAR = {"weight norm without bias"}


def built(name):
    parts = HEADS[name]()
    network = WithHead(**parts).eval()
    if name == "two attributes":
        network.fc1.register_forward_hook(lambda module, inputs, out: out.relu())
    return network


@torch.no_grad()
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("apart", [False, True])
def test_heads_of_every_form_there_and_back(path, tmp_path, name, apart):
    network, images = built(name), randn(4, 3, 32, 32)
    state = network.state_dict()
    if apart:
        one = {n.removeprefix("backbone."): t for n, t in state.items() if n[:9] == "backbone."}
        state = {"backbone": one, "last": {n: t for n, t in state.items() if n[:9] != "backbone."}}
    torch.save(state, path)
    found = checkpoints.load(path)
    torch.testing.assert_close(found.network(images), network(images), rtol=1e-4, atol=1e-4)
    features, _ = found.network.features_and_logits(images)
    own = found.head.fold().logits(features.numpy())
    np.testing.assert_allclose(own, network(images), rtol=1e-3, atol=1e-4)

    base, rows = found.head.fold(), np.array([5, 6])
    shift = 0 if name == "weight norm without bias" else np.float32([1, -2])
    correction = Correction(
        "made", rows, (base.weight[rows[::-1]] * 1.5 + 0.1)[None], (base.bias[rows] + shift)[None],
        ({},),
    )  # fmt: skip
    output = tmp_path / "fixed.pt"
    export_into(path, correction, 0, output, made_from=found.digest)
    saved = torch.load(output)
    if apart:
        saved = {f"backbone.{n}": t for n, t in saved["backbone"].items()} | saved["last"]
    network.load_state_dict(saved)
    expected = correction.classifier(base, 0).logits(features.numpy())
    np.testing.assert_allclose(network(images), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "words"),
    [("plain", []), ("dropout", []), ("new weight norm", []),
     ("batch norm", ["fc.0 (batch norm) is folded into fc.1"]),
     ("batch norm beside", ["bottleneck (batch norm) is folded into classifier"]),
     ("MLP", ["head: fc.2; fc.0 before it belong to the features, 1 ReLU taken", "--model"]),
     ("MLP, no activation", ["fc.0 before it belong to the features, no activation"]),
     ("MLP of three", ["2 ReLU taken"]), ("fastai", ["is folded into", "1 ReLU taken"])],
)  # fmt: skip
def test_what_was_taken_is_said(path, name, words):
    torch.save(built(name).state_dict(), path)
    said = " / ".join(note for note in checkpoints.load(path).notes if note != made.ASSUMED)
    assert all(word in said for word in words)
    assert bool(said) == bool(words)


def saved(path, **parts):
    torch.save(WithHead(**parts).eval().state_dict(), path)
    return lambda head=None, **wanted: checkpoints.load(path, LoadSettings(head=head, **wanted))


def test_a_layer_of_an_mlp_may_be_named_as_the_head(path):
    load = saved(path, fc=Seq(Lin(D, 32), nn.ReLU(), Lin(32, C)), aux=Lin(D, 3))
    made.refused(load, "head: found 2 that are 64 wide", "aux.weight (3, 64)", "--head")
    assert load("fc").head.num_classes == load("fc.2").head.num_classes == C
    aux = load("aux")
    assert aux.head.num_classes == 3


def test_weight_norm_without_bias_may_be_a_cosine_head(path):
    layer = new_weight_norm(Lin(D, C, bias=False))
    with torch.no_grad():
        layer.parametrizations.weight.original0.fill_(1)
    load = saved(path, fc=layer)
    words = ("original1: has no bias", "--scale", "--linear")
    made.refused(load, *words, error=InputError)
    assert load(linear=True).head.normalize == "none"
    made.refused(lambda: load(scale=16.0), *words, error=InputError)


def test_lengths_that_are_not_one_a_class(path):
    load = saved(path, fc=nn.utils.parametrizations.weight_norm(Lin(D, C), dim=1))
    words = ("found lengths of shape (1, 64), expected (7, 1)", "remove_weight_norm")
    made.refused(load, *words, error=InputError)
    load = saved(path, fc=Seq(new_weight_norm(Lin(D, 9)), nn.ReLU(), Lin(9, C)))
    made.refused(load, "weight norm before the last layer is not known", "--model")


def correct(load, path, bias=0.0):
    found = load(linear=True)
    base = found.head.fold()
    changed = Correction("m", np.array([0]), base.weight[:1][None] + 1,
                         base.bias[:1][None] + np.float32(bias), ({},))  # fmt: skip
    export_into(path, changed, 0, path.with_name("o.pt"), made_from=found.digest,
                wanted=LoadSettings(linear=True))  # fmt: skip


def test_batch_norm_that_cannot_hold_a_correction(path):
    load = saved(path, fc=Seq(normed(), Lin(D, C, bias=False)))
    words = ("layer after batch norm has no bias", "--to npz")
    made.refused(lambda: correct(load, path), *words, error=InputError)
    norm = normed()
    with torch.no_grad():
        norm.weight[3] = 0
    load = saved(path, fc=Seq(norm, Lin(D, C)))
    words = ("batch norm multiplies feature 3 by 0", "--to npz")
    made.refused(lambda: correct(load, path), *words, error=InputError)
    assert made.beside(path) == ["m.pt"]


@pytest.mark.parametrize(
    ("extra", "words", "error"),
    [({"fc.scale": torch.ones(1)}, "unexpected: 1 (backbone.fc.scale)", FormatError),
     ({"logit_scale": torch.ones(())}, "unexpected: 1 (backbone.logit_scale)", FormatError),
     ({"neck.weight": torch.ones(D, 9)}, "found 2 that are 64 wide", InputError),
     ({"neck.weight": torch.ones(9), "neck.bias": torch.ones(9)}, "unexpected", FormatError)],
)  # fmt: skip
def test_what_changes_the_logits_in_an_unknown_way_is_refused(path, extra, words, error):
    torch.save(built("plain").state_dict() | extra, path)
    made.refused(lambda: checkpoints.load(path), words, error=error)
