"""Several networks on one test set: the same samples, and their predictions side by side."""

from dataclasses import replace

import numpy as np
import pytest
from two_networks import IDS, first, predictions, second

import ltkit
from ltkit.errors import InputError
from ltkit.evaluation import Entry, compare, confusion_table, evaluate, networks, of_seeds, predict
from ltkit.evaluation.analysis import analyze_flows, observe
from ltkit.records import ClassTable, Correction, FeatureSplit
from ltkit.records.arrays import SomeRows
from ltkit.settings import NeighborSettings

FEW = {"replicates": 50}


def row_of(document, name):
    return next(row for row in document["rows"] if row["name"] == name)


def test_rows_and_differences_are_those_of_the_two_files_alone():
    a, b = first(), second()
    entry = networks.own_head(a, b)
    document, _ = evaluate(a, "test", [replace(entry, name="b")], **FEW)
    alone, _ = evaluate(b, "test", [], **FEW)
    own, other = document["rows"]
    for key in ("accuracy", "interval", "calibration", "top5", "metrics"):
        assert other[key] == alone["rows"][0][key]
    labels = a.split("test").labels
    right = [predictions(of) == labels for of in (a, b)]
    gain = right[1].mean() - right[0].mean()
    assert other["difference"]["all"] == pytest.approx(gain)
    assert own["accuracy"]["all"] == pytest.approx(right[0].mean())
    # One class-stratified variance of paired differences, by hand.
    change = right[1] * 1.0 - right[0]
    variance = sum(change[labels == c].var(ddof=1) / 40 for c in range(6)) / 36
    low, high = other["difference_interval"]["all"]
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(variance), rel=0.02)


def test_a_pair_counts_the_samples_only_one_is_right_on_and_the_classes_won():
    a, b = first(), second()
    document = compare(a, "test", [replace(networks.own_head(a, b), name="b")], **FEW)
    labels = a.split("test").labels
    one, other = (predictions(of) == labels for of in (a, b))
    (pair,) = document["pairs"]
    assert (pair["first"], pair["second"]) == ("b", "baseline")
    assert pair["mcnemar"]["only_first"] == (other & ~one).sum()
    assert pair["mcnemar"]["only_second"] == (one & ~other).sum()
    gains = [other[labels == c].mean() - one[labels == c].mean() for c in range(6)]
    assert {c["id"] for c in pair["classes"]["wins"]} == {c for c in range(6) if gains[c] > 0}
    assert {c["id"] for c in pair["classes"]["losses"]} == {c for c in range(6) if gains[c] < 0}
    assert document["networks"] == ["features", "second.h5"]


@pytest.mark.parametrize("seed", range(3))
def test_images_in_another_order_are_matched_by_their_ids(seed):
    order = np.random.default_rng(seed).permutation(240)
    a = first()
    documents = [
        evaluate(a, "test", [networks.own_head(a, b)], figures=["auroc", "nll"], **FEW)[0]
        for b in (second(), second(order=order))
    ]
    one, other = (document["rows"][1] for document in documents)
    for key in ("difference", "accuracy", "calibration"):
        assert one[key] == pytest.approx(other[key])
    assert one["difference_interval"]["few"] == pytest.approx(other["difference_interval"]["few"])
    for name in ("auroc", "nll"):
        assert one["metrics"][name]["all"] == pytest.approx(other["metrics"][name]["all"])


def test_an_image_that_is_listed_twice_with_two_labels_is_matched_by_them():
    ids = np.array(["x", "x", "y"])
    one = FeatureSplit(np.zeros((3, 1)), np.array([0, 1, 0]), ids)
    a = replace(first(), splits={"test": one})
    b = replace(a, splits={"test": one.at(np.array([2, 1, 0]))}, source="b.h5")
    assert networks.same_samples(a, b, "test").labels.tolist() == [0, 1, 0]
    assert networks.same_samples(a, b, "test").ids.tolist() == ids.tolist()


def test_rows_in_any_order_are_read_block_by_block():
    every = np.arange(300_000 * 4, dtype=np.float32).reshape(-1, 4)
    rows = np.random.default_rng(0).permutation(300_000)[:100_000]
    some = SomeRows(every, rows)
    np.testing.assert_array_equal(some[:], every[rows])
    np.testing.assert_array_equal(some[10:20], every[rows[10:20]])
    assert some[5:5].shape == (0, 4)


def test_without_ids_labels_in_order_decide():
    a, b = first(ids=False), second(ids=False)
    assert networks.same_samples(a, b, "test") is b.splits["test"]
    (line,) = networks.assumed(a, b, "test")
    assert "matched with those of features by their order" in line
    assert networks.assumed(first(), second(), "test") == []
    order = np.random.default_rng(0).permutation(240)
    with pytest.raises(InputError, match="found other samples than in features"):
        networks.same_samples(a, second(ids=False, order=order), "test")


def test_other_samples_and_other_classes_are_refused():
    a, b = first(), second()
    shorter = b.split("test").at(np.arange(239))
    renamed = replace(b.split("test"), ids=np.char.add(IDS, "x"))
    labels = b.split("test").labels.copy()
    labels[3] = (labels[3] + 1) % 6
    for split in (shorter, renamed, replace(b.split("test"), labels=labels)):
        with pytest.raises(InputError, match=r"second\.h5: test: found other samples than in"):
            networks.same_samples(a, replace(b, splits={"test": split}), "test")
    five = replace(b, classes=ClassTable(a.classes.train_count[:5]))
    with pytest.raises(InputError, match=r"second\.h5: found 5 classes, expected the 6 of"):
        networks.same_samples(a, five, "test")
    names = tuple("abcdef"), tuple("abdcef")
    a, b = (
        replace(of, classes=replace(of.classes, names=n))
        for of, n in zip((a, b), names, strict=True)
    )
    with pytest.raises(InputError, match="found class 2 to be 'd', expected 'c' as in features"):
        compare(a, "test", [networks.own_head(a, b)], **FEW)


def test_shot_groups_of_the_first_are_taken_and_said():
    a, b = first(), second()
    counts = a.classes.train_count[::-1].copy()
    b = replace(b, classes=replace(b.classes, train_count=counts))
    (line,) = networks.assumed(a, b, "test")
    assert "trained on other numbers of images than features, whose shot groups are taken" in line
    document, _ = evaluate(a, "test", [networks.own_head(a, b)], **FEW)
    plain, _ = evaluate(a, "test", [networks.own_head(a, second())], **FEW)
    assert document["rows"][1]["accuracy"] == plain["rows"][1]["accuracy"]


def shifted(network, amounts=(0.0, 1e3)):
    """A correction with a bias for the last class, in one setting for each amount."""
    ids = np.array([5])
    weight = np.repeat(network.head.weight[None, 5:], len(amounts), axis=0)
    bias = np.array([[network.head.bias[5] + amount] for amount in amounts], np.float32)
    runs = tuple({"tau": amount} for amount in amounts)
    return Correction("shift", ids, weight, bias, runs)


def test_a_correction_of_another_network_corrects_that_and_is_chosen_on_its_val():
    a, b = first(), second()
    entry = Entry("b shift", "s.h5", shifted(b), b)
    document, by_class = evaluate(a, "test", [entry], **FEW)
    alone, _ = evaluate(b, "test", [replace(entry, network=None)], **FEW)
    for row, same in zip(document["rows"][1:], alone["rows"][1:], strict=True):
        assert row["accuracy"] == same["accuracy"]
        assert (row["val"], row["chosen"]) == (same["val"], same["chosen"])
    assert [row["chosen"] for row in document["rows"]] == [True, True, False]
    assert by_class["b shift tau=1000"][5] == 1
    compared = compare(a, "test", [entry], **FEW)
    assert [p["in_pairs"] for p in compared["methods"][1]["points"]] == [True, False]
    table = confusion_table(a, "test", [entry])[1]
    last = [row for row in table if row[0] == "b shift tau 1000" and row[3] == 5]
    assert sum(row[5] for row in last) == 240


def test_means_over_seeds_are_of_the_network_that_is_corrected():
    a, b = first(), second()
    one = replace(shifted(b), runs=({"seed": 0}, {"seed": 1}))
    (found,) = of_seeds([Entry("b", "b.h5", one, b)], "best", a)
    assert found.network is b
    assert found.correction.runs == ({"seed": 0},)


def test_flows_run_from_one_network_to_the_other():
    a, b = first(), second()
    train = {"train": a.split("val")}
    a = replace(a, splits={**a.splits, **train})
    subject = observe(a, "test", [networks.own_head(a, b)])
    document = analyze_flows(subject, NeighborSettings(2))
    assert document["networks"] == ["features", "second.h5"]
    row = next(row for row in document["rows"] if row["samples"] == "all")
    labels = a.split("test").labels
    one, other = (predictions(of) == labels for of in (a, b))
    assert row["count"][0][0] == (one & other).sum()
    assert row["before"]["correct"] == one.sum()
    assert row["after"]["correct"] == other.sum()


def test_networks_are_called_by_their_files():
    a, b = replace(first(), source="x/ce.h5"), replace(second(), source="y/ce.h5")
    assert [of.called for of in networks.named([a, b])] == ["x/ce.h5", "y/ce.h5"]
    assert [of.called for of in networks.named([a, second()])] == ["ce", "second"]
    with pytest.raises(InputError, match="named twice, expected each network once"):
        networks.named([a, replace(b, source="x/../x/ce.h5")])


def test_from_python_features_stand_for_another_network():
    a, b = first(), second()
    frame = ltkit.evaluate(a, b, ("other", b), ("shift", shifted(b, (1e3,)), b), **FEW)
    assert list(frame.index) == ["baseline", "second", "other", "shift tau 1000"]
    assert frame["accuracy"].loc["second"].equals(frame["accuracy"].loc["other"])
    pairs = ltkit.compare(a, b, **FEW)
    assert list(pairs.index) == ["second - baseline"]


def test_predictions_come_in_the_order_of_the_entries():
    a, b = first(), second()
    entries = [networks.own_head(a, b), networks.own_head(a), networks.own_head(a, b)]
    found = networks.predict_entries(a, "test", entries, predict)
    for of, one in zip((b, a, b), found, strict=True):
        np.testing.assert_array_equal(one.predicted[0], predictions(of))
