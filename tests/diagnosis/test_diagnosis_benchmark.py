"""`benchmarks/diagnosis.py`: what it measures, and the table it makes."""

import json
import sys
from pathlib import Path

import pytest
from known_causes import problem

import ltkit

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import diagnosis


def test_both_answers_and_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "RESULTS", tmp_path / "d.json")
    monkeypatch.setattr(ltkit, "read", lambda path: problem("prior"))
    found = ltkit.recommend
    monkeypatch.setattr(ltkit, "recommend", lambda f, methods, base: found(
        f, methods=["logit-adjust"], repeats=1, base=base))  # fmt: skip
    diagnosis.main("tiny_frozen", "f.h5")
    diagnosis.main("cifar100_lt", "f.h5")
    rows = json.loads((tmp_path / "d.json").read_text())
    assert list(rows) == ["cifar100_lt", "tiny_frozen"]
    row = rows["cifar100_lt"]
    assert row["cause"] == "prior"
    assert row["offsets"]["gain"] == pytest.approx(row["all"]["gain"])
    lines = diagnosis.table(tmp_path / "d.json")
    assert len([line for line in lines if line.startswith("|")]) == 4
    assert diagnosis.table(tmp_path / "none.json") == []
