"""What an error is made of: against a loop, by hand, and by simulation."""

import numpy as np
import pytest

from ltkit.diagnosis.causes import Outcomes, find

RARE, FREQUENT = np.array([4, 5]), np.array([0, 1, 2, 3])
NEAR = np.array([[0], [3]])


def by_loop(labels, predicted, rare, near, frequent):
    """The parts of one rare class's error, sample by sample."""
    own, offset, anew = predicted
    among = {c: labels == c for c in {*frequent, rare}}

    def gives(before, after, others):
        moved = 0.0
        for j in others:
            there = [(b, a) for b, a, y in zip(before, after, labels, strict=True) if y == j]
            to, back = ((j, rare), (rare, j))
            moved += (there.count(to) - there.count(back)) / len(there)
        return moved

    others = [j for j in frequent if j not in near]
    error = np.mean(own[among[rare]] != rare)
    n = np.mean([p in near for p in anew[among[rare]]])
    f = np.mean([p in others for p in anew[among[rare]]])
    found = []
    for before, after in ((own, offset), (offset, anew)):
        gain = np.mean(after[among[rare]] == rare) - np.mean(before[among[rare]] == rare)
        costs = gives(before, after, near), gives(before, after, others)
        cost = min(max(sum(costs), 0), max(gain, 0))
        plus = [max(c, 0) for c in costs]
        n += cost * plus[0] / sum(plus) if cost else 0
        f += cost * plus[1] / sum(plus) if cost else 0
        found.append(gain - cost)
    rest = error - sum(found)
    confusion = min(max(n - f * len(near) / len(others), 0), max(rest, 0))
    return [*found, confusion, rest - confusion]


def drawn(rng, each=40, chances=None):
    """Labels and predictions of three heads that err at random."""
    labels = np.repeat(np.arange(6), each)
    rows = [rng.permutation(np.where(rng.random(len(labels)) < 0.5, labels, rng.integers(0, 6)))]
    rows = [np.where(rng.random(len(labels)) < r, labels, rng.integers(0, 6, len(labels)))
            for r in (0.3, 0.5, 0.6)]  # fmt: skip
    return labels, np.int32(rows)


def outcomes(labels, predicted):
    return Outcomes(labels, predicted, RARE, NEAR, FREQUENT)


@pytest.mark.parametrize("seed", range(20))
def test_against_a_loop(seed):
    labels, predicted = drawn(np.random.default_rng(seed))
    found = find(outcomes(labels, predicted), replicates=100, seed=0)
    for place, (rare, near) in enumerate(zip(RARE, NEAR, strict=True)):
        expected = by_loop(labels, predicted, rare, near, FREQUENT)
        assert np.allclose(found.parts[place], expected, atol=1e-9)
