from itertools import pairwise

import numpy as np
import pytest

from ltkit.evaluation.frontier import LEVELS, corners, dominated_by, height, leaders, round_levels


def points(seed, count=9, digits=2):
    """(overall, few) of random points; few digits, so that some are equal."""
    rng = np.random.default_rng(seed)
    return rng.random(count).round(digits), rng.random(count).round(digits)


def reached(overall, few, level):
    """Highest few-shot accuracy of a walk where it is at a level or above, by tiny steps."""
    steps = np.linspace(0, len(few) - 1, 200_001)
    x = np.interp(steps, np.arange(len(few)), overall)
    there = np.interp(steps, np.arange(len(few)), few)[x >= level - 1e-12]
    return there.max() if len(there) else -np.inf


@pytest.mark.parametrize("seed", range(8))
def test_dominated_points_by_their_definition(seed):
    overall, few = points(seed, digits=1)
    found = dominated_by(overall, few)
    for p in range(9):
        better = [
            q
            for q in range(9)
            if overall[q] >= overall[p] and few[q] >= few[p]
            and (overall[q], few[q]) != (overall[p], few[p])
        ]  # fmt: skip
        assert (found[p] in better) if better else found[p] == -1
        assert not better or few[found[p]] == max(few[better])


@pytest.mark.parametrize("seed", range(8))
def test_the_walk_over_corners_is_the_best_mixture_of_any_two_points(seed):
    overall, few = points(seed)
    walk = corners(overall, few)
    assert few[walk[0]] == few.max()
    assert overall[walk[-1]] == overall.max()
    assert (np.diff(overall[walk]) > 0).all()
    assert (np.diff(few[walk]) < 0).all()
    levels = np.linspace(0, overall.max(), 40)
    shares = np.linspace(0, 1, 401)[:, None, None]
    mixed_overall = shares * overall + (1 - shares) * overall[:, None]
    mixed_few = shares * few + (1 - shares) * few[:, None]
    found = height(overall[walk][None], few[walk][None], levels[None])[0]
    for level, value in zip(levels, found, strict=True):
        best = mixed_few[mixed_overall >= level].max()
        assert best - 1e-12 <= value < best + 0.02  # the mixtures tried are a grid


def test_walks_of_few_points():
    assert corners(np.array([0.4]), np.array([0.2])).tolist() == [0]
    assert corners(np.array([0.4, 0.4]), np.array([0.2, 0.2])).tolist() == [0]
    assert corners(np.array([0.4, 0.4]), np.array([0.2, 0.3])).tolist() == [1]
    assert corners(np.array([0.4, 0.5]), np.array([0.3, 0.3])).tolist() == [1]
    # Three on a line: the middle one adds nothing.
    assert corners(np.array([0.25, 0.5, 0.75]), np.array([0.75, 0.5, 0.25])).tolist() == [0, 2]


def test_a_walk_that_turns_back_counts_where_it_is_highest():
    overall, few = np.array([[0.40, 0.39, 0.42]]), np.array([[0.30, 0.25, 0.10]])
    levels = np.array([[0.35, 0.40, 0.41, 0.42, 0.43]])
    # 0.41 is two thirds of the way from 0.39 to 0.42
    expected = [0.30, 0.30, 0.25 - 0.15 * 2 / 3, 0.10, -np.inf]
    np.testing.assert_allclose(height(overall, few, levels), [expected])
    turned = height(overall[:, ::-1], few[:, ::-1], levels)  # from either end
    np.testing.assert_allclose(turned, [expected])


@pytest.mark.parametrize("seed", range(6))
def test_height_is_what_tiny_steps_find(seed):
    overall, few = points(seed, count=5, digits=3)
    levels = np.linspace(0.05, 0.99, 23)
    found = height(overall[None], few[None], levels[None])[0]
    expected = [reached(overall, few, level) for level in levels]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_replicates_know_nothing_of_each_other():
    rng = np.random.default_rng(0)
    overall, few, levels = rng.random((7, 4)), rng.random((7, 4)), rng.random((7, 3))
    together = height(overall, few, levels)
    for row in range(7):
        one = slice(row, row + 1)
        np.testing.assert_array_equal(together[one], height(overall[one], few[one], levels[one]))


@pytest.mark.parametrize("seed", range(8))
def test_the_leader_is_the_highest_everywhere(seed):
    walks = [points(100 * seed + i, count=5, digits=3) for i in range(4)]
    spans = leaders(walks)
    assert spans[0][0] is None
    assert spans[-1][1] == max(x.max() for x, _ in walks)
    for (_, end, who), (start, stop, other) in pairwise(spans):
        assert end == start < stop
        assert who != other
    levels = np.random.default_rng(seed).random(500) * spans[-1][1]
    heights = np.stack([height(x[None], y[None], levels[None])[0] for x, y in walks])
    for level, column in zip(levels, heights.T, strict=True):
        (who,) = [w for a, b, w in spans if (a is None or a < level) and level <= b]
        assert column[who] == pytest.approx(column.max(), abs=1e-9)


def test_the_first_of_equal_methods_leads():
    walk = np.array([0.3, 0.4]), np.array([0.2, 0.1])
    assert leaders([walk, walk]) == [(None, 0.4, 0)]


def test_round_levels():
    assert round_levels(0.394, 0.401) == [i / 1000 for i in range(394, 402)]
    assert round_levels(0.349, 0.416) == [i / 100 for i in range(34, 42)]
    assert round_levels(0.33, 0.42) == [0.32, 0.34, 0.36, 0.38, 0.4, 0.42]
    assert round_levels(0.4, 0.4) == [0.4]
    assert round_levels(0.4123, 0.4124) == [0.412]
    for low, high in ((0.0, 1.0), (0.001, 0.9), (0.33, 0.35)):
        found = round_levels(low, high)
        assert 2 <= len(found) <= LEVELS
        assert found[0] <= low < found[1]
        assert found[-1] <= high < 2 * found[-1] - found[-2]
