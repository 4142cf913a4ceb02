"""`benchmarks/adaptation.py`: what it measures, and the tables it makes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import shifted

import ltkit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import adaptation
import adaptation_page


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """Few draws of a small problem."""
    features = shifted.problem(test=shifted.sample(np.full(10, 0.1), 1500, 4))
    monkeypatch.setattr(adaptation, "RESULTS", tmp_path / "a.json")
    for name, value in (("DRAWS", 4), ("FEW_DRAWS", 2), ("SIZE", 300), ("DEALS", 2),
                        ("SIZES", (30, 300))):  # fmt: skip
        monkeypatch.setattr(adaptation, name, value)
    monkeypatch.setattr(ltkit, "read", lambda path: features)
    return tmp_path / "a.json"


def test_both_parts_and_the_tables(quick):
    for part in ("shifts", "test"):
        adaptation.main(part, "cifar100_lt", "f.h5")
    adaptation.main("shifts", "tiny_dealt", "f.h5")
    rows = json.loads(quick.read_text())
    assert list(rows) == ["cifar100_lt", "tiny_dealt"]
    backward = rows["cifar100_lt"]["shifts"]["accuracies"][-2]
    assert backward["prior"] == "backward:50"
    none, found, oracle = (backward["accuracy"][k] for k in ("none", "tail", "oracle"))
    assert none + 0.1 < found <= oracle + 0.02
    assert {row["refused"] for row in rows["cifar100_lt"]["test"] if row["kind"] == "none"} <= {0.0}
    lines = adaptation_page.table(quick)
    assert len([line for line in lines if line.startswith("| bundled")]) == 9 + 3 + 3
    assert adaptation_page.table(quick.parent / "none.json") == []


def test_draws_take_no_sample_twice():
    labels = np.repeat([0, 1], [5, 50])
    rows = adaptation.drawn(labels, np.array([0.5, 0.5]), 40, np.random.default_rng(0))
    assert len(np.unique(rows)) == len(rows)
    assert np.bincount(labels[rows])[0] == 5


def test_dealing_keeps_counts_of_classes():
    features = shifted.problem(test=shifted.sample(np.full(10, 0.1), 300, 4))
    found = adaptation.dealt(features, np.random.default_rng(0))
    for name in ("val", "test"):
        before, after = (np.bincount(f.split(name).labels) for f in (features, found))
        assert before.tolist() == after.tolist()
    assert not np.array_equal(found.split("val").features, features.split("val").features)
