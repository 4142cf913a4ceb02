"""The choice among candidates, against plain loops, and on candidates that are all alike."""

import numpy as np
import pytest
from scipy import stats

from ltkit.evaluation import metrics
from ltkit.evaluation.intervals import difference_estimate, moments
from ltkit.recommendation.choosing import Chooser, Picked
from ltkit.recommendation.objectives import Aim, Limit, Tally
from ltkit.records import ShotGroups, stratified_folds

LABELS = np.repeat(np.arange(6), [9, 4, 2, 1, 7, 5])
GROUPS = ShotGroups(np.array([0, 3]), np.array([1]), np.array([2, 4]))  # class 5 is in none
OBJECTIVES = ["all", "balanced", "few", "harmonic", "worst-group", "worst-class"]


def weights_of(labels=LABELS, groups=GROUPS, classes=6):
    return metrics.group_weights(labels, classes, groups)


def value_of(name, by_class, weights):
    """The objective of class accuracies, one by one."""
    groups = [sum(by_class[c] * w[c] for c in range(len(w)))
              for g in ("few", "medium", "many") if (w := weights.get(g)) is not None]  # fmt: skip
    if name == "worst-class":
        return min(by_class)
    if name == "worst-group":
        return min(groups)
    if name == "harmonic":
        return 0.0 if min(groups) == 0 else len(groups) / sum(1 / g for g in groups)
    return sum(a * w for a, w in zip(by_class, weights[name], strict=True))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_objectives_against_a_loop(name):
    rng, weights = np.random.default_rng(0), weights_of()
    accuracy = rng.uniform(size=(5, 6))
    accuracy[3] = 0
    aim = Aim(name, weights)
    found = aim.value(accuracy)
    expected = [value_of(name, row, weights) for row in accuracy]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    slope, step = aim.slope(accuracy[0]), 1e-7
    numeric = [(aim.value(accuracy[0] + step * row) - found[0]) / step for row in np.eye(6)]
    np.testing.assert_allclose(slope, numeric, atol=1e-5)


def test_an_objective_without_classes_is_refused():
    with pytest.raises(Exception, match=r"objective: few: no such class .*; use balanced"):
        Aim("few", {"all": np.ones(1), "balanced": np.ones(1)})
    tally = Tally(np.ones(1), np.ones(1), np.zeros((1, 1)), np.zeros((1, 1)))
    with pytest.raises(Exception, match=r"keep: few: no such class .*; leave it out"):
        tally.holds([Limit("few", 0.0)], {"all": np.ones(1)}, 0.8)


def test_gains_and_their_errors_against_numpy():
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1, 2], [8, 3, 1])
    gains = rng.integers(-1, 2, size=(4, 12))
    sums, squares = (
        np.stack([np.bincount(labels, row, minlength=3) for row in rows])
        for rows in (gains, gains**2)
    )
    tally = Tally(np.bincount(labels) * 1.0, np.zeros(3), sums, squares)
    weights = np.array([0.5, 0.3, 0.2])
    mean, error = tally.gains(weights)
    for row, m, e in zip(gains, mean, error, strict=True):
        parts = [row[labels == c] for c in range(3)]
        assert m == pytest.approx(sum(w * p.mean() for w, p in zip(weights, parts, strict=True)))
        spread = [p.var(ddof=1) / len(p) if len(p) > 1 else p[0] ** 2 for p in parts]
        assert e == pytest.approx(np.sqrt(weights**2 @ spread))


def pick(right, labels, rows, name, weights, least, factor, order):
    """The rule in plain loops: within the limit, best objective, then balanced, then simple."""
    best = None
    for k in range(len(right)):
        acc, gain, spread = [], [], []
        for c in range(6):
            own = rows & (labels == c)
            difference = right[k, own] * 1.0 - right[0, own]
            n = own.sum()
            acc.append(right[k, own].mean() if n else 1.0)
            gain.append(difference.mean() if n else 0.0)
            spread.append(difference.var(ddof=1) / n if n > 1 else float((difference**2).sum()))
        w = weights["all"]
        error = np.sqrt(sum(a * a * s for a, s in zip(w, spread, strict=True)))
        if sum(a * g for a, g in zip(w, gain, strict=True)) - factor * error < least - 1e-12:
            continue
        even = round(float(np.dot(acc, weights["balanced"])), 12)
        key = round(value_of(name, acc, weights), 12), even, -order[k], -k
        best = max(best or (key, k), (key, k))
    return best[1]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_choice_and_its_estimate_against_a_loop(name, monkeypatch):
    monkeypatch.setattr("ltkit.recommendation.choosing.AHEAD", -np.inf)  # the best, always
    rng, weights = np.random.default_rng(2), weights_of()
    right = rng.uniform(size=(9, len(LABELS))) < np.linspace(0.3, 0.7, 9)[:, None]
    order = np.array([0, 1, 1, 1, 2, 2, 2, 3, 3])
    chooser = Chooser(right, LABELS, order, Aim(name, weights), [Limit("all", -0.05)], 0.8)
    found = chooser.choose(3, 4, seed=5)
    every = LABELS >= 0
    told = name, weights, -0.05, 0.8416212335729143, order
    assert found.chosen.candidate == found.best == pick(right, LABELS, every, *told)
    gains, picks = np.zeros(len(LABELS)), []
    for repeat in range(3):
        dealt = stratified_folds(LABELS, 4, 5 + repeat)
        for fold in range(4):
            picks.append(pick(right, LABELS, dealt != fold, *told))
            inside = dealt == fold
            gains[inside] += (right[picks[-1]] * 1.0 - right[0])[inside] / 3
    assert found.chosen.picks.tolist() == picks
    np.testing.assert_allclose(found.chosen.gains.mean(axis=0), gains, atol=1e-12)


def test_a_simpler_method_is_taken_unless_the_other_is_ahead():
    labels = np.zeros(100, np.int64)
    weights = {"all": np.ones(1), "balanced": np.ones(1)}
    order = np.array([0, 1, 2])

    def choice(lead):
        """Two methods that are right on 50 samples, and on others; the second on a few more."""
        right = np.zeros((3, 100), bool)
        right[1, :50] = right[2, 50 : 100 - 10 + lead] = right[2, :10] = True
        return Chooser(right, labels, order, Aim("balanced", weights), [], 0.8).choose(2, 2, 0)

    near, far = choice(1), choice(9)
    assert (near.best, near.chosen.candidate) == (2, 1)  # ahead by 1 of 100, with an error of 9
    assert (far.best, far.chosen.candidate) == (2, 2)  # ahead by 9: a whole error


def test_the_luck_of_the_choice_is_in_no_estimate():
    """Of 40 candidates as good as the baseline, the best looks 4 points better; the folds know."""
    rng = np.random.default_rng(3)
    labels, weights = np.repeat(np.arange(5), 40), {"all": np.full(5, 0.2)}
    weights["balanced"] = weights["all"]
    lucky, honest = [], []
    for _ in range(40):
        right = rng.uniform(size=(41, 200)) < 0.5
        chooser = Chooser(right, labels, np.arange(41), Aim("balanced", weights), [], 0.8)
        found = chooser.choose(2, 5, seed=0)
        lucky.append((chooser.gains[found.best]).mean())
        honest.append(found.chosen.gains.mean())
    assert np.mean(lucky) > 0.08
    assert abs(np.mean(honest)) < 3 * np.std(honest) / np.sqrt(40)


def test_an_estimate_is_of_one_choice():
    """With one candidate in all folds it is that candidate's; where they differ, it is wider."""
    rng = np.random.default_rng(5)
    labels, weights = np.repeat(np.arange(4), 25), {"balanced": np.full(4, 0.25)}
    right = rng.uniform(size=(3, 100)) < np.array([0.5, 0.7, 0.6])[:, None]
    chooser = Chooser(right, labels, np.arange(3), Aim("balanced", weights), [], 0.8)
    own = [chooser.gains[c].astype(np.int8) for c in range(3)]
    share = weights["balanced"]
    same = Picked(1, np.full(8, 1), np.stack([own[1], own[1]]))
    expected = difference_estimate(moments(own[1][None], labels, 4), share)
    assert chooser.estimate(same, share).value == expected.value
    assert chooser.estimate(same, share).interval == pytest.approx(expected.interval)
    mixed = Picked(1, np.repeat([1, 2], 4), np.stack([own[1], own[2]]))
    found = chooser.estimate(mixed, share)
    assert found.value == pytest.approx((own[1].mean() + own[2].mean()) / 2)
    gap = own[1].mean() - own[2].mean()  # the variance of the picks' gains: (gap / 2) ** 2
    parts = [moments(own[c][None], labels, 4).spread for c in (1, 2)]
    spread = np.maximum(np.mean(parts, axis=0), parts[0])  # at least that of what is shipped
    variance = share**2 @ spread / 25
    t = [stats.t.ppf(0.975, freedom) for freedom in (96, 7)]
    half = np.sqrt(t[0] ** 2 * variance + t[1] ** 2 * (gap / 2) ** 2)
    assert found.interval[1] - found.value == pytest.approx(half)
    over = chooser.estimate(mixed, share, same)  # picks and gains of the other are taken off
    assert over.value == pytest.approx((own[2].mean() - own[1].mean()) / 2)
