"""`benchmarks/novelty.py`: what it measures, and the table it makes."""

import json
import sys
from pathlib import Path

from test_novelty import made, others

import ltkit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import novelty


def test_pairs_and_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(novelty, "RESULTS", tmp_path / "n.json")
    monkeypatch.setattr(ltkit, "read", lambda path: made())
    monkeypatch.setattr("ltkit.face.inputs.read", lambda path: others())
    novelty.main("tiny_imagenet_lt", "f.h5")
    novelty.main("if50_tiny", "f.h5", "o.h5")
    rows = json.loads((tmp_path / "n.json").read_text())
    assert list(rows) == ["if50_tiny", "tiny_imagenet_lt"]
    assert rows["if50_tiny"]["outsiders"] == 120
    assert rows["tiny_imagenet_lt"]["outsiders"] == 40
    lines = novelty.table(tmp_path / "n.json")
    assert len([line for line in lines if line.startswith("|")]) == 2 + 2 * 5
    assert novelty.table(tmp_path / "none.json") == []
