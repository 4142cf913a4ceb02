"""A comparison in words: every verdict, on documents written by hand."""

import numpy as np

from ltkit.evaluation import Entry, compare
from ltkit.evaluation.conclusion import conclusion
from ltkit.records import Classifier, ClassTable, Correction, FeatureSet, FeatureSplit, Head


def method(name, overall=0.4):
    point = {"label": f"{name} tau 1", "in_pairs": True, "accuracy": {"all": overall}}
    return {"name": name, "points": [point]}


def document(few, gaps, against=None, levels=(0.4,)):
    """A comparison of curves: heights by name, and (first, second): (gap, interval)."""
    return {
        "against": against,
        "methods": [method(name) for name in few],
        "pairs": [],
        "frontier": {
            "overall": list(levels),
            "few": few,
            "gaps": [
                {"first": a, "second": b, "overall": level, "gap": gap, "interval": ends}
                for (a, b), (gap, ends) in gaps.items()
                for level in levels
            ],
        },
    }


HEADING = "Few-shot accuracy at equal overall accuracy (40 %): "


def test_who_is_ahead_by_how_much():
    few = {"own": [0.1], "a": [0.15], "b": [0.3]}
    gaps = {
        ("a", "own"): (0.05, [0.01, 0.09]), ("b", "own"): (0.2, [0.1, None]),
        ("b", "a"): (0.15, [-0.01, 0.3]),
    }  # fmt: skip
    assert conclusion(document(few, gaps)) == (
        f"{HEADING}b is ahead of own by 20.0 points (95 % interval 10.0 to ∞), a by 5.0 (1.0 to "
        "9.0). b is within noise of the next, a: +15.0 points (95 % interval -1.0 to +30.0)."
    )


def test_the_best_and_the_next():
    few = {"own": [0.1], "a": [0.2], "b": [0.3]}
    gaps = {(name, "own"): (0.1, [0.05, 0.2]) for name in "ab"}
    text = conclusion(document(few, gaps | {("b", "a"): (0.1, [0.05, 0.15])}))
    assert text.endswith(" b is ahead of the next, a, by 10.0 points (95 % interval 5.0 to 15.0).")


def test_behind_within_noise_and_without_interval():
    few = {"own": [0.1], "a": [0.08], "b": [0.11], "c": [0.2], "d": [None]}
    gaps = {
        ("a", "own"): (-0.02, [None, -0.01]), ("b", "own"): (0.01, [-0.01, 0.03]),
        ("c", "own"): (0.1, None),
    }  # fmt: skip
    assert conclusion(document(few, gaps, against="own tau 1")) == (
        f"{HEADING}b is within noise of own: +1.0 points (95 % interval -1.0 to +3.0); a is behind "
        "own by 2.0 points (95 % interval 1.0 to ∞); c has no interval to own: +10.0 points; d "
        "does not reach it."
    )


def test_the_highest_level_that_two_reach():
    few = {"own": [0.3, 0.2, 0.1], "a": [0.4, 0.35, None], "b": [0.3, None, None]}
    gaps = {("a", "own"): (0.15, [0.1, 0.2])}  # of a alone
    text = conclusion(document(few, gaps, levels=(0.38, 0.4, 0.41)))
    assert text.startswith(f"{HEADING}a is ahead of own by 15.0 points")
    assert text.endswith("; b does not reach it.")


def test_many_are_not_all_named():
    names = ["own", *(f"m{n}" for n in range(7))]
    gaps = {(name, "own"): (0.1, [0.05, 0.2]) for name in names[1:]}
    few = {name: [0.1] for name in names}
    assert conclusion(document(few, gaps)).endswith("m3 by 10.0 (5.0 to 20.0), and so are 3 more.")
    few |= {f"x{n}": [None] for n in range(6)}
    assert conclusion(document(few, gaps)).endswith("x0, x1, x2, x3 and 2 more do not reach it.")


def test_without_curves_overall_accuracy_counts():
    found = document({"own": [0.1], "a": [0.1]}, {})
    found["frontier"] = None
    pair = {"first": "a tau 1", "second": "own tau 1", "difference": {"all": -0.02}}
    found["pairs"] = [pair | {"interval": {"all": [-0.03, -0.01]}}]
    said = "Overall accuracy: a tau 1 is behind own tau 1 by 2.0 points (95 % interval 1.0 to 3.0)."
    assert conclusion(found) == said
    assert conclusion(found | {"against": "a tau 1"}) == said.replace("a tau 1 is behind own", (
        "own tau 1 is ahead of a"))  # fmt: skip


def test_the_document_has_it():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 60)
    x = (np.eye(3, dtype=np.float32)[labels] + rng.normal(0, 0.5, (180, 3))).astype(np.float32)
    head = Head(np.eye(3, dtype=np.float32), np.float32([0, 0, -1]))
    table = ClassTable(np.array([200, 50, 5]))
    features = FeatureSet({"test": FeatureSplit(x, labels)}, table, head)
    better = Correction.whole(
        "fair", Classifier(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)), {}
    )
    found = compare(features, "test", [Entry("fair", "f.h5", better)], replicates=100)
    assert found["conclusion"].startswith("Few-shot accuracy at equal overall accuracy (")
    assert "fair is ahead of baseline by" in found["conclusion"]
    none = compare(features, "test", [Entry("fair", "f.h5", better)], bins=(2, 100), replicates=100)
    assert none["conclusion"].startswith("Overall accuracy: fair is ")
