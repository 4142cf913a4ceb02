"""Routers of experts: their formula sample by sample, their limits, their runs, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import built
from experts import COUNTS, RUN, batch, network, pictures, train
from made import refused
from trained import Stop, log, stop_after, weights

from ltkit import checkpoints
from ltkit.architectures.expert_heads import RoutedExperts, Routers
from ltkit.architectures.network import Network
from ltkit.errors import FormatError, InputError
from ltkit.records import Classifier
from ltkit.settings import LoadSettings, TrainPlan

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = TrainPlan("router", {"hidden": 5}, cosine=True)
HELD = replace(RUN, epochs=3, learning_rate=0.05, nesterov=True)


@pytest.fixture(scope="module", name="pictures")
def _pictures():
    return pictures()


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("ride") / "ride.pt"
    train(pictures, TrainPlan("ride"), path, replace(RUN, epochs=6))
    return path


def held(pictures, trained, output, plan=PLAN, **more):
    return train(pictures, plan, output, HELD, init=trained, keep_head=True, **more)


def attributes(path):
    return torch.load(path, weights_only=True)["attributes"]


def naive(scores, z, labels, positive):
    """Router by router and image by image."""
    total, (size, experts, _) = 0.0, z.shape
    for i in range(experts - 1):
        for b in range(size):
            right = [np.argmax(z[b, : j + 1].sum(axis=0)) == labels[b] for j in range(experts)]
            helps = not right[i] and any(right[i + 1 :])
            p = 1 / (1 + math.exp(-scores[b, i]))
            total -= positive * math.log(p) if helps else math.log(1 - p)
    return total / size / (experts - 1)


@pytest.mark.parametrize("experts", [2, 3, 6])
@pytest.mark.parametrize("positive", [1.0, 100.0])
def test_it_is_its_formula(experts, positive):
    rng = np.random.default_rng(0)
    z, labels = 2 * rng.normal(size=(40, experts, 3)), rng.integers(0, 3, 40)
    scores = rng.normal(size=(40, experts - 1))
    router = built("router", COUNTS, positive=positive)
    value = router.of_scores(*(torch.tensor(x) for x in (scores, z, labels)))
    assert value.item() == pytest.approx(naive(scores, z, labels, positive), rel=1e-6)


def test_scores_are_those_of_the_released_layers():
    """Expert after expert, with the logits summed up, in NumPy."""
    torch.manual_seed(0)
    routers, features, z = Routers(3, 4, 2, 5), torch.randn(6, 12), torch.randn(6, 3, 7)
    found = routers(features, z).detach().numpy()
    shared = [t.detach().numpy() for t in (routers.shared.weight[0], routers.shared.bias)]
    for b in range(6):
        for i in range(2):
            f = features[b, 4 * i : 4 * i + 4].numpy()
            v, c = (t.detach().numpy() for t in routers.hidden[i].parameters())
            seen = np.maximum(v @ (f / np.linalg.norm(f)) + c, 0)
            top = np.sort(z[b, : i + 1].numpy().mean(axis=0))[::-1][:2]
            score = np.concatenate([top, seen]) @ shared[0] + shared[1]
            assert found[b, i] == pytest.approx(score.item(), rel=1e-4, abs=1e-5)


def routed(net, bias):
    """A network behind routers of which the last bias decides all."""
    torch.manual_seed(2)
    routers = Routers(3, 48, 2, 5)
    if bias is not None:
        routers.shared.weight.data.zero_()
        routers.shared.bias.data.fill_(bias)
    return Network(net.backbone, RoutedExperts([*net.head.experts], routers)).eval()


@pytest.mark.parametrize("cosine", [True, False])
def test_nobody_else_is_asked_or_all_are(cosine):
    net = network(cosine=cosine).eval()
    images = batch(net, 9).views[0]
    with torch.no_grad():
        features = net.backbone(images)
        each = net.head.each(features)
        first, every = (routed(net, bias)(images) for bias in (-1.0, 1.0))
    torch.testing.assert_close(first, each[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(every, net(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("cosine", [True, False])
def test_an_image_has_the_mean_of_the_experts_that_were_asked(cosine):
    net = network(cosine=cosine).eval()
    whole = routed(net, None)
    images, numbers = batch(net, 40).views[0], set()
    with torch.no_grad():
        lifted, logits = whole.features_and_logits(images)
        features = net.backbone(images)
        each = torch.stack(net.head.each(features), dim=1)
        scores = whole.head.routers(features, each)
    for b in range(40):
        asked = 1
        while asked < 3 and torch.sigmoid(scores[b, asked - 1]) > 0.5:
            asked += 1
        numbers.add(asked)
        torch.testing.assert_close(logits[b], each[b, :asked].mean(dim=0), rtol=1e-4, atol=1e-4)
    assert len(numbers) > 1
    ours = whole.record().fold().logits(lifted.numpy())
    np.testing.assert_allclose(ours, logits, rtol=1e-3, atol=1e-3)


def test_linear_experts_behind_routers_hold_any_classifier():
    whole = routed(network(cosine=False), None)
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(3, 147)), rng.normal(size=3)
    wanted = Classifier(weight.astype(np.float32), bias.astype(np.float32))
    values = {name: torch.from_numpy(np.array(v)) for name, v in whole.hold(wanted).items()}
    whole.load_state_dict(whole.state_dict() | values)
    images = torch.randn(30, 3, 8, 8)
    with torch.no_grad():
        lifted, logits = whole.features_and_logits(images)
    np.testing.assert_allclose(wanted.logits(lifted.numpy()), logits, rtol=1e-3, atol=1e-3)


def test_cosine_experts_behind_routers_hold_directions():
    whole = routed(network(), None)
    own = whole.record().fold()
    values = whole.hold(own)
    assert values.keys() == {f"head.experts.{i}.weight" for i in range(3)}
    longer = Classifier(own.weight * np.float32([[1], [1], [2]]), own.bias)
    with pytest.raises(InputError, match="behind a router cosine experts hold rows of one length"):
        whole.hold(longer)


def test_routers_learn_who_helps():
    """The first expert is always wrong where its largest logit is small; the second is right."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (400,), generator=generator)
    right = torch.nn.functional.one_hot(labels, 3).float()
    needy = torch.rand(400, generator=generator) < 0.3
    first = torch.where(needy[:, None], right.roll(1, dims=1), 8 * right)
    z = torch.stack([first, 5 * right, 5 * right], dim=1)
    router = built("router", COUNTS, positive=1.0, hidden=4)
    net = network()
    router.attach(net)
    optimizer = torch.optim.Adam(router.parameters(), 0.05)
    features = torch.randn(400, 144, generator=generator)
    for _ in range(200):
        optimizer.zero_grad()
        value = router.of_scores(router.routers(features, z), z, labels)
        value.backward()
        optimizer.step()
    asks = router.routers(features, z)[:, 0] > 0
    assert (asks == needy).float().mean() > 0.97


def test_the_network_is_held_and_the_routers_are_kept(pictures, trained, tmp_path):
    output = tmp_path / "net.pt"
    held(pictures, trained, output)
    before, after = weights(trained), weights(output)
    kept = [k for k in before if k.startswith("backbone.") and not k.endswith("_tracked")]
    assert all(torch.equal(before[k], after[k]) for k in kept)
    found = attributes(output)
    assert {k: tuple(v.shape) for k, v in found.items() if k.endswith("weight")} == {
        "router.routers.hidden.0.weight": (5, 48), "router.routers.hidden.1.weight": (5, 48),
        "router.routers.shared.weight": (1, 8),
    }  # fmt: skip
    assert all(1 <= line["watched"]["experts asked"] <= 3 for line in log(output))


def test_the_logs_accuracy_is_of_the_routed_network(pictures, trained, tmp_path):
    output = tmp_path / "net.pt"
    held(pictures, trained, output)
    plain, whole = (checkpoints.load(output, LoadSettings(head=name)) for name in (None, "router"))
    assert any("--head router asks as many as an image needs" in note for note in plain.notes)
    val = pictures.split("val")
    images = (torch.from_numpy(val.images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.no_grad():
        predicted = whole.network.eval()(images).argmax(dim=1).numpy()
    by_class = [np.mean(predicted[val.labels == c] == c) for c in range(3)]
    assert log(output)[-1]["val"]["balanced"] == pytest.approx(np.mean(by_class), abs=1e-6)


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(pictures, trained, tmp_path):
    whole = tmp_path / "whole.pt"
    held(pictures, trained, whole)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            held(pictures, trained, output, report=lambda path, at=epoch: stop_after(at))
        held(pictures, trained, output, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def test_routers_that_are_damaged(pictures, trained, tmp_path):
    output = tmp_path / "net.pt"
    held(pictures, trained, output)
    content = torch.load(output, weights_only=True)
    said = "router: found layers of 5 units and {} inputs, expected 1 to 3 more inputs than units"
    for seen in (5, 9):
        wrong = content["attributes"] | {"router.routers.shared.weight": torch.ones(1, seen)}
        torch.save(content | {"attributes": wrong}, output)
        with pytest.raises(FormatError, match=said.format(seen)):
            checkpoints.load(output, LoadSettings(head="router"))
    wrong = dict(content["attributes"])
    del wrong["router.routers.hidden.1.bias"]
    torch.save(content | {"attributes": wrong}, output)
    with pytest.raises(FormatError, match=r"head\.routers\.hidden\.1\.bias"):
        checkpoints.load(output, LoadSettings(head="router"))


def test_networks_that_are_refused(pictures, trained, tmp_path):
    single, output = tmp_path / "single.pt", tmp_path / "o.pt"
    train(pictures, TrainPlan("ce", cosine=True), single, replace(RUN, epochs=1), arch="resnet8")
    message = "experts: found a network of one, after which nobody can be asked"
    refused(lambda: held(pictures, single, output, arch="resnet8"), message)
    refused(lambda: train(pictures, PLAN, output), "keep_head: absent; router needs a trained")


@pytest.mark.parametrize(("name", "value"), [("top", 0), ("hidden", 0), ("positive", -1)])
def test_parameters_out_of_range(name, value):
    refused(lambda: built("router", COUNTS, **{name: value}), f"{name}: found {value}, expected a")
