"""The long-tailed draw: sizes, what is held out, digests."""

import numpy as np
import pytest

from ltkit.datasets import longtail
from ltkit.errors import InputError

SETTINGS = {"resize": 8, "crop": 8, "seed": 0, "val": "none"}


@pytest.mark.parametrize("factor", [10, 20, 50, 100, 200])
def test_the_draw_is_the_one_of_the_released_code(index, factor):
    counts = longtail.exponential_counts(100, 500, factor)
    np.testing.assert_array_equal(counts, index[f"lt{factor}_counts"])
    for labels, known in (
        (index["official_order_fine_labels"], f"lt{factor}_official_index"),
        (np.repeat(np.arange(100), 500), f"lt{factor}_index"),
    ):
        drawn = longtail.draw(labels, counts, 0, "none")
        np.testing.assert_array_equal(drawn.train, index[known])
        assert drawn.val is None


@pytest.mark.parametrize(
    ("classes", "most", "factor", "total", "least", "groups"),
    [
        (100, 500, 100, 10_847, 5, (35, 35, 30)),
        (100, 500, 50, 12_608, 10, (41, 41, 18)),
        (100, 500, 20, 15_907, 25, None),
        (100, 500, 10, 19_573, 50, (69, 31, 0)),
        (100, 500, 200, 9_502, 2, None),
        (10, 5000, 100, 12_406, 50, None),
        (10, 5000, 50, 13_996, 100, None),
        (10, 5000, 20, 17_023, 250, None),
        (10, 5000, 10, 20_431, 500, None),
        (10, 5000, 1, 50_000, 5000, None),
    ],
)
def test_published_sizes(classes, most, factor, total, least, groups):
    counts = longtail.exponential_counts(classes, most, factor)
    assert (counts.sum(), counts.max(), counts.min()) == (total, most, least)
    if groups:
        assert ((counts > 100).sum(), (counts < 20).sum()) == (groups[0], groups[2])


@pytest.mark.parametrize("factor", [0.5, 501, float("nan"), float("inf")])
def test_an_imbalance_factor_out_of_range(factor):
    with pytest.raises(InputError, match=r"ir: found .*, expected .* from 1 to 500"):
        longtail.exponential_counts(100, 500, factor)


def test_a_class_with_too_few_images_to_draw_from():
    with pytest.raises(InputError, match="class 1: found 2 images, expected 3"):
        longtail.draw(np.array([0, 0, 0, 1, 1]), np.array([3, 3]), 0, "none")


def test_balanced_validation_takes_what_the_draw_left_out_first():
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(4), 50))
    counts = np.array([50, 35, 30, 5])
    none = longtail.draw(labels, counts, 3, "none")
    drawn = longtail.draw(labels, counts, 3, "balanced")
    assert np.bincount(labels[drawn.val]).tolist() == [20] * 4
    assert np.bincount(labels[drawn.train]).tolist() == [30, 30, 30, 5]
    assert not set(drawn.train) & set(drawn.val)
    assert set(drawn.train) <= set(none.train)
    given_up = labels[sorted(set(drawn.val) & set(none.train))]
    assert np.bincount(given_up, minlength=4).tolist() == [20, 5, 0, 0]


def test_balanced_validation_leaves_every_class_an_image():
    drawn = longtail.draw(np.repeat([0, 1], [20, 1]), np.array([20, 1]), 0, "balanced")
    assert (len(drawn.train), len(drawn.val)) == (2, 19)


def test_holdout_is_stratified_and_each_class_keeps_one():
    sizes = [100, 10, 3, 2, 1]
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), sizes))
    kept, out = longtail.hold_out(labels, seed=0)
    assert np.bincount(labels[out], minlength=5).tolist() == [20, 2, 1, 0, 0]
    np.testing.assert_array_equal(np.sort(np.concatenate([kept, out])), np.arange(len(labels)))
    assert not np.array_equal(out, longtail.hold_out(labels, seed=1)[1])


def test_holdout_stays_within_the_published_training_set():
    labels, counts = np.repeat([0, 1, 2], 50), np.array([50, 20, 5])
    none = longtail.draw(labels, counts, 0, "none")
    drawn = longtail.draw(labels, counts, 0, "holdout")
    assert sorted([*drawn.train, *drawn.val]) == sorted(none.train)
    assert np.bincount(labels[drawn.val]).tolist() == [10, 4, 1]


def test_nothing_to_hold_out():
    with pytest.raises(InputError, match="no class of 3 or more images; pass val=none"):
        longtail.hold_out(np.array([0, 0, 1]), seed=0)


def test_digests_tell_draws_apart():
    labels, counts = np.repeat([0, 1], 60), np.array([60, 6])
    digests = set()
    for seed in (0, 1):
        for val in ("none", "balanced", "holdout"):
            drawn = longtail.draw(labels, counts, seed, val)
            digests.add(longtail.index_digest(drawn.train, drawn.val))
            again = longtail.draw(labels, counts, seed, val)
            assert longtail.index_digest(again.train, again.val) in digests
    assert len(digests) == 6
