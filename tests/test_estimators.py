"""The estimators keep scikit-learn's contract, and compute what the methods compute."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from ltkit import alphanet, estimators, neighbors, posthoc, registry
from ltkit.errors import InputError
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSplit, Head
from ltkit.settings import AlphaNetSettings, NeighborSettings

pytestmark = pytest.mark.usefixtures("one_thread")

COUNTS = (200, 90, 40, 12, 6)
NAMES = np.array(["eel", "cat", "owl", "ant", "bee"])  # by count; sorted they have another order
POSTHOC = [name for name in estimators.names() if name != "AlphaNetClassifier"]


@parametrize_with_checks([getattr(estimators, name)() for name in estimators.names()])
@pytest.mark.filterwarnings("ignore:AlphaNet")  # it finds no rare class in balanced data
def test_contract(estimator, check):
    """All checks of scikit-learn apply; there is no exception."""
    check(estimator)


def drawn(counts, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(5, 6))
    labels = rng.permutation(np.repeat(np.arange(5), counts))
    return (centres[labels] + rng.normal(size=(len(labels), 6))).astype(np.float32), NAMES[labels]


@pytest.fixture(scope="module")
def train():
    return drawn(COUNTS, 1)


@pytest.fixture(scope="module")
def test():
    return drawn((40,) * 5, 2)


@pytest.fixture(scope="module")
def base(train):
    """A head for the classes in ascending order of their names."""
    linear = LogisticRegression(C=0.1).fit(*train)
    return Classifier(linear.coef_.astype(np.float32), linear.intercept_.astype(np.float32))


def records(train):
    classes, labels = np.unique(train[1], return_inverse=True)
    return FeatureSplit(train[0], labels), np.bincount(labels), classes


def test_there_is_one_for_each_method():
    methods = [n for n in registry.names(posthoc)
               if n != "tde" and not hasattr(registry.load(posthoc, n), "ON_VAL")]  # fmt: skip
    assert len(estimators.names()) == len(set(estimators.names())) == len(methods) + 1
    assert estimators.WeightBalancingClassifier.__doc__.count("ltkit.posthoc.weight_balancing")
    with pytest.raises(AttributeError, match="NoneClassifier"):
        estimators.NoneClassifier  # noqa: B018 - asking is the test


@pytest.mark.parametrize("name", POSTHOC)
def test_a_method_gets_its_base_samples_counts_and_parameters(train, test, base, name):
    split, counts, classes = records(train)
    module = registry.load(posthoc, estimators._methods()[name])
    model = getattr(estimators, name)(base=base).fit(*train)
    expected = module.fit(base, split, counts)
    np.testing.assert_array_equal(model.classifier_.weight, expected.weight)
    np.testing.assert_array_equal(model.classifier_.bias, expected.bias)
    assert model.classes_.tolist() == ["ant", "bee", "cat", "eel", "owl"]
    logits = expected.logits(test[0])
    np.testing.assert_allclose(model.decision_function(test[0]), logits, rtol=1e-4, atol=1e-4)
    agree = model.predict(test[0]) == classes[logits.argmax(axis=1)]
    assert agree.mean() > 0.99  # equal but for ties in float32


def test_parameters_reach_the_method(train, base):
    model = estimators.TauNormClassifier(base=base, tau=0.5).fit(*train)
    norms = np.linalg.norm(base.weight, axis=1)
    found = np.linalg.norm(model.classifier_.weight, axis=1)
    np.testing.assert_allclose(found, np.sqrt(norms), rtol=1e-5)
    with pytest.raises(TypeError, match="tua"):
        estimators.TauNormClassifier(tua=0.5)


def test_without_a_base_it_is_plain_logistic_regression(train, test):
    model = estimators.LogitAdjustClassifier(tau=0).fit(*train)
    plain = LogisticRegression().fit(*train)
    np.testing.assert_allclose(
        model.predict_proba(test[0]), plain.predict_proba(test[0]), rtol=1e-3, atol=1e-5
    )
    adjusted = estimators.LogitAdjustClassifier(tau=1).fit(*train)
    logits = plain.decision_function(test[0]) - np.log(np.array([12, 6, 90, 200, 40]) / 348)
    assert (adjusted.predict(test[0]) == plain.classes_[logits.argmax(axis=1)]).all()
    scores = [balanced_accuracy_score(test[1], m.predict(test[0])) for m in (plain, adjusted)]
    assert scores[1] > scores[0] + 0.05


def test_two_classes_have_one_score(train):
    rows = np.isin(train[1], ["cat", "bee"])
    pair = train[0][rows], train[1][rows]
    model = estimators.LogitAdjustClassifier(base=LogisticRegression(C=0.3), tau=0).fit(*pair)
    plain = LogisticRegression(C=0.3).fit(*pair)
    np.testing.assert_allclose(
        model.decision_function(pair[0]), plain.decision_function(pair[0]), rtol=1e-3, atol=1e-5
    )
    np.testing.assert_allclose(
        model.predict_proba(pair[0]), plain.predict_proba(pair[0]), rtol=1e-3, atol=1e-6
    )
    assert not hasattr(model.base, "coef_")  # a clone was fitted
    assert model.decision_function(pair[0]).shape == (96,)


def test_a_cosine_head_keeps_its_form(train, test, base):
    head = Head(base.weight, base.bias, scale=5.0, normalize="cosine")
    model = estimators.LogitAdjustClassifier(base=head, tau=0).fit(*train)
    unit = test[0] / np.linalg.norm(test[0], axis=1, keepdims=True)
    rows = base.weight / np.linalg.norm(base.weight, axis=1, keepdims=True)
    np.testing.assert_allclose(
        model.decision_function(test[0]), 5 * unit @ rows.T + base.bias, rtol=1e-4, atol=1e-5
    )


def test_a_base_that_does_not_fit_is_refused(train, base):
    narrow = Classifier(base.weight[:, :5], base.bias)
    for wrong in (Classifier(base.weight[:4], base.bias[:4]), narrow):
        with pytest.raises(InputError, match=r"base: found a weight of .* expected \(5, 6\)"):
            estimators.NcmClassifier(base=wrong).fit(*train)
    with pytest.raises(InputError, match=r"tau: found 1e\+300"):
        estimators.LogitAdjustClassifier(base=base, tau=1e300).fit(*train)


def test_scores_that_are_no_log_probabilities_have_no_probabilities(train):
    for method, name in ((m, n) for n, m in estimators._methods().items()):
        assert hasattr(getattr(estimators, name)(), "predict_proba") == (
            method not in ("ncm", "ridge", "tau-norm")
        )
    shares = estimators.MarcClassifier().fit(*train).predict_proba(train[0])
    np.testing.assert_allclose(shares.sum(axis=1), 1)


def test_grid_search_in_a_pipeline(train, test):
    model = make_pipeline(StandardScaler(), estimators.LogitAdjustClassifier())
    grid = {"logitadjustclassifier__tau": [0.0, 1.0]}
    search = GridSearchCV(model, grid, scoring="balanced_accuracy", cv=3).fit(*train)
    assert search.best_params_ == {"logitadjustclassifier__tau": 1.0}
    assert search.score(*test) > 0.6


@pytest.mark.parametrize("name", ["AlphaNetClassifier", "CrtClassifier"])
def test_copies(train, test, base, name):
    model = getattr(estimators, name)(base=base, seed=3)
    if name == "AlphaNetClassifier":
        model.set_params(k=2, epochs=2)
    model.fit(*train)
    expected = model.decision_function(test[0])
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.decision_function(test[0]), expected)
    copy = clone(model)
    assert not hasattr(copy, "classifier_")
    np.testing.assert_array_equal(copy.fit(*train).decision_function(test[0]), expected)


def test_alphanet_is_the_fit_of_the_command(train, test, base):
    model = estimators.AlphaNetClassifier(base=base, k=2, epochs=12, min_epochs=1, rho=2.0)
    model.fit(*train, *test)
    split, counts, classes = records(train)
    means, _ = class_means(split, 5)
    near = neighbors.nearest(means, np.array([0, 1]), np.array([2, 3, 4]), NeighborSettings(2))
    settings = AlphaNetSettings(rho=2.0, epochs=12, min_epochs=1)
    val, _, _ = records(test)
    expected = alphanet.fit(base, near, split, val, [settings])
    assert expected.extra["epoch"] < 12
    assert model.few_classes_.tolist() == ["ant", "bee"]  # 12 and 6 samples
    np.testing.assert_array_equal(model.alpha_, expected.extra["alpha"][0])
    np.testing.assert_array_equal(model.classifier_.weight, expected.classifier(base, 0).weight)
    np.testing.assert_array_equal(model.classifier_.weight[2:], base.weight[2:])
    last = clone(model).fit(*train)
    unchosen = alphanet.fit(base, near, split, None, [settings])
    np.testing.assert_array_equal(last.alpha_, unchosen.extra["alpha"][0])
    named = clone(model).set_params(few_below=41).fit(*train)
    assert named.few_classes_.tolist() == ["ant", "bee", "owl"]
    assert classes[counts < 41].tolist() == ["ant", "bee", "owl"]


@pytest.mark.parametrize("few_below", [1, 1000])
def test_alphanet_without_rare_or_frequent_classes_keeps_the_base(train, base, few_below):
    model = estimators.AlphaNetClassifier(base=base, few_below=few_below)
    with pytest.warns(UserWarning, match="none is corrected"):
        model.fit(*train)
    np.testing.assert_array_equal(model.classifier_.weight, base.weight)
    assert model.few_classes_.tolist() == []
    assert model.alpha_.shape[0] == 0


def test_alphanet_says_what_it_refuses(train, test, base):
    with pytest.raises(InputError, match=r"^k: found 9"):
        estimators.AlphaNetClassifier(base=base, k=9).fit(*train)
    with pytest.raises(InputError, match="metric: found 'wordnet'"):
        estimators.AlphaNetClassifier(base=base, k=2, metric="wordnet").fit(*train)
    labels = test[1].copy()
    labels[3] = "zzz"
    with pytest.raises(InputError, match="y_val: row 3: found zzz"):
        estimators.AlphaNetClassifier(base=base, k=2).fit(*train, test[0], labels)


@pytest.mark.parametrize("wrong", [LinearRegression(), GaussianNB()])
def test_a_base_without_coefficients_is_refused(train, wrong):
    labels = np.unique(train[1], return_inverse=True)[1]
    with pytest.raises(InputError, match=r"base: .* a linear classifier"):
        estimators.NcmClassifier(base=wrong).fit(train[0], labels)


class Shrunk(LogisticRegression):
    """Its coefficients vanish in float32."""

    def fit(self, X, y):
        super().fit(X, y)
        self.coef_ = self.coef_.astype(float) * 1e-50
        return self


@pytest.mark.parametrize("where", ["fit", "predict", "base"])
def test_doubles_that_float32_loses_are_refused(train, where):
    x, y = train
    tiny = x.astype(float) * 1e-50
    found = estimators.NcmClassifier()
    calls = {
        "fit": lambda: found.fit(tiny, y),
        "predict": lambda: found.fit(x, y).predict(tiny),
        "base": lambda: estimators.TauNormClassifier(base=Shrunk()).fit(x, y),
    }
    with pytest.raises(InputError, match=r"(X|coef_): row 0: values of .* multiply all of them"):
        calls[where]()
