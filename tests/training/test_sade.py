"""SADE and the weights of its experts: formulas again in NumPy, limits, runs, refusals."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import built, logsum
from experts import ARCH, COUNTS, RUN, batch, network, pictures, train
from made import refused
from trained import Stop, log, same, stop_after, weights

from ltkit import architectures, checkpoints
from ltkit.losses import balanced_softmax, ce
from ltkit.settings import LoadSettings, TrainPlan
from ltkit.training.methods import Seen

pytestmark = pytest.mark.usefixtures("one_thread")

HELD = TrainPlan("expert-weights", cosine=True)


@pytest.fixture(scope="module", name="pictures")
def _pictures():
    return pictures()


@pytest.fixture(scope="module")
def trained(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("sade") / "sade.pt"
    train(pictures, TrainPlan("sade"), path, replace(RUN, epochs=6))
    return path


def naive(z, labels, counts, tau):
    """Image by image, with the inverse prior looked up by rank."""
    prior = [n / sum(counts) for n in counts]
    ranked = sorted(range(len(prior)), key=lambda c: prior[c])
    inverse = {c: prior[ranked[len(ranked) - 1 - rank]] for rank, c in enumerate(ranked)}
    total = 0.0
    for i, y in enumerate(labels):
        second = [z[i, 1, c] + math.log(prior[c]) for c in range(len(prior))]
        third = [
            z[i, 2, c] + math.log(prior[c]) - tau * math.log(inverse[c]) for c in range(len(prior))
        ]
        total += sum(logsum(x) - x[y] for x in (z[i, 0], second, third))
    return total / len(labels)


@pytest.mark.parametrize("counts", [COUNTS, [4, 40, 12], [7, 7, 7], [5, 900, 5]])
@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_it_is_its_formula(counts, tau):
    rng = np.random.default_rng(0)
    z, labels = 2 * rng.normal(size=(5, 3, 3)), [0, 2, 1, 0, 0]
    leaf = torch.tensor(z, requires_grad=True)
    value = built("sade", counts, tau=tau).of_experts(leaf, torch.tensor(labels))
    assert value.item() == pytest.approx(naive(z, labels, counts, tau), rel=1e-9)
    value.backward()
    assert leaf.grad.isfinite().all()


@pytest.mark.parametrize(
    ("expert", "name", "expected"),
    [(0, "softmax", ce.loss), (1, "balanced", balanced_softmax.loss)],
)
def test_one_expert_alone_is_its_loss_bit_for_bit(expert, name, expected):
    net = network().double()
    seen = batch(net)
    sade = built(
        "sade", COUNTS, **{k: float(k == name) for k in ("softmax", "balanced", "inverse")}
    )
    sade.attach(net)
    value = sade.of_batch(seen)
    part = net.backbone(seen.views[0]).chunk(3, dim=1)[expert]
    other = expected(net.head.experts[expert](part), seen.labels, torch.tensor(COUNTS))
    assert value.dtype == torch.float64
    assert torch.equal(value, other)
    parameters = [*net.parameters()]
    found, wanted = (
        torch.autograd.grad(v, parameters, retain_graph=True, allow_unused=True)
        for v in (value, other)
    )
    for one, two, like in zip(found, wanted, parameters, strict=True):
        assert torch.equal(*(torch.zeros_like(like) if x is None else x for x in (one, two)))


def single(state, expert):
    """The tensors of one expert as a network of its own."""
    found = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[1] in ("layer2s", "layer3s") or parts[1] == "experts":
            if parts[2] != str(expert):
                continue
            kept = [parts[0], *([] if parts[1] == "experts" else [parts[1].removesuffix("s")])]
            parts = [*kept, *parts[3:]]
        found[".".join(parts)] = value
    return found


def test_a_run_of_the_second_expert_alone_is_balanced_softmax(pictures, tmp_path):
    """The network of that expert, from the same weights, in the same steps."""
    many, one = tmp_path / "many.pt", tmp_path / "one.pt"
    settings = replace(RUN, epochs=2)
    start = network("resnet8_3experts")
    torch.save(start.state_dict(), tmp_path / "start.pt")
    torch.save(single(start.state_dict(), 1), tmp_path / "single.pt")
    alone = {"softmax": 0, "inverse": 0}
    more = {"arch": "resnet8_3experts", "init": tmp_path / "many-start.pt", "keep_head": True}
    for arch, name, given in (("resnet8_3experts", "many", start.state_dict()),
                              ("resnet8", "one", single(start.state_dict(), 1))):  # fmt: skip
        train(pictures, TrainPlan("ce", cosine=True), tmp_path / f"{name}-start.pt",
              replace(RUN, epochs=1), arch=arch)  # fmt: skip
        content = torch.load(tmp_path / f"{name}-start.pt", weights_only=True)
        assert content["state_dict"].keys() == given.keys()
        torch.save(content | {"state_dict": given}, tmp_path / f"{name}-start.pt")
    train(pictures, TrainPlan("sade", alone), many, settings, **more)
    more |= {"arch": "resnet8", "init": tmp_path / "one-start.pt"}
    train(pictures, TrainPlan("balanced-softmax", cosine=True), one, settings, **more)
    found, expected = single(weights(many), 1), weights(one)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6)
    assert not same(weights(one), single(start.state_dict(), 1))


def test_with_tau_0_two_experts_are_the_same_and_with_1_of_equal_counts_all_three():
    z, labels = torch.randn(6, 1, 3).expand(6, 3, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    names = ("softmax", "balanced", "inverse")

    def each(counts, **more):
        return [
            built("sade", counts, **{n: float(n == name) for n in names}, **more)
            .of_experts(z, labels)
            .item()
            for name in names
        ]

    _, second, third = each(COUNTS, tau=0.0)
    assert second == pytest.approx(third, rel=1e-6)
    assert each([9, 9, 9]) == pytest.approx([each([9, 9, 9])[0]] * 3, rel=1e-6)


def test_a_run_that_was_stopped_anywhere_ends_as_if_it_had_not_been(pictures, tmp_path):
    whole = tmp_path / "whole.pt"
    train(pictures, TrainPlan("sade"), whole)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(pictures, TrainPlan("sade"), output, report=lambda path, at=epoch: stop_after(at))
        train(pictures, TrainPlan("sade"), output, resume=True)
        assert output.read_bytes() == whole.read_bytes()
        assert log(output) == log(whole)


def test_networks_that_are_refused(pictures, tmp_path):
    for arch, found in (("resnet8", 1), ("resnet8_4experts", 4)):
        message = f"experts: found a network of {found}, expected 3, one for each of SADE's losses"
        path = tmp_path / "o.pt"
        refused(lambda: train(pictures, TrainPlan("sade"), path, arch=arch), message)  # noqa: B023


@pytest.mark.parametrize("name", ["tau", "softmax", "balanced", "inverse", "scale"])
def test_parameters_out_of_range(name):
    refused(lambda: built("sade", COUNTS, **{name: -0.5}), f"{name}: found -0.5, expected a finite")


def test_no_loss_at_all():
    none = dict.fromkeys(("softmax", "balanced", "inverse"), 0.0)
    refused(lambda: built("sade", COUNTS, **none), "softmax: found 0, as the others are, too")


def test_a_class_without_images():
    refused(lambda: built("sade", [5, 0]), "class 1: found no training image")


# ------------------------------------------------------------------ weights of the experts


def attributes(path):
    return torch.load(path, weights_only=True)["attributes"]


def held(pictures, trained, output, plan=HELD, epochs=3, **more):
    settings = replace(RUN, epochs=epochs, learning_rate=0.1, nesterov=True)
    return train(pictures, plan, output, settings, init=trained, keep_head=True, **more)


def test_stability_is_its_formula():
    rng = np.random.default_rng(0)
    one, two = 2 * rng.normal(size=(2, 5, 3, 4))
    w, total = [0.5, 0.2, 0.3], 0.0
    for a, b in zip(one, two, strict=True):
        p, q = (np.exp(x - logsum(x)) for x in (sum(w[i] * z[i] for i in range(3)) for z in (a, b)))
        total += p @ q / math.sqrt(p @ p) / math.sqrt(q @ q)
    method = built("expert-weights", COUNTS)
    value = method.stability(torch.tensor(one), torch.tensor(two), torch.tensor(w))
    assert value.item() == pytest.approx(total / 5, rel=1e-6)


def test_the_expert_that_wavers_loses_its_weight():
    """Two are the same in both views; what the third says of a view is noise."""
    generator = torch.Generator().manual_seed(0)
    sure = 3 * torch.randn(200, 4, generator=generator)

    def logits(images):
        noise = 6 * torch.randn(len(images), 4, generator=generator)
        return None, torch.stack([sure.repeat(2, 1), sure.repeat(2, 1), noise], dim=1)

    method = built("expert-weights", COUNTS, least=0.0)
    net = network(classes=4)
    method.attach(net)
    optimizer = torch.optim.SGD([method.logits], 1.0, momentum=0.9)
    images = torch.zeros(200, 1)
    for _ in range(60):
        optimizer.zero_grad()
        seen = Seen((images, images), torch.zeros(200).long(), net, logits, "off")
        method.of_batch(seen).backward()
        optimizer.step()
    method.after_epoch()
    assert method.chosen[2] < 0.1
    assert method.chosen[0].item() == pytest.approx(method.chosen[1].item(), abs=1e-3)
    assert method.chosen.sum().item() == pytest.approx(1)


def test_weights_stay_when_one_is_small():
    method = built("expert-weights", COUNTS, least=0.2)
    method.attach(network())
    for first, chosen in ((0.5, True), (3.0, True), (0.0, False)):
        method.logits.data[0] = first
        expected = method.logits.detach().softmax(dim=0) if chosen else method.chosen.clone()
        method.after_epoch()
        torch.testing.assert_close(method.chosen, expected)
    assert method.chosen.min() < 0.2


def test_the_network_is_held_and_its_weights_are_found(pictures, trained, tmp_path):
    output = tmp_path / "net.pt"
    notes = held(pictures, trained, output)
    said = "note: expert-weights learns from the 20 images of test, without their labels"
    assert said in notes
    before, after = weights(trained), weights(output)
    kept = [k for k in before if k.startswith("backbone.") and not k.endswith("_tracked")]
    assert all(torch.equal(before[k], after[k]) for k in kept)
    found = attributes(output)["weighted.weights"]
    assert found.sum().item() == pytest.approx(1)
    assert found.max() > found.min()
    assert log(output)[-1]["watched"] == {f"expert {i}": float(w) for i, w in enumerate(found)}


def test_labels_serve_for_nothing(pictures, trained, tmp_path):
    turned = replace(pictures.split("test"), labels=(pictures.split("test").labels + 1) % 3)
    other = replace(pictures, splits={**pictures.splits, "test": turned})
    for name, data in (("a", pictures), ("b", other)):
        held(data, trained, tmp_path / f"{name}.pt")
    a, b = (attributes(tmp_path / f"{name}.pt") for name in "ab")
    assert same(a, b)


def test_held_weights_that_were_stopped(pictures, trained, tmp_path):
    whole = tmp_path / "whole.pt"
    held(pictures, trained, whole)
    for epoch in (1, 2, 3):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            held(pictures, trained, output, report=lambda path, at=epoch: stop_after(at))
        held(pictures, trained, output, resume=True)
        assert output.read_bytes() == whole.read_bytes()


def test_the_weighted_head_is_the_weighted_sum(pictures, trained, tmp_path):
    output = tmp_path / "net.pt"
    held(pictures, trained, output)
    plain, whole = (
        checkpoints.load(output, LoadSettings(head=name)) for name in (None, "weighted")
    )
    assert any("--head weighted takes the learned weights" in note for note in plain.notes)
    images = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        features, logits = whole.network.eval().features_and_logits(images)
        each = torch.stack(plain.network.eval().head.each(features))
    w = attributes(output)["weighted.weights"]
    torch.testing.assert_close(logits, sum(w[i] * each[i] for i in range(3)), rtol=1e-4, atol=1e-4)
    ours = whole.head.fold().logits(features.numpy())
    np.testing.assert_allclose(ours, logits, rtol=1e-3, atol=1e-3)


def test_heads_that_are_not_in_the_file(pictures, trained):
    for name in ("weighted", "meta", "linear"):
        message = f"head {name}: not in the file; leave it out"
        refused(lambda: checkpoints.load(trained, LoadSettings(head=name)), message)  # noqa: B023


def test_weights_of_what_has_none(pictures, trained, tmp_path):
    single, output = tmp_path / "single.pt", tmp_path / "o.pt"
    train(pictures, TrainPlan("ce", cosine=True), single, replace(RUN, epochs=1), arch="resnet8")
    message = "experts: found a network of one, which has nothing to weigh"
    refused(lambda: held(pictures, single, output, arch="resnet8"), message)
    refused(lambda: train(pictures, HELD, output), "keep_head: absent; expert-weights needs")
    plan = replace(HELD, parameters={"split": "tset"})
    refused(lambda: held(pictures, trained, output, plan), "no split tset; there are: train, val")
    message = "keep_head: found a cosine head, expected a linear one; cosine makes it one"
    refused(lambda: held(pictures, trained, output, TrainPlan("expert-weights")), message)
    linear = tmp_path / "linear.pt"
    train(pictures, TrainPlan("ce"), linear, replace(RUN, epochs=1))
    message = "keep_head: found a linear head, expected a cosine one; leave cosine out"
    refused(lambda: held(pictures, linear, output), message)
    message = "least: found 2"
    refused(lambda: built("expert-weights", COUNTS, least=2), message)
    message = "second_view: found 'simcrl', unknown"
    refused(lambda: built("expert-weights", COUNTS, second_view="simcrl"), message)


def test_an_architecture_of_experts_has_its_own_names():
    state = single(network("resnet8_3experts").state_dict(), 2)
    assert state.keys() == architectures.build("resnet8", 3, cosine=True).state_dict().keys()
    assert architectures.spec(ARCH).experts == 3
