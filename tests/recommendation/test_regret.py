"""`benchmarks/regret.py`: what it draws, what it measures, and that it goes on where it was."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from long_tailed import problem, split_of

from ltkit.sources.arrays import import_arrays

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import regret
import regret_page

METHODS = ("logit-adjust", "bias")


@pytest.fixture(scope="module")
def features():
    made = problem(splits=("train",))
    even = np.full(6, 60)
    rng = np.random.default_rng(3)
    splits = {**made.splits, "val": split_of(even // 3, rng), "test": split_of(even, rng)}
    return replace(made, splits=splits)


def test_a_draw_has_20_images_a_class_and_tests_on_the_others(features):
    pool = regret.pooled(features, METHODS)
    assert len(pool.split) == 6 * 80
    assert pool.learning == ["bias"]
    seen = []

    def judged(chosen, wish, family, tested, val, test):
        seen.append((np.bincount(val).tolist(), np.bincount(test).tolist(), len(tested)))
        assert len(family.candidates) == len(family.right) == len(tested)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regret, "judged", judged)
        regret.draw(pool, 0)
    assert seen[0][:2] == ([20] * 6, [60] * 6)


def test_regret_against_the_best_in_hindsight(features):
    pool = regret.pooled(features, METHODS)
    found = regret.draw(pool, 1)["balanced"]
    assert found["best"] >= found["of_choice"]
    assert found["gain"] == (0.0 if found["keep"] else found["of_choice"])
    again = regret.draw(pool, 1)["balanced"]
    assert again == found


def test_what_candidates_are_right_on_is_kept_and_gives_the_same_row(features, tmp_path):
    pool = regret.pooled(features, METHODS)
    first = regret.draw(pool, 1, tmp_path / "hits" / "a.1.npz")
    assert regret.draw(regret.pooled(features, ()), 1, tmp_path / "hits" / "a.1.npz") == first


def test_a_row_of_the_table_by_hand():
    draws = [
        {"best": 0.05, "best_as_sure": 0.05, "gain": 0.04, "of_choice": 0.04, "estimate": 0.03,
         "interval": [0.01, 0.05], "test_error": 0.01, "keep": False, "held": True,
         "method": "bias"},
        {"best": 0.05, "best_as_sure": 0.01, "gain": 0.0, "of_choice": 0.02, "estimate": 0.0,
         "interval": [-0.01, 0.01], "test_error": 0.01, "keep": True, "held": False,
         "method": "ncm"},
    ]  # fmt: skip
    row = regret.summary(draws)
    assert row["regret"] == pytest.approx(0.03)
    assert row["regret_as_sure"] == pytest.approx(0.01)
    assert (row["covered"], row["covered_with_noise_of_test"]) == (0.5, 1.0)  # 0.02 < hypot
    assert (row["keep"], row["held"], row["methods"]) == (0.5, 0.5, {"bias": 1, "ncm": 1})


def test_a_run_goes_on_where_it_was(features, tmp_path, monkeypatch):
    arrays = {"weight": features.head.weight, "bias": features.head.bias}
    for name, split in features.splits.items():
        arrays |= {f"{name}_features": split.features, f"{name}_labels": split.labels}
    np.savez(tmp_path / "a.npz", **arrays)
    import_arrays(tmp_path / "a.npz", tmp_path / "a.h5")
    monkeypatch.setattr(regret, "RECOMMENDED", METHODS)
    monkeypatch.setattr(regret, "problems", lambda given: [("a", features)])
    words = ["regret.py", f"a={tmp_path / 'a.h5'}", "--target", str(tmp_path / "r.json"), "--draws"]
    monkeypatch.setattr(sys, "argv", [*words, "1"])
    assert regret.main() == 0
    first = json.loads((tmp_path / "r.json").read_text())["draws"]["a"]
    monkeypatch.setattr(sys, "argv", [*words, "2"])
    assert regret.main() == 0
    both = json.loads((tmp_path / "r.json").read_text())
    assert both["draws"]["a"][:1] == first
    assert both["rows"]["a"]["balanced"]["draws"] == 2
    whole = (tmp_path / "r.json").read_bytes()
    (tmp_path / "r.json").unlink()
    monkeypatch.setattr(regret, "machine", lambda: both["machine"])
    monkeypatch.setattr(sys, "argv", [*words, "2", "--shard", "2/2"])
    assert regret.main() == 0
    assert [path.name for path in tmp_path.glob("r.*")] == ["r.a.parts"]
    monkeypatch.setattr(sys, "argv", [*words, "2"])
    assert regret.main() == 0
    assert (tmp_path / "r.json").read_bytes() == whole
    assert [path.name for path in tmp_path.glob("r.*")] == ["r.json"]
    monkeypatch.setattr(sys, "argv", [*words, "3", "--small", "--shard", "1/2"])
    with pytest.raises(SystemExit):
        regret.main()
    table = "\n".join(regret_page.regret_table(tmp_path / "r.json"))
    assert "| a | balanced | 2 |" in table
    assert regret_page.regret_table(tmp_path / "none.json") == []
