"""Figures beside accuracy, against scikit-learn, hand-worked values and simulation."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from screens import on_terminal
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

import ltkit as face
from ltkit import evaluation
from ltkit.errors import InputError, SettingError
from ltkit.evaluation import calibration, measures, metrics, priors, probabilities
from ltkit.evaluation.entries import Entry
from ltkit.files import features as features_file
from ltkit.records import (
    NEVER,
    Classifier,
    ClassTable,
    Correction,
    FeatureSet,
    FeatureSplit,
    Head,
    class_prior,
    joined,
    shot_groups,
)
from ltkit.settings import GROUPS, METRICS

COUNTS = np.array([300, 150, 60, 30, 10, 5, 2])
TESTED = np.array([60, 50, 40, 30, 20, 12, 0])
"""Test samples; of the last class there is none."""

DEMO = Path(features_file.__file__).parents[1] / "data" / "demo" / "feats.h5"


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(7), TESTED))
    x = (1.3 * np.eye(7)[labels] + rng.normal(size=(len(labels), 7))).astype(np.float32)
    bias = np.log(COUNTS / COUNTS.sum()).astype(np.float32)
    return FeatureSplit(x, labels), Classifier(2 * np.eye(7, dtype=np.float32), bias)


def set_of(split, head):
    return FeatureSet({"test": split}, ClassTable(COUNTS), Head(head.weight, head.bias))


def probabilities_of(split, head):
    return softmax(head.logits(split.features).astype(np.float64), axis=1)


def document(split, head, entries=(), **wanted):
    found = evaluation.evaluate(
        set_of(split, head), "test", entries, replicates=100, figures=METRICS, **wanted
    )
    return json.loads(json.dumps(found[0])), found[1]


@pytest.mark.parametrize("prior", [None, "backward:20"])
def test_all_are_those_of_scikit_learn(prior):
    split, head = drawn()
    found, by_class = document(split, head, prior=prior)
    row, y, p = found["rows"][0], split.labels, probabilities_of(split, head)
    guess, there = p.argmax(axis=1), np.flatnonzero(TESTED)
    share = None if prior is None else class_prior(prior, COUNTS)
    weights = priors.sample_weights(y, share, 7)
    own = metrics.group_weights(y, 7, shot_groups(COUNTS), share)
    each = precision_recall_fscore_support(
        y, guess, labels=there, zero_division=0, sample_weight=weights
    )
    one = [roc_auc_score(y == c, p[:, c], sample_weight=weights) for c in there]
    area = [average_precision_score(y == c, p[:, c], sample_weight=weights) for c in there]
    nll = [log_loss(y[y == c], p[y == c], labels=np.arange(7)) for c in there]
    right = np.eye(7)[y]
    brier = [((p - right)[y == c] ** 2).sum(axis=1).mean() for c in there]
    expected = {"precision": each[0], "recall": each[1], "f1": each[2], "auroc": one, "ap": area,
                "nll": nll, "brier": brier}  # fmt: skip
    for name, values in expected.items():
        for group, weight in own.items():
            assert row["metrics"][name][group] == pytest.approx(weight[there] @ values), name
        if name != "recall":
            column = by_class[f"baseline {name}"]
            np.testing.assert_allclose(column[there], values, rtol=1e-6)
            assert np.isnan(column[6])
    if prior is None:
        macro = f1_score(y, guess, labels=there, average="macro")
        assert row["metrics"]["f1"]["balanced"] == pytest.approx(macro)
        assert row["metrics"]["recall"]["balanced"] == pytest.approx(
            balanced_accuracy_score(y, guess)
        )
        assert row["metrics"]["nll"]["all"] == pytest.approx(log_loss(y, p, labels=np.arange(7)))
        weighted = roc_auc_score(
            y, p[:, there] / p[:, there].sum(axis=1, keepdims=True), multi_class="ovr",
            average="weighted",
        )  # fmt: skip
        assert row["metrics"]["auroc"]["all"] == pytest.approx(weighted, abs=2e-3)
    table = confusion_matrix(y, guess, labels=np.arange(7), sample_weight=weights)
    taken = (table.sum(axis=0) - table.diagonal()) / weights.sum()
    np.testing.assert_allclose(by_class["baseline taken"], taken, atol=1e-12)
    assert row["metrics"]["taken"]["few"] == pytest.approx(taken[4:].sum())
    assert row["metrics"]["taken"]["all"] == pytest.approx(1 - row["accuracy"]["all"])
    assert row["metrics"]["taken"]["balanced"] is None


def test_worst_class_and_harmonic_means_by_hand():
    recall = np.array([0.8, 0.5, 0.25, 0.2, 0.1, 0.3, np.nan])
    weights = metrics.group_weights(np.repeat(np.arange(7), TESTED), 7, shot_groups(COUNTS))
    worst = measures.worst_classes(recall, weights)
    assert worst == {"few": 4, "medium": 3, "many": 1, "all": 4, "balanced": 4}
    found = measures.averages(recall, weights, worst)
    assert found["worst-class"]["medium"] == 0.2
    assert found["harmonic"]["few"] == pytest.approx(2 / (10 + 1 / 0.3))
    assert found["harmonic"]["balanced"] == pytest.approx(6 / (1.25 + 2 + 4 + 5 + 10 + 1 / 0.3))
    groups = 3 / (1 / 0.65 + 1 / 0.225 + 1 / 0.2)
    assert found["harmonic-groups"]["all"] == pytest.approx(groups)
    assert measures.averages(np.where(recall == 0.1, 0, recall), weights, worst)["harmonic"][
        "all"] == 0  # fmt: skip


def test_a_setting_of_several_runs_has_the_means():
    split, head = drawn()
    others = [Classifier(head.weight, head.bias * np.float32(k)) for k in (0.2, 1.5)]
    each = [Correction.whole("x", o, {"seed": s}) for s, o in enumerate(others)]
    both, _ = document(split, head, [Entry("x", "f", joined(each))])
    alone = [document(split, head, [Entry("x", "f", one)])[0]["rows"][1] for one in each]
    for name in METRICS:
        if name in ("worst-class", "harmonic", "harmonic-groups"):
            continue  # of mean recalls
        mean = np.mean([row["metrics"][name]["all"] for row in alone])
        assert both["rows"][1]["metrics"][name]["all"] == pytest.approx(mean), name


def test_what_needs_no_probabilities_is_in_every_document():
    split, head = drawn()
    found, by_class = evaluation.evaluate(set_of(split, head), "test", [], replicates=100)
    row = found["rows"][0]
    assert list(row["metrics"]) == list(METRICS[:7])
    assert all(list(values) == list(GROUPS) for values in row["metrics"].values())
    assert row["worst_class"]["few"]["id"] in (4, 5)
    assert row["metrics_interval"] == {}
    assert list(by_class) == ["baseline"]
    assert found["prior"] is None


def test_blocks_do_not_matter(monkeypatch):
    split, head = drawn()
    expected = document(split, head)[0]["rows"][0]["metrics"]
    monkeypatch.setattr(probabilities, "AT_ONCE", 500)
    monkeypatch.setattr(probabilities, "RANKED_AT_ONCE", 8 * len(split) * 2)
    found = document(split, head)[0]["rows"][0]["metrics"]
    for name in METRICS:
        assert found[name] == pytest.approx(expected[name]), name


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_areas_of_scores_that_may_be_equal(levels):
    rng = np.random.default_rng(levels)
    for _ in range(20):
        size = int(rng.integers(3, 60))
        score, weights = rng.integers(0, levels, size) / 7.0, rng.random(size) + 0.1
        own = rng.choice(size, int(rng.integers(1, size)), replace=False)
        true = np.isin(np.arange(size), own)
        expected = [f(true, score, sample_weight=weights)
                    for f in (roc_auc_score, average_precision_score)]  # fmt: skip
        assert probabilities.areas(score, own, weights) == pytest.approx(expected)
    assert np.isnan(probabilities.areas(score, own, np.where(true, 0.0, weights))).all()


def test_a_class_that_is_never_predicted_has_the_least_likelihood():
    split, head = drawn()
    bias = head.bias.copy()
    bias[5] = NEVER
    nll, brier, _ = probabilities.likelihoods(split, Classifier(head.weight, bias))
    np.testing.assert_allclose(nll[split.labels == 5], -np.log(np.finfo(float).eps))
    assert (brier[split.labels == 5] > 1).all()
    only = replace(split, labels=np.zeros_like(split.labels))
    areas = probabilities.one_against_rest(only, head, nll, np.ones(len(split)))
    assert np.isnan(areas).all()


def test_logits_that_are_not_finite():
    split, head = drawn()
    bias = np.full_like(head.bias, np.inf)
    with pytest.raises(InputError, match="logits: not finite"):
        probabilities.likelihoods(split, Classifier(head.weight, bias))


# Calibration in bins of equal mass


def test_the_error_by_a_second_form():
    rng = np.random.default_rng(0)
    sure, weights = rng.random(1500), rng.random(1500)
    right = rng.random(1500) < sure**2
    order = np.argsort(sure)
    gaps = [abs((weights[part] * (sure[part] - right[part])).sum()) for part in np.split(order, 15)]
    found = calibration.equal_mass_error(sure, right, weights)
    assert found == pytest.approx(sum(gaps) / weights.sum())
    equal = calibration.equal_mass_error(np.full(30, 0.7), np.arange(30) < 15, np.ones(30))
    assert equal == pytest.approx(0.2)
    assert metrics.calibration_error(sure, right, np.full(1500, 3.0)) == pytest.approx(
        metrics.calibration_error(sure, right)
    )


@pytest.mark.parametrize("size", [300, 3000])
@pytest.mark.parametrize(
    "chance",
    [
        pytest.param(lambda c: c, id="calibrated"),
        pytest.param(lambda c: np.clip(c - 0.03, 0, 1), id="a little too sure"),
        pytest.param(lambda c: np.clip(c + 0.05 * np.sin(20 * c), 0, 1), id="both ways"),
        pytest.param(lambda c: 0.7 * c, id="far too sure"),
    ],
)
def test_the_interval_covers_the_true_error(size, chance):
    """Confidence c is right as often as `chance` says; the truth is that of the same bins."""
    covered, draws = 0, 200
    for draw in range(draws):
        rng = np.random.default_rng(draw)
        sure = 0.1 + 0.9 * rng.beta(2, 1, size)
        right = rng.random(size) < chance(sure)
        bins = calibration.equal_mass_bins(sure)
        truth = np.abs(np.bincount(bins, sure - chance(sure))).sum() / size
        low, high = calibration.error_interval(
            sure, right, np.ones(size), replicates=200, seed=draw
        )
        assert low <= high
        covered += low - 1e-9 <= truth <= high
    assert covered / draws >= 0.9  # three standard errors below 0.95


# The command


@pytest.fixture
def demo(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    Path("feats.h5").write_bytes(DEMO.read_bytes())
    assert ltkit("posthoc", "logit-adjust", "feats.h5", "--set", "tau=1", "-q")[0] == 0
    return tmp_path


def test_the_command(demo, ltkit):
    words = ("evaluate", "feats.h5", "--replicates", 100)
    asked = ("--metrics", "f1,taken,worst-class,nll,ece", "--prior", "forward:10", "--priors")
    code, out, err = ltkit(*words, *asked, "--per-class", "p.csv", "--confusion", "c.csv")
    assert code == 0, err
    assert "weighted to prior forward:10" in out
    for word in ("F1", "taken from others", "worst class", "NLL", "ECE, equal mass", "backward"):
        assert word in out
    rows = list(csv.DictReader(Path("p.csv").read_text().splitlines()))
    assert {"baseline f1", "logit-adjust tau=1 taken", "baseline nll"} <= rows[0].keys()
    table = list(csv.DictReader(Path("c.csv").read_text().splitlines()))
    file = features_file.read(Path("feats.h5"))
    test = file.split("test")
    guess = file.classifier().logits(test.features[:]).argmax(axis=1)
    matrix = confusion_matrix(test.labels, guess)
    found = np.zeros_like(matrix)
    for line in table:
        if line["classifier"] == "baseline":
            found[int(line["true"]), int(line["predicted"])] = float(line["samples"])
            assert line["true_name"] == file.classes.name(int(line["true"]))
    np.testing.assert_array_equal(found, matrix)
    assert {line["classifier"] for line in table} == {"baseline", "logit-adjust tau 1"}


def test_compare_under_a_prior_agrees_with_evaluate(demo, ltkit):
    under = ("--prior", "backward:20", "--replicates", 100)
    rows = json.loads(ltkit("evaluate", "feats.h5", *under, "--json")[1])["rows"]
    code, out, err = ltkit("compare", "feats.h5", "feats.logit-adjust.h5", *under, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["prior"] == {"prior": "backward:20", "untested": 0.0}
    (base,), (adjusted,) = (method["points"] for method in found["methods"])
    for point, row in zip((base, adjusted), rows, strict=True):
        assert point["accuracy"] == pytest.approx(row["accuracy"])
        assert point["metrics"]["taken"] == row["metrics"]["taken"]
        assert point["interval"]["all"] == pytest.approx(row["interval"]["all"])
    (pair,) = found["pairs"]
    assert pair["difference"]["all"] == pytest.approx(rows[1]["difference"]["all"])
    code, out, _ = ltkit("compare", "feats.h5", "feats.logit-adjust.h5", *under)
    assert "weighted to prior backward:20" in out
    frame = face.compare(
        features_file.read(Path("feats.h5")), "feats.logit-adjust.h5", prior="backward:20",
        replicates=100,
    )  # fmt: skip
    assert frame["difference"]["all"].iloc[0] == pytest.approx(pair["difference"]["all"])


def test_a_curve_and_its_choice_under_a_prior(demo, ltkit):
    """Of a sweep, what is best on val under the prior stands for the method."""
    ltkit("posthoc", "logit-adjust", "feats.h5", "--sweep", "-o", "sweep.h5", "-q")
    words = ("compare", "feats.h5", "sweep.h5", "--replicates", 100, "--json", "--prior")
    taus = []
    for prior in ("forward:50", "uniform", "backward:50"):
        code, out, err = ltkit(*words, prior)
        assert code == 0, err
        points = json.loads(out)["methods"][1]["points"]
        (chosen,) = [point for point in points if point["in_pairs"]]
        best = max(points, key=lambda point: point["val"]["all"])
        assert chosen["val"]["all"] == pytest.approx(best["val"]["all"])
        taus.append(chosen["settings"]["tau"])
    assert taus[0] < taus[1] < taus[2]


def test_on_a_terminal_of_80_columns(demo, monkeypatch):
    words = ("evaluate", "feats.h5", "--metrics", "all", "--priors", "--replicates", 100)
    lines = on_terminal(monkeypatch, words)
    assert max(map(len, lines)) <= 80
    narrow = [line.split() for line in lines if line.startswith(("   forward", "   backward"))]
    assert narrow[0] == ["forward", "60.8", "58.1", "53.7", "49.8", "44.1", "39.5"]
    assert narrow[1] == ["backward", "19.0", "21.6", "25.7", "29.4", "35.0", "39.5"]
    assert sum("worst class" in line for line in lines) == 2


def test_a_prior_in_json_and_as_a_call(demo, ltkit):
    words = ("evaluate", "feats.h5", "--replicates", 100, "--json")
    plain, uniform, backward = (
        json.loads(ltkit(*words, *more)[1])
        for more in ((), ("--prior", "uniform"), ("--prior", "backward:50", "--priors"))
    )
    assert uniform["prior"] == {"prior": "uniform", "untested": 0.0}
    for one, other in zip(plain["rows"], uniform["rows"], strict=True):
        assert other["accuracy"] == pytest.approx(one["accuracy"])
        assert other["calibration"] == pytest.approx(one["calibration"])
        assert other["interval"]["few"] == pytest.approx(one["interval"]["few"])
    for row in backward["rows"]:
        assert row["priors"]["backward:50"] == pytest.approx(row["accuracy"]["all"])
        assert row["priors"]["uniform"] == pytest.approx(row["accuracy"]["balanced"])
    gains = [row["difference"]["all"] for row in (uniform["rows"][1], backward["rows"][1])]
    assert gains[1] > gains[0] > 0
    frame = face.evaluate(
        features_file.read(Path("feats.h5")), "feats.logit-adjust.h5", prior="backward:50",
        figures=("f1",), shifts=True, replicates=100,
    )  # fmt: skip
    assert frame["accuracy"]["all"].iloc[1] == pytest.approx(backward["rows"][1]["accuracy"]["all"])
    assert frame["f1"]["few"].iloc[0] == pytest.approx(backward["rows"][0]["metrics"]["f1"]["few"])
    assert "priors" in frame.attrs["document"]["rows"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--metrics", "precison"), "--metrics: found precison; did you mean precision?"),
        (("--metrics", "f1,f1"), "--metrics: found f1 twice"),
        (("--metrics", ""), "--metrics: found '', expected words with , between"),
        (("--prior", "uniorm"), "--prior: found 'uniorm', expected numbers, as 3,1,2, or one of"),
        (("--prior", "forward:x"), "--prior: found forward:x, expected a number from 1 to 1000000"),
        (("--prior", "1,2"), "--prior: found 2 numbers, expected 100 positive ones"),
        (("--confusion", "feats.h5"), "feats.h5"),
    ],
)
def test_wrong_words(demo, ltkit, words, said):
    code, _, err = ltkit("evaluate", "feats.h5", *words)
    assert code == 2
    assert said in err
    assert all(len(line) <= 300 for line in err.splitlines())


def test_unknown_figures_in_a_call():
    split, head = drawn()
    with pytest.raises(SettingError, match="metrics: found nl; did you mean"):
        evaluation.evaluate(set_of(split, head), "test", [], figures=["nl"])


def test_log_softmax_is_what_is_ranked():
    """Without the row's normaliser, the order of samples by one class's logit is another."""
    split, head = drawn()
    scores = log_softmax(head.logits(split.features).astype(np.float64), axis=1)
    _, _, normaliser = probabilities.likelihoods(split, head)
    logits = head.logits(split.features).astype(np.float64)
    np.testing.assert_allclose(logits - normaliser[:, None], scores, atol=1e-6)
