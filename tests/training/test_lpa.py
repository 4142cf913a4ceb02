"""LPA: its formula again in loops, its limits, its attributes, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from contrastive import RUN, built, logsum, unit
from made import refused
from torch import nn
from trained import Stop, dataset_of, fit, log, same, stop_after, weights
from typer.testing import CliRunner

from ltkit import architectures, checkpoints
from ltkit.architectures.network import Network
from ltkit.attributes import prototypes
from ltkit.attributes.maps import FeatureMaps
from ltkit.cli import app
from ltkit.losses import Moment, ce
from ltkit.training.deferred import Deferred

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = [50, 3, 400, 1]
SMALL = {"queue": 9, "size": 5, "prototypes": 6, "warmup": 0}


def with_profiles(seed, **parameters):
    """A method whose classes have random profiles, and these."""
    lpa = built("lpa", COUNTS, **SMALL | parameters).double()
    profiles = np.random.default_rng(seed).dirichlet(np.ones(6), size=4)
    centred = torch.from_numpy(profiles - profiles.mean(axis=0))
    lpa.directions = nn.functional.normalize(centred)
    return lpa, profiles


def naive_weights(profiles, labels, of, threshold):
    """Omega of every pair, in loops."""
    centred = profiles - profiles.mean(axis=0)
    found = np.zeros((len(labels), len(of)))
    for i, own in enumerate(labels):
        for j, other in enumerate(of):
            a, b = centred[own], centred[other]
            cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
            found[i, j] = max(0.0, (cosine - threshold) / (1 - threshold))
    return found


def naive_shared(queries, labels, candidates, of, weight, temperature):
    """Sample by sample; the queries are the first candidates, -1 says that there is none."""
    total = 0.0
    for i in range(len(queries)):
        others = [j for j in range(len(candidates)) if j != i and of[j] >= 0]
        near = {j: float(queries[i] @ candidates[j]) / temperature for j in others}
        bottom = logsum([*near.values()])
        of_all = sum(weight[i, j] for j in others)
        total -= sum(weight[i, j] * (near[j] - bottom) for j in others) / of_all
    return total / len(queries)


def batch(seed, size=6, queued=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, size)
    candidates = unit(rng, 2 * size + queued, 5)
    of = np.concatenate([labels, labels, rng.integers(-1, 4, queued)])
    return labels, candidates, of


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.5, 0.0, -0.6])
def test_it_is_its_formula(seed, threshold):
    """The value, and its gradient by differences."""
    labels, candidates, of = batch(seed)
    lpa, profiles = with_profiles(seed, threshold=threshold, temperature=0.3)
    weight = naive_weights(profiles, labels, of.clip(0), threshold)
    given = torch.tensor(candidates, requires_grad=True)
    value = lpa.shared(given[:6], torch.tensor(labels), given, torch.tensor(of))

    def naive(rows):
        return naive_shared(rows[:6], labels, rows, of, weight, 0.3)

    assert value.item() == pytest.approx(naive(candidates), rel=1e-6)
    (gradient,) = torch.autograd.grad(value, given)
    step = 1e-5
    for place in [(0, 0), (5, 3), (8, 2), (14, 4)]:
        moved = np.zeros_like(candidates)
        moved[place] = step
        slope = (naive(candidates + moved) - naive(candidates - moved)) / (2 * step)
        assert gradient[place].item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_with_a_high_threshold_it_is_supervised_contrast():
    """Only pairs of a class count, where no two classes are alike."""
    labels, candidates, of = batch(0)
    lpa, _ = with_profiles(0, threshold=0.999, temperature=0.3)
    same_class = (labels[:, None] == of).astype(float)
    expected = naive_shared(candidates[:6], labels, candidates, of, same_class, 0.3)
    rows = torch.tensor(candidates)
    value = lpa.shared(rows[:6], torch.tensor(labels), rows, torch.tensor(of))
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_classes_without_a_direction_share_nothing_but_with_themselves():
    lpa = built("lpa", COUNTS, **SMALL)  # all profiles the same
    every = torch.arange(4)
    assert torch.equal(lpa.likeness(every, every), torch.eye(4))


@pytest.mark.parametrize("contrast_on", ["projection", "features"])
def test_without_its_part_it_is_paco(digits, tmp_path, contrast_on):
    """To the last bit, in every weight, and in the log."""
    counts, shared = digits.classes.train_count, {"queue": 64, "size": 8}
    paco = built("paco", counts, **shared)
    lpa = built("lpa", counts, **shared, alpha=0.0, warmup=1, contrast_on=contrast_on)
    for name, loss in (("paco", paco), ("lpa", lpa)):
        fit(digits, tmp_path / name, RUN, loss=loss, method=name)
    assert same(weights(tmp_path / "lpa"), weights(tmp_path / "paco"))
    assert lines_of(tmp_path / "lpa") == lines_of(tmp_path / "paco")


def test_until_the_end_of_the_warm_up_it_is_paco(digits, tmp_path):
    counts, shared = digits.classes.train_count, {"queue": 64, "size": 8}
    made = {"paco": built("paco", counts, **shared),
            "lpa": built("lpa", counts, **shared, prototypes=12, warmup=2)}  # fmt: skip
    for name, loss in made.items():
        fit(digits, tmp_path / name, RUN, loss=loss, method=name)
    first, second = lines_of(tmp_path / "lpa"), lines_of(tmp_path / "paco")
    assert first[:2] == second[:2]
    assert first[2]["loss"] > second[2]["loss"]
    assert 0 <= first[2]["watched"]["classes_alike"] <= 9


@pytest.mark.parametrize(
    "options",
    [{"contrast_on": "features"}, {"groups": 4}, {"warmup": 0, "refresh": 2}],
    ids=["features", "groups", "no new prototypes before the end"],
)
def test_other_readings_resume_bit_by_bit(digits, tmp_path, options):
    def run(output, **more):
        made = built("lpa", digits.classes.train_count, **options)
        fit(digits, output, RUN, loss=made, method="lpa", **more)

    run(tmp_path / "whole.pt")
    for epoch in (1, 2):
        output = tmp_path / f"{epoch}.pt"
        with pytest.raises(Stop):
            run(output, report=stop_after(epoch))
        run(output, resume=True)
        assert output.read_bytes() == (tmp_path / "whole.pt").read_bytes()
        assert log(output) == log(tmp_path / "whole.pt")


def test_a_run_that_is_resumed_after_its_last_epoch_keeps_the_prototypes(digits, tmp_path):
    def run(output, **more):
        made = built("lpa", digits.classes.train_count, warmup=0)
        fit(digits, output, RUN, loss=made, method="lpa", **more)

    run(tmp_path / "whole.pt")
    with pytest.raises(Stop):
        run(tmp_path / "o.pt", report=stop_after(RUN.epochs))
    run(tmp_path / "o.pt", resume=True)
    assert (tmp_path / "o.pt").read_bytes() == (tmp_path / "whole.pt").read_bytes()
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "o.pt")]).stdout
    assert "prototypes:   12 of local vectors" in shown


def lines_of(output):
    """The log, but for what the run is."""
    return [{k: v for k, v in line.items() if k != "run"} for line in log(output)]


def moment_of(dataset, epoch=0):
    """The state before an epoch, with the pictures in blocks."""
    split = dataset.split("train")
    images = torch.from_numpy(split.images).permute(0, 3, 1, 2).float() / 255
    labels = torch.from_numpy(split.labels)
    parts = [slice(i, i + 16) for i in range(0, len(labels), 16)]
    return Moment(epoch, 9, None, lambda: images, lambda: ((images[p], labels[p]) for p in parts))


def attached(dataset, **parameters):
    torch.manual_seed(0)
    lpa = built("lpa", dataset.classes.train_count, **SMALL | parameters)
    lpa.attach(architectures.build("digits_net", len(dataset.classes)))
    return lpa


def test_profiles_are_means_of_the_shares_of_the_images():
    dataset = dataset_of([30, 12, 1])
    lpa, moment = attached(dataset), moment_of(dataset)
    lpa.before_epoch(moment)
    maps = FeatureMaps(lpa.keys.backbone.eval())
    with torch.no_grad():
        found = [(prototypes.shares(maps(x)[1], lpa.prototypes), y) for x, y in moment.blocks()]
    every, labels = (torch.cat(part) for part in zip(*found, strict=True))
    for c in range(3):
        torch.testing.assert_close(lpa.profiles[c], every[labels == c].mean(dim=0))
    centred = lpa.profiles - lpa.profiles.mean(dim=0)
    cosines = torch.cosine_similarity(centred[:, None], centred[None], dim=2)
    every = torch.arange(3)
    expected = ((cosines - 0.5) / 0.5).clamp(min=0).fill_diagonal_(1.0)
    torch.testing.assert_close(lpa.likeness(every, every), expected, atol=1e-5, rtol=1e-5)
    alike = (expected.sum().item() - 3) / 3
    assert lpa.watched()["classes_alike"] == pytest.approx(alike, abs=1e-3)


def test_groups_are_of_classes_with_like_profiles():
    lpa = built("lpa", [5] * 4, **SMALL, groups=2)
    lpa.profiles = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0.9, 0.1]])
    lpa.directions = lpa._grouped()
    every = torch.arange(4)
    expected = (every[:, None] % 2 == every % 2).float()
    assert torch.equal(lpa.likeness(every, every), expected)


def test_prototypes_are_found_again_when_it_is_time():
    """After the warm-up, then every so many epochs; a resumed run takes those of its state."""
    dataset = dataset_of([30, 12, 1])
    lpa = attached(dataset, warmup=2, refresh=3)
    found = []
    for epoch in range(9):
        for parameter in lpa.keys.backbone.parameters():
            parameter.data.mul_(1.01).add_(0.01)
        lpa.keys.begun.fill_(True)
        lpa.before_epoch(moment_of(dataset, epoch))
        found.append(lpa.prototypes.clone())
    changed = [e for e in range(1, 9) if not torch.equal(found[e], found[e - 1])]
    assert changed == [2, 5, 8]
    assert not found[1].any()
    again = attached(dataset, warmup=2, refresh=3)
    again.load_state_dict(lpa.state_dict())
    again.before_epoch(moment_of(dataset, 7))
    assert torch.equal(again.prototypes, found[8])
    assert again.ready


def test_a_second_stage_starts_from_the_network_that_the_first_trained(digits, tmp_path):
    """Its key encoder does not follow yet when the prototypes are found."""
    counts = torch.from_numpy(digits.classes.train_count)
    seen = []

    class Watching(type(built("lpa", counts))):
        def _maps(self):
            maps = super()._maps()
            seen.append(maps.network is self.trained[0])
            return maps

    lpa = Watching(counts, queue=64, size=8, prototypes=12, warmup=0)
    fit(digits, tmp_path / "o.pt", RUN, loss=Deferred(counts, ce.loss, lpa, 2), method="ce")
    assert seen == [True, True]


def test_the_checkpoint_has_the_prototypes(digits, tmp_path):
    counts = digits.classes.train_count
    fit(digits, tmp_path / "o.pt", RUN, loss=built("lpa", counts), method="lpa")
    fit(digits, tmp_path / "p.pt", RUN, loss=built("paco", counts), method="paco")
    found = torch.load(tmp_path / "o.pt", weights_only=True)
    assert found["attributes"]["prototypes"].shape == (12, 64)
    assert "attributes" not in torch.load(tmp_path / "p.pt", weights_only=True)
    assert checkpoints.load(tmp_path / "o.pt").head is not None


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("alpha", -1.0), ("prototypes", 0), ("threshold", 1.0), ("groups", 5), ("warmup", -1),
        ("refresh", 0), ("sample", 0), ("contrast_on", "logits"), ("seed", -1), ("queue", -1),
    ],
)  # fmt: skip
def test_parameters_out_of_range(parameter, value):
    refused(lambda: built("lpa", COUNTS, **{parameter: value}), f"{parameter}: found ")


def test_an_epoch_count_shorter_than_the_warm_up(digits, tmp_path):
    made = built("lpa", digits.classes.train_count, warmup=3)
    message = "parameters warmup: found 3, expected fewer than the run's 3 epochs"
    refused(lambda: fit(digits, tmp_path / "o.pt", RUN, loss=made), message)
    idle = built("lpa", digits.classes.train_count, warmup=3, alpha=0.0)
    fit(digits, tmp_path / "o.pt", replace(RUN, epochs=1), loss=idle)


def test_more_prototypes_than_local_vectors(tmp_path):
    """Known before the first epoch; of a map of 2 x 2, with at most 10 vectors a class."""
    pictures = dataset_of([40, 2])
    made = built("lpa", [40, 2], prototypes=19, sample=10, warmup=2, queue=0)
    message = "prototypes: found 19, expected from 1 to 18"
    refused(lambda: fit(pictures, tmp_path / "o.pt", RUN, loss=made), message)
    assert [*tmp_path.iterdir()] == []


def test_a_network_without_a_map(tmp_path, monkeypatch):
    def flat(arch, classes, **options):
        backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))
        return Network(backbone, architectures.network.make_head(5, classes, cosine=False, scale=1))

    monkeypatch.setattr(architectures, "build", flat)
    made = built("lpa", [40, 2], queue=0)
    message = "features: feature map already pooled"
    refused(lambda: fit(dataset_of([40, 2]), tmp_path / "o.pt", RUN, loss=made), message)
