"""Relative accuracy: the balanced reference set, the ratio, and `evaluate --relative-to`."""

import csv
import json
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from shared_data import cifar100_root

from ltkit import datasets
from ltkit.datasets.longtail import profile_counts
from ltkit.errors import InputError
from ltkit.evaluation import Entry, evaluate, metrics, resampling
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Head

COUNTS = np.array([300, 120, 60, 30, 12, 6])  # 528 in all, 88 a class
EVEN = np.full(6, 88)
TEN = np.repeat(np.arange(6), 10)
GROUPS = {"many": (0, 1), "medium": (2, 3), "few": (4, 5)}


def model(right, counts=COUNTS, name="a.h5", ids=None):
    """A feature set whose own head gets so many of the ten test samples of each class right.

    Features are one-hot predictions, the head is the identity.
    """
    wrong = (TEN + 1) % 6
    predicted = np.where(np.arange(60) % 10 < np.repeat(right, 10), TEN, wrong)
    split = FeatureSplit(np.eye(6, dtype=np.float32)[predicted], TEN, ids)
    head = Head(np.eye(6, dtype=np.float32), np.zeros(6, np.float32))
    return FeatureSet({"test": split}, ClassTable(counts), head, source=name)


LONG_TAILED = [9, 8, 6, 4, 2, 0]
PLAIN = [8, 8, 8, 8, 5, 0]
OWN = [9, 7, 7, 7, 6, 0]


# The balanced set


@pytest.mark.parametrize(
    ("classes", "most", "factor", "each"),
    [(100, 500, 100, 108), (100, 500, 50, 126), (100, 500, 10, 195), (10, 5000, 100, 1240)],
)
def test_the_balanced_set_is_as_large_as_the_long_tailed_one(classes, most, factor, each):
    # 108 at imbalance 100 is published; sizes 10847, 12608, 19573 and 12406 over C
    assert profile_counts("balanced", classes, most, factor).tolist() == [each] * classes


def test_a_balanced_set_of_no_imbalance_is_the_whole_set():
    counts = profile_counts("balanced", 100, 500, 1)
    np.testing.assert_array_equal(counts, profile_counts("exponential", 100, 500, 1))


@pytest.mark.parametrize("val", ["balanced", "holdout", "none"])
def test_digits_have_a_balanced_set_and_the_same_test_images(val):
    tailed = datasets.load(f"digits_lt:val={val}")
    even = datasets.load(f"digits_lt:val={val},profile=balanced")
    total, counts = tailed.classes.train_count.sum(), even.classes.train_count
    assert np.ptp(counts) == 0
    assert abs(counts.sum() - total) <= 10
    np.testing.assert_array_equal(tailed.split("test").ids, even.split("test").ids)
    assert tailed.record["index_digest"] != even.record["index_digest"]
    assert even.record["spec"].endswith("profile=balanced")
    assert not {*even.split("train").ids} & {*even.split("test").ids}


def test_cifar100_has_a_balanced_set_that_shares_the_draw():
    tailed = datasets.load("cifar100_lt:val=none", cifar100_root())
    even = datasets.load("cifar100_lt:val=none,profile=balanced", cifar100_root())
    assert even.classes.train_count.tolist() == [108] * 100
    own = {*even.split("train").ids}
    assert len(own) == 10_800
    few = tailed.classes.train_count[tailed.split("train").labels] < 108
    assert own >= {*tailed.split("train").ids[few]}  # rare classes keep the images that they have


def test_a_profile_that_there_is_not():
    with pytest.raises(InputError, match="profile: found steep, expected exponential, step, par"):
        datasets.load("digits_lt:profile=steep")


# The ratio


def test_the_ratio_is_to_the_best_reference_and_guarded():
    accuracy = np.array([0.3, 0.5, 0.2, np.nan])
    references = np.array([[0.6, 0.25, 0.0, np.nan], [0.4, 0.5, 0.0, np.nan]])
    ratio = metrics.relative_accuracy(accuracy, references)
    np.testing.assert_allclose(ratio, [0.5, 1.0, np.nan, np.nan])


def test_a_published_value():
    # ImageNet-LT, ResNeXt-50: accuracy and reference accuracy of softmax and RIDE
    ratio = metrics.relative_accuracy(np.array([45.5, 55.5]), np.array([[57.3, 60.2]]))
    assert np.round(100 * ratio, 1).tolist() == [79.4, 92.2]


def test_relative_accuracy_of_every_group_by_hand():
    features = model(LONG_TAILED)
    references = [model(PLAIN, EVEN, "plain.h5"), model(OWN, EVEN, "own.h5")]
    document, by_class = evaluate(features, "test", [], references=references)
    relative = document["rows"][0]["relative"]["accuracy"]
    # many 8.5 of 8, medium 5 of 8, few 1 of 3, all 29 of 37: in each group the better model
    assert relative["many"] == pytest.approx(17 / 16)
    assert relative["medium"] == pytest.approx(5 / 8)
    assert relative["few"] == pytest.approx(1 / 3)
    assert relative["all"] == relative["balanced"] == pytest.approx(29 / 37)
    for name, classes in GROUPS.items():
        best = max(sum(m[c] for c in classes) for m in (PLAIN, OWN))
        own = sum(LONG_TAILED[c] for c in classes)
        assert relative[name] == pytest.approx(float(Fraction(own, best)))
    assert [m["features"] for m in document["relative_to"]] == ["plain.h5", "own.h5"]
    assert document["relative_to"][1]["accuracy"]["few"] == pytest.approx(0.3)
    assert by_class["reference"].tolist() == [0.9, 0.8, 0.8, 0.8, 0.6, 0.0]
    ratio = by_class["baseline relative"]
    np.testing.assert_allclose(ratio, [1.0, 1.0, 0.75, 0.5, 1 / 3, np.nan])


def test_a_group_that_no_reference_gets_right_has_no_relative_accuracy():
    document, _ = evaluate(
        model(LONG_TAILED), "test", [], references=[model([8, 8, 8, 8, 0, 0], EVEN)]
    )
    relative = document["rows"][0]["relative"]
    assert relative["accuracy"]["few"] is None
    assert relative["interval"]["few"] is None
    assert relative["accuracy"]["medium"] == pytest.approx(5 / 8)


def test_groups_absent_here_are_absent_in_the_ratio():
    counts = np.array([300, 200, 180, 150, 120, 110])
    even = model(PLAIN, np.full(6, 176))
    document, _ = evaluate(model(LONG_TAILED, counts), "test", [], references=[even])
    relative = document["rows"][0]["relative"]
    assert relative["accuracy"]["few"] is relative["accuracy"]["medium"] is None
    assert relative["accuracy"]["many"] == relative["accuracy"]["all"]


def test_the_ratio_of_a_correction_is_of_the_mean_over_its_runs():
    features = model(LONG_TAILED)
    high, low = np.full(2, 10, np.float32), np.full(2, -10, np.float32)
    weight = np.zeros((2, 2, 6), np.float32)
    runs = ({"seed": 0}, {"seed": 1})
    correction = Correction("made", np.array([4, 5]), weight, np.stack([high, low]), runs)
    document, by_class = evaluate(
        features, "test", [Entry("made", "x.h5", correction)], references=[model(PLAIN, EVEN)]
    )
    # run 0 says class 4 of everything (10 of 60 right), run 1 never says 4 or 5 (27 of 60)
    relative = document["rows"][1]["relative"]["accuracy"]
    assert relative["few"] == pytest.approx(((10 + 0) / 2) / 5)
    assert relative["all"] == pytest.approx(((10 + 27) / 2) / 37)
    assert by_class["made relative"][4] == pytest.approx(0.5 / 0.5)


def test_a_model_beside_itself_is_at_one_without_any_spread():
    even = model(PLAIN, EVEN)
    document, _ = evaluate(even, "test", [], references=[even])
    relative = document["rows"][0]["relative"]
    assert relative["accuracy"]["all"] == 1
    assert relative["interval"]["all"] == [1, 1]


def test_intervals_agree_with_resampling_the_samples_themselves():
    features, reference = model(LONG_TAILED), model(PLAIN, EVEN)
    document, _ = evaluate(features, "test", [], references=[reference], replicates=4000)
    found = document["rows"][0]["relative"]["interval"]["medium"]
    rng = np.random.default_rng(1)
    rows = np.stack([np.arange(60) % 10 < np.repeat(m, 10) for m in (LONG_TAILED, PLAIN)])
    ratios = []
    for _ in range(4000):
        drawn = np.concatenate([rng.choice(np.flatnonzero(c == TEN), 10) for c in (2, 3)])
        own, best = rows[:, drawn].mean(axis=1)
        ratios.append(own / best)
    np.testing.assert_allclose(found, np.quantile(ratios, (0.025, 0.975)), atol=0.03)


def test_joint_draws_have_the_means_and_the_covariance_of_the_samples():
    rng = np.random.default_rng(0)
    first = rng.random(200) < 0.6
    values = np.stack([first, first & (rng.random(200) < 0.5)]).astype(float)
    labels = np.repeat([0, 2], 100)
    drawn = resampling.bootstrap_jointly(values, labels, 3, replicates=20_000, seed=0)
    assert drawn.shape == (2, 20_000, 3)
    assert not drawn[:, :, 1].any()
    for c, rows in ((0, slice(100)), (2, slice(100, 200))):
        np.testing.assert_allclose(drawn[:, :, c].mean(axis=1), values[:, rows].mean(1), atol=0.002)
        expected = np.cov(values[:, rows]) / 100  # unbiased: of 99 draws
        np.testing.assert_allclose(np.cov(drawn[:, :, c]), expected, rtol=0.05)


# What is no reference


def test_references_that_do_not_fit():
    features = model(LONG_TAILED, ids=np.arange(60).astype(str))
    other = model(PLAIN, EVEN, "other.h5", ids=np.arange(1, 61).astype(str))
    for reference, message in (
        (other, "other.h5: test: found other samples than in a.h5"),
        (
            model(PLAIN, COUNTS, "b.h5"),
            "b.h5: trained on 528 images, 6 to 300 a class, expected ab",
        ),
        (
            model(PLAIN, EVEN // 2, "c.h5"),
            "trained on 264 images, 44 to 44 a class, expected about",
        ),
        (model(PLAIN, EVEN * 2, "c.h5"), "trained on 1056 images, 176 to 176 a class"),
        (replace(features, classes=ClassTable(np.full(7, 75))), "found 7 classes, expected the 6"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            evaluate(features, "test", [], references=[reference])
    shorter = FeatureSplit(np.zeros((3, 6), np.float32), np.arange(3))
    with pytest.raises(InputError, match="found other samples"):
        evaluate(features, "test", [], references=[replace(other, splits={"test": shorter})])


def test_ids_are_compared_where_both_have_them_and_rounding_is_no_fault():
    features = model(LONG_TAILED, ids=np.arange(60).astype(str))
    rounded = np.array([86, 86, 87, 86, 86, 86])  # 517 of 528
    evaluate(features, "test", [], references=[model(PLAIN, rounded)])


# The command


def write(path, right, counts):
    made = model(right, counts)
    data = made.split("test")
    head = made.head
    plan = Plan(6, "float32", {"test": SplitPlan(data.labels, None)}, made.classes, head, {}, {})
    with FeaturesWriter(path, plan, command="made", resume=False) as writer:
        writer.append("test", data.features[:])
        writer.finish()
    return path


@pytest.fixture
def files(tmp_path):
    return (
        write(tmp_path / "lt.h5", LONG_TAILED, COUNTS),
        write(tmp_path / "plain.h5", PLAIN, EVEN),
        write(tmp_path / "own.h5", OWN, EVEN),
    )


def test_the_command_prints_it_in_the_table_the_json_and_the_csv(files, ltkit, tmp_path):
    features, plain, own = files
    csv_file = tmp_path / "classes.csv"
    words = ("evaluate", features, "--relative-to", plain, "--relative-to", own)
    code, out, _ = ltkit(*words, "--json", "--per-class", csv_file)
    document = json.loads(out)
    assert code == 0
    assert document["rows"][0]["relative"]["accuracy"]["all"] == pytest.approx(29 / 37)
    assert [m["features"] for m in document["relative_to"]] == [str(plain), str(own)]
    rows = list(csv.DictReader(csv_file.read_text(encoding="utf-8").splitlines()))
    assert [row["reference"] for row in rows][:2] == ["0.900000", "0.800000"]
    assert rows[3]["baseline relative"] == "0.500000"
    assert rows[5]["baseline relative"] == ""
    code, out, _ = ltkit(*words)
    assert code == 0
    table = out[out.index("accuracy over the best that balanced training data gave") :]
    assert re.search(r"accuracy of plain.h5 +25.0 +80.0 +80.0 +61.7", table)
    assert re.search(r"baseline +33.3 +62.5 +106.2 +78.4", table)


def test_without_it_nothing_changes(files, ltkit):
    _, out, _ = ltkit("evaluate", files[0], "--json")
    document = json.loads(out)
    assert "relative_to" not in document
    assert "relative" not in document["rows"][0]
    _, out, _ = ltkit("evaluate", files[0])
    assert "relative" not in out


def test_references_that_cannot_be_read_and_outputs_that_would_hit_them(files, ltkit, tmp_path):
    code, _, err = ltkit("evaluate", files[0], "--relative-to", tmp_path / "none.h5")
    assert code == 2
    assert "none.h5" in err
    words = ("--relative-to", files[1], "--per-class", files[1], "--overwrite")
    code, _, err = ltkit("evaluate", files[0], *words)
    assert code == 2
    assert "plain.h5" in err


@pytest.mark.usefixtures("one_thread")
def test_the_whole_chain_on_digits(ltkit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, spec in (("lt", "digits_lt"), ("even", "digits_lt:profile=balanced")):
        training = ("--data", spec, "--arch", "digits_net", "--epochs", 12, "--lr", 0.05)
        for words in (
            ("train", "ce", *training, "-o", f"{name}.pt"),
            ("extract", f"{name}.pt", "--data", spec, "-o", f"{name}.h5"),
        ):
            code, _, err = ltkit(*words, "-q")
            assert code == 0, err
    assert ltkit("posthoc", "logit-adjust", "lt.h5", "-q")[0] == 0
    _, out, _ = ltkit("evaluate", "lt.h5", "--relative-to", "even.h5", "--json", "-q")
    document = json.loads(out)
    (reference,) = document["relative_to"]
    for row in document["rows"]:
        for name, accuracy in row["accuracy"].items():
            expected = accuracy / reference["accuracy"][name]
            assert row["relative"]["accuracy"][name] == pytest.approx(expected)
        low, high = row["relative"]["interval"]["all"]
        assert low < row["relative"]["accuracy"]["all"] < high
    few = [row["relative"]["accuracy"]["few"] for row in document["rows"]]
    assert few[0] < few[1]  # the correction comes nearer to balanced data
    code, _, err = ltkit("evaluate", "lt.h5", "--relative-to", "lt.h5", "-q")
    assert code == 2
    assert "train it on profile=balanced" in err
