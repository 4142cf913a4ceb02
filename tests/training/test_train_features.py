"""Heads trained on cached features."""

import io
import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made import plan, refused, write_features
from trained import Stop, recipe_of, stop_after

from ltkit import losses, registry
from ltkit.architectures.network import make_head
from ltkit.files import classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.files.features_writer import SplitPlan
from ltkit.losses import balanced_softmax, ce, ib, swrm
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.row_cache import RowCache
from ltkit.settings import HeadSettings
from ltkit.training import beside, checkpoint, heads
from ltkit.training import features as cached
from ltkit.training.schedules import Stage

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [60, 25, 10, 5]
SETTINGS = HeadSettings(epochs=4, batch_size=16)

EMPTY_CLASSES = {"cdb", "ce", "cfl", "focal", "label-aware-smoothing", "seesaw", "seql"}
"""Losses that may have a class without a sample."""


class Watched:
    """Rows that say which slices of them were read."""

    def __init__(self, values):
        self.values, self.read = values, []
        self.shape, self.dtype = values.shape, values.dtype

    def __getitem__(self, rows):
        self.read.append(rows)
        return self.values[rows]


def made(counts=COUNTS, size=8, spread=0.5, experts=1, dtype=np.float32, val=True):
    """Gaussian classes; val has 20 of each."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(counts), size))
    splits = {}
    for name, each in (("train", counts), ("val", [20] * len(counts))):
        labels = np.repeat(np.arange(len(counts)), each)
        x = centres[labels] + spread * rng.normal(size=(len(labels), size))
        splits[name] = FeatureSplit(Watched(x.astype(dtype)), labels)
    if not val:
        del splits["val"]
    width = size // experts
    head = Head(
        np.ones((experts, len(counts), width), np.float32), np.zeros((experts, len(counts)))
    )
    return FeatureSet(splits, ClassTable(np.array(counts)), head)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "f.ce.h5"


def fit(features, output, settings=SETTINGS, **options):
    """Train a head; the options are those of the recipe, or of the training."""
    of_training = ("device", "held", "resume", "overwrite", "report")
    own = {name: options.pop(name) for name in of_training if name in options}
    loss = options.pop("loss", ce.loss)
    return heads.train(features, recipe_of(loss, settings, **options), output, **own)


def log(output):
    lines = output.with_name(f"{output.name}.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k != "samples_per_second"} for line in lines
    ]


def same(first, second):
    return np.array_equal(first.weight, second.weight) and np.array_equal(first.bias, second.bias)


def accuracy(head, split):
    right = head.logits(split.features[:]).argmax(axis=1) == split.labels
    return np.mean([right[split.labels == c].mean() for c in np.unique(split.labels)])


# What is learned


def by_hand(features, settings, start, loss):
    """The whole run in double precision with NumPy and autograd of the loss alone."""
    x, labels = (
        features.split("train").features.values.astype(np.float64),
        features.split("train").labels,
    )
    weight, bias = (t.double().numpy().copy() for t in start)
    velocity = [np.zeros_like(weight), np.zeros_like(bias)]
    generator, values = torch.Generator().manual_seed(settings.seed), []
    steps = -(-len(x) // settings.batch_size)
    for epoch in range(settings.epochs):
        order, total = torch.randperm(len(x), generator=generator).numpy(), 0.0
        for step in range(steps):
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            logits = torch.from_numpy(x[rows] @ weight.T + bias).requires_grad_()
            value = loss(logits, torch.from_numpy(labels[rows]), torch.tensor(COUNTS))
            value.backward()
            total += value.item() * len(rows)
            d = logits.grad.numpy()
            gradients = [d.T @ x[rows], d.sum(axis=0)]
            rate = (
                settings.learning_rate
                * 0.5
                * (1 + np.cos(np.pi * (epoch + step / steps) / settings.epochs))
            )
            for n, values_ in enumerate((weight, bias)):
                velocity[n] = 0.9 * velocity[n] + gradients[n] + settings.weight_decay * values_
                values_ -= rate * velocity[n]
        values.append(total / len(x))
    return weight, bias, values


@pytest.mark.parametrize("module", [ce, balanced_softmax])
def test_a_linear_head_is_what_sgd_gives(output, module):
    data = made()
    torch.manual_seed(SETTINGS.seed)
    start = make_head(8, 4, cosine=False, scale=1.0)
    with torch.no_grad():
        weight, bias, values = by_hand_with_gradients(data, start, module)
    head = fit(data, output, loss=module.loss)
    np.testing.assert_allclose(head.weight, weight, atol=1e-5)
    np.testing.assert_allclose(head.bias, bias, atol=1e-5)
    assert [line["loss"] for line in log(output)] == pytest.approx(values, rel=1e-5)


def by_hand_with_gradients(data, start, module):
    with torch.enable_grad():
        return by_hand(data, SETTINGS, [p.detach() for p in start.parameters()], module.loss)


def test_it_learns_and_watches_the_validation_split(output):
    data, reports = made(), []
    head = fit(data, output, replace(SETTINGS, epochs=30), report=reports.append)
    lines = log(output)
    assert lines[-1]["val"]["balanced"] == pytest.approx(accuracy(head, data.split("val")))
    assert lines[-1]["val"]["balanced"] > 0.9
    assert lines[0]["loss"] > 2 * lines[-1]["loss"]
    assert [p.epoch for p in reports] == list(range(1, 31))
    assert set(lines[0]["val"]) == {"balanced", "few", "medium"}


def test_without_a_validation_split(output):
    reports = []
    fit(made(val=False), output, report=reports.append)
    assert "val" not in log(output)[0]
    assert reports[0].accuracy is None


@pytest.mark.parametrize("experts", [1, 2])
def test_a_cosine_head_in_its_linear_form(output, experts):
    """Rows of one length, no bias, features normalised expert by expert."""
    data = made(experts=experts)
    head = fit(data, output, replace(SETTINGS, epochs=30), cosine=True, scale=16.0)
    assert head.normalize_features
    assert head.experts == experts
    parts = head.weight.reshape(4, experts, -1)
    np.testing.assert_allclose(np.linalg.norm(parts, axis=2), 16 / experts, rtol=1e-5)
    assert not head.bias.any()
    assert accuracy(head, data.split("val")) == pytest.approx(log(output)[-1]["val"]["balanced"])
    assert accuracy(head, data.split("val")) > 0.9


@pytest.mark.parametrize("name", registry.names(losses))
def test_every_loss_trains_a_head(output, name):
    """Those of features, of class means, of the validation split, and with state among them."""
    module, data = registry.load(losses, name), made()
    counts = torch.tensor(COUNTS)
    settings = {"window": 3} if "swrm" in name else {}
    loss = (
        module.loss(counts, **settings)
        if isinstance(module.loss, type)
        else partial(module.loss, **settings)
    )
    head = fit(data, output, replace(SETTINGS, epochs=12), loss=loss, cosine=True, scale=16.0)
    assert np.isfinite(head.weight).all()
    assert accuracy(head, data.split("val")) > 0.5


def test_samplers_and_stages(output):
    seen = []

    def loss(logits, labels, counts):
        assert counts.tolist() == COUNTS
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    then = Stage(2, "ce", {}, "class-balanced", learning_rate=0.05)
    fit(made(), output, loss=loss, then=then, sampler="instance")
    steps = len(seen) // 4
    first, second = torch.cat(seen[: 2 * steps]), torch.cat(seen[2 * steps :])
    assert first.bincount().tolist() == [2 * c for c in COUNTS]
    assert second.bincount().min() > 30
    assert [line["learning_rate"] for line in log(output)] == pytest.approx(
        [0.1, 0.05, 0.05, 0.025]
    )


def test_a_sampler_goes_by_the_samples_that_are_there(output):
    """A file may have a training count for a class without a sample."""
    data = replace(made([40, 0, 20]), classes=ClassTable(np.array([40, 7, 20])))
    seen = []

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    fit(data, output, loss=loss, sampler="class-balanced")
    drawn = torch.cat(seen).bincount(minlength=3).tolist()
    assert drawn[1] == 0
    assert abs(drawn[0] - 120) < 5 * np.sqrt(60)


def test_the_class_means_are_those_of_the_features(output):
    data, given = made(), []

    class Watch(swrm.loss):
        def before_epoch(self, moment):
            given.append(moment.class_means())
            super().before_epoch(moment)

    make = partial(Watch, torch.tensor(COUNTS), window=3)
    fit(data, output, loss=make())
    train = data.split("train")
    means = [train.features.values[train.labels == c].mean(axis=0) for c in range(4)]
    np.testing.assert_allclose(given[0], means, rtol=1e-6)
    other = torch.ones(4, 3, dtype=torch.float64).cumsum(0)
    fit(data, output, loss=make(), class_means=("digest", other))
    assert given[-1] is other


# Reading


@pytest.mark.parametrize("sampler", ["instance", "class-balanced"])
@pytest.mark.parametrize("room", [1, 17, 50, 99])
def test_the_budget_changes_nothing(monkeypatch, output, sampler, room):
    held = fit(made(), output, sampler=sampler)
    monkeypatch.setattr(cached, "BUDGET", room * 8 * 4)
    data = made()
    assert same(held, fit(data, output, sampler=sampler))


def test_what_is_held_is_read_once_and_what_is_not_stays_within_the_budget(monkeypatch, output):
    monkeypatch.setattr(
        FeatureSplit,
        "slices",
        lambda self: iter([slice(a, a + 10) for a in range(0, len(self), 10)]),
    )
    data = made()
    fit(data, output)
    assert len(data.split("train").features.read) == 10
    monkeypatch.setattr(cached, "BUDGET", 40 * 8 * 4)
    sizes, read = [], RowCache._read
    monkeypatch.setattr(
        RowCache, "_read", lambda self, used: sizes.append(len(used)) or read(self, used)
    )
    fit(data, output)
    assert max(sizes) == 40
    assert len(sizes) == 4 * 3  # two batches of 16 a window, and what is left


def test_half_precision_is_held_as_it_is_stored(output):
    data = made(dtype=np.float16)
    store = cached.FeatureStore(data.split("train"), "cpu")
    assert store._rows.held.dtype == torch.float16
    assert store.block(slice(0, 2)).dtype == torch.float32
    assert store.augmented(torch.tensor([3]), torch.Generator()).dtype == torch.float32
    assert fit(data, output).weight.dtype == np.float32


def test_runs_share_what_is_held(output):
    data = made()
    held = cached.stores(data, "cpu")
    first = fit(data, output, held=lambda: held)
    reads = len(data.split("train").features.read)
    assert same(first, fit(data, output, held=lambda: held))
    assert len(data.split("train").features.read) == reads


# Going on


@pytest.mark.parametrize("epoch", [1, 3, 4])
@pytest.mark.parametrize("room", [33, 1000])
def test_an_interrupted_run_ends_as_if_it_had_not_been(monkeypatch, output, epoch, room):
    monkeypatch.setattr(cached, "BUDGET", room * 8 * 4)
    whole = fit(made(), output)
    expected = log(output)
    with pytest.raises(Stop):
        fit(made(), output, report=stop_after(epoch))
    assert same(whole, fit(made(), output, resume=True))
    assert log(output) == expected
    assert beside.begun(output)
    beside.forget(output)
    assert not beside.begun(output)
    refused(partial(fit, made(), output, resume=True), "not found, nothing to resume")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"settings": replace(SETTINGS, learning_rate=0.2)},
            "learning_rate: found 0.1, expected 0.2",
        ),
        ({"settings": replace(SETTINGS, weight_decay=0.0)}, "weight_decay: found 0.0005"),
        ({"features": replace(made(), digest="b")}, "features: found , expected b"),
        ({"sampler": "reversed"}, "sampler: found instance, expected reversed"),
        ({"cosine": True}, "cosine: found False, expected True"),
        ({"class_means": ("m", torch.zeros(4, 8))}, "class_means: found None, expected m"),
        ({"then": Stage(1, "ce", {}, "reversed")}, "then: found None"),
        ({"method": "focal"}, "method: found ce, expected focal"),
        ({"parameters": {"gamma": 1.0}}, "parameters: found {}"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(output, change, message):
    with pytest.raises(Stop):
        fit(made(), output, report=stop_after(1))
    refused(
        partial(fit, **({"features": made(), "output": output, "resume": True} | change)), message
    )


# Bad input


def test_batches_of_one(output):
    """There is no batch norm in a head."""
    sizes = []

    def loss(logits, labels, counts):
        sizes.append(len(labels))
        return ce.loss(logits, labels, counts)

    fit(made([3, 2]), output, replace(SETTINGS, epochs=1, batch_size=2), loss=loss)
    assert sizes == [2, 2, 1]
    head = fit(made([1, 0]), output, replace(SETTINGS, epochs=1, batch_size=1))
    assert np.isfinite(head.weight).all()


def test_fewer_samples_than_a_batch_or_none(output):
    fit(made([3, 2]), output, replace(SETTINGS, batch_size=1000))
    refused(partial(fit, made([0, 0]), output), "training samples: found 0, expected at least 1")
    data = made()
    del data.splits["train"]
    refused(partial(fit, data, output), "no split train; there are: val")


@pytest.mark.parametrize("name", registry.names(losses))
def test_a_class_without_a_sample_is_trained_or_refused_in_a_line(output, name):
    module, counts = registry.load(losses, name), [40, 0, 10]
    settings = {"window": 3} if "swrm" in name else {}

    def trained():
        stateful = isinstance(module.loss, type)
        loss = module.loss(torch.tensor(counts), **settings) if stateful else module.loss
        return fit(made(counts), output, loss=loss)

    if name in EMPTY_CLASSES:
        assert np.isfinite(trained().weight).all()
    else:
        refused(trained, "class 1: found no training image, expected at least 1 in every class")


def test_a_loss_that_is_not_finite_keeps_the_state_before(output):
    calls = []

    def loss(logits, labels, counts):
        calls.append(1)
        return ce.loss(logits, labels, counts) * (np.nan if len(calls) == 9 else 1)

    rate = 0.05 * (1 + np.cos(np.pi * (1 + 1 / 7) / 4))
    said = f"nan at step 2 of 7 of epoch 2, learning rate {rate:g}, expected a finite number"
    refused(
        partial(fit, made(), output, loss=loss), said, "f.ce.h5.partial has the state after epoch 1"
    )
    assert same(fit(made(), output, resume=True), fit(made(), output))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0, expected a whole number from 1"),
        ({"epochs": 0}, "epochs: found 0, expected a whole number from 1"),
        ({"learning_rate": -1.0}, "learning_rate: found -1.0, expected a number above 0"),
        ({"weight_decay": -1.0}, "weight_decay: found -1.0"),
    ],
)
def test_settings_out_of_range(output, change, message):
    refused(partial(fit, made(), output, replace(SETTINGS, **change)), message)
    assert not list(output.parent.iterdir())


# The command line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(Path("f.h5"), plan_of())
    return tmp_path


def plan_of(**changes):
    """30 training and 10 other samples, 5 classes, each with samples."""
    ids = lambda n: np.array([f"i{i}" for i in range(n)], str)  # noqa: E731
    splits = {
        n: SplitPlan(np.arange(c) % 5, ids(c))
        for n, c in (("train", 30), ("val", 10), ("test", 10))
    }
    return plan(splits=splits, classes=ClassTable(np.full(5, 6)), **changes)


def test_the_file_is_that_of_a_classifier(ltkit, folder):
    code, out, error = ltkit("train", "balanced-softmax", "f.h5", "--epochs", "3", "--seed", "4")
    assert code == 0, error
    assert out == "f.balanced-softmax.h5\n"
    assert [line.partition(":")[0] for line in error.splitlines()] == [
        "epoch 1/3", "epoch 2/3", "epoch 3/3", "wrote f.balanced-softmax.h5",
    ]  # fmt: skip
    assert "samples/s" in error
    correction, inputs = classifiers.read(Path("f.balanced-softmax.h5"))
    features_ = features_file.read(Path("f.h5"))
    assert inputs == {"features": features_.digest}
    assert (correction.method, correction.runs) == ("balanced-softmax", ({"seed": 4},))
    assert correction.class_id.tolist() == [0, 1, 2, 3, 4]
    recipe = recipe_of(balanced_softmax.loss, HeadSettings(epochs=3, seed=4), "balanced-softmax")
    head = heads.train(features_, recipe, folder / "x")
    assert np.array_equal(correction.weight[0], head.weight)
    assert np.array_equal(correction.bias[0], head.bias)
    settings = hdf5.read(Path("f.balanced-softmax.h5"), hdf5.CLASSIFIER).settings
    assert (settings["method"], settings["epochs"], settings["schedule"]) == (
        "balanced-softmax",
        3,
        "cosine",
    )
    assert settings["weight_decay"] == 5e-4
    for words in (["evaluate", "f.h5"], ["compare", "f.h5", "f.balanced-softmax.h5"]):
        code, _, error = ltkit(*words, "-q")
        assert code == 0, error
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("f.")) == [
        "f.balanced-softmax.h5", "f.balanced-softmax.h5.jsonl", "f.h5",
    ]  # fmt: skip


def test_seeds_are_runs_of_one_file(ltkit, folder):
    words = ("train", "gcl", "f.h5", "--epochs", "2", "-q")
    assert ltkit(*words, "--seeds", "3", "--seed", "5")[0] == 0
    together, _ = classifiers.read(Path("f.gcl.h5"))
    assert [r["seed"] for r in together.runs] == [5, 6, 7]
    assert together.normalize_features  # a loss with a scale has a cosine head
    for number in range(3):
        assert ltkit(*words, "--seed", 5 + number, "-o", f"{number}.h5")[0] == 0
        alone, _ = classifiers.read(Path(f"{number}.h5"))
        assert np.array_equal(alone.weight[0], together.weight[number])
        assert alone.runs[0] == together.runs[number]
    assert len({w.tobytes() for w in together.weight}) == 3
    names = {"f.gcl.h5", *(f"f.gcl.seed{n}.h5.jsonl" for n in (5, 6, 7))}
    assert {p.name for p in folder.glob("f.*")} == names | {"f.h5"}


def test_seeds_are_gone_on_with(ltkit, folder, monkeypatch):
    words = ("train", "ce", "f.h5", "--epochs", "3", "--seeds", "3", "-q")
    assert ltkit(*words, "-o", "whole.h5")[0] == 0
    saved, calls = checkpoint.save_partial, []

    def stop(*arguments):
        calls.append(arguments)
        saved(*arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_partial", stop)
        code, _, error = ltkit(*words)
    assert code == 130
    assert "continue with --resume" in error
    assert not Path("f.ce.h5").exists()
    monkeypatch.setattr(checkpoint, "save_partial", lambda *x: calls.append(x) or saved(*x))
    assert ltkit(*words, "--resume")[0] == 0
    assert len(calls) == 9  # none twice
    whole, resumed = (classifiers.read(Path(name))[0] for name in ("whole.h5", "f.ce.h5"))
    assert np.array_equal(whole.weight, resumed.weight)
    assert not list(folder.glob("*.partial"))
    code, _, error = ltkit(*words, "--resume", "-o", "other.h5")
    assert code == 2
    assert "other.seed0.h5.partial: not found, nothing to resume" in error


def test_stages_deferring_and_class_means(ltkit, folder):
    words = ("train", "ldam", "f.h5", "--epochs", "3", "-q")
    assert ltkit(*words, "--drw", "2", "-o", "drw.h5")[0] == 0
    assert ltkit(*words, "-o", "none.h5")[0] == 0
    assert (
        ltkit(*words, "--from-epoch", "2", "--then", "gcl", "--then-lr", "0.01", "-o", "t.h5")[0]
        == 0
    )
    deferred, plain, then = (classifiers.read(Path(f"{n}.h5"))[0] for n in ("drw", "none", "t"))
    assert deferred.runs[0] == {"drw": 2, "scale": 30.0, "seed": 0}
    settings = hdf5.read(Path("t.h5"), hdf5.CLASSIFIER).settings
    assert (settings["then"]["method"], settings["then"]["learning_rate"]) == ("gcl", 0.01)
    assert not np.array_equal(plain.weight, then.weight)
    swrm_ = ("train", "swrm", "f.h5", "--epochs", "3", "--set", "window=3", "-q")
    code, _, error = ltkit(*swrm_, "--class-means", "f.h5")
    assert code == 0, error
    assert set(classifiers.read(Path("f.swrm.h5"))[1]) == {"features", "class_means"}


def test_a_path_from_stdin(ltkit, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"f.h5\n")))
    assert ltkit("train", "ce", "-", "--epochs", "1", "-q")[:2] == (0, "f.ce.h5\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["f.h5", "--data", "digits_lt"], "--data or FEATS: found both, expected a dataset"),
        ([], "--data or FEATS: found neither, expected a dataset to train a network on, or a f"),
        (["f.h5", "--arch", "resnet32"], "--arch: found a features file, expected --data with it"),
        (["f.h5", "--augment", "none"], "--augment: found a features file"),
        (["f.h5", "--mix", "mixup"], "--mix: found a features file"),
        (["f.h5", "--root", "."], "--root: found a features file"),
        (["f.h5", "--from-epoch", "1", "--freeze", "backbone"], "--freeze: found a features file"),
        (["g.h5"], "g.h5: not found"),
        (["f.h5", "--lr", "0"], "--lr: found 0, expected a number above 0"),
        (["f.h5", "--batch-size", "0"], "--batch-size: found 0, expected a whole number from 1"),
        (["f.h5", "--seeds", "0"], "seeds"),
        (["f.h5", "-o", "f.h5"], "f.h5: is an input too"),
        (["f.h5", "--class-means", "f.h5"], "--class-means: ce takes none; swrm does"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    code, _, error = ltkit("train", "ce", *words)
    assert code == 2
    assert message in error
    assert sorted(p.name for p in folder.iterdir()) == ["f.h5"]


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("class-balanced", "beta=1.1", "beta: found 1.1, expected a finite number from 0 to 1"),
        ("focal", "gamma=-1", "gamma: found -1.0, expected a finite number at least 0"),
        ("ib", "gamma=-1", "gamma: found -1.0"),
        ("dyswrm", "window=6", "window: found 6, expected from 1 to the number of classes, 5"),
        ("swrm", "window=6", "window: found 6"),
        ("focal", "gama=1", "did you mean gamma"),
    ],
)
def test_parameters_out_of_range(ltkit, folder, method, setting, message):
    code, _, error = ltkit("train", method, "f.h5", "--epochs", "1", "--set", setting)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in folder.iterdir()) == ["f.h5"]


@pytest.mark.parametrize("method", ["class-balanced", "ib"])
def test_beta_of_one_is_the_limit_of_weights_in_proportion_to_one_over_the_count(output, method):
    """1 / (1 - beta) is not what is computed."""
    module = registry.load(losses, method)
    make = lambda beta: (  # noqa: E731
        module.loss(torch.tensor(COUNTS), beta=beta, start=0.0)
        if module is ib
        else partial(module.loss, beta=beta)
    )
    # One epoch: training makes more of the last digits of a weight, and processors differ in those.
    few = replace(SETTINGS, epochs=1)
    limit, near = (fit(made(), output, few, loss=make(beta)) for beta in (1.0, 1 - 1e-9))
    np.testing.assert_allclose(limit.weight, near.weight, atol=1e-4)
