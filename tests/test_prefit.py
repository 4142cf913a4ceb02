"""Estimators around a fitted classifier: sets and other frequencies, as the commands have them."""

import numpy as np
import pytest
from made import refused
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC

import ltkit
from ltkit.errors import InputError
from ltkit.prefit import AdaptedClassifier, SetClassifier
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head

COUNTS = (900, 300, 90, 30)
NAMES = np.array(["eel", "cat", "owl", "ant"])  # by count; sorted they have another order
CENTRES = 1.5 * np.random.default_rng(0).normal(size=(4, 5))


def drawn(counts, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(4), counts))
    return CENTRES[labels] + rng.normal(size=(len(labels), 5)), NAMES[labels]


@pytest.fixture(scope="module")
def inside():
    return LogisticRegression().fit(*drawn(COUNTS, 1))


@pytest.mark.parametrize("threshold", ["marginal", "class-wise"])
def test_sets_have_the_coverage(inside, threshold):
    model = SetClassifier(inside, coverage=0.8, threshold=threshold)
    model.fit(*drawn((250,) * 4, 2))
    X, y = drawn((1000,) * 4, 3)
    sets = model.predict_set(X)
    own = sets[np.arange(len(y)), np.searchsorted(model.classes_, y)]
    assert own.mean() == pytest.approx(0.8, abs=0.03)
    if threshold == "class-wise":
        assert all(own[y == name].mean() > 0.72 for name in NAMES)
    assert (model.predict(X) == inside.predict(X)).all()
    again = [one.tolist() for one in ltkit.predict_sets(inside.decision_function(X), model.rule_)]
    assert [sorted(one) for one in again] == [np.flatnonzero(row).tolist() for row in sets]


def test_frequencies_are_followed_as_by_the_command(inside):
    val, field = drawn((250,) * 4, 2), drawn((30, 90, 300, 900), 4)
    by_name = dict(zip(NAMES, COUNTS, strict=True))
    counts = [by_name[name] for name in inside.classes_]
    model = AdaptedClassifier(inside, class_counts=counts).fit(*val)
    before = np.mean(model.predict(field[0]) == field[1])
    assert before == pytest.approx(inside.score(*field))
    after = np.mean(model.adapt(field[0]).predict(field[0]) == field[1])
    assert after > before + 0.02
    np.testing.assert_allclose(model.predict_proba(field[0][:9]).sum(axis=1), 1)
    shares = [np.mean(field[1] == name) for name in inside.classes_]
    assert np.abs(model.prior_ - shares).sum() < 0.3
    labels = np.searchsorted(inside.classes_, val[1])
    eye = Head(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    split = FeatureSplit(np.float32(inside.decision_function(val[0])), labels)
    features = FeatureSet({"val": split}, ClassTable(np.array(counts)), eye)
    found = ltkit.adapt(features, np.float32(inside.decision_function(field[0])))
    np.testing.assert_allclose(model.prior_, found.correction.extra["prior"][0], rtol=1e-6)


def test_probabilities_and_two_classes_serve_as_well(inside):
    X, y = drawn((250,) * 4, 2)
    of_probabilities = GaussianNB().fit(*drawn(COUNTS, 1))
    assert SetClassifier(of_probabilities).fit(X, y).predict_set(X).any(axis=1).mean() > 0.9
    two = np.isin(y, ["eel", "cat"])
    binary = LinearSVC().fit(X[two], y[two])
    model = SetClassifier(binary, threshold="marginal").fit(X[two], y[two])
    assert (model.predict(X[two]) == binary.predict(X[two])).all()
    assert model.predict_set(X[two]).shape == (two.sum(), 2)


def test_they_are_estimators(inside):
    assert clone(SetClassifier(inside, coverage=0.7)).get_params()["coverage"] == 0.7
    with pytest.raises(NotFittedError):
        SetClassifier(inside).predict_set(np.zeros((1, 5)))
    with pytest.raises(NotFittedError, match="LogisticRegression is not fitted"):
        SetClassifier(LogisticRegression()).fit(*drawn((9,) * 4, 2))


def test_wrong_inputs(inside):
    X, y = drawn((9,) * 4, 2)
    refused(lambda: SetClassifier(inside).fit(X, ["bee", *y[1:]]), "y: row 0: found bee")
    fewer = SetClassifier(inside, class_counts=[1, 2])
    refused(lambda: fewer.fit(X, y), "class_counts: found (2,)", error=InputError)

    class Mute:
        classes_ = inside.classes_

    refused(lambda: SetClassifier(Mute()).fit(X, y), "Mute: found no decision_function")

    class Short(Mute):
        def predict_proba(self, X):
            return np.ones((len(X), 3)) / 3

    refused(lambda: SetClassifier(Short()).fit(X, y), "found scores of (36, 3)")
    refused(lambda: SetClassifier(inside, coverage=2).fit(X, y), "coverage")
