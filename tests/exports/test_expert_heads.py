"""Networks of several experts, from training to a corrected checkpoint."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made import refused

from ltkit import checkpoints, evaluation
from ltkit.architectures.expert_heads import WeightedExperts
from ltkit.architectures.network import make_head
from ltkit.exports.checkpoint import export_into
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.records import (
    NEVER,
    Classifier,
    ClassTable,
    Correction,
    Dataset,
    Head,
    ImageSplit,
)
from ltkit.settings import ExtractSettings, TrainPlan, TrainSettings
from ltkit.sources import extraction
from ltkit.training import runs

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [120, 60, 40, 24, 10, 6]
PLANS = {
    "ride": TrainPlan("ride", drw=2), "sade": TrainPlan("sade"),
    "linear": TrainPlan("balanced-softmax"),
}  # fmt: skip
"""Two of cosine experts, and one of linear ones."""


def dataset():
    """Pictures of 8x8 with a colour of their class, and noise."""
    rng, splits = np.random.default_rng(0), {}
    colours = rng.integers(60, 200, (6, 1, 1, 3))
    for name, sizes in (("train", COUNTS), ("val", [12] * 6), ("test", [15] * 6)):
        labels = np.repeat(np.arange(6), sizes)
        noise = rng.normal(scale=35, size=(len(labels), 8, 8, 3))
        images = (colours[labels] + noise).clip(0, 255).astype(np.uint8)
        splits[name] = ImageSplit(images, labels, np.arange(len(labels)).astype(str))
    table = ClassTable(np.array(COUNTS))
    half = (0.5,) * 3
    return Dataset(splits, table, half, half, 1, False, {"spec": "made up"})


def extract(checkpoint, output):
    model = checkpoints.load(checkpoint)
    extraction.extract(model, dataset(), ("train", "val", "test"), output, ExtractSettings())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Each network, and its features."""
    folder = tmp_path_factory.mktemp("experts")
    settings = TrainSettings(epochs=4, batch_size=32, warmup_epochs=0, weight_decay=5e-4)
    for name, plan in PLANS.items():
        path = folder / f"{name}.pt"
        arch = "resnet8_3experts_reduced"
        runs.train_networks(dataset(), plan, settings, path, arch=arch)
        extract(path, folder / f"{name}.h5")
    return folder


@pytest.fixture
def folder(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for path in trained.iterdir():
        Path(path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize("name", PLANS)
def test_features_are_those_of_all_experts(trained, name):
    found = features_file.read(trained / f"{name}.h5")
    cosine = name != "linear"
    assert (found.head.experts, found.head.feature_size) == (3, 144)
    assert found.head.normalize == ("cosine" if cosine else "none")
    assert found.head.scale == (30 if cosine else 1)
    model = checkpoints.load(trained / f"{name}.pt")
    pixels = dataset().split("test").images
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        each = model.network.eval().head.each(model.network.backbone((images - 0.5) / 0.5))
    ours = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(ours, torch.stack(each).mean(dim=0), rtol=1e-3, atol=1e-3)


def test_each_experts_features_are_normalised_on_their_own(trained):
    found = features_file.read(trained / "ride.h5")
    prepared = found.classifier().prepare(found.split("val").features[:])
    lengths = np.linalg.norm(prepared.reshape(len(prepared), 3, 48), axis=2)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def say(ltkit, words, code=0):
    found, output, said = ltkit(*shlex.split(words))
    assert found == code, said
    return output + said


@pytest.mark.parametrize("name", PLANS)
def test_alphanet_corrects_the_experts_and_they_go_back(folder, ltkit, name):
    """Rare rows are sums over the experts' neighbours; base rows, and other tensors, stay."""
    fit = f"alphanet fit {name}.h5 --k 2 --epochs 5 --rho 1 --seeds 1 --device cpu -o a.h5"
    say(ltkit, fit)
    assert "alphanet" in say(ltkit, f"evaluate {name}.h5 --classifier a.h5")
    features = features_file.read(Path(f"{name}.h5"))
    correction, base = classifiers.read(Path("a.h5"))[0], features.classifier()
    few, near = correction.class_id, correction.extra["neighbor"][0]
    assert few.tolist() == [4, 5]
    rows = base.weight[few] + np.einsum(
        "fk,fkd->fd", correction.extra["alpha"][0], base.weight[near]
    )
    np.testing.assert_allclose(correction.weight[0], rows, rtol=1e-4, atol=1e-5)
    export = f"export a.h5 --into {name}.pt -o fixed.pt"
    if name == "linear":
        say(ltkit, export)
        corrected = features.corrected(correction, 0)
    else:
        said = say(ltkit, export, code=2)
        assert "holds rows of one length and no bias, the corrected rows have lengths " in said
        assert not Path("fixed.pt").exists()
        said = say(ltkit, f"{export} --directions")
        assert "times the head's length, which is lost: " in said
        corrected = features.head.directions(features.corrected(correction, 0))
    extract(Path("fixed.pt"), Path("again.h5"))
    again = features_file.read(Path("again.h5"))
    np.testing.assert_allclose(again.classifier().weight, corrected.weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(
        again.split("test").features[:], features.split("test").features[:]
    )
    old, new = (torch.load(p, weights_only=True)["state_dict"] for p in (f"{name}.pt", "fixed.pt"))
    changed = {key for key in old if not torch.equal(old[key], new[key])}
    assert changed <= {f"head.experts.{i}.{part}" for i in range(3) for part in ("weight", "bias")}


def test_what_is_said_of_the_lost_lengths_is_so(folder, ltkit):
    features = features_file.read(Path("ride.h5"))
    base, digest = features.classifier(), checkpoints.load(Path("ride.pt")).digest
    longer = base.weight * np.float32([1, 1, 1, 1, 2, 3])[:, None]
    made = Correction.whole("made", Classifier(longer, base.bias, True, 3))
    classifiers.write(Path("m.h5"), made, settings={}, inputs=features.inputs, command="")
    written = export_into(Path("ride.pt"), made, 0, Path("o.pt"), made_from=digest, directions=True)
    np.testing.assert_allclose(written.weight, base.weight, rtol=1e-4, atol=1e-6)
    said = say(ltkit, "export m.h5 --into ride.pt --directions --split val -o p.pt")
    test = features.split("val")
    wanted, found = (c.logits(test.features[:]).argmax(axis=1)
                     for c in (Classifier(longer, base.bias, True, 3), written))  # fmt: skip
    share = f"{100 * np.mean(wanted != found):.2f} % of the predictions on val change"
    by_class = [
        [100 * np.mean(p[test.labels == c] == c) for c in range(6)] for p in (wanted, found)
    ]
    accuracies = "from {:.2f} to {:.2f} %".format(*np.mean(by_class, axis=1))
    assert "rows had 1 to 3 times the head's length, which is lost: " in said
    assert share in said
    assert accuracies in said


def test_the_same_rows_lose_nothing(folder, ltkit):
    """A rotation of the classes is a correction that a cosine head holds."""
    features = features_file.read(Path("sade.h5"))
    base, order = features.classifier(), [1, 2, 3, 4, 5, 0]
    made = Correction.whole("made", replace(base, weight=base.weight[order]))
    classifiers.write(Path("m.h5"), made, settings={}, inputs=features.inputs, command="")
    say(ltkit, "export m.h5 --into sade.pt -o plain.pt")
    said = say(ltkit, "export m.h5 --into sade.pt --directions -o pointed.pt")
    assert "rows had 1 to 1 times the head's length" in said
    assert "lost: 0.00 % of the predictions on test change" in said
    one, two = (checkpoints.load(Path(p)).head.fold() for p in ("plain.pt", "pointed.pt"))
    np.testing.assert_allclose(one.weight, two.weight, rtol=1e-5)


def test_directions_that_are_refused(folder, ltkit):
    features = features_file.read(Path("linear.h5"))
    whole = Correction.whole("made", features.classifier())
    classifiers.write(Path("m.h5"), whole, settings={}, inputs=features.inputs, command="")
    words = "export m.h5 --into linear.pt --directions -o o.pt"
    message = "--directions: this head holds rows of any length; leave it out"
    assert message in say(ltkit, words, code=2)
    message = "--directions: found --to, which holds rows as they are; leave it out"
    assert message in say(ltkit, "export m.h5 --to npz --directions -o o.npz", code=2)
    head = Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32), 5.0, "cosine")
    never = Classifier(np.eye(2, dtype=np.float32), np.float32([0, NEVER]), True)
    message = "directions: class 1 is never predicted, which a bias says, and this head has none"
    refused(lambda: head.directions(never), message)
    assert not Path("o.pt").exists()


def test_what_is_evaluated_is_the_mean_of_the_experts_cosines(trained):
    features = features_file.read(trained / "sade.h5")
    test, head, logits = features.split("test"), features.head, 0
    for i, part in enumerate(np.split(test.features[:].astype(np.float64), 3, axis=1)):
        rows = head.weight[i] / np.linalg.norm(head.weight[i], axis=1, keepdims=True)
        logits = logits + part / np.linalg.norm(part, axis=1, keepdims=True) @ rows.T
    base = features.classifier()
    (found,) = evaluation.predict_classes(test, base, [Correction.baseline(base)])
    assert np.mean(found[0] == logits.argmax(axis=1)) > 0.98  # float32 may tell ties otherwise


def weighted(cosine, weights):
    torch.manual_seed(0)
    head = make_head(12, 4, cosine=cosine, scale=30.0, experts=3)
    whole = WeightedExperts([*head.experts])
    whole.weights.data = torch.tensor(weights)
    return whole


@pytest.mark.parametrize("cosine", [True, False])
def test_weighted_experts_hold_a_classifier(cosine):
    """Of cosine experts, their rows in another order; of linear ones, any."""
    whole = weighted(cosine, [0.5, 0.2, 0.3])
    own, features = whole.record().fold(), torch.randn(9, 12)
    rng = np.random.default_rng(0)
    wanted = replace(own, weight=own.weight[[1, 2, 3, 0]])
    if not cosine:
        weight, bias = rng.normal(size=(4, 12)), rng.normal(size=4)
        wanted = Classifier(weight.astype(np.float32), bias.astype(np.float32), experts=3)
    values = {name: torch.from_numpy(np.array(v)) for name, v in whole.hold(wanted).items()}
    whole.load_state_dict(whole.state_dict() | values)
    with torch.no_grad():
        found = whole(features).numpy()
    np.testing.assert_allclose(found, wanted.logits(features.numpy()), rtol=1e-3, atol=1e-3)


def test_an_expert_without_weight_holds_nothing():
    whole = weighted(True, [0.5, 0.5, 0.0])
    message = "head: expert 2 has the weight 0, so no row of it changes the logits; use --to npz"
    refused(lambda: whole.hold(whole.record().fold()), message)
    longer = weighted(True, [0.5, 0.2, 0.3])
    own = longer.record().fold()
    message = "holds rows of one length and no bias, the corrected rows have lengths 1 to 2"
    twice = own.weight * np.float32([[1], [1], [1], [2]])
    refused(lambda: longer.hold(replace(own, weight=twice)), message)
