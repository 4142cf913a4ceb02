"""The causes of made problems, what is told of them, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from known_causes import COUNTS, MADE, RARE, problem

import ltkit
from ltkit.diagnosis import answers, diagnose, heads
from ltkit.diagnosis.causes import CAUSES
from ltkit.errors import InputError
from ltkit.evaluation import predict_classes
from ltkit.records import ClassTable, Correction, FeatureSplit


class Unopened(FeatureSplit):
    """A split that nobody may read."""

    def __getattribute__(self, name):
        if name in ("features", "labels", "ids"):
            raise AssertionError(f"{name} was read")
        return super().__getattribute__(name)

    def __init__(self):
        """Hold nothing."""


def share_told(cause, draws):
    """In how many draws a problem's cause is named."""
    return sum(
        diagnose(problem(cause, seed), replicates=100).cause == MADE[cause] for seed in draws
    )


@pytest.mark.parametrize("cause", MADE)
def test_the_cause_is_named(cause):
    assert share_told(cause, range(5)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("cause", MADE)
def test_the_cause_is_named_in_95_of_100_draws(cause):
    assert share_told(cause, range(100, 200)) >= 95


@pytest.mark.parametrize("cause", MADE)
def test_parts_add_up(cause):
    features = problem(cause)
    document = diagnose(features, replicates=100).document
    for row in (document, *document["classes"]):
        assert list(row["parts"]) == list(CAUSES)
        assert np.isclose(sum(row["parts"].values()), row["error"])
        for name, value in row["parts"].items():
            low, high = row["intervals"][name]
            assert 0 <= low <= value <= high <= 1
    val, base = features.split("val"), features.classifier()
    (own,) = predict_classes(val, base, [Correction.baseline(base)])
    errors = {int(c): np.mean(own[0][val.labels == c] != c) for c in RARE}
    assert {row["id"]: row["error"] for row in document["classes"]} == pytest.approx(errors)
    assert document["error"] == pytest.approx(np.mean(list(errors.values())))
    assert document["heads"][0]["accuracy"]["few"] == pytest.approx(1 - document["error"])


@pytest.mark.usefixtures("one_thread")
def test_the_same_twice_and_test_is_not_read():
    features = problem("overlap under a prior")
    closed = replace(features, splits={**features.splits, "test": Unopened()})
    assert diagnose(closed).document == diagnose(features).document


def test_the_named_split_is_explained():
    features = problem("rows")
    moved = replace(features, splits={"test": features.split("val")})
    found = diagnose(moved, "test")
    assert found.cause == "rows"
    assert found.document["split"] == "test"
    assert found.document["notes"] == [
        "no train split: classes are near by the means of test"
    ]  # fmt: skip


def test_classes_in_another_order():
    features = problem("overlap")
    order = np.random.default_rng(0).permutation(len(COUNTS))
    place = np.argsort(order)
    table = ClassTable(COUNTS[order])
    splits = {n: replace(s, labels=place[s.labels]) for n, s in features.splits.items()}
    head = replace(
        features.head, weight=features.head.weight[order], bias=features.head.bias[order]
    )
    found = diagnose(replace(features, splits=splits, classes=table, head=head)).document
    own = diagnose(features).document
    assert found["error"] == pytest.approx(own["error"])
    assert found["cause"] == own["cause"]
    assert {order[row["id"]] for row in found["classes"]} == {row["id"] for row in own["classes"]}


def some(features, split="val", without=()):
    """The same features without some classes' samples in a split."""
    part = features.split(split)
    kept = part.at(np.flatnonzero(~np.isin(part.labels, without)))
    return replace(features, splits={**features.splits, split: kept})


def test_notes_say_what_was_assumed():
    features = problem("prior")
    notes = diagnose(some(features, without=RARE[:2]), k=9, replicates=100).document["notes"]
    assert notes == [
        "2 rare classes have no val image: left out", "k 9 is cut to 5, half of 10 frequent classes"
    ]  # fmt: skip
    few = diagnose(features, bins=(450, 450), k=1, replicates=100).document["notes"]
    assert few == ["with one frequent class confusion cannot be told from lack of separation"]
    # A class without training images has neither a prior nor neighbours.
    counts = COUNTS.copy()
    counts[RARE[0]] = 0
    untrained = some(replace(features, classes=ClassTable(counts)), "train", RARE[:1])
    document = diagnose(untrained, replicates=100).document
    assert "no training image" in document["notes"][0]
    assert len(document["classes"]) == len(RARE) - 1


def test_nothing_to_mend():
    features = problem("prior")
    right = replace(features, splits={**features.splits, "val": features.split("val").at(RARE)})
    labels = np.repeat(RARE, 4)
    at = FeatureSplit(np.float32(5 * np.eye(len(COUNTS))[labels]), labels)
    head = replace(features.head, bias=features.head.bias * 0)
    found = diagnose(replace(right, splits={"train": features.split("train"), "val": at},
                             head=head), replicates=100)  # fmt: skip
    assert (found.cause, found.document["sure"], found.document["error"]) == (None, None, 0)
    assert str(found).endswith("nothing to mend")


def test_a_single_image():
    features = problem("prior")
    at = features.split("val").at(np.flatnonzero(features.split("val").labels == RARE[0])[:1])
    found = diagnose(replace(features, splits={**features.splits, "val": at}), replicates=100)
    assert found.document["error"] == 1
    assert found.document["parts"]["prior"] == 0  # nothing to learn offsets from
    assert len(found.document["notes"]) == 3


def test_the_images_that_the_network_has_learned():
    notes = diagnose(problem("prior"), "train", replicates=100).document["notes"]
    assert notes == ["the network has learned the train images: errors on others have other causes"]


def test_one_image_each():
    features = problem("prior", val=1)
    document = diagnose(features, replicates=100).document
    assert all(row["intervals"]["prior"] is None for row in (document, *document["classes"]))
    assert document["sure"] is None
    assert "too few images" in answers.conclusion(document)
    assert "[no interval]" in "\n".join(answers.answer(document))


def test_a_method_that_refuses_is_left_out(monkeypatch):
    def refuse(*given, **named):
        raise InputError("not these")

    monkeypatch.setattr(heads.posthoc, "fit_each", refuse)
    document = diagnose(problem("prior"), replicates=100).document
    assert document["notes"] == [
        "logit-adjust is left out: not these", "bias is left out: not these",
        "no head is fitted to held-out features: not these",
    ]  # fmt: skip
    assert document["parts"]["prior"] == document["parts"]["rows"] == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"k": 0}, "k: found 0"), ({"folds": 1}, "folds: found 1"), ({"seed": -1}, "seed: found"),
        ({"replicates": 1}, "replicates: found 1"),
        ({"bins": (1, 2)}, "bins: .* no rare"), ({"bins": (900, 900)}, "bins: .* no frequent"),
        ({"split": "test"}, "test: absent or empty; there are: train, val; .* --split test"),
    ],
)  # fmt: skip
def test_what_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        diagnose(problem("prior"), **change)


def test_no_image_of_a_rare_class():
    with pytest.raises(InputError, match="val: no image of a rare"):
        diagnose(some(problem("prior"), without=RARE))


def test_the_call_takes_a_base():
    features = problem("rows")
    without = replace(features, head=None)
    with pytest.raises(InputError, match="head: absent"):
        ltkit.diagnose(without)
    whole = Correction.whole("own", features.classifier(), {})
    found = ltkit.diagnose(without, base=whole, replicates=100)
    assert found.cause == "rows"
    assert str(found).splitlines()[-1].startswith("mostly rows (the largest in 100 % of")
