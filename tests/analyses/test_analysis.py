"""What corrections do: counts worked out by hand, plain loops and NumPy as second formulations."""

import itertools

import numpy as np
import pytest
from made import refused
from scipy import stats

from ltkit.evaluation import Entry, analysis, metrics
from ltkit.records import Classifier, Correction, Neighbors, shot_groups

C = 9
COUNTS = np.array([300, 200, 120, 60, 30, 25, 12, 8, 5])
GROUPS = shot_groups(COUNTS)
RNG = np.random.default_rng(3)
LABELS = RNG.permutation(np.repeat(np.arange(C), [7, 9, 4, 8, 6, 5, 10, 3, 6]))
BEFORE = np.where(RNG.random(len(LABELS)) < 0.4, LABELS, RNG.integers(0, C, len(LABELS)))
AFTER = np.where(RNG.random((3, len(LABELS))) < 0.6, LABELS, RNG.integers(0, C, (3, len(LABELS))))
NEAR = Neighbors(
    np.array([6, 7, 8]),
    np.array([[0, 3], [5, 2], [4, 0]]),
    np.array([[1, 3], [0.5, 1], [4, 5]], dtype=np.float32),
)


def accuracy(predicted, class_id):
    own = predicted[class_id == LABELS]
    return sum(int(p) == class_id for p in own) / len(own)


def case(rho, predicted=None, name="alphanet", seeds=(0, 1, 2), class_id=(6, 7, 8), **settings):
    settings = {"k": 5, "metric": "euclidean", "rho": rho} | settings
    predicted = (AFTER if predicted is None else predicted)[: len(seeds)]
    runs = tuple({"seed": seed} for seed in seeds)
    rows, count = np.array(class_id), len(class_id)
    made = Correction(
        "alphanet", rows, np.zeros((len(runs), count, 2)), np.zeros((len(runs), count)), runs
    )
    entry = Entry(name, f"{name}.h5", made)
    return analysis.Case(entry, name, settings, list(range(len(runs))), predicted)


def test_cases_are_the_settings_with_the_predictions_of_their_seeds():
    runs = [{"rho": r, "seed": s, "lr": 0.1} for r in (2.0, 0.5) for s in (4, 7)]
    correction = Correction(
        "alphanet", np.array([6]), np.zeros((4, 1, 2)), np.zeros((4, 1)), tuple(runs)
    )
    predicted = np.arange(8).reshape(4, 2)
    other = Correction("crt", np.array([6]), np.zeros((2, 1, 2)), np.zeros((2, 1)),
                       ({"lr": 0.1, "tau": 1}, {"lr": 0.01, "tau": 1}))  # fmt: skip
    entries = [Entry("a", "a.h5", correction), Entry("crt", "c.h5", other)]
    small, large, *trained = analysis.cases(entries, [predicted, predicted[:2]])
    assert (small.label, small.settings, small.seeds) == (
        "a rho 0.5", {"lr": 0.1, "rho": 0.5}, (4, 7)
    )  # fmt: skip
    assert small.predicted.tolist() == [[4, 5], [6, 7]]
    assert large.predicted.tolist() == [[0, 1], [2, 3]]
    assert [(t.label, t.seeds) for t in trained] == [
        ("crt lr 0.1 tau 1", (None,)), ("crt lr 0.01 tau 1", (None,))
    ]  # fmt: skip


def test_mean_and_deviation_over_runs():
    mean, std = analysis.mean_and_std(np.array([[1, 2], [3, 2], [8, 2]]))
    assert mean.tolist() == [4, 2]
    np.testing.assert_allclose(std, [np.sqrt((9 + 1 + 16) / 2), 0])
    assert np.isnan(analysis.mean_and_std(np.array([[1.0, 2.0]]))[1]).all()


def test_spearman_is_the_correlation_of_ranks():
    x, y = np.array([3.0, 1, 4, 1, 5, 9]), np.array([2.0, 7, 1, 8, 2, 0])
    x_rank, y_rank = np.array([3, 1.5, 4, 1.5, 5, 6]), np.array([3.5, 5, 2, 6, 3.5, 1])
    assert analysis.spearman(x, y) == pytest.approx(np.corrcoef(x_rank, y_rank)[0, 1])
    assert analysis.spearman(x, np.exp(x)) == pytest.approx(1)
    distinct = np.array([10, 20, 40, 30, 50.0])  # d^2: 0 0 1 1 0
    assert analysis.spearman(np.arange(5), distinct) == pytest.approx(1 - 6 * 2 / (5 * 24))


@pytest.mark.parametrize(
    ("x", "y"), [([1, 2], [2, 1]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [2, 2, 2])]
)
def test_spearman_of_two_pairs_or_a_constant_is_not_defined(x, y):
    assert np.isnan(analysis.spearman(np.array(x), np.array(y)))


def test_accuracy_by_distance_against_a_loop_and_scipy():
    every = Neighbors(np.arange(C), RNG.integers(0, C, (C, 4)), RNG.random((C, 4)))
    found = analysis.by_distance(BEFORE, AFTER, LABELS, C, every)
    distance = [sum(row) / 4 for row in every.distance.tolist()]
    np.testing.assert_allclose(found.distance, distance)
    before = [accuracy(BEFORE, c) for c in range(C)]
    after = np.array([[accuracy(run, c) for c in range(C)] for run in AFTER])
    np.testing.assert_allclose(found.before, before)
    np.testing.assert_allclose(found.after, after)

    def r(values):
        return stats.spearmanr(values, distance).statistic

    mean = np.round(after.mean(axis=0), 9)
    assert found.before_r == pytest.approx(r(before))
    assert found.after_r == pytest.approx(r(mean))
    assert found.change_r == pytest.approx(r(np.round(after.mean(axis=0) - before, 9)))
    assert found.run_after_r == pytest.approx([r(run) for run in after])
    assert found.run_change_r == pytest.approx([r(np.round(run - before, 9)) for run in after])
    assert len({round(v, 6) for v in (found.before_r, found.after_r, found.change_r)}) == 3


def test_accuracy_by_distance_is_of_the_classes_asked_for():
    found = analysis.by_distance(BEFORE, AFTER, LABELS, C, NEAR)
    assert found.class_id.tolist() == [6, 7, 8]
    assert found.distance.tolist() == [2, 0.75, 4.5]
    assert found.before.tolist() == pytest.approx([accuracy(BEFORE, c) for c in (6, 7, 8)])


def test_classes_without_a_sample_are_left_out():
    there = LABELS != 7
    found = analysis.by_distance(BEFORE[there], AFTER[:, there], LABELS[there], C, NEAR)
    assert found.class_id.tolist() == [6, 8]
    assert found.distance.tolist() == [2, 4.5]
    assert np.isnan(found.before_r)
    none = LABELS < 6
    refused(
        lambda: analysis.by_distance(BEFORE[none], AFTER[:, none], LABELS[none], C, NEAR),
        "found no sample of these classes", "choose others",
    )  # fmt: skip


def test_equal_accuracies_are_ties_however_they_were_summed():
    """Both classes go from 3/10 to a mean of 6/10, by different runs."""
    labels = np.repeat(np.arange(3), 10)

    def run(*hits):
        right = np.concatenate([np.arange(10) < n for n in hits])
        return np.where(right, labels, (labels + 1) % 3)

    after = np.stack([run(1, 8, 0), run(8, 9, 0), run(9, 1, 1)])
    near = Neighbors(np.arange(3), np.ones((3, 1), int), np.array([[1.0], [2.0], [3.0]]))
    found = analysis.by_distance(run(3, 3, 3), after, labels, 3, near)
    # Ranks of the change 2.5, 2.5, 1 with distances 1, 2, 3.
    assert found.change_r == pytest.approx(np.corrcoef([2.5, 2.5, 1], [1, 2, 3])[0, 1])
    assert found.after_r == pytest.approx(found.change_r)


def test_thirds_go_from_the_nearest_to_the_farthest():
    assert analysis.thirds([5.0, 1, 4, 2, 3, 9, 8]) == [[1, 3, 4], [0, 2], [5, 6]]


def test_pairs_of_neighbours_and_of_a_table():
    assert analysis.pairs_of(NEAR).tolist() == [[6, 0], [6, 3], [7, 5], [7, 2], [8, 4], [8, 0]]
    related = np.array([[True, True, False], [False, True, False], [True, False, True]])
    assert analysis.pairs_within(related).tolist() == [[0, 1], [2, 0]]


def test_a_neighbour_is_one_of_the_true_class_not_of_the_predicted():
    pairs = np.array([[0, 1], [2, 0]])
    labels, predicted = np.array([0, 1, 0, 2, 2]), np.array([1, 0, 2, 0, 2])
    assert analysis.statuses(predicted, labels, 3, pairs).tolist() == [1, 2, 2, 1, 0]


def test_flows_against_a_loop():
    pairs = [(a, b) for a, b in itertools.permutations(range(C), 2) if (a * b + b) % 3 == 0]
    found = analysis.flow(BEFORE, AFTER, LABELS, C, np.array(pairs))

    def status(true, predicted):
        return 0 if true == predicted else 1 if (true, predicted) in pairs else 2

    count = np.zeros((3, 3, 3), int)
    for run, predicted in enumerate(AFTER.tolist()):
        for true, was, now in zip(LABELS.tolist(), BEFORE.tolist(), predicted, strict=True):
            count[run, status(true, was), status(true, now)] += 1
    np.testing.assert_array_equal(found.count, count)
    assert (count > 0).sum() > 20
    assert found.n == len(LABELS)
    assert found.before.tolist() == [
        sum(status(t, p) == s for t, p in zip(LABELS, BEFORE, strict=True)) for s in range(3)
    ]
    assert found.after.tolist() == [
        [sum(status(t, p) == s for t, p in zip(LABELS, run, strict=True)) for s in range(3)]
        for run in AFTER
    ]
    assert found.before[0] == (BEFORE == LABELS).sum()


def test_flows_need_no_small_integers():
    """Class ids whose product is beyond 32 bits, in predictions of 32 bits."""
    many = 100_000
    labels = np.array([99_999, 99_998])
    predicted = np.array([99_997, 99_997], dtype=np.int32)
    pairs = np.array([[99_999, 99_997]], dtype=np.int64)
    assert analysis.statuses(predicted, labels, many, pairs).tolist() == [1, 2]


def test_rho_curves_against_evaluation_run_by_run():
    found = [case(1.0), case(0.5, AFTER[::-1]), case(1.0, name="random", metric="random", k=2)]
    near, control = analysis.rho_curves(found, BEFORE, LABELS, C, GROUPS)
    assert (near.name, near.metric, near.k, near.files) == (
        "euclidean, k 5", "euclidean", 5, ("alphanet.h5",)
    )  # fmt: skip
    assert near.rho.tolist() == [0.5, 1]
    assert near.runs.tolist() == [3, 3]
    assert (control.name, control.rho.tolist()) == ("random, k 2", [1])
    ids = {"few": range(6, 9), "medium": range(3, 6), "many": range(3), "balanced": range(C)}
    for group, classes in ids.items():
        own = np.mean([accuracy(BEFORE, c) for c in classes])
        changes = [np.mean([accuracy(run, c) for c in classes]) - own for run in AFTER]
        np.testing.assert_allclose(near.change[group], np.mean(changes), atol=1e-9)
        np.testing.assert_allclose(near.std[group], np.std(changes, ddof=1), atol=1e-9)
    changes = [(run == LABELS).mean() - (BEFORE == LABELS).mean() for run in AFTER]
    np.testing.assert_allclose(near.change["all"], np.mean(changes))


def test_points_of_a_curve_are_ordered_by_rho():
    cases = [case(2.0, AFTER[:1], seeds=(0,)), case(0.1, BEFORE[None], seeds=(0,))]
    (curve,) = analysis.rho_curves(cases, BEFORE, LABELS, C, GROUPS)
    assert curve.rho.tolist() == [0.1, 2]
    assert curve.change["all"][0] == 0
    assert curve.change["all"][1] == pytest.approx((AFTER[0] == LABELS).mean() -
                                                   (BEFORE == LABELS).mean())  # fmt: skip
    assert np.isnan(curve.std["all"]).all()


def test_absent_groups_have_no_curve():
    groups = shot_groups(np.full(C, 50))
    (curve,) = analysis.rho_curves([case(1.0)], BEFORE, LABELS, C, groups)
    assert curve.change.keys() == curve.std.keys() == {"medium", "all", "balanced"}
    assert curve.interval.keys() == curve.std.keys()


def test_the_change_of_one_sample_has_no_interval():
    (curve,) = analysis.rho_curves([case(1.0, AFTER[:, :1])], BEFORE[:1], LABELS[:1], C, GROUPS)
    (point,) = analysis.curve_row(curve)["points"]
    assert point["change"]["all"] is not None
    assert point["interval"]["all"] is None


def test_curves_join_files_and_take_a_run_once():
    cases = [case(1.0, seeds=(0, 1)), case(0.5, name="b"), case(1.0, AFTER[1:], "c", (1, 2))]
    (curve,) = analysis.rho_curves(cases, BEFORE, LABELS, C, GROUPS)
    assert curve.files == ("alphanet.h5", "b.h5", "c.h5")
    assert curve.runs.tolist() == [3, 3]
    assert curve.change["few"][0] == curve.change["few"][1]


@pytest.mark.parametrize("other", [{"epochs": 3}, {"class_id": (6, 7)}])
def test_fits_that_differ_in_more_than_rho_are_other_curves(other):
    curves = analysis.rho_curves(
        [case(1.0), case(2.0), case(1.0, name="b", **other)], BEFORE, LABELS, C, GROUPS
    )
    assert [c.name for c in curves] == ["euclidean, k 5 (alphanet)", "euclidean, k 5 (b)"]
    assert [len(c.rho) for c in curves] == [2, 1]


def test_a_correction_without_rho_has_no_curve():
    made = Correction("tau-norm", np.arange(C), np.zeros((1, C, 2)), np.zeros((1, C)), ({},))
    tau = analysis.Case(Entry("tau-norm", "t.h5", made), "", {"tau": 1}, [0], AFTER[:1])
    refused(
        lambda: analysis.rho_curves([tau], BEFORE, LABELS, C, GROUPS),
        "t.h5: found a correction without rho", "leave it out",
    )  # fmt: skip


def fit(alpha, neighbor):
    extra = {"alpha": alpha, "neighbor": neighbor}
    return Correction(
        "alphanet", np.array([6, 8]), np.zeros((2, 2, 2)), np.array([[0.5, 1], [2, 3]]),
        ({"rho": 1.0, "seed": 0}, {"rho": 1.0, "seed": 1}),
        extra={name: np.array(values) for name, values in extra.items() if values is not None},
    )  # fmt: skip


BASE = Classifier(np.zeros((C, 2)), np.arange(C) / 10)
ALPHA = [[[0.9, 0.1], [0.75, -0.25]], [[0.2, 0.8], [0.5, 0.5]]]


def test_what_a_fit_made_of_a_class():
    """Class 8 has neighbours 4, 0 in one run and 0, 2 in the other."""
    correction = fit(ALPHA, [[[1, 2], [4, 0]], [[1, 2], [0, 2]]])
    after = AFTER[:2]
    changes = analysis.class_changes(correction, [0, 1], BASE, BEFORE, after, LABELS, [8, 6])
    assert [c.class_id for c in changes] == [8, 6]
    found = changes[0]
    assert found.neighbor.tolist() == [4, 0, 2]
    assert found.alpha.tolist() == [[0.75, -0.25, 0], [0, 0.5, 0.5]]
    assert found.used.tolist() == [1, 2, 1]
    assert found.bias.tolist() == pytest.approx([0.8, 1, 3])
    assert found.samples == 6
    assert found.accuracy.tolist() == pytest.approx(
        [accuracy(predicted, 8) for predicted in (BEFORE, *after)]
    )
    assert 8 not in found.mistaken
    for number, predicted in enumerate((BEFORE, *after)):
        own = predicted[LABELS == 8].tolist()
        counts = {c: own.count(c) for c in found.mistaken.tolist()}
        assert dict(zip(found.mistaken.tolist(), found.mistakes[number], strict=True)) == counts
        assert sum(counts.values()) + own.count(8) == 6
    assert changes[1].alpha.tolist() == [[0.9, 0.1], [0.2, 0.8]]
    assert changes[1].bias.tolist() == pytest.approx([0.6, 0.5, 2])


def test_some_runs_of_a_fit():
    correction = fit(ALPHA, [[[1, 2], [4, 0]], [[1, 2], [0, 2]]])
    (found,) = analysis.class_changes(correction, [1], BASE, BEFORE, AFTER[:1], LABELS, [8])
    assert found.neighbor.tolist() == [0, 2]
    assert found.alpha.tolist() == [[0.5, 0.5]]
    assert found.bias.tolist() == pytest.approx([0.8, 3])


def test_a_class_without_samples_has_no_accuracy():
    correction = fit(ALPHA, [[[1, 2], [4, 0]]] * 2)
    there = LABELS != 8
    (found,) = analysis.class_changes(
        correction, [0], BASE, BEFORE[there], AFTER[:1, there], LABELS[there], [8]
    )
    assert found.samples == 0
    assert np.isnan(found.accuracy).all()
    assert found.mistakes.shape == (2, 0)


NEIGHBOR = [[[1, 2], [4, 0]]] * 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"alpha": None}, "holds no coefficients"),
        ({"neighbor": None}, "holds no coefficients"),
        ({"alpha": np.ones((2, 2, 3))}, "found coefficients (2, 2, 3)"),
        ({"alpha": np.ones((2, 2))}, "found coefficients (2, 2)"),
        ({"alpha": np.ones((2, 2, 2), int)}, "fit it again"),
        ({"alpha": np.full((2, 2, 2), np.nan)}, "finite coefficients"),
        ({"alpha": np.ones((2, 2, 0)), "neighbor": np.ones((2, 2, 0), int)}, "fit it again"),
        ({"neighbor": np.ones((2, 2, 2))}, "fit it again"),
        ({"neighbor": np.array(NEIGHBOR) - 1}, "found neighbours -1 to 3, expected classes from"),
        ({"neighbor": np.array(NEIGHBOR) + 5}, "found neighbours 5 to 9"),
    ],
)
def test_damaged_coefficients_are_refused(changed, words):
    correction = fit(**({"alpha": ALPHA, "neighbor": NEIGHBOR} | changed))
    refused(
        lambda: analysis.class_changes(correction, [0], BASE, BEFORE, AFTER[:1], LABELS, [8]), words
    )


def test_the_order_of_samples_does_not_matter():
    order = RNG.permutation(len(LABELS))
    pairs = analysis.pairs_of(NEAR)
    one = analysis.flow(BEFORE, AFTER, LABELS, C, pairs)
    other = analysis.flow(BEFORE[order], AFTER[:, order], LABELS[order], C, pairs)
    np.testing.assert_array_equal(one.count, other.count)
    (first,) = analysis.rho_curves([case(1.0)], BEFORE, LABELS, C, GROUPS)
    (second,) = analysis.rho_curves(
        [case(1.0, AFTER[:, order])], BEFORE[order], LABELS[order], C, GROUPS
    )
    assert first.change["few"] == pytest.approx(second.change["few"])
    weights = metrics.group_weights(LABELS, C, GROUPS)
    assert first.change.keys() == weights.keys()
