"""Runs of two stages."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from made import refused
from trained import SETTINGS, Stop, dataset_of, fit, log, recipe, same, stop_after, weights

from ltkit import architectures
from ltkit.errors import InputError
from ltkit.losses import Moment, Stateful, balanced_softmax, ce, class_balanced, seesaw, swrm
from ltkit.training import checkpoint
from ltkit.training.deferred import Deferred
from ltkit.training.images import store_of
from ltkit.training.mixing.cmo import CMO
from ltkit.training.mixing.mixup import Mixup
from ltkit.training.schedules import Stage

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    """Ten classes of random pictures: enough for what is compared bit by bit."""
    return dataset_of([24, 20, 16, 12, 8, 6, 4, 4, 3, 3], val=[1] * 10)


FOUR = replace(SETTINGS, epochs=4)


def counts_of(dataset):
    return torch.from_numpy(dataset.classes.train_count)


def state_after(dataset, output, epoch, settings=FOUR, **options):
    """The network of a run that is stopped after an epoch."""
    with pytest.raises(Stop):
        fit(dataset, output, settings, report=stop_after(epoch), **options)
    partial_file = output.with_name(f"{output.name}.partial")
    state = torch.load(partial_file, weights_only=True)["network"]
    partial_file.unlink()
    return {k: v for k, v in state.items() if not k.startswith("loss.")}


def stage(**changes):
    return Stage(**({"from_epoch": 2, "method": "made up", "parameters": {}} | changes))


CHAINS = {
    "loss": (lambda c: (ce.loss, balanced_softmax.loss), {}),
    "to a loss with state": (lambda c: (ce.loss, seesaw.loss(c)), {}),
    "from a loss with state": (lambda c: (seesaw.loss(c), ce.loss), {"learning_rate": 0.02}),
    "to one that asks for means": (
        lambda c: (ce.loss, swrm.loss(c, window=5, start=0.5)), {"sampler": "square-root"},
    ),
    "sampler": (lambda c: (ce.loss, ce.loss), {"sampler": "class-balanced"}),
    "backbone": (
        lambda c: (ce.loss, balanced_softmax.loss), {"freeze": "backbone", "learning_rate": 0.1},
    ),
    "weights": (
        lambda c: (ce.loss, ce.loss), {"freeze": "weights", "sampler": "reversed"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_a_run_of_two_stages_is_resumed_anywhere(digits, tmp_path, name):
    chain, changes = CHAINS[name]
    counts = counts_of(digits)

    def options():
        mixing = Mixup(last=1) if name == "loss" else None
        loss = Deferred(counts, *chain(counts), 2)
        return {"loss": loss, "then": stage(**changes), "mixing": mixing}

    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    fit(digits, whole, FOUR, **options())
    for epoch in (1, 2, 3):
        with pytest.raises(Stop):
            fit(digits, cut, FOUR, report=stop_after(epoch), **options())
        fit(digits, cut, FOUR, resume=True, **options())
        assert same(weights(cut), weights(whole))
        assert log(cut) == log(whole)
        cut.unlink()
    assert torch.load(whole, weights_only=True)["recipe"]["then"]["from_epoch"] == 2


def test_the_first_stage_is_as_if_there_were_no_second(digits, tmp_path):
    loss = partial(Deferred, counts_of(digits), ce.loss, balanced_softmax.loss, 2)
    then = stage(sampler="reversed", freeze="backbone")
    for epoch in (1, 2):
        plain = state_after(digits, tmp_path / "a.pt", epoch)
        staged = state_after(digits, tmp_path / "b.pt", epoch, loss=loss(), then=then)
        assert same(plain, staged)
    assert not same(
        state_after(digits, tmp_path / "a.pt", 3),
        state_after(digits, tmp_path / "b.pt", 3, loss=loss(), then=then),
    )


def parts(state):
    """Weights of the backbone, its statistics, the head."""
    network = architectures.build("digits_net", 10)
    learned = {name for name, _ in network.named_parameters()}
    head = {k: v for k, v in state.items() if k.startswith("head.")}
    rest = {k: v for k, v in state.items() if k not in head}
    weights_ = {k: v for k, v in rest.items() if k in learned}
    return weights_, {k: v for k, v in rest.items() if k not in learned}, head


@pytest.mark.parametrize(
    ("freeze", "moves"),
    [
        (None, (True, True, True)),
        ("backbone", (False, False, True)),
        ("weights", (False, True, True)),
    ],
)
def test_what_is_frozen_does_not_move(digits, output, freeze, moves):
    then = stage(freeze=freeze, sampler="class-balanced")
    before = parts(state_after(digits, output, 2, then=then))
    after = parts(state_after(digits, output, 4, then=then))
    assert all(before)
    assert tuple(not same(a, b) for a, b in zip(before, after, strict=True)) == moves


def test_the_frozen_features_are_those_of_evaluation(digits, output):
    """A loss sees the features that `extract` would give."""
    seen = []

    class Watch(Deferred):
        def forward(self, logits, labels, features):
            if self.reached:
                seen.append((features.detach(), labels, features.requires_grad))
            return super().forward(logits, labels, features)

    loss = Watch(counts_of(digits), ce.loss, ce.loss, 2)
    settings = replace(FOUR, augment="none", epochs=3)
    fit(digits, output, settings, loss=loss, then=stage(freeze="backbone"))
    network = architectures.build("digits_net", 10)
    network.load_state_dict(weights(output))
    split = digits.split("train")
    store = store_of(split, digits, "cpu")
    with torch.no_grad():
        all_features, _ = network.eval().features_and_logits(store.plain(torch.arange(len(split))))
    features, labels, gradients = (list(column) for column in zip(*seen, strict=True))
    assert not any(gradients)
    order = torch.Generator().manual_seed(0)
    for _ in range(3):
        permutation = torch.randperm(len(split), generator=order)
    expected = all_features[permutation][: len(torch.cat(features))]
    assert torch.equal(
        torch.cat(labels), torch.from_numpy(split.labels)[permutation][: len(expected)]
    )
    torch.testing.assert_close(torch.cat(features), expected, atol=1e-4, rtol=1e-4)


def test_the_second_sampler_starts_with_the_stage(output):
    seen = []

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    dataset = dataset_of([90, 10])
    settings = replace(FOUR, epochs=6, batch_size=50)
    fit(dataset, output, settings, loss=loss, then=stage(from_epoch=3, sampler="class-balanced"))
    rare = [torch.cat(seen[2 * e : 2 * e + 2]).float().mean().item() for e in range(6)]
    assert rare[:3] == pytest.approx([0.1] * 3)
    assert min(rare[3:]) > 0.3


def test_the_log_has_the_rates_of_both_stages(digits, output):
    settings = replace(SETTINGS, epochs=15, schedule="step", learning_rate=0.05)
    fit(dataset_of([9, 9]), output, settings, then=stage(from_epoch=10, learning_rate=0.01))
    expected = [0.05] * 8 + [5e-4, 5e-6] + [0.01] * 4 + [1e-6]
    assert [line["learning_rate"] for line in log(output)] == pytest.approx(expected)


def test_the_second_rate_is_that_of_the_steps(digits, output):
    then = stage(learning_rate=1e-12)
    before = state_after(digits, output, 2, then=then)
    after = state_after(digits, output, 4, then=then)
    learned = [k for k in before if k.endswith(("weight", "bias"))]
    assert max((after[k] - before[k]).abs().max().item() for k in learned) < 1e-6


class Noted(Stateful, torch.nn.Module):
    """A loss that keeps the epochs it was told of."""

    def __init__(self):
        super().__init__()
        self.epochs = []

    def before_epoch(self, moment):
        self.epochs.append(moment.epoch)

    def watched(self):
        return {"last": float(self.epochs[-1])}

    def forward(self, logits, labels, features):
        return ce.loss(logits, labels, None)


def test_each_loss_is_told_of_its_own_epochs(digits, output):
    first, second = Noted(), Noted()
    fit(digits, output, FOUR, loss=Deferred(counts_of(digits), first, second, 3))
    assert (first.epochs, second.epochs) == ([0, 1, 2], [3])
    assert [line["watched"]["last"] for line in log(output)] == [0, 1, 2, 3]


class Keeping(Noted):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def kept(self):
        return {self.name: torch.zeros(1)}


@pytest.mark.parametrize(
    ("finished", "held", "expected"),
    [(3, False, ["one"]), (4, False, ["two"]), (4, True, ["one", "two"])],
)
def test_a_first_loss_leaves_nothing_of_features_that_moved(digits, finished, held, expected):
    """A state has it, too."""
    loss = Deferred(counts_of(digits), Keeping("one"), Keeping("two"), 3, held=held)
    for epoch in range(finished):
        loss.before_epoch(Moment(epoch, 4, None, tuple))
    again = Deferred(counts_of(digits), Keeping("one"), Keeping("two"), 3, held=held)
    again.load_state_dict(loss.state_dict())
    assert [*loss.kept()] == [*again.kept()] == expected


def test_a_second_loss_is_checked_at_once(digits, output):
    second = partial(class_balanced.loss, beta=2.0)
    make = partial(Deferred, counts_of(digits), ce.loss, second, 100)
    refused(make, "beta: found 2.0, expected a finite number from 0 to 1", error=InputError)


def test_what_the_two_losses_can_do():
    counts = torch.tensor([5, 5])
    one = partial(Deferred, counts)
    made = swrm.loss(counts, window=2)
    assert one(ce.loss, made, 1).takes_class_means
    assert not one(ce.loss, balanced_softmax.loss, 1).takes_class_means
    assert one(ce.loss, made, 1).mixable
    assert not one(seesaw.loss(counts), ce.loss, 1).mixable
    assert not one(ce.loss, seesaw.loss(counts), 1).mixable
    deferred = one(ce.loss, seesaw.loss(counts), 1)
    assert deferred.watched() == {}
    logits, labels, features = torch.tensor([[2.0, 0.0]]), torch.tensor([1]), torch.zeros(1, 1)
    deferred.before_epoch(Moment(0, 2, None, lambda: features))
    deferred(logits, labels, features)
    assert deferred.then.seen.tolist() == [0, 0]
    deferred.before_epoch(Moment(1, 2, None, lambda: features))
    deferred(logits, labels, features)
    assert deferred.then.seen.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"then": stage(from_epoch=4)}, "second stage: found epoch 4, expected from 1 to 3;"),
        ({"then": stage(from_epoch=0)}, "second stage: found epoch 0, expected from 1 to 3;"),
        ({"then": stage(from_epoch=-1)}, "second stage: found epoch -1"),
        (
            {"loss": Deferred(torch.ones(10), ce.loss, ce.loss, 4)},
            "found epoch 4, expected from 0",
        ),
        ({"then": stage(learning_rate=0.0)}, "then_lr: found 0.0, expected a number above 0"),
        ({"then": stage(learning_rate=float("nan"))}, "then_lr: found nan"),
        ({"then": stage(learning_rate=float("inf"))}, "then_lr: found inf"),
        (
            {"settings": replace(FOUR, steps=(0.9, 0.8))},
            "steps: found 0.9, 0.8, expected ascending",
        ),
        ({"settings": replace(FOUR, steps=(0.5, 1.5))}, "steps: found 1.5"),
        ({"settings": replace(FOUR, steps=(float("nan"),))}, "steps: found nan"),
        (
            {"settings": replace(FOUR, step_factor=0.0)},
            "step_factor: found 0.0, expected a number above 0",
        ),
        ({"settings": replace(FOUR, step_factor=1.5)}, "step_factor: found 1.5"),
        ({"settings": replace(FOUR, step_factor=float("nan"))}, "step_factor: found nan"),
    ],
)
def test_out_of_range(digits, output, options, message):
    refused(partial(fit, digits, output, **({"settings": FOUR} | options)), message)
    assert not list(output.parent.iterdir())


# The command line

TRAIN = (
    "--data",
    "digits_lt:ir=5",
    "--arch",
    "digits_net",
    "--epochs",
    "3",
    "--batch-size",
    "256",
    "--device",
    "cpu",
    "-q",
)


def test_deferred_weights_are_a_second_stage_with_other_parameters(ltkit, folder):
    words = ("train", "class-balanced", *TRAIN)
    assert ltkit(*words, "--drw", "2", "-o", "drw.pt")[0] == 0
    then = ("--then", "class-balanced", "--from-epoch", "2")
    assert ltkit(*words, "--set", "beta=0", *then, "-o", "then.pt")[0] == 0
    assert same(weights("drw.pt"), weights("then.pt"))
    assert recipe("then.pt")["parameters"] == {"beta": 0.0}
    assert recipe("then.pt")["then"] == {
        "from_epoch": 2, "method": "class-balanced", "parameters": {}, "sampler": "instance",
        "learning_rate": None, "freeze": None,
    }  # fmt: skip
    assert recipe("drw.pt")["then"] is None


def test_everything_at_once(ltkit, folder):
    words = (
        "train", "ce", *TRAIN, "--mix", "mixup", "--set", "mix.last=1", "--from-epoch", "2",
        "--then", "label-aware-smoothing", "--set", "then.eps-head=0.3",
        "--then-sampler", "class-balanced",
        "--then-lr", "0.05", "--freeze", "weights", "--warmup-epochs", "1", "--steps", "0.5,0.75",
        "--step-factor", "0.1",
    )  # fmt: skip
    code, _, error = ltkit(*words)
    assert code == 0, error
    found = recipe("ce.pt")
    assert found["then"] == {
        "from_epoch": 2, "method": "label-aware-smoothing", "parameters": {"eps_head": 0.3},
        "sampler": "class-balanced", "learning_rate": 0.05, "freeze": "weights",
    }  # fmt: skip
    assert (found["warmup_epochs"], found["steps"], found["step_factor"]) == (1, (0.5, 0.75), 0.1)
    assert found["mixing"]["last"] == 1
    rates = [line["learning_rate"] for line in log(folder / "ce.pt")]
    assert rates == pytest.approx([0.1, 0.001, 0.0005])  # steps after 1 and 1.5 of 2, 0.5 of 1


def test_the_first_loss_goes_on_where_there_is_no_other(ltkit, folder):
    words = ("train", "focal", *TRAIN, "--set", "gamma=2", "--from-epoch", "1")
    assert ltkit(*words, "--then-sampler", "reversed")[0] == 0
    then = recipe("focal.pt")["then"]
    assert (then["method"], then["parameters"], then["sampler"]) == (
        "focal", {"gamma": 2.0}, "reversed",
    )  # fmt: skip


def test_a_cosine_head_is_there_from_the_start(ltkit, folder):
    words = ("train", "ce", *TRAIN, "--cosine", "--scale", "20", "--from-epoch", "1", "--then")
    assert ltkit(*words, "ldam")[0] == 0
    assert recipe("ce.pt")["then"]["parameters"] == {"scale": 20.0}
    assert recipe("ce.pt")["scale"] == 20.0


def test_a_state_with_another_second_stage_is_not_resumed(ltkit, folder, monkeypatch):
    saved = checkpoint.save_partial

    def stop(*arguments):
        saved(*arguments)
        raise KeyboardInterrupt

    words = ("train", "ce", *TRAIN, "--from-epoch", "2", "--then-sampler", "reversed")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_partial", stop)
        assert ltkit(*words)[0] == 130
    code, _, error = ltkit("train", "ce", *TRAIN, "--resume")
    assert code == 2
    assert "then: found {'from_epoch': 2" in error
    assert ltkit(*words, "--resume")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from-epoch", "3", "--then", "focal"], "second stage: found epoch 3, expected from 1"),
        (["--from-epoch", "0", "--then", "focal"], "second stage: found epoch 0"),
        (["--then", "focal"], "--then: needs from_epoch, where the second stage starts"),
        (["--freeze", "backbone"], "--freeze: needs from_epoch"),
        (["--then-lr", "0.1"], "--then-lr: needs from_epoch"),
        (["--then-sampler", "reversed"], "--then-sampler: needs from_epoch"),
        (["--from-epoch", "2"], "--from-epoch: changes nothing; set one of then, then_sampler"),
        (["--from-epoch", "2", "--then", "focl"], "focl: unknown name in losses; did you mean foc"),
        (["--from-epoch", "2", "--then", "focal", "--set", "then.gama=2"], "did you mean gamma"),
        (["--from-epoch", "2", "--then", "focal", "--set", "then.gamma=-1"], "gamma: found -1"),
        (["--set", "then.gamma=2"], "--set then.gamma: found no loss of a second stage"),
        (["--from-epoch", "2", "--then", "ldam"], "--then ldam: needs a cosine head from the"),
        (["--from-epoch", "2", "--then", "ldam", "--cosine", "--set", "then.scale=20"],
         "--set then.scale=20: expected 30, the scale of the head"),
        (["--from-epoch", "2", "--then", "seesaw", "--mix", "mixup"], "counts the labels"),
        (["--steps", "0.5,x"], "--steps: found '0.5,x', expected numbers"),
        (["--steps", "0.5,0.4"], "--steps: found 0.5, 0.4"),
        (["--warmup-epochs", "-1"], "--warmup-epochs: found -1"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    code, _, error = ltkit("train", "ce", *TRAIN, *words)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())


def test_deferred_weights_and_a_second_stage(ltkit, folder):
    words = ("train", "class-balanced", *TRAIN, "--drw", "1")
    both = (*words, "--from-epoch", "2", "--freeze", "backbone")
    assert "--drw: is a second stage already" in ltkit(*both)[2]
    assert "found epoch 3, expected from 0 to 2" in ltkit(*words[:-1], "3")[2]


def test_cmo_in_the_first_stage_only(digits, output):
    """The mixing's own epochs end it; the second stage sees whole images."""
    calls = []

    class Spy(CMO):
        def __call__(self, *given):
            calls.append(len(given[1]))
            return super().__call__(*given)

    mixing = Spy(first=1, last=2, probability=1.0)
    fit(digits, output, FOUR, mixing=mixing, then=stage(sampler="class-balanced"))
    assert sum(calls) == len(digits.split("train"))
