"""Whole comparisons, against a naive form."""

import numpy as np
import pytest
from compared import COUNTS, hits, noisy, some_rows, told
from scipy import stats

from ltkit.errors import InputError
from ltkit.evaluation import Entry, compare, metrics
from ltkit.evaluation.resampling import bootstrap
from ltkit.records import (
    FeatureSet,
    FeatureSplit,
    shot_groups,
)

# Whole comparisons


def two_methods():
    """Test labels of 4 a class; a method better on few, one better on the others."""
    labels = np.repeat(np.arange(6), 4)
    own = np.tile([True, True, False, False], 6)
    own[16:] = False
    one = own.copy()
    one[[16, 17, 18, 20]] = True  # few: 3 and 1 of 4
    one[[0, 4]] = False  # many: one each
    other = own.copy()
    other[[2, 6, 16]] = True
    return told(
        {"test": labels},
        hits(labels, own),
        one=[({"tau": 1.0}, hits(labels, one))],
        other=[({"tau": 2.0}, hits(labels, other))],
    )


def test_pairs_by_hand():
    features, entries = two_methods()
    document = compare(features, "test", entries, replicates=200)
    assert [(p["first"], p["second"]) for p in document["pairs"]] == [
        ("one tau 1", "baseline"),
        ("other tau 2", "baseline"),
        ("other tau 2", "one tau 1"),
    ]
    first, _, last = document["pairs"]
    assert first["difference"] == pytest.approx(
        {"few": 0.5, "medium": 0, "many": -0.25, "all": 2 / 24, "balanced": 2 / 24}
    )
    low, high = first["interval"]["medium"]
    assert low == -high < 0  # both are right on the same samples, of eight
    assert first["mcnemar"] == {
        "only_first": 4, "only_second": 2, "statistic": None,
        "p": pytest.approx(stats.binomtest(4, 6).pvalue),
    }  # fmt: skip
    assert first["classes"] == {
        "wins": [{"id": 4, "name": "4", "gain": 0.75}, {"id": 5, "name": "5", "gain": 0.25}],
        "losses": [{"id": 0, "name": "0", "gain": -0.25}, {"id": 1, "name": "1", "gain": -0.25}],
        "ties": 2,
    }
    # The other gets 0 and 1 right twice more, 4 twice and 5 once less: 4 won, 3 lost.
    assert (last["mcnemar"]["only_first"], last["mcnemar"]["only_second"]) == (4, 3)
    assert last["difference"]["few"] == -0.375
    assert document["groups"] == {"few": 2, "medium": 2, "many": 2}
    assert document["samples"] == {"few": 8, "medium": 8, "many": 8}


def test_against_turns_pairs_and_curves_to_one():
    features, entries = two_methods()
    for name in ("one", "one tau 1"):
        document = compare(features, "test", entries, against=name, at=[0.4], replicates=100)
        assert document["against"] == "one tau 1"
        assert [(p["first"], p["second"]) for p in document["pairs"]] == [
            ("baseline", "one tau 1"), ("other tau 2", "one tau 1")
        ]  # fmt: skip
        gaps = document["frontier"]["gaps"]
        assert [(g["first"], g["second"]) for g in gaps] == [("baseline", "one"), ("other", "one")]
    with pytest.raises(InputError, match=r"^against: found 'tree'.* there are: baseline, one tau"):
        compare(features, "test", entries, against="tree", replicates=100)


def test_single_settings_are_compared_where_both_get():
    features, entries = two_methods()  # overall 8, 10 and 11 of 24; few 0, 4 and 1 of 8
    document = compare(features, "test", entries, at=[0.3, 0.4, 0.45, 0.5], replicates=100)
    frontier = document["frontier"]
    assert frontier["few"] == {
        "baseline": [0.0, None, None, None],
        "one": [0.5, 0.5, None, None],
        "other": [0.125, 0.125, 0.125, None],
    }
    found = {(g["first"], g["second"], g["overall"]): g["gap"] for g in frontier["gaps"]}
    assert found["one", "other", 0.4] == 0.375
    assert found["other", "one", 0.4] == -0.375
    assert found["other", "one", 0.45] is None
    assert frontier["best"] == [
        {"from": None, "to": round(10 / 24, 12), "method": "one"},
        {"from": round(10 / 24, 12), "to": round(11 / 24, 12), "method": "other"},
    ]
    points = [p for m in document["methods"] for p in m["points"]]
    assert [p["dominated_by"] for p in points] == ["one tau 1", None, None]
    assert all(p["on_curve"] and p["val"] is None for p in points)


def knobs(val_right, test_right):
    """A method whose settings get so many right in each split: (few, many) of 40 each.

    Few-shot samples are of classes 4 and 5, the others of 0 and 1; every 4th is right at random
    places, the same ones in all settings, so that more right includes fewer.
    """
    labels = np.array([4, 5] * 20 + [0, 0, 0, 1] * 10)
    rng = np.random.default_rng(0)
    order = {split: [rng.permutation(40) for _ in range(2)] for split in ("val", "test")}

    def right(split, few, many):
        return np.concatenate(
            [place < n for place, n in zip(order[split], (few, many), strict=True)]
        )

    runs = []
    for number, (on_val, on_test) in enumerate(zip(val_right, test_right, strict=True)):
        predicted = [hits(labels, right("val", *on_val)), hits(labels, right("test", *on_test))]
        runs.append(({"tau": float(number)}, np.concatenate(predicted)))
    own = np.concatenate([hits(labels, right(split, 4, 32)) for split in ("val", "test")])
    return labels, own, runs


def test_the_curve_of_one_knob_has_every_setting_in_its_order():
    """Whatever val says of them: there setting 1 is under the line of 0 and 2."""
    labels, own, runs = knobs([(20, 24), (11, 28), (10, 36)], [(18, 26), (14, 28), (8, 38)])
    turned = [runs[1], runs[2], runs[0]]
    for given, val in ((runs, labels), (turned, labels), (turned, None)):
        splits = {"train" if val is None else "val": labels, "test": labels}
        features, entries = told(splits, own, m=given)
        document = compare(
            features, "test", entries, select=None, at=[0.5, 0.535, 0.56], replicates=100
        )
        assert document["methods"][1]["knob"] == "tau"
        assert all(p["on_curve"] for p in document["methods"][1]["points"])
        # In samples of 80 and 40: (44, 18), (42, 14), (46, 8); 44.8 is 2.8 of 4 from 42 to 46.
        few = document["frontier"]["few"]["m"]
        assert few == pytest.approx([0.45, 0.45, (14 - 6 * 2.8 / 4) / 40])


def two_knobs(runs):
    """Settings of two knobs, which have no order."""
    return [({"few": s["tau"], "medium": -(s["tau"] ** 2)}, p) for s, p in runs]


def test_curves_of_several_knobs_are_chosen_on_val_and_measured_on_the_split():
    """On val setting 1 is under the line of 0 and 2; on test it would be the best of all."""
    labels, own, runs = knobs([(20, 24), (11, 28), (10, 36)], [(18, 26), (40, 40), (8, 34)])
    features, entries = told({"val": labels, "test": labels}, own, m=two_knobs(runs))
    document = compare(features, "test", entries, select="all", at=[0.5, 0.535], replicates=100)
    points = document["methods"][1]["points"]
    assert [p["on_curve"] for p in points] == [True, False, True]
    assert [p["in_pairs"] for p in points] == [False, False, True]
    assert [p["val"]["all"] for p in points] == [44 / 80, round(39 / 80, 12), round(46 / 80, 12)]
    assert [p["accuracy"]["few"] for p in points] == [0.45, 1.0, 0.2]
    # On test the walk goes from (44, 18) of 80 and 40 straight down to (42, 8): it never gets
    # beyond 0.55.
    assert document["frontier"]["chosen_on"] == "val"
    assert document["frontier"]["few"]["m"] == [0.45, 0.45]
    few = compare(features, "test", entries, select="few", replicates=100)
    assert [p["in_pairs"] for p in few["methods"][1]["points"]] == [True, False, False]
    every = compare(features, "test", entries, select=None, replicates=100)
    assert [p["in_pairs"] for p in every["methods"][1]["points"]] == [True, True, True]
    assert [p["on_curve"] for p in every["methods"][1]["points"]] == [True, False, True]
    assert len(every["pairs"]) == 6
    assert every["methods"][1]["points"][0]["val"]["few"] == 0.5


def test_without_val_the_curve_of_several_knobs_is_the_hull_of_the_split_itself():
    labels, own, runs = knobs([(0, 0)] * 3, [(18, 26), (40, 40), (8, 34)])
    runs = two_knobs(runs)
    features, entries = told({"train": labels, "test": labels}, own, m=runs)
    with pytest.raises(InputError, match="no validation split to choose a setting of m on"):
        compare(features, "test", entries, replicates=100)
    document = compare(features, "test", entries, select=None, replicates=100)
    assert document["frontier"]["chosen_on"] == "test"
    assert [p["on_curve"] for p in document["methods"][1]["points"]] == [False, True, False]
    assert [p["val"] for p in document["methods"][1]["points"]] == [None] * 3
    # A validation split without few-shot samples cannot choose a curve either.
    base_only = np.where(labels > 3, labels - 4, labels)
    features, entries = told({"val": base_only, "test": labels}, own, m=runs)
    document = compare(features, "test", entries, replicates=100)
    assert document["frontier"]["chosen_on"] == "test"
    assert document["methods"][1]["points"][0]["val"]["few"] is None


@pytest.mark.parametrize("level", [0.525, 0.58])
def test_the_gap_of_curves_is_that_of_each_replicates_lines(level):
    """Interpolated afresh, from a bootstrap of the samples written out, at levels that move."""
    settings = [(34, 6), (26, 22), (14, 40)], [(30, 6), (20, 24), (8, 40)]
    (labels, own, one), (*_, other) = (knobs(right, right) for right in settings)
    features, entries = told({"val": labels, "test": labels}, own, one=one, other=other)
    document = compare(features, "test", entries, at=[level], replicates=400, seed=7)
    (gap,) = [
        g for g in document["frontier"]["gaps"] if (g["first"], g["second"]) == ("one", "other")
    ]
    # The walks, in samples: one (40, 34), (48, 26), (54, 14); other (36, 30), (44, 20), (48, 8).
    by_hand = {0.525: (32, 22.5), 0.58: (27.6, 12.8)}[level]  # at 42 and at 46.4
    for name, value in zip(("one", "other"), by_hand, strict=True):
        assert document["frontier"]["few"][name] == [pytest.approx(value / 40)]
    assert gap["gap"] == pytest.approx((by_hand[0] - by_hand[1]) / 40)

    right = [np.array(p)[80:] == labels for p in (own, *(p for _, p in [*one, *other]))]
    weights = metrics.group_weights(labels, 6, shot_groups(COUNTS))
    drawn = bootstrap(np.array(right), labels, weights, replicates=400, seed=7)
    few, overall = (drawn[list(weights).index(name)] for name in ("few", "all"))
    gaps = []
    for x, y in zip(overall, few, strict=True):
        there = level + x[0] - 36 / 80
        heights = []
        for walk in ([1, 2, 3], [4, 5, 6]):
            ends = [i for i in walk if x[i] >= there - 1e-12]
            if not ends:
                heights.append(-np.inf)
            elif ends[0] == walk[0]:
                heights.append(y[walk[0]])
            else:
                i = ends[0]
                share = (there - x[i - 1]) / (x[i] - x[i - 1])
                heights.append((1 - share) * y[i - 1] + share * y[i])
        if max(heights) > -np.inf:
            gaps.append(heights[0] - heights[1])
    bounds = np.sort(gaps)[[int(np.ceil(q * len(gaps))) - 1 for q in (0.025, 0.975)]]
    assert gap["interval"][0] == pytest.approx(bounds[0], abs=0.01)
    assert gap["interval"][1] == (
        None if np.isinf(bounds[1]) else pytest.approx(bounds[1], abs=0.01)
    )
    assert np.isinf(bounds[1]) == (level == 0.58)  # there the other often does not get


def test_what_val_chose_is_drawn_again():
    """Settings that are good on test and nearly equal on val: which are on the curve is luck."""
    val, test = [(20, 20), (19, 22), (20, 20)], [(34, 6), (26, 22), (14, 40)]
    labels, own, runs = knobs(val, test)
    features, entries = told({"val": labels, "test": labels}, own, m=two_knobs(runs))
    (gap,) = compare(features, "test", entries, against="baseline", at=[0.4], replicates=400,
                     select="few")["frontier"]["gaps"]  # fmt: skip
    fixed, entries = told({"val": labels, "test": labels}, own, m=runs)
    (other,) = compare(fixed, "test", entries, against="baseline", at=[0.4], replicates=400,
                       select="few")["frontier"]["gaps"]  # fmt: skip
    (low, high), (least, most) = gap["interval"], other["interval"]
    assert high - low > 1.3 * (most - least)


def test_settings_that_are_right_alike_never_differ():
    """In each replicate both have the same samples and the same seeds."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    seeds = [hits(labels, rng.random(120) < 0.5) for _ in range(4)]
    runs = [({"rho": r, "seed": s}, seeds[s]) for r in (1.0, 2.0) for s in range(4)]
    features, entries = told({"test": labels}, labels, m=runs)
    document = compare(features, "test", entries, select=None, replicates=100)
    (pair,) = [
        p for p in document["pairs"] if p["second"] == "m rho 1" and p["first"] != "baseline"
    ]
    assert pair["seed_share"]["few"] == pair["seed_share"]["all"] == 0
    assert pair["p"]["all"] == 1
    assert max(pair["interval"]["all"]) < 0.04  # three of 120 at most, and t


def test_the_gap_of_two_points_has_the_spread_of_its_closed_form():
    """Two settings of the same overall accuracy: their gap is the paired difference of few."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 100)
    right = {name: rng.random(600) < 0.6 for name in ("own", "one", "other")}
    for name in ("one", "other"):
        right[name][:100] = True  # far above the level
    features, entries = told(
        {"test": labels},
        hits(labels, right["own"]),
        **{name: [({}, hits(labels, right[name]))] for name in ("one", "other")},
    )
    document = compare(features, "test", entries, at=[0.5], replicates=20_000)
    (gap,) = [
        g for g in document["frontier"]["gaps"] if (g["first"], g["second"]) == ("other", "one")
    ]
    gain = right["other"].astype(float) - right["one"]
    spread = np.sqrt(sum(gain[labels == c].var(ddof=1) / 100 for c in (4, 5))) / 2
    mean = gain[400:].mean()
    assert gap["gap"] == pytest.approx(mean)
    z = stats.norm.ppf(0.975) * spread
    assert gap["interval"] == pytest.approx([mean - z, mean + z], abs=0.1 * z)
    pair = document["pairs"][-1]
    assert pair["interval"]["few"] == pytest.approx(gap["interval"], abs=0.1 * z)


def test_several_seeds_are_one_setting_with_their_spread():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), 20)
    runs = [({"rho": r, "seed": s}, hits(labels, rng.random(120) < p))
            for r, p in ((1.0, 0.7), (0.5, 0.5)) for s in range(5)]  # fmt: skip
    both = [(s, np.concatenate([p, p])) for s, p in runs]
    own = np.concatenate([labels, labels])
    features, entries = told({"val": labels, "test": labels}, own, alphanet=both)
    document = compare(features, "test", entries, replicates=4000)
    points = document["methods"][1]["points"]
    assert [(p["label"], p["runs"]) for p in points] == [
        ("alphanet rho 0.5", 5), ("alphanet rho 1", 5)
    ]  # fmt: skip
    assert [p["in_pairs"] for p in points] == [False, True]
    right = np.array([p == labels for _, p in runs[:5]])
    few = right[:, 80:].mean(axis=1)
    assert points[1]["accuracy"]["few"] == pytest.approx(few.mean())
    assert points[1]["std"]["few"] == pytest.approx(few.std(ddof=1))
    assert 0 <= points[1]["seed_share"]["few"] < 1
    low, high = points[1]["interval"]["few"]
    assert low < few.mean() < high
    (pair,) = document["pairs"]
    assert pair["mcnemar"] is None
    assert pair["p"]["all"] < 1e-4
    assert document["methods"][0]["points"][0]["std"] is None


def test_labels_name_what_differs():
    labels = np.repeat(np.arange(6), 2)
    runs = [
        ({"few": few, "share": 0.5, "mode": mode}, labels)
        for few, mode in ((1.0, "a"), (0.5, "a"), (0.5, "b"))
    ]
    features, entries = told({"test": labels}, labels, bias=runs)
    document = compare(features, "test", entries, select=None, replicates=100)
    assert [p["label"] for p in document["methods"][1]["points"]] == [
        "bias few 1 mode a", "bias few 0.5 mode a", "bias few 0.5 mode b"
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"^against: found 'bias'.*bias few 0.5 mode a"):
        compare(features, "test", entries, select=None, against="bias", replicates=100)


def test_splits_that_lack_something():
    labels = np.arange(6)
    features, entries = told({"test": labels}, labels, m=[({}, labels)])
    document = compare(features, "test", entries, replicates=100)
    low, high = document["methods"][1]["points"][0]["interval"]["few"]  # one sample a class
    assert low < 0.3
    assert high == 1
    assert document["frontier"]["gaps"][0]["gap"] == 0
    assert document["frontier"]["gaps"][0]["interval"] is None

    labels = np.repeat(np.arange(4), 5)
    worse = hits(labels, np.arange(20) % 5 > 0)
    features, entries = told({"test": labels}, labels, m=[({}, worse)])
    document = compare(features, "test", entries, replicates=100)
    assert document["frontier"] is None
    assert document["untested_classes"] == 2
    (point,) = document["methods"][1]["points"]
    assert point["accuracy"]["few"] is None
    assert point["interval"]["few"] is None
    assert (point["on_curve"], point["dominated_by"]) == (False, None)
    assert document["pairs"][0]["classes"]["ties"] == 0
    assert len(document["pairs"][0]["classes"]["losses"]) == 4


def test_wrong_inputs():
    labels = np.arange(6)
    features, entries = told({"test": labels}, labels, m=[({}, labels)])
    with pytest.raises(InputError, match="no split val; there are: test"):
        compare(features, "val", entries)
    with pytest.raises(InputError, match="found no correction of it"):
        compare(features, "test", [])
    empty = FeatureSplit(np.empty((0, 6), np.float32), np.empty(0, np.int64))
    with pytest.raises(InputError, match="test: found no sample"):
        compare(FeatureSet({"test": empty}, features.classes, features.head), "test", entries)
    with pytest.raises(InputError, match="head: absent"):
        compare(FeatureSet(features.splits, features.classes), "test", entries)


def test_the_seed_makes_the_intervals_of_gaps():
    features = noisy()
    entry = Entry("made", "m.h5", some_rows(features))
    first, again, other = (
        compare(features, "test", [entry], at=[0.1], replicates=200, seed=s) for s in (0, 0, 1)
    )
    assert first == again
    assert first["frontier"]["gaps"] != other["frontier"]["gaps"]
    assert first["pairs"] == other["pairs"]
