"""`benchmarks/interval_coverage.py`: that it counts, and goes on where it was."""

import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import interval_coverage

from ltkit.shards import Shard


def test_every_cell_has_its_draws_and_is_not_computed_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(interval_coverage, "REPLICATES", 100)
    target = tmp_path / "coverage.json"
    interval_coverage.main(target, small=True)
    cells = json.loads(target.read_text(encoding="utf-8"))["cells"]
    assert len(cells) == 2 * (1 + 3) + 1
    for name, cell in cells.items():
        if name.startswith("gaps"):
            assert cell["draws"] == 2
            counted = cell["gaps"].values()
            assert all(gap["held"] <= gap["draws"] <= 2 for gap in counted)
            assert len(counted) > 4
        else:
            assert cell["draws"] == 20
            assert 14 <= cell["accuracy"] <= 20
            assert 0 <= cell["rejected"] <= 5
    said = capsys.readouterr().err
    assert said.count("\n") == len(cells)

    cells["2 images, 1 seeds, none effect"]["draws"] = 7  # not finished
    target.write_text(json.dumps({"cells": cells}), encoding="utf-8")
    interval_coverage.main(target, small=True)
    assert capsys.readouterr().err.startswith("2 images, 1 seeds, none effect")
    assert json.loads(target.read_text(encoding="utf-8"))["cells"].keys() == cells.keys()


def test_shards_give_the_same_cells(tmp_path, monkeypatch):
    monkeypatch.setattr(interval_coverage, "EFFECTS", {"none": 0.0})
    monkeypatch.setattr(interval_coverage, "gaps", lambda name, draws, per_class: {"draws": draws})
    monkeypatch.setattr(interval_coverage, "machine", lambda: "m")
    interval_coverage.main(tmp_path / "whole.json", small=True)
    for number in (3, 1):
        interval_coverage.main(tmp_path / "s.json", small=True, shard=Shard(number, 3))
    assert sorted(path.name for path in (tmp_path / "s.parts").iterdir()) == [
        "points.shard-1-of-3.json", "points.shard-3-of-3.json",
    ]  # fmt: skip
    assert not (tmp_path / "s.json").exists()
    interval_coverage.main(tmp_path / "s.json", small=True)  # the second never ran
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.json", "whole.json"]
    assert (tmp_path / "s.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
