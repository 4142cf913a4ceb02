"""What is said of a rejector that ships: by simulation, of what it does on other samples."""

import numpy as np
import pytest
from known_posteriors import COUNTS, GROUPS, drawn

from ltkit.abstention.choosing import rejector_at
from ltkit.abstention.measuring import Judge
from ltkit.abstention.risks import of_fits, risks
from ltkit.records import stratified_folds


def shipped(seed, size, budget, balanced):
    """A rejector that is found on a drawn problem, and what is said of it."""
    found, sample = drawn(size, seed, balanced=balanced)
    fold = stratified_folds(sample.labels, 5, 0)
    judge = Judge(found, sample, found, sample, COUNTS, fold)
    return rejector_at(judge, GROUPS, "plug-in", budget)


def held(size, budget, balanced, draws):
    """In what share of draws the intervals hold what the rejector does on other samples."""
    far, sample = drawn(100_000, 10**6, balanced=balanced)
    inside = {"balanced": 0, "all": 0, "rejected": 0, "threshold": 0}
    for seed in range(draws):
        made, said = shipped(seed, size, budget, balanced)
        scores = made.costs.scores(far)
        kept = scores <= made.threshold
        truth = risks(sample, kept, made.costs.answers(far) != sample.labels)
        for name in ("balanced", "all"):
            low, high = said["val"]["interval"][name]
            inside[name] += low <= truth[name].value <= high
        low, high = said["val"]["rejected_interval"]
        inside["rejected"] += low <= 1 - kept.mean() <= high
        low, high = said["threshold_interval"]
        inside["threshold"] += low <= np.quantile(scores, 1 - budget) <= high
    return {name: count / draws for name, count in inside.items()}


@pytest.mark.more
@pytest.mark.parametrize("balanced", [True, False])
def test_intervals_hold_what_the_shipped_rejector_does(balanced):
    """Of the errors, those of costs that are found on other samples, too; 60 draws, 95 %."""
    found = held(400, 0.4, balanced, 60)
    assert min(found.values()) >= 0.85
    assert np.mean(list(found.values())) >= 0.92


def test_costs_that_do_not_depend_on_the_samples_add_nothing():
    assert of_fits(None) == of_fits(np.full(5, 0.3)) == 0
    # t² of one degree of freedom at 95 % is 161.4; half of the squares 2 * 0.1²
    assert of_fits(np.array([0.2, 0.4])) == pytest.approx(161.45 * 0.01, rel=1e-3)


def test_intervals_on_val_are_wider_than_of_the_samples_alone():
    """`all` is not what costs are found for, and so it moves with them."""
    made, said = shipped(0, 400, 0.4, balanced=False)
    found, sample = drawn(400, 0)
    fold = np.zeros(400, np.int64)
    judge = Judge(found, sample, found, sample, COUNTS, fold)
    assert judge.fits("max-softmax", 0.4) == {}
    low, high = said["val"]["interval"]["all"]
    assert low < said["val"]["risk"]["all"] < high
    assert made.threshold == said["threshold"]
