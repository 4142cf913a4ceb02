"""OLTR: its formulas again in loops, its limits, its two parts, and what is extracted of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from test_distances import distance, slopes
from trained import Stop, dataset_of, fit, log, same, stop_after, weights

from ltkit import checkpoints
from ltkit.architectures.meta_head import MetaHead
from ltkit.errors import InputError, LtkitError
from ltkit.files import features
from ltkit.records import Classifier
from ltkit.settings import LoadSettings, TrainPlan
from ltkit.training import runs
from ltkit.training.methods import oltr

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [40, 21, 9]
C, D = 3, 4


def meta_head(seed=0):
    generator = torch.Generator().manual_seed(seed)
    head = MetaHead(D, C).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return head


def naive_logits(head, f):
    """Sample by sample, from the head's numbers."""
    part = {name: value.tolist() for name, value in head.state_dict().items()}
    rows = []
    for x in f.tolist():

        def layer(name, x=x):
            pairs = zip(part[f"{name}.weight"], part[f"{name}.bias"], strict=True)
            return [b + sum(w * v for w, v in zip(row, x, strict=True)) for row, b in pairs]

        exps = [math.exp(o) for o in layer("hallucinator")]
        memory = [
            sum(o * m[d] for o, m in zip(exps, part["centroids"], strict=True)) / sum(exps)
            for d in range(D)
        ]
        reach = 10 / min(distance(x, m) for m in part["centroids"])
        select = [math.tanh(s) for s in layer("selector")]
        v = [reach * (x[d] + select[d] * memory[d]) for d in range(D)]
        length = math.sqrt(sum(value**2 for value in v))
        squashed = [length / (1 + length) * value / length for value in v]
        logits = []
        for row in part["weight"]:
            norm = math.sqrt(sum(w**2 for w in row))
            logits.append(16 * sum(s * w / norm for s, w in zip(squashed, row, strict=True)))
        rows.append(logits)
    return np.array(rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_whole_models_logits_are_their_formula(seed):
    head, rng = meta_head(seed), np.random.default_rng(seed)
    f = (0.5 + seed) * rng.normal(size=(5, D))
    given = torch.tensor(f, requires_grad=True)
    logits = head(head.lift(given))
    np.testing.assert_allclose(logits.detach(), naive_logits(head, f), rtol=1e-9)
    mix = torch.tensor(rng.normal(size=(5, C)))
    (gradient,) = torch.autograd.grad((mix * logits).sum(), given)
    expected = slopes(lambda x: (mix.numpy() * naive_logits(head, x)).sum(), f)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-5)


def test_an_empty_memory_leaves_the_direct_feature():
    """In its direction, at the length that squashing 10 gives: its distance to 0 is its own."""
    head = meta_head()
    with torch.no_grad():
        head.centroids.zero_()
        f = torch.randn(6, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        lifted = head.lift(f)
    torch.testing.assert_close(lifted, 10 / 11 * f / f.norm(dim=1, keepdim=True))


def test_a_feature_at_its_centroid_is_as_long_as_any():
    head = meta_head()
    f = head.centroids.detach().clone().requires_grad_()
    lifted = head.lift(f)
    (gradient,) = torch.autograd.grad(lifted.sum(), f)
    assert torch.isfinite(gradient).all()
    np.testing.assert_allclose(lifted.detach().norm(dim=1), 1, atol=1e-5)


def naive_discriminative(f, labels, centroids, repulsion=0.01, margin=10.0):
    size, classes = len(f), len(centroids)
    near = sum(distance(x, centroids[y]) ** 2 for x, y in zip(f, labels, strict=True))
    far = sum(
        distance(x, m) ** 2
        for x, y in zip(f, labels, strict=True) for c, m in enumerate(centroids) if c != y
    )  # fmt: skip
    return near / (2 * size) + repulsion * max(0.0, margin - far / (size * classes))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("parameters", [{}, {"repulsion": 0.5, "margin": 30.0}])
def test_the_centroids_loss_is_its_formula(seed, parameters):
    """Of the centroids' gradient the attraction's part is divided by count and 1."""
    rng = np.random.default_rng(seed)
    f, centroids = rng.normal(size=(7, D)), rng.normal(size=(C, D))
    labels = [0, 0, 0, 1, 0, 1, 0]
    made = built("oltr", COUNTS, **parameters)
    given = [torch.tensor(x, requires_grad=True) for x in (f, centroids)]
    value = made.discriminative(given[0], torch.tensor(labels), given[1])
    of_f, of_m = torch.autograd.grad(value, given)
    assert value.item() == pytest.approx(naive_discriminative(f, labels, centroids, **parameters))
    expected = slopes(lambda x: naive_discriminative(x, labels, centroids, **parameters), f)
    np.testing.assert_allclose(of_f, expected, atol=1e-7)
    near = {"repulsion": 0.0}
    attraction = slopes(lambda m: naive_discriminative(f, labels, m, **near), centroids)
    whole = slopes(lambda m: naive_discriminative(f, labels, m, **parameters), centroids)
    counts = np.array([5, 2, 0])[:, None]
    expected = attraction / (counts + 1) + whole - attraction
    np.testing.assert_allclose(of_m, expected, atol=1e-7)


def test_a_meta_head_holds_rows_of_its_length():
    head = meta_head().float()
    rows = head.record().fold()
    order = np.array([2, 0, 1])
    held = head.hold(Classifier(rows.weight[order], rows.bias))
    np.testing.assert_allclose(held["weight"], rows.weight[order])
    with pytest.raises(InputError, match="a meta head holds rows of length 16 and no bias"):
        head.hold(Classifier(2 * rows.weight, rows.bias))
    with pytest.raises(InputError, match="a meta head holds rows of length 16 and no bias"):
        head.hold(Classifier(rows.weight, rows.bias + 1))


# Runs


def test_the_second_part_begins_from_the_first(digits, tmp_path):
    """Until then it is cross-entropy; its memory is that network's class means and head."""
    from ltkit.losses import ce

    settings = replace(RUN, steps=())
    made = built("oltr", digits.classes.train_count, weight=0.0)
    begun = {}

    def look(means):
        made._begin_original(means)
        begun.update({k: v.clone() for k, v in made.meta.state_dict().items()}, means=means)

    made._begin_original, made._begin = made._begin, look
    fit(digits, tmp_path / "o.pt", settings, loss=made)
    fit(digits, tmp_path / "ce.pt", replace(settings, epochs=1), loss=ce.loss)
    first, plain = log(tmp_path / "o.pt")[0], log(tmp_path / "ce.pt")[0]
    assert first["loss"] == plain["loss"]
    assert first["val"] == plain["val"]
    head = weights(tmp_path / "ce.pt")
    assert torch.equal(begun["hallucinator.weight"], head["head.weight"])
    assert torch.equal(begun["hallucinator.bias"], head["head.bias"])
    torch.testing.assert_close(begun["centroids"], begun["means"].float())
    network = checkpoints.load(tmp_path / "ce.pt").network
    split = digits.split("train")
    x = (torch.from_numpy(split.images).permute(0, 3, 1, 2) / 255 - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        f = network.features_and_logits(x)[0]
    for c in range(10):
        of = f[torch.from_numpy(split.labels) == c].mean(dim=0)
        torch.testing.assert_close(begun["means"][c].float(), of, rtol=1e-4, atol=1e-5)


def test_the_memory_survives_a_stop(digits, tmp_path):
    def run(output, **options):
        made = built("oltr", digits.classes.train_count)
        fit(digits, output, RUN, loss=made, method="oltr", **options)
        return torch.load(output, weights_only=True)["attributes"] if output.is_file() else None

    whole = run(tmp_path / "whole.pt")
    assert {name.partition(".")[0] for name in whole} == {"meta"}
    for epoch in (1, 2):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            run(output, report=stop_after(epoch))
        assert same(run(output, resume=True), whole)


def test_a_second_stage_may_be_all_of_it(digits, tmp_path):
    """As in the source, where the schedule starts anew."""
    plan = TrainPlan("ce", {"then.plain": 0.0}, from_epoch=1, then="oltr", then_lr=0.05)
    runs.train_networks(digits, plan, RUN, tmp_path / "o.pt", arch="digits_net")
    assert "meta.weight" in torch.load(tmp_path / "o.pt", weights_only=True)["attributes"]


def test_a_cosine_head(digits, tmp_path):
    plan = TrainPlan("oltr", cosine=True)
    message = "cosine: the hallucinator starts as a linear head"
    refused(
        lambda: runs.train_networks(digits, plan, RUN, tmp_path / "o.pt", arch="digits_net"),
        message,
    )


@pytest.mark.parametrize(("plain", "epochs"), [(1.0, 3), (0.9, 3), (0.5, 1)])
def test_no_epoch_is_left(digits, tmp_path, plain, epochs):
    made = built("oltr", digits.classes.train_count, plain=plain)
    settings = replace(RUN, epochs=epochs)
    if round(plain * epochs) < epochs:
        fit(digits, tmp_path / "o.pt", settings, loss=made)
        return
    message = f"parameters plain: found {plain:g}, which is {epochs} of {epochs} epochs"
    refused(lambda: fit(digits, tmp_path / "o.pt", settings, loss=made), message)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("plain", 1.1), ("weight", -1.0), ("repulsion", float("nan")), ("margin", -1.0),
        ("per_class", 1), ("backbone_rate", -0.1), ("centroids_rate", float("inf")),
    ],
)  # fmt: skip
def test_parameters_out_of_range(parameter, value):
    refused(lambda: oltr.loss(torch.tensor(COUNTS), **{parameter: value}), f"{parameter}: found ")


def test_a_class_without_images():
    refused(lambda: built("oltr", [5, 0]), "class 1: found no training image")


# The whole model


def test_the_whole_model_is_extracted_and_evaluated(ltkit, folder):
    """What the log says of the validation split is the whole model's accuracy."""
    words = ["--data", "digits_lt", "--epochs", "6", "--batch-size", "40", "--device", "cpu"]
    code, _, said = ltkit("train", "oltr", *words, "--keep-best", "-o", "net.pt", "-q")
    assert code == 0, said
    found = {}
    for name, more in (("direct", []), ("meta", ["--head", "meta"])):
        command = ["extract", "net.pt", "--data", "digits_lt", "--device", "cpu"]
        code, _, said = ltkit(*command, *more, "-o", f"{name}.h5")
        assert code == 0, said
        assert "accuracy of the model's own head" in said
        assert ("--head meta takes the whole model" in said) == (name == "direct")
        code, output, _ = ltkit("evaluate", f"{name}.h5", "--split", "val", "--json")
        found[name] = json.loads(output)
    direct, meta = (features.read(Path(f"{name}.h5")) for name in found)
    lengths = np.linalg.norm(meta.split("val").features[:], axis=1)
    assert lengths.max() < 1
    np.testing.assert_allclose(np.linalg.norm(meta.head.weight, axis=1), 16, rtol=1e-5)
    assert direct.head.bias.any()
    split = meta.split("val")
    right = (split.features[:] @ meta.head.weight.T).argmax(axis=1) == split.labels
    by_class = [right[split.labels == c].mean() for c in range(10)]
    assert log(Path("net.pt"))[-1]["val"]["balanced"] == pytest.approx(np.mean(by_class), abs=0.02)
    code, _, said = ltkit("posthoc", "logit-adjust", "meta.h5", "-o", "t.h5")
    assert code == 0, said
    code, _, said = ltkit("export", "t.h5", "--into", "net.pt", "-o", "new.pt")
    assert code == 2
    assert "a meta head holds rows of length 16 and no bias" in said
    for command in (
        "posthoc tau-norm meta.h5 --set tau=0 -o t.h5 --overwrite",  # the same rows
        "export t.h5 --into net.pt -o new.pt",
        "extract new.pt --head meta --data digits_lt --device cpu -o new.h5",
    ):
        code, _, said = ltkit(*command.split())
        assert code == 0, said
    again = features.read(Path("new.h5"))
    np.testing.assert_allclose(again.head.weight, meta.head.weight, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_without_a_whole_model(tmp_path, digits):
    fit(digits, tmp_path / "ce.pt", replace(RUN, epochs=1))
    message = "--head meta: found head.weight, the head of native checkpoints"
    refused(
        lambda: checkpoints.load(tmp_path / "ce.pt", LoadSettings(head="meta")),
        message.replace("--head", "head"),
    )


@pytest.mark.parametrize("name", ["meta.centroids", "meta.weight", "meta.selector.bias"])
def test_a_whole_model_that_is_damaged(tmp_path, name):
    """Without a part of it, or with one of another shape."""
    fit(dataset_of([9, 9]), tmp_path / "o.pt", RUN, loss=built("oltr", [9, 9]))
    content = torch.load(tmp_path / "o.pt", weights_only=True)
    whole, wanted = content["attributes"], LoadSettings(head="meta")
    for changed in (
        {n: v for n, v in whole.items() if n != name},
        whole | {name: torch.ones(3, 3)},
    ):
        torch.save(content | {"attributes": changed}, tmp_path / "bad.pt")
        with pytest.raises(LtkitError) as said:
            checkpoints.load(tmp_path / "bad.pt", wanted)
        assert len(str(said.value)) <= 300
    assert checkpoints.load(tmp_path / "bad.pt").head is not None
