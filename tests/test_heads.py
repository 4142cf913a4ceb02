"""Last layers: the linear form gives the module's own logits, and holding undoes it."""

import numpy as np
import pytest
import torch

from ltkit.architectures.heads import (
    AlignedHead,
    CausalHead,
    CosineHead,
    ExpertHeads,
    LinearHead,
    MarginHead,
    ScaledHead,
)
from ltkit.architectures.meta_head import MetaHead
from ltkit.architectures.network import Hooked, Network, make_head
from ltkit.errors import InputError
from ltkit.records import Classifier

pytestmark = pytest.mark.usefixtures("one_thread")
C, D = 5, 6


def shaken(head):
    """Give every parameter a random value."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in [*head.parameters(), *head.buffers()]:
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return head


HEADS = {
    "linear": lambda: LinearHead(D, C),
    "linear, no bias": lambda: LinearHead(D, C, bias=False),
    "cosine": lambda: CosineHead(D, C, 30.0),
    "scaled": lambda: ScaledHead(D, C),
    "scaled, no bias": lambda: ScaledHead(D, C, bias=False),
    "margin": lambda: MarginHead(D, C),
    "causal": lambda: CausalHead(D, C),
    "causal, three parts": lambda: CausalHead(D, C, heads=3, tau=4.0, alpha=0.5),
    "experts": lambda: ExpertHeads([LinearHead(3, C), LinearHead(3, C)]),
    "cosine experts": lambda: ExpertHeads([CosineHead(2, C, 30.0) for _ in range(3)]),
    "aligned": lambda: AlignedHead(D, C),
    "aligned, no bias": lambda: AlignedHead(D, C, bias=False),
    "meta": lambda: MetaHead(D, C),
}


def features_of(head, seed=0):
    features = torch.randn(9, D, generator=torch.Generator().manual_seed(seed))
    return head.lift(features) if hasattr(head, "lift") else features


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_the_linear_form_has_the_same_logits(name):
    head = shaken(HEADS[name]())
    features = features_of(head)
    folded = head.record().fold().logits(features.numpy())
    np.testing.assert_allclose(folded, head(features).numpy(), rtol=1e-4, atol=1e-4)


def corrected(folded, kind, rng):
    """Return a classifier that this kind of head can hold."""
    weight, bias = folded.weight.copy(), folded.bias.copy()
    if kind.startswith(
        ("cosine", "causal", "meta")
    ):  # rows of one length; rows that are not too long
        order = rng.permutation(C)
        weight, bias = weight[order], bias[order]
    elif kind.startswith("aligned"):  # a multiple of each row, the confidence's part with it
        weight *= rng.uniform(0.5, 2, size=(C, 1)).astype(np.float32)
    else:
        weight += rng.normal(size=weight.shape).astype(np.float32)
        if "no bias" not in kind:
            bias += rng.normal(size=C).astype(np.float32)
    return Classifier(weight, bias, folded.normalize_features, folded.experts)


@pytest.mark.parametrize("name", HEADS)
@torch.no_grad()
def test_a_head_holds_a_corrected_classifier(name):
    head = shaken(HEADS[name]())
    wanted = corrected(head.record().fold(), name, np.random.default_rng(3))
    features = features_of(head)
    values = head.hold(wanted)
    before = {k: v.clone() for k, v in head.state_dict().items()}
    head.load_state_dict(before | {k: torch.from_numpy(np.array(v)) for k, v in values.items()})
    assert set(values) < set(before) or set(values) == set(before)
    logits = head(features).numpy()
    np.testing.assert_allclose(logits, wanted.logits(features.numpy()), rtol=1e-3, atol=1e-3)


# By hand


@torch.no_grad()
def test_scales_multiply_the_bias_too():
    head = ScaledHead(1, 2)
    head.linear.weight.copy_(torch.tensor([[1.0], [2.0]]))
    head.linear.bias.copy_(torch.tensor([10.0, 20.0]))
    head.scales.copy_(torch.tensor([3.0, 0.5]))
    assert head(torch.tensor([[1.0]])).tolist() == [[33.0, 11.0]]


@torch.no_grad()
def test_margins_are_lengths_of_rows():
    head = MarginHead(2, 1)
    head.linear.weight.copy_(torch.tensor([[3.0, 4.0]]))
    head.linear.bias.copy_(torch.tensor([1.0]))
    head.a.copy_(torch.tensor([2.0]))
    head.m.copy_(torch.tensor([0.1]))
    assert head(torch.tensor([[1.0, 1.0]])).item() == pytest.approx(2 * 8 + 0.1 * 5)


@torch.no_grad()
def test_the_causal_logit_of_one_feature():
    """Two parts of one dimension: normalised features are signs, and so is the mean's direction."""
    head = CausalHead(2, 1, tau=16.0, gamma=1.0, alpha=0.25)
    head.weight.copy_(torch.tensor([[3.0, -1.0]]))  # 3 / 4 and -1 / 2
    head.embed.copy_(torch.tensor([5.0, 5.0]))
    features = torch.tensor([[7.0, -2.0]])  # 1 and -1; of each a quarter is taken off
    assert head(features).item() == pytest.approx(16 / 2 * (0.75 * 0.75 - 0.5 * -0.75))
    head.alpha = 0.0
    assert head(features).item() == pytest.approx(16 / 2 * (0.75 + 0.5))


@torch.no_grad()
def test_the_confidence_mixes_the_aligned_logits():
    head = AlignedHead(1, 2, bias=False)
    head.linear.weight.copy_(torch.tensor([[1.0], [2.0]]))
    head.logit_scale.copy_(torch.tensor([2.0, 0.0]))  # the paper's 3 and 1
    head.logit_bias.copy_(torch.tensor([0.0, 4.0]))
    head.confidence.weight.zero_()
    head.confidence.bias.zero_()  # a confidence of one half
    lifted = head.lift(torch.tensor([[2.0]]))
    assert lifted.tolist() == [[2.0, 1.0, 0.5]]
    assert head(lifted).tolist() == [[0.5 * 6 + 0.5 * 2, 0.5 * (4 + 4) + 0.5 * 4]]


@torch.no_grad()
def test_experts_are_averaged():
    head = ExpertHeads([LinearHead(1, 1), LinearHead(1, 1)])
    for number, expert in enumerate(head.experts):
        expert.weight.fill_(number + 1.0)
        expert.bias.fill_(10.0 * number)
    assert head(torch.tensor([[3.0, 5.0]])).item() == (1 * 3 + 0 + 2 * 5 + 10) / 2


# What a form cannot hold


def folded_with(head, bias=0.0, weight=1.0):
    folded = head.record().fold()
    return Classifier(
        folded.weight * np.float32(weight), folded.bias + np.float32(bias),
        folded.normalize_features, folded.experts,
    )  # fmt: skip


@pytest.mark.parametrize("name", [n for n in HEADS if "no bias" in n] + ["causal"])
def test_heads_without_a_bias(name):
    head = shaken(HEADS[name]())
    with pytest.raises(InputError, match=r"has no bias.*--to npz"):
        head.hold(folded_with(head, bias=1.0))


@pytest.mark.parametrize(("name", "part"), [("scaled", "scales"), ("margin", "a")])
def test_a_class_that_is_scaled_to_nothing(name, part):
    head = shaken(HEADS[name]())
    with torch.no_grad():
        getattr(head, part)[3] = 0
    with pytest.raises(InputError, match="class 3 has"):
        head.hold(folded_with(head))


def test_causal_rows_have_a_longest_length():
    head = shaken(HEADS["causal"]())
    with pytest.raises(InputError, match="length below 1"):
        head.hold(folded_with(head, weight=2.0))


def test_alpha_1_cannot_be_undone():
    head = shaken(CausalHead(D, C, alpha=1.0))
    with pytest.raises(InputError, match="alpha 1"):
        head.hold(folded_with(head))


def test_alpha_1_without_a_mean_feature_is_plain():
    head = shaken(CausalHead(D, C, alpha=1.0))
    with torch.no_grad():
        head.embed.zero_()
    values = head.hold(folded_with(head))
    np.testing.assert_allclose(values["weight"], head.weight.detach().numpy(), rtol=1e-3)


def test_what_the_confidence_mixes_in_must_fit():
    head = shaken(HEADS["aligned"]())
    folded = head.record().fold()
    other = Classifier(folded.weight[[1, 0, 2, 3, 4]], folded.bias)
    mixed = other.weight.copy()
    mixed[:, D : 2 * D] = mixed[[1, 2, 3, 4, 0], D : 2 * D]
    with pytest.raises(InputError, match=r"no multiple.*--head linear"):
        head.hold(Classifier(mixed, other.bias))


# Networks


def test_experts_share_the_features_in_order():
    head = make_head(6, C, cosine=True, scale=30.0, experts=3)
    assert [tuple(e.weight.shape) for e in head.experts] == [(C, 2)] * 3
    linear = make_head(6, C, cosine=False, scale=1.0, experts=2)
    assert [tuple(e.weight.shape) for e in linear.experts] == [(C, 3)] * 2


class Convolutional(torch.nn.Module):
    """A network with two 1x1 convolutions for heads, and an output in a tuple."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, D, 3)
        self.first = torch.nn.Conv2d(D, C, 1)
        self.second = torch.nn.Linear(D, C, bias=True)

    def forward(self, images):
        pooled = self.stem(images).mean(dim=(2, 3), keepdim=True)
        own = torch.flatten(self.first(pooled), 1)
        return (0.5 * own + 0.5 * self.second(2 * torch.flatten(pooled, 1)), "aux")


@torch.no_grad()
def test_features_are_caught_where_they_enter_the_heads():
    model = shaken(Convolutional())
    network = Hooked(model, ("first", "second"))
    images = torch.randn(4, 3, 8, 8)
    features, logits = network.features_and_logits(images)
    pooled = model.stem(images).mean(dim=(2, 3))
    torch.testing.assert_close(features, torch.cat([pooled, 2 * pooled], dim=1))
    torch.testing.assert_close(logits, model(images)[0])
    head = network.record()
    assert head.experts == 2
    np.testing.assert_allclose(head.fold().logits(features.numpy()), logits, atol=1e-4)
    assert not model.first._forward_pre_hooks

    wanted = corrected(head.fold(), "experts", np.random.default_rng(0))
    values = network.hold(wanted)
    assert set(values) == {
        "model.first.weight", "model.first.bias", "model.second.weight", "model.second.bias",
    }  # fmt: skip
    state = network.state_dict()
    new = {k: torch.from_numpy(np.array(v)).reshape(state[k].shape) for k, v in values.items()}
    network.load_state_dict(state | new)
    expected = wanted.logits(features.numpy())
    np.testing.assert_allclose(network(images).numpy(), expected, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_a_single_head_keeps_its_name():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, C, bias=False))
    network = Hooked(model, ("1",))
    features, logits = network.features_and_logits(torch.randn(2, 3, 2, 2))
    assert list(network.hold(network.record().fold())) == ["model.1.weight"]
    np.testing.assert_allclose(network.record().fold().logits(features.numpy()), logits, atol=1e-5)


@torch.no_grad()
def test_a_network_lifts_the_features_of_an_aligned_head():
    network = Network(torch.nn.Flatten(), shaken(AlignedHead(D, C)))
    features, logits = network.features_and_logits(torch.randn(3, D, 1, 1))
    assert features.shape == (3, 2 * D + 1)
    np.testing.assert_allclose(
        network.record().fold().logits(features.numpy()), logits, rtol=1e-4, atol=1e-4
    )
