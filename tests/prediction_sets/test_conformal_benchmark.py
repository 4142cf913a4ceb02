"""`benchmarks/conformal.py`: what it measures, and the tables it makes."""

import json
import sys
from pathlib import Path

import naive_sets
import pytest

import ltkit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import conformal


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of small measurements."""
    path = tmp_path / "c.json"
    monkeypatch.setattr(conformal, "RESULTS", path)
    monkeypatch.setattr(ltkit, "read", lambda path: naive_sets.features())
    monkeypatch.setattr(conformal, "POPULATIONS", dict.fromkeys(("made", "tail", "even"), "m"))
    return path


def run(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["conformal.py", *words])
    conformal.main()


def test_all_parts_and_the_tables(results, monkeypatch):
    assert conformal.table(results) == []
    monkeypatch.setattr(conformal, "SIZES", (40,))
    monkeypatch.setattr(conformal, "GOALS", ("classes",))
    run(monkeypatch, "simulate", "--draws", "3", "f.h5")
    simulated = results.read_bytes()
    results.unlink()
    run(monkeypatch, "simulate", "--draws", "3", "--shard", "2/2", "f.h5")
    assert not results.exists()
    run(monkeypatch, "simulate", "--draws", "3", "f.h5")
    assert results.read_bytes() == simulated
    assert not list(results.parent.glob("*.parts"))
    run(monkeypatch, "features", "cifar100_lt", "f.h5")
    run(monkeypatch, "features", "tiny_imagenet_lt", "f.h5")
    run(monkeypatch, "learned", "--draws", "2", "f.h5")
    run(monkeypatch, "choice", "--draws", "2", "f.h5")
    found = json.loads(results.read_text())
    assert list(found) == ["simulate", "features", "learned", "choice"]
    assert len(found["simulate"]["tail"]) == 20
    assert found["choice"][0]["chosen"] == {"softmax class-wise": 2}
    lines = conformal.table(results)
    table = [line for line in lines if line.startswith("|")]
    assert len([line for line in table if line.startswith("| m |")]) == 15
    assert len([line for line in table if "**" in line]) == 2
    assert lines[-2].endswith("over 2 draws.")
    assert len({line.count("|") for line in table}) == 2
