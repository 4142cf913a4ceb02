"""Errors among the answers and their intervals, against plain forms and by simulation."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from ltkit.abstention.choosing import order_interval
from ltkit.abstention.posteriors import Groups
from ltkit.abstention.risks import Sample, interval, risks, share_interval, spread_interval

GROUPS = Groups(("few", "medium", "many"), np.array([2, 2, 1, 0, 0, 0]))


def decisions(seed, labels):
    """Who is answered, and who wrongly; rare classes less and worse."""
    rng = np.random.default_rng(seed)
    group = GROUPS.of_class[labels]
    kept = rng.random(len(labels)) < np.array([0.4, 0.7, 0.9])[group]
    wrong = rng.random(len(labels)) < np.array([0.6, 0.4, 0.15])[group] + 0.2 * kept
    return kept, wrong


def labels_of(counts=(30, 10, 20, 5, 15, 1)):
    return np.repeat(np.arange(6), counts)


def plain(labels, kept, wrong):
    """The errors, in loops."""
    found, shares = {}, {}
    for g, name in enumerate(GROUPS.names):
        lost = total = classes = 0
        for c in range(6):
            own = [i for i in range(len(labels)) if labels[i] == c and GROUPS.of_class[c] == g]
            classes += bool(own)
            lost += sum(kept[i] and wrong[i] for i in own) / max(len(own), 1)
            total += sum(kept[i] for i in own) / max(len(own), 1)
        if classes:
            found[name], shares[name] = lost / total if total else 1.0, classes
    found["balanced"] = sum(found[n] * shares[n] for n in shares) / sum(shares.values())
    found["all"] = sum(kept & wrong) / sum(kept)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_a_loop(seed):
    labels = labels_of()
    kept, wrong = decisions(seed, labels)
    found = risks(Sample.of(labels, GROUPS), kept, wrong)
    assert {name: risk.value for name, risk in found.items()} == pytest.approx(
        plain(labels, kept, wrong)
    )
    assert all(abs(risk.parts.sum()) < 1e-12 for risk in found.values())


def test_where_all_is_answered_it_is_the_balanced_accuracy():
    labels = labels_of()
    wrong = decisions(0, labels)[1]
    predicted = np.where(wrong, (labels + 1) % 6, labels)
    found = risks(Sample.of(labels, GROUPS), np.ones(len(labels), bool), wrong)
    assert found["balanced"].value == pytest.approx(1 - balanced_accuracy_score(labels, predicted))


def test_a_group_without_answers_is_wrong_and_without_samples_absent():
    labels = np.repeat([0, 2], 5)
    sample = Sample.of(labels, GROUPS)
    assert sample.figures() == ("medium", "many", "all", "balanced")
    kept = labels == 0
    found = risks(sample, kept, np.zeros(10, bool))
    assert found["medium"].value == 1
    assert found["balanced"].value == 0.5
    assert interval(found["medium"], sample) is None
    assert interval(found["balanced"], sample) is None
    none = risks(sample, np.zeros(10, bool), kept)
    assert none["all"].value == none["balanced"].value == 1


def test_parts_are_the_change_with_a_sample():
    """A figure with a sample weighted a little more, against its first order."""
    labels = labels_of()
    sample = Sample.of(labels, GROUPS)
    kept, wrong = decisions(1, labels)
    risk, step = risks(sample, kept, wrong)["few"], 1e-6
    for i in np.flatnonzero(GROUPS.of_class[labels] == 0)[:8]:
        weight = np.where(sample.group == 0, sample.weight, 0.0)
        weight[i] *= 1 + step
        moved = (weight * kept) @ wrong / (weight @ kept)
        assert (moved - risk.value) / step == pytest.approx(risk.parts[i], abs=1e-5)


def test_no_error_seen_is_no_error_of_none():
    labels = labels_of()
    sample = Sample.of(labels, GROUPS)
    kept = np.ones(len(labels), bool)
    low, high = interval(risks(sample, kept, ~kept)["balanced"], sample)
    assert low == 0
    assert 0.03 < high < 0.5


@pytest.mark.more
@pytest.mark.parametrize("name", ["few", "all", "balanced"])
def test_intervals_hold_what_they_claim(name):
    counts = (30, 30, 30, 20, 20, 20)
    labels, many = labels_of(counts), labels_of(tuple(20_000 * n // 30 for n in counts))
    truth = risks(Sample.of(many, GROUPS), *decisions(0, many))[name].value
    sample, inside = Sample.of(labels, GROUPS), 0
    for seed in range(1, 1001):
        low, high = interval(risks(sample, *decisions(seed, labels))[name], sample)
        inside += low <= truth <= high
    assert 930 <= inside <= 985


@pytest.mark.more
def test_intervals_of_differences_hold_what_they_claim():
    counts = (30, 30, 30, 20, 20, 20)

    def both(seed, labels):
        sample, (kept, wrong) = Sample.of(labels, GROUPS), decisions(seed, labels)
        fewer = kept & (
            np.random.default_rng(seed + 10_000).random(len(labels)) < 0.8 + 0.2 * ~wrong
        )
        one, other = (risks(sample, of, wrong)["balanced"] for of in (fewer, kept))
        value = one.value - other.value
        return value, spread_interval(value, one.parts - other.parts, sample)

    truth = both(0, labels_of(tuple(20_000 * n // 30 for n in counts)))[0]
    ends = [both(seed, labels_of(counts))[1] for seed in range(1, 1001)]
    assert 925 <= sum(low <= truth <= high for low, high in ends) <= 985


def test_the_interval_of_a_threshold_holds_the_true_one():
    rng, truth = np.random.default_rng(0), 0.9  # of uniform scores, a tenth is above
    inside = 0
    for _ in range(500):
        low, high = order_interval(rng.random(200), 0.1)
        inside += low <= truth <= high
    assert 465 <= inside <= 495


def test_the_ends_of_a_threshold_that_lie_beyond_all_scores():
    scores = np.arange(5.0)
    assert order_interval(scores, 0.0) == [4.0, None]  # all are below, how far above is open
    assert order_interval(scores, 0.99)[0] is None
    assert share_interval(10, 10)[1] == 1
