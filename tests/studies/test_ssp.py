"""The study of self-supervised pre-training: what is trained from what, and what is measured."""

import numpy as np
import pytest
from made import refused
from studies.short import ssp_points

import ltkit
from ltkit import datasets, evaluation
from ltkit.evaluation.analysis import row_norms
from ltkit.studies import Given, _networks, ssp


@pytest.fixture(autouse=True)
def short(monkeypatch):
    ssp_points(monkeypatch)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt:ir=1,val=none")


def test_each_way_is_trained_with_and_without_the_first_stage(digits, tmp_path, monkeypatch):
    started, train = [], _networks.train

    def watched(images, point, given, output, *, plan, init=None):
        started.append((plan.method, plan.sampler, plan.drw, init and init.name, output.name))
        train(images, point, given, output, plan=plan, init=init)

    monkeypatch.setattr(_networks, "train", watched)
    frame = ltkit.study("ssp", images=digits, output=tmp_path / "o")
    plain = [
        ("ce", "instance", None),
        ("ce", "class-balanced", None),
        ("weighted", "instance", None),
    ]
    assert [each[:3] for each in started[:3]] == plain
    assert started[3][0] == "weighted"
    assert started[3][2] == ssp.DEFERRED * ssp.EPOCHS
    assert {each[3] for each in started[:4]} == {None}
    assert started[4] == ("ssp", "instance", None, None, "ssp.20.0.pt")  # once, for all four
    assert [each[0] for each in started].count("ssp") == 1
    assert {each[3] for each in started[5:]} == {"ssp.20.0.pt"}
    assert frame[frame["of"] == "all classes"]["way"].tolist() == list(ssp.WAYS) * 2
    assert not list((tmp_path / "o").glob("*.pt*"))  # networks are gone when they are scored
    mapped = frame[frame["of"].str.startswith("sample")]
    assert set(mapped["way"]) == {"CE"}
    assert len(mapped) == 2 * 2 * ssp.MAPPED


def test_figures_are_those_of_the_network(digits, tmp_path):
    """Against the evaluation, a table filled sample by sample, and NumPy's norms."""
    given = Given("small", 0, tmp_path, images=digits)
    point = ssp.points(given)[0]
    images = _networks.drawn(given, np.full(10, 20), 0)
    with _networks.trained(images, point, given, plan=ssp._plan(point)) as features:
        found = dict(ssp._figures(features))
        _, by_class = evaluation.evaluate(features, "test", [], topk=[1], replicates=1)
        split, head = features.split("test"), features.classifier()
        said = head.logits(split.features[:]).argmax(axis=1)
    own = by_class[features.baseline]
    assert [found[f"class {c}"] for c in range(10)] == pytest.approx(own)
    assert found["all classes"] == pytest.approx(np.mean(own))
    assert found["deviation of norms"] == pytest.approx(np.linalg.norm(head.weight, axis=1).std())
    assert found["deviation of norms"] == pytest.approx(row_norms(head)[0].std())
    for true in range(10):
        for other in range(10):
            share = np.mean(said[split.labels == true] == other)
            assert found.get(f"class {true} as {other}", 0.0) == pytest.approx(share)


def test_the_published_imbalances_and_schedule(digits, tmp_path):
    given = Given("paper", 0, tmp_path, images=digits)
    points = ssp.points(given)
    assert len(points) == 4 * 4 * 2 * 3
    assert {p["epochs"] for p in points} == {200}
    assert sorted({p["imbalance"] for p in points}) == [10, 20, 50, 100]


def test_classes_with_too_few_images_are_refused(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(ssp, "IMBALANCES", {"small": (1000,), "paper": (1000,)})
    refused(
        lambda: ltkit.study("ssp", images=digits, output=tmp_path / "o"),
        "expected at least 1000 in each", "cifar10_lt:ir=1",
    )  # fmt: skip
