"""Small, large and degenerate numbers: a method gives the right result, or says what it needs."""

import inspect
import warnings

import numpy as np
import pytest

from ltkit import alphanet, evaluation, neighbors, posthoc, registry
from ltkit.errors import InputError
from ltkit.exports.tables import write_samples
from ltkit.losses import swrm
from ltkit.neighbors.class_means import around_centre, class_means
from ltkit.posthoc import blend, logistic, ncm, ridge, tau_norm
from ltkit.records import (
    Classifier,
    ClassTable,
    Correction,
    FeatureSplit,
    Head,
    lengths,
    shot_groups,
    unit_rows,
)
from ltkit.reporting import numbers
from ltkit.settings import AlphaNetSettings, NeighborSettings

NAMES = registry.names(posthoc)
COUNTS = np.array([60, 30, 12, 6])
LABELS = np.repeat(np.arange(4), COUNTS)

OF_A_UNIT = {"crt", "logistic", "marc", "weight-balancing"}
"""Learn by steps, or with a penalty, that mean something in one unit of the features only."""


def problem():
    """Return float32 features of four classes, and a head that tells them apart."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 5))
    features = centres[LABELS] + 0.7 * rng.normal(size=(len(LABELS), 5))
    head = Classifier(centres.astype(np.float32), np.float32([0.3, 0, 0, -0.3]))
    return features.astype(np.float32), head


def fitted(name, features, head, labels=LABELS, **parameters):
    """Fit a method; no warning is given on the way."""
    module = registry.load(posthoc, name)
    fit, split = module.fit, FeatureSplit(features, labels)
    known = inspect.signature(fit).parameters
    parameters |= {n: 2 for n in ("epochs",) if n in known}
    parameters |= {"val": split, "few_below": 10} if hasattr(module, "fit_folds") else {}
    counts = np.bincount(labels, minlength=head.num_classes)
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.simplefilter("error")
        found = fit(head, split, counts, **parameters)
    return Correction.whole(name, found)


def predicted(correction, features, head, labels=LABELS):
    """Return what a correction predicts, as evaluate and compare do, which agree."""
    split = FeatureSplit(features, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = evaluation.predict(split, head, [correction])
        (again,) = evaluation.predict_classes(split, head, [correction])
    np.testing.assert_array_equal(found.predicted, again)
    assert np.isfinite(found.confidence).all()
    return found.predicted[0]


def one_line(error):
    """Check a refusal: one line, not long, with a way out."""
    text = str(error)
    assert "\n" not in text
    assert len(text) <= 300
    assert ";" in text


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1e12, 1e25])
@pytest.mark.parametrize("name", NAMES)
def test_another_unit_of_features_changes_no_prediction(name, scale):
    """With the head in the unit, too, so that logits are the same."""
    features, head = problem()
    other = Classifier((head.weight / np.float64(scale)).astype(np.float32), head.bias)
    moved = (features * np.float64(scale)).astype(np.float32)
    expected = predicted(fitted(name, features, head), features, head)
    assert len(set(expected)) > 1
    try:
        found = fitted(name, moved, other)
    except InputError as error:
        assert name in OF_A_UNIT
        one_line(error)
        return
    agree = (predicted(found, moved, other) == expected).mean()
    if name == "logistic":  # its penalty has a unit, and here it weighs nothing
        assert scale > 1
    else:
        assert agree > 0.98


def test_nearest_means_have_no_unit():
    features, head = problem()
    for variant in ncm.VARIANTS:
        expected = predicted(fitted("ncm", features, head, variant=variant), features, head)
        for scale in (1e-30, 1e-25, 1e25, 1e37):
            moved = (features * np.float64(scale)).astype(np.float32)
            found = fitted("ncm", moved, head, variant=variant)
            np.testing.assert_array_equal(predicted(found, moved, head), expected, variant)


@pytest.mark.parametrize("scale", [1e-30, 1e-18, 1e-13, 1e18])
def test_tau_norm_of_a_head_in_another_unit(scale):
    features, head = problem()
    other = Classifier((head.weight * np.float64(scale)).astype(np.float32), head.bias)
    expected = fitted("tau-norm", features, head, tau=1.0)
    found = fitted("tau-norm", features, other, tau=1.0)
    np.testing.assert_allclose(found.weight, expected.weight, rtol=1e-5)


def degenerate():
    """Return names to features, head and labels."""
    features, head = problem()
    first = np.flatnonzero(np.diff(LABELS, prepend=-1))
    two = LABELS > 1
    flat = features.copy()
    flat[:, 1:] = 3
    alike = features.copy()
    alike[LABELS == 3] = 0.1
    zero_row, same_rows = head.weight.copy(), head.weight.copy()
    zero_row[3], same_rows[:] = 0, head.weight[0]
    narrow = Classifier(head.weight[:, :1], head.bias)
    return {
        "D = 1": (features[:, :1], narrow, LABELS),
        "all zeros": (features * 0, head, LABELS),
        "equal rows": (features * 0 + features[0], head, LABELS),
        "equal rows of thirds": (features * 0 + np.float32(1 / 3), head, LABELS),
        "equal rows of a class": (alike, head, LABELS),
        "C = 2": (features[two], Classifier(head.weight[2:], head.bias[2:]), LABELS[two] - 2),
        "one sample a class": (features[first], head, LABELS[first]),
        "constant columns": (flat, head, LABELS),
        "far from zero": (features + np.float32([1e4, 0, 0, 0, 0]), head, LABELS),
        "zero row": (features, Classifier(zero_row, head.bias), LABELS),
        "zero head": (features, Classifier(head.weight * 0, head.bias * 0), LABELS),
        "equal rows of the head": (features, Classifier(same_rows, head.bias), LABELS),
        "large biases": (features, Classifier(head.weight, head.bias * np.float32(1e37)), LABELS),
        "large and large": (features * np.float32(1e25),
                            Classifier(head.weight * np.float32(1e18), head.bias), LABELS),
        "small and small": (features * np.float32(1e-25),
                            Classifier(head.weight * np.float32(1e-18), head.bias * 0), LABELS),
    }  # fmt: skip


@pytest.mark.parametrize("case", degenerate())
@pytest.mark.parametrize("name", NAMES)
def test_degenerate_features_and_heads(name, case):
    features, head, labels = degenerate()[case]
    try:
        found = fitted(name, features, head, labels)
    except InputError as error:
        no_groups = name == "alphanet-plus" and case == "one sample a class"
        assert no_groups or case in ("large biases", "large and large", "small and small")
        one_line(error)
        return
    predicted(found, features, head, labels)


def test_logits_beyond_float32_are_right():
    features, head = problem()
    own = Correction("x", np.arange(0), head.weight[None, :0], head.bias[None, :0], ({},))
    expected = predicted(own, features, Classifier(head.weight, head.bias * 0))
    for scale, weight in ((1e25, 1e18), (1e-25, 1e-18), (1e-30, 1e-10)):
        moved = (features * np.float64(scale)).astype(np.float32)
        rows = (head.weight * np.float64(weight)).astype(np.float32)
        other = Classifier(rows, head.bias * 0)
        np.testing.assert_array_equal(predicted(own, moved, other), expected)


def test_what_cleanlab_gets_is_float32_in_every_block(tmp_path):
    features, head = problem()
    classes, groups = ClassTable(COUNTS), shot_groups(COUNTS)
    split = FeatureSplit(features * np.float32(1e30), LABELS)
    write_samples("cleanlab", tmp_path / "c.npz", head, split, "test", classes, groups)
    found = np.load(tmp_path / "c.npz")["pred_probs"]
    np.testing.assert_array_equal(found.sum(axis=1), 1)


def test_lengths_and_unit_rows_of_any_size():
    rows = np.float32([[3, 4], [3e-30, 4e-30], [3e30, 4e30], [0, 0], [1e-45, 0]])
    np.testing.assert_allclose(lengths(rows)[:, 0], [5, 5e-30, 5e30, 0, 1.4e-45], rtol=1e-2)
    expected = [[0.6, 0.8]] * 3 + [[0, 0], [1, 0]]
    np.testing.assert_allclose(unit_rows(rows), expected, rtol=1e-5)
    np.testing.assert_array_equal(unit_rows(rows)[0], unit_rows(rows[:1])[0])


def test_heads_of_any_size_are_folded():
    features, head = problem()
    for normalize in ("features", "cosine"):
        expected = Head(head.weight, head.bias, 2.0, normalize).fold()
        for scale in (1e-30, 1e30):
            other = head.weight if normalize == "features" else head.weight * np.float32(scale)
            found = Head(other, head.bias, 2.0, normalize).fold()
            np.testing.assert_allclose(
                found.logits(features * np.float32(scale)), expected.logits(features), rtol=1e-4,
                atol=1e-5,
            )  # fmt: skip
    with pytest.raises(InputError, match="rows that float32 does not hold at scale 1e"):
        Head(head.weight, head.bias, 1e39).fold()


def test_logistic_says_when_its_penalty_outweighs_the_features():
    features, head = problem()
    split = FeatureSplit(features * np.float32(1e-10), LABELS)
    with pytest.raises(InputError, match="outweighs features of variance"):
        logistic.fit(head, split, COUNTS)


def test_regressions_on_equal_rows_know_nothing_but_the_prior():
    features, head = problem()
    split = FeatureSplit(features * 0 + np.float32(1 / 3), LABELS)
    blended = blend.fit(head, split, COUNTS, share=1.0, tau=0.0)
    for found in (ridge.fit(head, split, COUNTS), blended, logistic.fit(head, split, COUNTS)):
        np.testing.assert_allclose(found.weight, 0, atol=1e-6)
        assert np.ptp(found.bias) < 1e-6


@pytest.mark.parametrize("tau", [5.0, 10.0])
def test_tau_norm_does_not_make_rows_zero(tau):
    _, head = problem()
    with pytest.raises(InputError, match="makes rows 0 in float32"):
        tau_norm.fit(Classifier(head.weight * np.float32(1e15), head.bias), None, COUNTS, tau=tau)


# Neighbours and AlphaNet


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("direct", [True, False])
def test_neighbours_in_another_unit(metric, direct, monkeypatch):
    features, _ = problem()
    settings = NeighborSettings(k=1, metric=metric)
    if not direct:
        monkeypatch.setattr("ltkit.neighbors.search.DIRECT_LIMIT", 0)
        monkeypatch.setattr("ltkit.neighbors.search.SPARE", 1)
    found = []
    for scale in (1, 1e-30, 1e25):
        means, _ = class_means(FeatureSplit((features * np.float64(scale)).astype(np.float32),
                                            LABELS), 4)  # fmt: skip
        near = neighbors.nearest(means, np.array([2, 3]), np.arange(4), settings)
        found.append(near.base_class.tolist())
        unit = scale if metric == "euclidean" else 1
        found[-1] += (near.distance.astype(np.float64) / unit).round(4).tolist()
    assert found[0] == found[1] == found[2]


def test_means_that_differ_by_their_rounding_are_the_same():
    means = np.array([[0.3], [0.1 + 0.2], [0.3], [0.9]])
    found = neighbors.nearest(means, np.array([2]), np.arange(4), NeighborSettings(k=3))
    assert found.base_class.tolist() == [[0, 1, 3]]
    assert found.distance[0, :2].tolist() == [0, 0]
    links = np.ones((4, 4), np.int32)
    for metric, table in (("random", None), ("wordnet", links)):
        wanted = NeighborSettings(k=3, metric=metric)
        found = neighbors.nearest(means, np.array([2]), np.arange(4), wanted, table)
        assert found.base_class.tolist() == [[0, 1, 3]], metric


@pytest.mark.parametrize("scale", [1e39, 1e-50])
def test_distances_that_float32_does_not_hold(scale):
    means = np.array([[0.0], [1.0], [2.0]]) * scale
    with pytest.raises(InputError, match="found distances up to"):
        neighbors.nearest(means, np.array([0]), np.arange(3), NeighborSettings(k=1))


@pytest.mark.parametrize(
    ("scale", "weight", "changes", "said"),
    [
        (1, 1e-18, {}, "head: found .* multiply the head by a number"),
        (1, 1e18, {}, "head: found"),
        (1e-25, 1, {}, r"^logit_scale: found 1, .* set it to about [0-9]e\+2"),
        (1e25, 1, {}, "^logit_scale: found 1, .* set it to about [0-9]e-2"),
        (1e35, 1, {}, "^logit_scale: found 1, .* import the features in another unit"),
        (1, 1, {"logit_scale": 1e-40}, "^logit_scale: found 1e-40"),
        (1, 1, {"logit_scale": 1e20}, r"^logit_scale: found 1e\+20"),
    ],
)
def test_alphanet_says_which_size_it_needs(scale, weight, changes, said):
    features, head = problem()
    base = Classifier((head.weight * np.float64(weight)).astype(np.float32), head.bias * 0)
    split = FeatureSplit((features * np.float64(scale)).astype(np.float32), LABELS)
    near = neighbors.nearest(
        np.eye(4), np.array([2, 3]), np.array([0, 1]), NeighborSettings(k=2)
    )  # fmt: skip
    settings = AlphaNetSettings(**{"epochs": 2, "batch_size": 999, "hidden": (4,)} | changes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError, match=said) as caught:
            alphanet.fit(base, near, split, None, [settings])
    one_line(caught.value)


def test_alphanet_on_small_features_as_it_says():
    features, head = problem()
    split = FeatureSplit(features * np.float32(1e-10), LABELS)
    near = neighbors.nearest(np.eye(4), np.array([3]), np.arange(2), NeighborSettings(k=2))
    base = Classifier(head.weight, head.bias * 0)
    settings = {"epochs": 3, "batch_size": 16, "hidden": (4,)}
    usual = alphanet.fit(base, near, FeatureSplit(features, LABELS), None,
                         [AlphaNetSettings(**settings)])  # fmt: skip
    found = alphanet.fit(base, near, split, None,
                         [AlphaNetSettings(logit_scale=1e10, **settings)])  # fmt: skip
    np.testing.assert_allclose(found.weight, usual.weight, rtol=1e-3, atol=1e-4)


# The map and the line of classes


def test_points_around_their_centre():
    points = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_array_equal(around_centre(points), points - points.mean(axis=0))
    np.testing.assert_array_equal(around_centre(points * 2**-90), around_centre(points * 2**90))
    assert not around_centre(np.full((3, 2), 0.1) * np.array([[1], [1 + 2e-16], [1]])).any()


@pytest.mark.parametrize("count", [3, 6])
def test_classes_on_a_line_have_no_unit(count):
    means = np.random.default_rng(0).normal(size=(count, 3))
    found = [swrm.project(means * 2.0**power, 0) for power in (-90, -40, 60)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert np.isfinite(found[0]).all()
    assert len(set(found[0])) == count
    assert not swrm.project(np.full((count, 3), 0.1 + 0.2), 0).any()


def test_lengths_of_a_report_keep_their_digits():
    assert numbers.lengths(np.array([1.23456789, 2e-9])) == [1.234568, 0.0]
    assert [f"{v:.9g}" for v in numbers.lengths(np.array([1.23456789e-25, 2e-26]))] == [
        "1.234568e-25", "2e-26",
    ]  # fmt: skip
    assert numbers.lengths(np.array([0.0, np.nan])) == [0.0, None]
