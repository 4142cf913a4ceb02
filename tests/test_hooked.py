"""Other libraries' networks: features are caught where they enter the last layers."""

from types import SimpleNamespace

import made
import numpy as np
import pytest
import torch
from torch import nn

from ltkit.architectures.network import Hooked
from ltkit.errors import InputError
from ltkit.records import Classifier

C, D = 7, 6


class Several(nn.Module):
    """Heads of different widths, whose logits are averaged."""

    def __init__(self, widths, biased):
        super().__init__()
        self.stem = nn.Conv2d(3, sum(widths), 3)
        self.widths = widths
        self.heads = nn.ModuleList(
            nn.Linear(width, C, bias=bias) for width, bias in zip(widths, biased, strict=True)
        )

    def forward(self, images):
        parts = self.stem(images).mean(dim=(2, 3)).split(self.widths, dim=1)
        logits = [head(part) for head, part in zip(self.heads, parts, strict=True)]
        return SimpleNamespace(logits=torch.stack(logits).mean(0), hidden=None)


def several(widths, biased):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Several(widths, biased)
    return Hooked(model, tuple(f"heads.{i}" for i in range(len(widths))))


def apply(network, values):
    state = network.state_dict()
    for name, value in values.items():
        state[name] = torch.from_numpy(np.array(value)).reshape(state[name].shape)
    network.load_state_dict(state)


@pytest.mark.parametrize(
    ("widths", "biased", "experts"),
    [((3, 5), (True, True), 1), ((4, 4), (True, True), 2), ((3, 5, 2), (True, False, True), 1),
     ((4, 4), (False, True), 2), ((5,), (True,), 1)],
)  # fmt: skip
@torch.no_grad()
def test_several_heads_of_any_widths(widths, biased, experts):
    network, images = several(widths, biased), torch.randn(4, 3, 8, 8)
    features, logits = network.features_and_logits(images)
    head = network.record()
    assert (head.experts, head.feature_size) == (experts, sum(widths))
    base = head.fold()
    np.testing.assert_allclose(base.logits(features.numpy()), logits, atol=1e-6)
    torch.testing.assert_close(logits, network.model(images).logits)

    weight, bias, rng = base.weight.copy(), base.bias.copy(), np.random.default_rng(0)
    weight[5] = rng.normal(size=sum(widths))
    bias[5] += 3
    wanted = Classifier(weight, bias, False, base.experts)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    values = network.hold(wanted)
    assert len(values) == len(widths) + sum(biased)
    kept = [row for row in range(C) if row != 5]
    for name, value in values.items():
        if len(widths) < 3:  # a third is rounded
            assert np.array_equal(value[kept], before[name][kept].numpy()), name
        assert not np.array_equal(value[5], before[name][5].numpy()), name
    if biased == (True, True):
        moved = [values[f"model.heads.{i}.bias"][5] - before[f"model.heads.{i}.bias"][5].numpy()
                 for i in (0, 1)]  # fmt: skip
        np.testing.assert_allclose(moved, [3, 3], atol=1e-6)
    apply(network, values)
    np.testing.assert_allclose(network(images), wanted.logits(features.numpy()), atol=1e-5)


def test_heads_without_bias_and_normalised_features_are_refused():
    network = several((3, 5), (False, False))
    base = network.record().fold()
    assert not base.bias.any()
    assert len(network.hold(base)) == 2
    shifted = Classifier(base.weight, base.bias + 1)
    words = ("this head has no bias", "--to npz")
    made.refused(lambda: network.hold(shifted), *words, error=InputError)
    normalised = Classifier(base.weight, base.bias, True)
    made.refused(lambda: network.hold(normalised), "its form is 'none'", error=InputError)


class Tokens(nn.Module):
    """A head that runs on all tokens, of which the first gives the logits."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(D, C)

    def forward(self, images):
        return self.head(images.flatten(2).transpose(1, 2))[:, 0], "auxiliary"


@torch.no_grad()
def test_of_several_tokens_the_first_is_taken():
    network, images = Hooked(Tokens(), ("head",)), torch.randn(4, D, 3, 3)
    features, logits = network.features_and_logits(images)
    torch.testing.assert_close(features, images[:, :, 0, 0])
    np.testing.assert_allclose(network.record().fold().logits(features.numpy()), logits, atol=1e-6)


@torch.no_grad()
def test_a_map_of_several_pixels_is_no_vector():
    model = nn.Sequential(nn.Conv2d(D, C, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    features, logits = Hooked(model, ("0",)).features_and_logits(torch.randn(2, D, 3, 3))
    assert (features.ndim, logits.shape) == (4, (2, C))


@torch.no_grad()
def test_channels_in_another_order():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4, C))
    images = torch.randn(2, 3, 2, 2)
    found = Hooked(model, ("1",), bgr=True)
    features, logits = found.features_and_logits(images)
    torch.testing.assert_close(logits, model(images.flip(1)))
    torch.testing.assert_close(features, images.flip(1).flatten(1))
