"""The causes of made problems, and what is told of them."""

import numpy as np
import pytest
from known_causes import MADE, problem

from ltkit.diagnosis import diagnose
from ltkit.diagnosis.causes import CAUSES


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
    document = diagnose(problem(cause), replicates=100).document
    for row in (document, *document["classes"]):
        assert list(row["parts"]) == list(CAUSES)
        assert np.isclose(sum(row["parts"].values()), row["error"])
        for name, value in row["parts"].items():
            low, high = row["intervals"][name]
            assert low <= value <= high
