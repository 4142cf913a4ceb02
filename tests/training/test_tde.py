"""TDE: its formulas again in loops, its limits, and the mean that comes with the checkpoint."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from torch.nn import functional
from trained import Stop, dataset_of, fit, log, same, stop_after

from ltkit import architectures, checkpoints, posthoc
from ltkit.architectures.heads import CausalHead
from ltkit.errors import LtkitError
from ltkit.files import features as features_file
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.posthoc import tde as corrected
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Present
from ltkit.settings import TrainPlan
from ltkit.training import runs
from ltkit.training.methods import Seen, tde

pytestmark = pytest.mark.usefixtures("one_thread")

C, D = 3, 4
PLAN = TrainPlan("tde")


def naive(f, w, mean, heads, tau, gamma, alpha):
    """Sample by sample, class by class, part by part."""
    size, found = f.shape[1] // heads, np.zeros((len(f), len(w)))
    for i, c in np.ndindex(found.shape):
        for k in range(heads):
            x, row, e = (v[k * size : (k + 1) * size].tolist() for v in (f[i], w[c], mean))
            lengths = [math.sqrt(sum(v * v for v in vector)) for vector in (x, row, e)]
            near = sum(a * b for a, b in zip(x, row, strict=True)) / lengths[0]
            part = 0.0
            if lengths[2]:
                cosine = sum(a * b for a, b in zip(x, e, strict=True)) / lengths[0] / lengths[2]
                part = cosine * sum(a * b for a, b in zip(row, e, strict=True)) / lengths[2]
            found[i, c] += (near - alpha * part) / (lengths[1] + gamma)
    return tau / heads * found


def head_of(heads=2, tau=16.0, gamma=1 / 32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = CausalHead(D, C, heads=heads, tau=tau, gamma=gamma, alpha=0.0).double()
    head.weight.data = torch.randn(C, D, generator=generator, dtype=torch.float64)
    return head


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
def test_the_corrected_head_is_the_formula_of_the_total_direct_effect(heads, alpha):
    """Alpha 0 is the de-confounded head, bit for bit."""
    rng = np.random.default_rng(heads)
    f, mean = 3 * rng.normal(size=(6, D)), rng.normal(size=D)
    head = head_of(heads, tau=5.0, gamma=0.1)
    base = head.record().fold()
    found = corrected.fit(base, None, None, mean, alpha=alpha)
    expected = naive(f, head.weight.detach().numpy(), mean, heads, 5.0, 0.1, alpha)
    np.testing.assert_allclose(found.logits(f), expected, rtol=1e-4, atol=1e-5)
    if alpha == 0:
        np.testing.assert_array_equal(found.weight, base.weight)
    own = CausalHead(D, C, heads=heads, tau=5.0, gamma=0.1, alpha=alpha).double()
    own.weight.data, own.embed = head.weight.data, torch.tensor(mean)
    np.testing.assert_allclose(found.logits(f), own(torch.tensor(f)).detach(), rtol=1e-4, atol=1e-5)


def test_at_alpha_1_nothing_lies_along_the_mean():
    mean = np.random.default_rng(0).normal(size=D)
    found = corrected.fit(head_of().record().fold(), None, None, mean, alpha=1.0)
    along = found.weight.reshape(C, 2, -1) * mean.reshape(2, -1)
    np.testing.assert_allclose(along.sum(axis=2), 0, atol=1e-5)
    longer = corrected.fit(head_of().record().fold(), None, None, 7 * mean, alpha=1.0)
    np.testing.assert_allclose(longer.weight, found.weight, atol=1e-6)  # its direction counts


def test_without_a_moving_mean_it_is_that_of_the_train_split():
    rng = np.random.default_rng(1)
    train = FeatureSplit(rng.normal(size=(50, D)).astype(np.float16), np.zeros(50, np.int64))
    base = head_of().record().fold()
    mean = train.features.astype(np.float64).mean(axis=0)
    found, expected = corrected.fit(base, train, None), corrected.fit(base, None, None, mean)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-6)
    empty = FeatureSplit(np.zeros((0, D), np.float32), np.zeros(0, np.int64))
    for split in (None, empty):
        refused(lambda split=split: corrected.fit(base, split, None), "no mean of the training")


def network_of(method, seed=0):
    torch.manual_seed(seed)
    network = architectures.build("digits_net", C)
    method.attach(network)
    return network


@pytest.mark.parametrize("heads", [1, 2, 8])
def test_training_is_cross_entropy_of_the_formula(heads):
    method = built("tde", [9, 5, 2], heads=heads, tau=4.0, gamma=0.2, mu=0.5)
    network = network_of(method)
    images, labels = torch.randn(2, 5, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1])
    expected = torch.zeros(64)
    for batch in images:
        features = network.backbone(batch)
        seen = Seen((batch,), labels, network, network.features_and_logits, "off")
        value = method.of_batch(seen)
        w, f = network.head.weight.detach().double().numpy(), features.detach().double().numpy()
        z = torch.from_numpy(naive(f, w, np.zeros(64), heads, 4.0, 0.2, 0.0))
        assert value.item() == pytest.approx(functional.cross_entropy(z, labels).item(), rel=1e-5)
        expected = 0.5 * expected + features.detach().mean(dim=0)
        torch.testing.assert_close(method.embed, expected)
    assert not method.embed.requires_grad


def test_one_head_without_gamma_is_a_cosine_head():
    method = built("tde", [9, 5, 2], heads=1, tau=7.0, gamma=0.0)
    network = network_of(method)
    cosine = architectures.build("digits_net", C, cosine=True, scale=7.0)
    cosine.backbone.load_state_dict(network.backbone.state_dict())
    cosine.head.weight.data = network.head.weight.data
    images = torch.randn(5, 1, 8, 8)
    torch.testing.assert_close(network.eval()(images), cosine.eval()(images))


# Runs


def train(digits, output, settings=RUN, plan=PLAN, **more):
    runs.train_networks(digits, plan, settings, output, arch="digits_net", **more)
    return torch.load(output, weights_only=True)


def test_the_mean_survives_a_stop(digits, tmp_path):
    whole = train(digits, tmp_path / "whole.pt")
    assert {*whole["attributes"]} == {"causal.mean", "causal.constants"}
    assert {key.partition(".")[0] for key in whole["state_dict"]} == {"backbone", "head"}
    assert "head.bias" not in whole["state_dict"]
    for epoch in (1, 2, 3):  # after the last, too
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            train(digits, output, report=lambda path, at=epoch: stop_after(at))
        train(digits, output, resume=True)
        assert output.read_bytes() == (tmp_path / "whole.pt").read_bytes()


def test_the_checkpoint_is_read_with_its_head(digits, tmp_path):
    content = train(digits, tmp_path / "o.pt", plan=TrainPlan("tde", {"heads": 4, "tau": 9.0}))
    found = checkpoints.load(tmp_path / "o.pt")
    assert found.head.weight.shape == (4, 10, 16)
    assert (found.head.scale, found.head.normalize) == (9.0, "features")
    assert found.notes == (
        "causal head: de-confounded, 4 parts, tau 9, gamma 0.03125; posthoc tde takes the mean "
        "feature's direction off",
    )
    assert torch.equal(found.moving_mean, content["attributes"]["causal.mean"])
    assert log(tmp_path / "o.pt")[-1]["val"]["balanced"] > 0.3


@pytest.mark.parametrize(
    "changed",
    [
        {"causal.mean": torch.ones(3)}, {"causal.mean": torch.ones(64, 1)},
        {"causal.constants": torch.tensor([3.0, 16.0, 0.1])},
        {"causal.constants": torch.tensor([0.0, 16.0, 0.1])},
        {"causal.constants": torch.tensor([2.0, -1.0, 0.1])},
        {"causal.constants": torch.tensor([2.0, 16.0, -0.1])},
        {"causal.constants": torch.tensor([2.0, 16.0])},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_checkpoint(tmp_path, changed):
    content = train(dataset_of([9, 9]), tmp_path / "o.pt", replace(RUN, epochs=1))
    torch.save(content | {"attributes": content["attributes"] | changed}, tmp_path / "bad.pt")
    with pytest.raises(LtkitError, match="attributes: causal: found a mean of") as said:
        checkpoints.load(tmp_path / "bad.pt")
    assert len(str(said.value)) <= 300


def test_a_head_that_is_asked_for_beside_its_own(digits, tmp_path):
    plan, output = TrainPlan("tde", cosine=True), tmp_path / "o.pt"
    refused(lambda: train(digits, output, plan=plan), "cosine: tde has a head of its own")
    fit(digits, tmp_path / "ce.pt", replace(RUN, epochs=1))
    start = {"init": tmp_path / "ce.pt"}
    message = "keep_head: tde has a head of its own; leave it out"
    refused(lambda: train(digits, output, keep_head=True, **start), message)
    train(digits, output, replace(RUN, epochs=1), **start)  # the backbone alone
    plan = TrainPlan("tde", {"heads": 5})
    message = "parameters heads: found 5, expected a divisor of 64, the size of the features"
    refused(lambda: train(digits, output, plan=plan, overwrite=True), message)


@pytest.mark.parametrize(
    ("parameter", "value"), [("heads", 0), ("tau", 0.0), ("gamma", -1.0), ("mu", 1.0)]
)
def test_parameters_out_of_range(parameter, value):
    refused(lambda: tde.loss(torch.tensor([5, 5]), **{parameter: value}), f"{parameter}: found ")


def test_a_second_stage_goes_on_with_its_head(digits, tmp_path):
    """As balanced softmax on the same cosines; the mean is that of the first stage."""
    plan = TrainPlan("tde", from_epoch=2, then="balanced-softmax")
    first = train(digits, tmp_path / "a.pt", replace(RUN, epochs=2, steps=()))
    both = train(digits, tmp_path / "b.pt", replace(RUN, steps=()), plan)
    assert same(both["attributes"], first["attributes"])
    assert checkpoints.load(tmp_path / "b.pt").head.normalize == "features"


# The features file


def written(path, mean, head=True):
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(30, D)).astype(np.float32), np.arange(30) % C
    plan = Plan(
        D, "float32", {name: SplitPlan(labels, None) for name in ("train", "val")},
        ClassTable(np.full(C, 10)), head_of().record() if head else None, settings={}, inputs={},
        moving_mean=mean,
    )  # fmt: skip
    with FeaturesWriter(path, plan, command="made", resume=False) as writer:
        for name in plan.splits:
            writer.append(name, rows)
        writer.finish()
    return path


def test_a_file_has_the_mean_and_the_correction_takes_it(tmp_path):
    mean = np.float32([1, 2, 3, 4])
    found = features_file.read(written(tmp_path / "a.h5", mean))
    np.testing.assert_array_equal(found.moving_mean, mean)
    fitted = posthoc.fit_features(found, posthoc.plan("tde", {"alpha": 2.0}))
    expected = corrected.fit(found.classifier(), None, None, mean, alpha=2.0)
    np.testing.assert_array_equal(fitted.correction.weight[0], expected.weight)
    assert not fitted.notes
    without = features_file.read(written(tmp_path / "b.h5", None))
    assert without.moving_mean is None
    fitted = posthoc.fit_features(without, posthoc.plan("tde", {"alpha": 2.0}))
    assert fitted.notes == (
        "no moving mean of the features in the file: the mean of its train split is taken",
    )
    assert without.digest != found.digest


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        (np.ones(3, np.float32), "head/moving_mean: found float32 (3,), expected floats (4)"),
        (np.float32([1, np.nan, 0, 0]), "head/moving_mean: found NaN or infinity"),
    ],
)
def test_a_mean_that_is_none(tmp_path, mean, message):
    path = written(tmp_path / "a.h5", mean)
    refused(lambda: features_file.read(path), message)


def test_classes_without_images_are_corrected_too():
    """Nothing of a class but its row is needed."""
    rng = np.random.default_rng(0)
    split = FeatureSplit(rng.normal(size=(20, D)).astype(np.float32), np.arange(20) % 2)
    made = FeatureSet(
        {"train": split, "val": split}, ClassTable(np.array([10, 10, 0])), head_of().record(),
        moving_mean=np.float32([1, 0, 2, 0]),
    )  # fmt: skip
    fitted = posthoc.fit_features(made, posthoc.plan("tde", {"alpha": 2.0}))
    assert (fitted.correction.weight[0] != made.classifier().weight).any(axis=1).all()
    assert Present.of(made).features(made).moving_mean is made.moving_mean


def test_trained_extracted_corrected_exported(ltkit, folder):
    words = ["--data", "digits_lt", "--epochs", "6", "--batch-size", "64", "--device", "cpu"]
    code, _, said = ltkit("train", "tde", *words, "-o", "net.pt", "-q")
    assert code == 0, said
    for command in (
        "extract net.pt --data digits_lt -o f.h5 --device cpu",
        "posthoc tde f.h5 -o t.h5",
        "posthoc tde f.h5 --set alpha=0 -o zero.h5",
        "posthoc tde f.h5 --sweep -o sweep.h5",
        "evaluate f.h5 --classifier t.h5",
        "validate f.h5",
        "alphanet fit f.h5 --k 2 --epochs 1 --bins 20,60 --device cpu -o alpha.h5",
        "posthoc tde f.h5 --set alpha=0.5 -o half.h5",
        "export half.h5 --into net.pt -o half.pt",
        "extract half.pt --data digits_lt -o half_f.h5 --device cpu",
    ):
        code, _, said = ltkit(*command.split())
        assert code == 0, f"{command}: {said}"
    found, half = (features_file.read(Path(name)) for name in ("f.h5", "half_f.h5"))
    mean = torch.load("net.pt", weights_only=True)["attributes"]["causal.mean"].numpy()
    np.testing.assert_array_equal(found.moving_mean, mean)
    trained = found.split("train").features[:].mean(axis=0)
    cosine = mean @ trained / np.linalg.norm(mean) / np.linalg.norm(trained)
    assert cosine > 0.9  # the last batches' features, and those of the network as it ended
    expected = corrected.fit(found.classifier(), None, None, mean, alpha=0.5)
    np.testing.assert_allclose(half.classifier().weight, expected.weight, rtol=1e-3, atol=1e-4)
    code, _, said = ltkit("extract", "net.pt", "--data", "digits_lt", "--no-head", "-o", "n.h5")
    assert features_file.read(Path("n.h5")).moving_mean is None
