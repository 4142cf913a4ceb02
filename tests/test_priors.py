"""Priors in words, numbers and files; accuracy under them, and targets of corrections."""

from pathlib import Path

import numpy as np
import pytest

from ltkit import evaluation, posthoc
from ltkit.errors import InputError, SettingError
from ltkit.evaluation import metrics, priors
from ltkit.posthoc import log_target, logit_adjust, pc_softmax
from ltkit.records import (
    Classifier,
    ClassTable,
    FeatureSet,
    FeatureSplit,
    Head,
    class_prior,
    shot_groups,
)
from ltkit.records.priors import as_text, names_file

COUNTS = np.array([40, 500, 40, 8])


def test_words_by_hand():
    assert class_prior("uniform", COUNTS).tolist() == [0.25] * 4
    np.testing.assert_allclose(class_prior("train", COUNTS), COUNTS / 588)
    inverse = 1 / COUNTS
    np.testing.assert_allclose(class_prior("inverse", COUNTS), inverse / inverse.sum())
    test = np.array([3, 0, 1, 0])
    np.testing.assert_allclose(class_prior("test", COUNTS, test_counts=test), test / 4)
    assert class_prior("3,1,0,0", COUNTS).tolist() == [0.75, 0.25, 0, 0]


def test_forward_and_backward_by_hand():
    """1000 at the head and 1 at the tail of four: 1000, 100, 10, 1; of equal counts the first."""
    shares = np.array([100, 1000, 10, 1])
    np.testing.assert_allclose(class_prior("forward:1000", COUNTS), shares / 1111)
    np.testing.assert_allclose(class_prior("backward:1000", COUNTS), [10, 1, 100, 1000] / 
                               np.float64(1111))  # fmt: skip
    assert class_prior("forward:1", COUNTS).tolist() == [0.25] * 4
    assert class_prior("forward:50", np.array([7])).tolist() == [1]


def test_a_file(tmp_path):
    path = tmp_path / "shares.tsv"
    for text in ("0\t0.5\ncat\t0.25\n2\t0.25\n3\t0\n", "0\t20\n1\t10\n2\t10\n3\t0\n",
                 "0,0.5\n1,0.25\n\n2,0.25\n3,0\n"):  # fmt: skip
        path.write_text(text)
        found = class_prior(str(path), COUNTS, class_names=["a", "cat", "b", "c"])
        assert found.tolist() == [0.5, 0.25, 0.25, 0]
    assert names_file(str(path))
    assert not names_file("1," * 9000)
    assert not names_file("uniform")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0\t0.5\n1\t0.2\n2\t0.2\n3\t0\n", "found weights with sum 0.9, expected shares that sum"),
        ("0\t0\n1\t0\n2\t0\n3\t0\n", "found weights with sum 0, expected"),
        ("0\t0.5\n1\t-0.5\n2\t1\n3\t0\n", "class '1': found -0.5, expected a share or a count"),
        ("0\t0.5\n1\tmany\n2\t1\n3\t0\n", "class '1': found many, expected a share"),
        ("0\t0.5\n1\t0.5\n", "found no line for 2 of 4 classes ('2: 2', '3: 3'); add a line "
         "'class<TAB>weight' for each"),
        ("0\t0.5\n0\t0.5\n", "found class '0' again"),
        ("0 0.5\n", "expected two that are not empty; write class<TAB>weight"),
    ],
)  # fmt: skip
def test_a_wrong_file(tmp_path, text, said):
    path = tmp_path / "shares.tsv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        class_prior(str(path), COUNTS)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("unform", "found 'unform', expected numbers, as 3,1,2, or one of uniform, train, test"),
        ("forward", "found forward:'', expected a number from 1 to 1"),
        ("forward:0.5", "found forward:0.5, expected a number from 1 to"),
        ("1,2", "found 2 numbers, expected 4 positive ones"),
        ("0,0,0,0", "found 4 numbers, expected 4 positive ones"),
        ("1,2,3,-4", "found '1,2,3,-4', expected numbers"),
        ("test", "found test, whose labels nothing may be fitted to"),
    ],
)
def test_what_is_no_prior(said, found):
    with pytest.raises(SettingError) as caught:
        class_prior(said, COUNTS, name="prior")
    assert str(caught.value).startswith(f"prior: {found}")


def test_counts_that_say_nothing():
    with pytest.raises(SettingError, match="goes by training counts, and all are 7; give a file"):
        class_prior("backward:5", np.full(4, 7))
    with pytest.raises(SettingError, match="found inverse, and no training image of class 1"):
        class_prior("inverse", np.array([3, 0, 2]))
    with pytest.raises(SettingError, match="found train, and no training image of class 0; 2 such"):
        class_prior("train", np.zeros(2))


# Accuracy under a prior


def test_uniform_is_balanced_and_the_splits_own_is_all():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 200)
    right = rng.random(200) < 0.3 + 0.2 * labels
    by_class = metrics.class_accuracy(right, labels, 4)
    groups = shot_groups(COUNTS)
    plain = metrics.summarize(by_class, metrics.group_weights(labels, 4, groups))
    for said, name in (("uniform", "balanced"), ("test", "all")):
        prior = class_prior(said, COUNTS, test_counts=np.bincount(labels))
        found = metrics.summarize(by_class, metrics.group_weights(labels, 4, groups, prior))
        assert found["all"] == pytest.approx(plain[name])
        assert found["balanced"] == plain["balanced"]
        weights = priors.sample_weights(labels, prior, 4)
        assert np.average(right, weights=weights) == pytest.approx(found["all"])
    uniform = metrics.summarize(
        by_class, metrics.group_weights(labels, 4, groups, np.full(4, 0.25))
    )
    assert uniform["medium"] == plain["medium"]


def test_a_prior_is_what_a_test_set_drawn_so_has():
    """Simulation: labels drawn from the training prior, predictions of a fixed confusion."""
    rng = np.random.default_rng(1)
    recall = np.array([0.5, 0.9, 0.3, 0.1])
    prior = class_prior("train", COUNTS)
    even = np.repeat(np.arange(4), 20_000)
    hits = rng.random(len(even)) < recall[even]
    groups = shot_groups(COUNTS)
    weights = metrics.group_weights(even, 4, groups, prior)
    found = metrics.summarize(metrics.class_accuracy(hits, even, 4), weights)
    drawn = rng.choice(4, size=200_000, p=prior)
    right = rng.random(len(drawn)) < recall[drawn]
    assert found["all"] == pytest.approx(right.mean(), abs=0.006)
    medium = np.isin(drawn, groups.medium)
    assert found["medium"] == pytest.approx(right[medium].mean(), abs=0.015)


def test_the_published_protocol_on_a_small_set():
    """LADE keeps IF^(-rank / (C - 1)) of each class's test samples; here the first ones."""
    each, ratio = 1000, 10.0
    labels = np.repeat(np.arange(3), each)
    right = np.random.default_rng(2).random(3 * each) < np.array([0.8, 0.5, 0.2])[labels]
    counts = np.array([300, 100, 30])
    for said, ranks in (("forward:10", [0, 1, 2]), ("backward:10", [2, 1, 0])):
        kept = [round(each * ratio ** (-rank / 2)) for rank in ranks]
        means = [right[labels == c].mean() for c in range(3)]
        published = np.dot(kept, means) / sum(kept)  # what subsampling gives on average
        prior = class_prior(said, counts)
        (found,) = priors.shifted_accuracies([np.array(means)], {said: prior})
        assert found[said] == pytest.approx(published, abs=1e-3)


def test_a_class_without_samples_is_left_out():
    labels = np.array([0, 0, 1])
    prior = np.array([0.2, 0.2, 0.6])
    assert priors.described("x", prior, labels) == {"prior": "x", "untested": 0.6}
    weights = metrics.group_weights(labels, 3, shot_groups(np.array([5, 50, 500])), prior)
    assert weights["all"].tolist() == [0.5, 0.5, 0]
    assert "many" not in weights
    made = features(labels)
    with pytest.raises(InputError, match="found no class with a share that has a sample in test"):
        priors.prior_of(made, "test", "0,0,0,1")


def features(labels):
    x = np.zeros((len(labels), 1), np.float32)
    head = Head(np.zeros((4, 1), np.float32), np.zeros(4, np.float32))
    return FeatureSet({"test": FeatureSplit(x, labels)}, ClassTable(COUNTS), head)


def test_the_table_of_shifts():
    found = priors.shifts(features(np.arange(4)), "test")
    assert list(found)[:2] == ["forward:50", "forward:25"]
    assert len(found) == 11
    np.testing.assert_allclose(found["uniform"], 0.25)
    np.testing.assert_allclose(found["backward:2"], class_prior("backward:2", COUNTS))


# Targets


def test_targets_of_corrections(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = Classifier(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    prior = class_prior("train", COUNTS)
    for said in ("forward:50", "backward:50", "inverse", "train", "4,3,2,1"):
        target = class_prior(said, COUNTS)
        np.testing.assert_allclose(np.exp(log_target(said, COUNTS)), target)
        other = pc_softmax.fit(base, None, COUNTS, target=said).bias
        np.testing.assert_allclose(other, np.log(target / prior), atol=1e-5)
        for tau in (1.0, 0.5):
            own = logit_adjust.fit(base, None, COUNTS, tau=tau, target=said).bias
            np.testing.assert_allclose(own, tau * (other + np.log(4)), atol=1e-5)
    plain = logit_adjust.fit(base, None, COUNTS, tau=1.0).bias
    np.testing.assert_array_equal(plain, (-np.log(prior)).astype(np.float32))
    with pytest.raises(InputError, match="target: found a share of 0 for class 2, expected 4"):
        log_target("1,1,0,1", COUNTS)
    with pytest.raises(InputError, match="target: found test, whose labels"):
        log_target("test", COUNTS)


def test_tau_is_chosen_by_accuracy_under_the_target(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    x = (np.eye(4)[labels] + 0.8 * rng.normal(size=(400, 4))).astype(np.float32)
    head = Head(2 * np.eye(4, dtype=np.float32), np.log(COUNTS / COUNTS.sum()).astype(np.float32))
    val = FeatureSplit(x, labels)
    made = FeatureSet({"val": val}, ClassTable(COUNTS), head)
    path = tmp_path / "shares.tsv"
    path.write_text("".join(f"{c}\t{w}\n" for c, w in enumerate((0.1, 0.1, 0.7, 0.1))))
    wanted = posthoc.plan("logit-adjust", {"target": str(path)})
    found = posthoc.fit_features(made, wanted)
    shares = np.array([0.1, 0.1, 0.7, 0.1])
    target = found.correction.runs[0]["target"]
    np.testing.assert_allclose(class_prior(target, COUNTS), shares)
    assert target == as_text(shares)
    scores = []
    for run in found.tried:
        fitted = logit_adjust.fit(made.classifier(), None, COUNTS, target=target, **run)
        right = fitted.logits(x).argmax(axis=1) == labels
        scores.append(shares @ metrics.class_accuracy(right, labels, 4))
    np.testing.assert_allclose(found.scores, scores, atol=1e-9)
    assert found.chosen["tau"] == found.tried[int(np.argmax(scores))]["tau"]


def test_the_objective_under_a_prior():
    labels, predicted = np.array([0, 0, 1, 2, 3]), np.array([0, 1, 1, 2, 0])
    groups, prior = shot_groups(COUNTS), np.array([0.4, 0.3, 0.2, 0.1])
    for select in ("all", "balanced"):
        found = evaluation.objective(predicted, labels, 4, groups, select, prior)
        assert found == pytest.approx(0.4 * 0.5 + 0.3 + 0.2)


def test_targets_on_the_command_line(tmp_path, monkeypatch, ltkit):
    from bad_inputs.makers import put

    monkeypatch.chdir(tmp_path)
    put("feats.h5")()
    Path("s.tsv").write_text("".join(f"{c}\t1\n" for c in range(6)))
    for said in ("forward:50", "s.tsv"):
        code, _, err = ltkit("posthoc", "logit-adjust", "feats.h5", "--set", f"target={said}",
                             "-o", "o.h5", "--overwrite")  # fmt: skip
        assert code == 0, err
    code, _, err = ltkit("posthoc", "logit-adjust", "feats.h5", "--set", "target=forwards:5")
    assert code == 2
    assert "target: found 'forwards:5', expected numbers, as 3,1,2, or one of" in err
