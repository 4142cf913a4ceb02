"""`benchmarks/abstention.py`: what it measures, and the table it makes."""

import json
import sys
from pathlib import Path

from known_posteriors import blobs

import ltkit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import abstention


def test_both_heads_and_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(abstention, "RESULTS", tmp_path / "a.json")
    monkeypatch.setattr(ltkit, "read", lambda path: blobs())
    abstention.main("tiny_frozen", "f.h5")
    abstention.main("cifar100_lt", "f.h5")
    rows = json.loads((tmp_path / "a.json").read_text())
    assert list(rows) == ["cifar100_lt", "tiny_frozen"]
    own = rows["cifar100_lt"]["own head"]
    assert len(own["plug-in"]["balanced"]) == 4
    lines = abstention.table(tmp_path / "a.json")
    assert len([line for line in lines if line.startswith("|")]) == 2 + 2 * 2
    assert abstention.table(tmp_path / "none.json") == []
