"""Mixing images: what is mixed with what, by how much, and what the loss makes of it."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from made import refused
from torch.nn import functional
from trained import SETTINGS, Stop, dataset_of, fit, log, recipe, same, stop_after, weights

from ltkit import datasets, losses, registry
from ltkit.errors import InputError
from ltkit.losses import ce
from ltkit.training import mixing
from ltkit.training.mixing.cmo import CMO
from ltkit.training.mixing.cutmix import CutMix
from ltkit.training.mixing.mixup import Mixup
from ltkit.training.mixing.remix import Remix

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = ["cmo", "cutmix", "mixup", "remix"]
COUNTS = torch.tensor([30, 10, 9, 1])


def batch(height=9, width=6, count=5, channels=3):
    """Images, labels, partners and their labels."""
    generator = torch.Generator().manual_seed(3)
    shape = (count, channels, height, width)
    images = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
    partners = torch.randn(shape, generator=generator).to(memory_format=torch.channels_last)
    labels = torch.randint(4, (2, count), generator=generator)
    return images, labels[0], partners, labels[1]


def mixed_by(mix, seed=0, of=None, counts=COUNTS):
    return mix(*(of or batch()), counts, np.random.default_rng(seed))


def test_the_names():
    assert registry.names(mixing) == NAMES
    for name in NAMES:
        mix = registry.load(mixing, name).mix
        assert mix().record()["name"] == name
        assert "Source:" in mix.__doc__
        assert "Example:" in mix.__doc__


@pytest.mark.parametrize("name", NAMES)
def test_the_inputs_are_left_alone_and_the_random_numbers_decide(name):
    of = batch()
    before = [t.clone() for t in of]
    mix = registry.load(mixing, name).mix()
    first, again, other = (mixed_by(mix, seed, of) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(of, before, strict=True))
    assert torch.equal(first.images, again.images)
    assert first.weight == again.weight != other.weight
    assert first.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mix", [Mixup, Remix])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_weights_have_the_moments_of_a_beta_distribution(mix, alpha):
    of = batch(1, 1, 1, 1)
    found = np.array([mixed_by(mix(alpha=alpha), seed, of).weight for seed in range(3000)])
    variance = 1 / (4 * (2 * alpha + 1))
    assert found.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 3000))
    assert found.var() == pytest.approx(variance, rel=0.1)
    kurtosis = 3 - 6 / (2 * alpha + 3)
    assert ((found - 0.5) ** 4).mean() == pytest.approx(kurtosis * variance**2, rel=0.15)


@pytest.mark.parametrize("mix", [Mixup(), Remix()])
def test_mixup_is_a_weighted_mean_of_pixels(mix):
    images, labels, partners, others = batch()
    mixed = mixed_by(mix)
    for i in range(5):
        for at in np.ndindex(3, 9, 6):
            a, b = images[(i, *at)].double().item(), partners[(i, *at)].double().item()
            expected = mixed.weight * a + (1 - mixed.weight) * b
            assert mixed.images[(i, *at)].item() == pytest.approx(expected, rel=1e-5, abs=1e-6)
    if isinstance(mix, Mixup):
        assert torch.equal(mixed.labels, labels)
        assert torch.equal(mixed.others, others)


@pytest.mark.parametrize("mix", [CutMix(), CMO()])
@pytest.mark.parametrize("size", [(9, 6), (6, 9), (32, 32), (1, 1), (2, 3)])
def test_the_weight_is_the_area_that_is_left(mix, size):
    of = batch(*size)
    for seed in range(60):
        mixed = mixed_by(mix, seed, of)
        own = (mixed.images == of[0]).all(dim=1)  # (B, H, W)
        theirs = (mixed.images == of[2]).all(dim=1)
        assert torch.equal(own, ~theirs)
        assert (own == own[0]).all()  # one box for all
        assert mixed.weight == pytest.approx(own[0].double().mean().item(), abs=1e-12)
        rows, columns = theirs[0].any(dim=1), theirs[0].any(dim=0)
        assert torch.equal(theirs[0], rows[:, None] & columns)  # a product of two sets ...
        for line in (rows, columns):
            assert (line.int().diff().abs()).sum() <= 2  # ... that are intervals
        assert torch.equal(mixed.labels, of[1])
        assert torch.equal(mixed.others, of[3])


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_each_pixel_is_as_often_in_the_box_as_the_sum_over_all_centres_says(alpha):
    sizes, count = (10, 16), 4000
    expected = np.zeros(sizes)
    for draw in np.random.default_rng(7).beta(alpha, alpha, count):
        chances = []
        for size in sizes:
            half = int(size * math.sqrt(1 - draw)) // 2
            pixels, centres = np.arange(size)[:, None], np.arange(size)
            inside = (pixels >= centres - half) & (pixels < centres + half)
            chances.append(inside.mean(axis=1))
        expected += np.outer(*chances) / count
    of = batch(*sizes, 1, 1)
    all_mixed = [mixed_by(CutMix(alpha=alpha), seed, of) for seed in range(count)]
    found = sum((mixed.images == of[2])[0, 0].double() for mixed in all_mixed) / count
    np.testing.assert_allclose(found, expected, atol=5 * math.sqrt(2 * 0.25 / count))
    assert np.mean([m.weight for m in all_mixed]) == pytest.approx(1 - expected.mean(), abs=0.02)


# Remix


def by_the_formula(weight, own, other, kappa, tau):
    """The weight of the own label, case by case."""
    if own / other >= kappa and weight < tau:
        return 0.0
    if own / other <= 1 / kappa and 1 - weight < tau:
        return 1.0
    return weight


@pytest.mark.parametrize(("kappa", "tau"), [(3.0, 0.5), (1.0, 1.0), (2.0, 0.9), (31.0, 1.0)])
def test_remix_weighs_each_pair_by_the_formula(kappa, tau):
    own, other = (
        t.flatten() for t in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    )
    images = torch.zeros(16, 1, 1, 1)
    logits = torch.randn(16, 4, generator=torch.Generator().manual_seed(0)).double()
    by_sample = partial(functional.cross_entropy, logits, reduction="none")
    changed = 0
    counts = torch.tensor([30, 10, 10, 1])
    for seed in range(40):
        remix = Remix(kappa=kappa, tau=tau)
        mixed = mixed_by(remix, seed, (images, own, images, other), counts)
        share = torch.tensor(
            [
                by_the_formula(mixed.weight, counts[a].item(), counts[b].item(), kappa, tau)
                for a, b in zip(own, other, strict=True)
            ],
            dtype=torch.float64,
        )
        expected = (share * by_sample(own) + (1 - share) * by_sample(other)).mean()
        value = mixed.weight * ce.loss(logits, mixed.labels, counts)
        value += (1 - mixed.weight) * ce.loss(logits, mixed.others, counts)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)
        changed += (share != mixed.weight).sum().item()
    assert (changed > 0) == (kappa < 31)


def test_remix_by_hand():
    """Counts 30 and 10: a ratio of 3 is enough; 10 and 9 are alike."""
    labels, others = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 2])
    of = (torch.zeros(3, 1, 1, 1), labels, torch.zeros(3, 1, 1, 1), others)
    for seed in range(20):
        mixed = mixed_by(Remix(), seed, of)
        if mixed.weight < 0.5:
            assert mixed.labels.tolist() == [1, 1, 1]
            assert mixed.others.tolist() == [1, 0, 2]
        else:
            assert mixed.labels.tolist() == [0, 1, 1]
            assert mixed.others.tolist() == [1, 1, 2]


# In a run


def spied(kind, **parameters):
    """A way of mixing, and the list of what it was given and gave."""
    seen = []

    class Spy(kind):
        def __call__(self, *given):
            mixed = super().__call__(*given)
            seen.append((given, mixed))
            return mixed

    return Spy(**parameters), seen


@pytest.mark.parametrize("kind", [Mixup, CutMix, Remix])
def test_partners_are_the_batch_in_another_order(kind, output):
    spy, seen = spied(kind, probability=1.0)
    fit(dataset_of([20, 12]), output, replace(SETTINGS, epochs=2, batch_size=16), mixing=spy)
    assert len(seen) == 4
    for (images, labels, partners, others, counts, _), _ in seen:
        assert counts.tolist() == [20, 12]
        where = [(image == images).flatten(1).all(dim=1).nonzero().item() for image in partners]
        assert sorted(where) == list(range(16))
        assert where != list(range(16))
        assert torch.equal(others, labels[where])


def test_the_foreground_of_cmo_has_its_own_sampler_and_epochs(output):
    counts = [120, 24, 6]
    for r, expected in ((0.0, [0.8, 0.16, 0.04]), (1.0, [1 / 3] * 3), (2.0, [0.04, 0.19, 0.77])):
        spy, seen = spied(CMO, probability=1.0, r=r, first=1, last=2)
        fit(dataset_of(counts), output, replace(SETTINGS, epochs=7, batch_size=50), mixing=spy)
        assert len(seen) == 4 * 3  # epochs 2 to 5 of 7
        for epoch in range(4):
            plain = torch.cat([given[1] for given, _ in seen[3 * epoch : 3 * epoch + 3]])
            assert plain.bincount().tolist() == counts  # the background: each image once
        foreground = torch.cat([given[3] for given, _ in seen])
        frequency = foreground.bincount(minlength=3) / len(foreground)
        np.testing.assert_allclose(frequency, expected, atol=0.06)


def test_classes_without_images_are_no_foreground():
    for r in (0.0, 1.0, 2.0):
        chances = CMO(r=r).chances(torch.tensor([4, 0, 1]))
        assert chances[1] == 0
        assert chances.sum() == pytest.approx(1)


def test_the_background_follows_the_sampler(output):
    spy, seen = spied(CMO, probability=1.0, first=0, last=0, r=0.0)
    settings = replace(SETTINGS, epochs=5, batch_size=50)
    fit(dataset_of([140, 10]), output, settings, mixing=spy, sampler="class-balanced")
    labels, others = (torch.cat([given[i] for given, _ in seen]) for i in (1, 3))
    assert labels.float().mean() == pytest.approx(0.5, abs=0.06)
    assert others.float().mean() == pytest.approx(1 / 15, abs=0.04)


def test_a_part_of_the_batches_is_mixed(output):
    spy, seen = spied(CutMix)  # probability 0.5
    settings = replace(SETTINGS, epochs=15, batch_size=2)
    fit(dataset_of([8, 8]), output, settings, mixing=spy)
    assert abs(len(seen) - 60) < 4 * math.sqrt(120 / 4)
    spy, seen = spied(Mixup, probability=0.0)
    fit(dataset_of([8, 8]), output, replace(settings, epochs=2), mixing=spy)
    assert not seen


def test_the_loss_is_the_weighted_mean_over_both_labels(output):
    def of(labels):
        return (labels.double() * torch.arange(len(labels))).mean()  # the order matters

    spy, seen = spied(Mixup)
    options = {"loss": lambda logits, labels, counts: 0 * logits.sum() + of(labels).float()}
    settings = replace(SETTINGS, epochs=1, batch_size=6)
    fit(dataset_of([6, 6, 6]), output, settings, mixing=spy, **options)
    values = [m.weight * of(m.labels) + (1 - m.weight) * of(m.others) for _, m in seen]
    assert log(output)[0]["loss"] == pytest.approx(np.mean(values), rel=1e-5)


@pytest.mark.parametrize("name", registry.names(losses))
def test_every_loss_is_mixed_or_says_why_not(name, output):
    module = registry.load(losses, name)
    dataset = dataset_of([9, 6, 3], val=[2, 2, 2])
    counts = torch.from_numpy(dataset.classes.train_count)
    parameters = {"window": 3} if "swrm" in name else {}
    parameters |= {"start": 0.5} if name in ("ib", "swrm", "dyswrm") else {}
    loss = module.loss
    if isinstance(loss, type):
        loss = loss(counts, **parameters)
    settings = replace(SETTINGS, epochs=2, batch_size=6, learning_rate=1e-3)
    run_it = partial(fit, dataset, output, settings, loss=loss, mixing=CutMix(probability=1.0))
    if name in ("ghm-cwap", "seesaw"):
        refused(run_it, "mixing: ", "counts the labels", error=InputError)
    else:
        run_it()
        assert all(math.isfinite(line["loss"]) for line in log(output))


def test_seesaw_with_the_counts_of_the_dataset_is_mixed(output):
    dataset = dataset_of([9, 6])
    loss = registry.load(losses, "seesaw").loss(torch.tensor([9, 6]), counts="dataset")
    fit(dataset, output, replace(SETTINGS, epochs=1), loss=loss, mixing=Mixup())


@pytest.mark.parametrize("name", NAMES)
def test_a_mixed_run_repeats_itself_and_is_resumed(tmp_path, name):
    mix = registry.load(mixing, name).mix(probability=0.7, first=0, last=1)
    digits = dataset_of([40, 30, 20], val=[5, 5, 5])
    whole, again, cut = (tmp_path / f"{n}.pt" for n in ("whole", "again", "cut"))
    fit(digits, whole, mixing=mix)
    torch.manual_seed(5)
    np.random.seed(5)
    fit(digits, again, mixing=mix)
    assert again.read_bytes() == whole.read_bytes()
    assert torch.load(whole, weights_only=True)["recipe"]["mixing"] == mix.record()
    for epoch in (1, 2):
        with pytest.raises(Stop):
            fit(digits, cut, mixing=mix, report=stop_after(epoch))
        refused(partial(fit, digits, cut, resume=True), "mixing: found {'name':", "expected None")
        fit(digits, cut, mixing=mix, resume=True)
        assert same(weights(cut), weights(whole))
        assert log(cut) == log(whole)


def test_a_mixed_run_learns(output):
    digits = datasets.load("digits_lt:ir=5")
    fit(digits, output, mixing=CMO(probability=0.7, first=0, last=0))
    assert log(output)[-1]["val"]["balanced"] > 0.4


# Bad input


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (Mixup, {"alpha": 0.0}, "alpha: found 0.0, expected a finite number above 0"),
        (Mixup, {"alpha": float("inf")}, "alpha: found inf"),
        (CutMix, {"alpha": float("nan")}, "alpha: found nan"),
        (CutMix, {"probability": 1.5}, "probability: found 1.5, expected from 0 to 1"),
        (CutMix, {"probability": float("nan")}, "probability: found nan"),
        (CMO, {"first": -1}, "first: found -1, expected a number of at least 0"),
        (CMO, {"last": -2}, "last: found -2"),
        (CMO, {"r": -0.5}, "r: found -0.5"),
        (CMO, {"r": float("inf")}, "r: found inf"),
        (Remix, {"kappa": 0.5}, "kappa: found 0.5, expected at least 1"),
        (Remix, {"tau": 1.1}, "tau: found 1.1, expected from 0 to 1"),
        (Remix, {"tau": -0.1}, "tau: found -0.1"),
        (Remix, {"kappa": float("nan")}, "kappa: found nan"),
    ],
)
def test_parameters_out_of_range(kind, parameters, message):
    refused(partial(kind, **parameters), message, error=InputError)


def test_one_class_cannot_be_mixed(output):
    run_it = partial(fit, dataset_of([9, 0]), output, mixing=Mixup())
    refused(run_it, "mixing: found images of 1 class, expected two", error=InputError)


# The command line

TRAIN = ("--data", "digits_lt", "--arch", "digits_net", "--epochs", "1", "--device", "cpu", "-q")


def test_mixing_from_the_command_line(ltkit, folder):
    words = ("focal", *TRAIN, "--set", "gamma=2", "--mix", "cmo", "--set", "mix.r=2")
    assert ltkit("train", *words, "--set", "mix.first=0")[0] == 0
    assert recipe("focal.pt")["parameters"] == {"gamma": 2.0}
    assert recipe("focal.pt")["mixing"] == {
        "name": "cmo", "alpha": 1.0, "probability": 0.5, "first": 0, "last": 3, "r": 2.0,
    }  # fmt: skip
    assert ltkit("train", "ce", *TRAIN)[0] == 0
    assert recipe("ce.pt")["mixing"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mix", "mixpu"], "mixpu: unknown name in mixing; did you mean mixup"),
        (
            ["--mix", "cmo", "--set", "mix.alpa=1"],
            "cmo has no parameter of that name; did you mean alpha",
        ),
        (["--mix", "cmo", "--set", "mix.alpha=x"], "--set alpha: found x, expected a finite numb"),
        (
            ["--mix", "cmo", "--set", "mix.first=1.5"],
            "--set first: found 1.5, expected a whole number",
        ),
        (["--mix", "remix", "--set", "mix.kappa=0"], "kappa: found 0.0, expected at least 1"),
        (["--mix", "cmo", "--set", "alpha=1"], "ce has no parameter of that name"),
        (["--set", "mix.alpha=1"], "--set mix.alpha: found no mixing, whose parameter"),
    ],
)
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    code, _, error = ltkit("train", "ce", *TRAIN, *words)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not list(Path().iterdir())
