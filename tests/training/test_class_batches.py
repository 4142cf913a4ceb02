"""Batches of several images of a class, and learning rates of parts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built
from made import refused
from trained import dataset_of, fit, log, weights

from ltkit import architectures
from ltkit.losses import ce
from ltkit.training import batches
from ltkit.training.batches import by_class, systematic
from ltkit.training.deferred import Deferred
from ltkit.training.job import Job
from ltkit.training.recipe import Recipe
from ltkit.training.schedules import class_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [200, 60, 9, 3, 1, 27]


def drawn(sampler, batch_size=12, per_class=3, counts=COUNTS, seed=0):
    """The batches of an epoch, and the labels."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(9))]
    chances = class_probabilities(sampler, torch.tensor(counts), 0, 1)
    generator = torch.Generator().manual_seed(seed)
    return by_class(labels, chances, batch_size, per_class, generator).split(batch_size), labels


@pytest.mark.parametrize("sampler", ["instance", "class-balanced", "square-root", "reversed"])
def test_batches_have_several_images_of_each_of_their_classes(sampler):
    found, labels = drawn(sampler)
    assert {len(batch) for batch in found} == {12}
    assert len(found) == 300 // 12
    for batch in found:
        counts = labels[batch].bincount(minlength=6)
        assert (counts % 3 == 0).all()
        for c in counts.nonzero().flatten():
            times = batch[labels[batch] == c].unique(return_counts=True)[1]
            assert len(times) == min(counts[c], COUNTS[c])  # different ones as far as there are
            assert times.max() - times.min() <= 1


@pytest.mark.parametrize("sampler", ["instance", "class-balanced", "square-root"])
def test_classes_come_as_often_as_the_sampler_says(sampler):
    """Within a batch as nearly as whole numbers can, and on average just so."""
    chances = class_probabilities(sampler, torch.tensor(COUNTS), 0, 1)
    generator, rounds = torch.Generator().manual_seed(1), 4000
    times = torch.stack([systematic(chances, 4, generator) for _ in range(rounds)]).double()
    assert (times.sum(dim=1) == 4).all()
    assert ((times - 4 * chances).abs() < 1).all()
    part = (4 * chances) % 1
    error = (part * (1 - part) / rounds).sqrt()  # of a draw rounded up or down
    assert ((times.mean(dim=0) - 4 * chances).abs() <= 5 * error + 1e-9).all()


def test_balanced_classes_come_once_where_there_are_enough():
    found, labels = drawn("class-balanced", batch_size=18)
    assert all((labels[batch].bincount() == 3).all() for batch in found)


def test_a_small_dataset_is_one_batch():
    found, labels = drawn("instance", counts=[3, 2])
    assert [len(batch) for batch in found] == [12]
    assert {*labels[found[0]].tolist()} == {0, 1}


def test_the_generator_decides():
    first, again, other = (torch.cat(drawn("instance", seed=seed)[0]) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("batch_size", "per_class"), [(32, 5), (32, 32), (6, 4), (2, 2)], ids=lambda n: str(n)
)
@pytest.mark.parametrize("name", ["lifted", "range", "oltr"])
def test_images_of_a_class_that_do_not_divide_the_batch(
    digits, tmp_path, name, batch_size, per_class
):
    made = built(name, digits.classes.train_count, per_class=per_class)
    settings = replace(RUN, batch_size=batch_size)
    message = f"parameters per_class: found {per_class}, expected from 2 to {batch_size // 2}"
    refused(lambda: fit(digits, tmp_path / "o.pt", settings, loss=made), message)


def test_a_run_has_them(digits, tmp_path, monkeypatch):
    """In the stage of the method alone."""
    seen, original = [], batches.by_class

    def by_class(labels, chances, batch_size, per_class, generator):
        seen.append((batch_size, per_class, round(chances.max().item(), 3)))
        return original(labels, chances, batch_size, per_class, generator)

    monkeypatch.setattr(batches, "by_class", by_class)
    counts = torch.from_numpy(digits.classes.train_count)
    loss = Deferred(counts, built("lifted", counts, per_class=8), ce.loss, 2)
    fit(digits, tmp_path / "o.pt", RUN, loss=loss, sampler="class-balanced")
    assert seen == [(32, 8, 0.1)] * 2
    assert len(log(tmp_path / "o.pt")) == 3


class Store:
    unit, device = "images", torch.device("cpu")


def groups_of(loss):
    network = architectures.build("digits_net", 2)
    if hasattr(loss, "attach"):
        loss.attach(network)
    counts = torch.tensor([40, 21])
    recipe = Recipe("x", lambda class_counts: loss, RUN)
    made = Deferred(counts, ce.loss, loss, 1)
    job = Job(recipe, network, made, Store(), counts, counts, None, None)
    return network, {g["part"]: g for g in job.optimizer.param_groups}, job.optimizer.param_groups


def test_parts_have_groups_of_their_own():
    oltr = built("oltr", [40, 21])
    network, groups, every = groups_of(oltr)
    assert len(every) == 4  # the head, the backbone, the centroids, the rest of the memory
    sizes = [len(group["params"]) for group in every]
    assert sum(sizes) == len([*network.parameters(), *oltr.parameters()])
    assert groups["backbone"]["params"] == [*network.backbone.parameters()]
    assert [id(p) for p in groups["meta.centroids"]["params"]] == [id(oltr.meta.centroids)]


def test_without_rates_there_is_one_group_for_the_network():
    _, groups, every = groups_of(ce.loss)
    assert len(every) == 1
    assert [*groups] == [""]


def test_rates_of_parts_are_factors_on_the_runs(digits, tmp_path, monkeypatch):
    """What the optimizer has at its steps: in the plain part all, then its own for each part."""
    seen, original = [], torch.optim.SGD.step

    def step(self, *given, **options):
        seen.append({group["part"]: group["lr"] for group in self.param_groups})
        return original(self, *given, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    made = built("oltr", digits.classes.train_count, backbone_rate=0.2, centroids_rate=0.5)
    settings = replace(RUN, steps=())
    fit(digits, tmp_path / "o.pt", settings, loss=made)
    assert seen[0] == pytest.approx({"backbone": 0.05, "": 0.05, "meta.centroids": 0.05})
    assert seen[-1] == pytest.approx({"backbone": 0.01, "": 0.05, "meta.centroids": 0.025})


def test_a_rate_of_zero_holds_a_part(digits, tmp_path):
    """The backbone stays as the plain part left it; the head learns on."""
    settings = replace(RUN, epochs=2, steps=())
    made = built("oltr", digits.classes.train_count, backbone_rate=0.0, plain=0.5)
    fit(digits, tmp_path / "plain.pt", replace(settings, epochs=1))
    fit(digits, tmp_path / "o.pt", settings, loss=made)
    plain, found = weights(tmp_path / "plain.pt"), weights(tmp_path / "o.pt")
    named = [n for n in plain if n.startswith("backbone.") and "running" not in n]
    assert all(torch.equal(plain[n], found[n]) for n in named if "batches" not in n)
    assert not torch.equal(plain["head.weight"], found["head.weight"])


def test_samples_of_a_made_up_dataset_are_repeated(tmp_path):
    """Three images of two classes: each batch has copies, in other views."""
    dataset = dataset_of([2, 1])
    settings = replace(RUN, batch_size=8, epochs=2)
    fit(dataset, tmp_path / "o.pt", settings, loss=built("lifted", [2, 1]))
    assert np.isfinite(log(tmp_path / "o.pt")[-1]["loss"])
