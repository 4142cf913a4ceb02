"""`benchmarks/swrm.py`: that it measures what it says, and goes on where it was."""

import json
import sys
from pathlib import Path

import pytest

import ltkit
from ltkit.files import classifiers

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import swrm

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"


def test_every_cell_is_measured_once_and_stands_in_the_table(tmp_path, capsys):
    target, names = tmp_path / "swrm.json", ("cross-entropy", "printed sign, 1 + distance", "swrm")
    rows = {name: swrm.READINGS[name] for name in names}
    options = {"seeds": 2, "epochs": 1, "rows": rows}
    swrm.main({"demo": DEMO}, {"demo": {"90": DEMO}}, target, **options)
    found = json.loads(target.read_text(encoding="utf-8"))["rows"]["demo"]
    assert list(found) == [*rows, "means of 90"]
    assert found["means of 90"]["all"] == found["swrm"]["all"]  # they are its own
    plain, turned = (found[name]["correlation"] for name in names[1:])
    assert plain == [-value for value in turned]  # one projection, the sign alone
    assert min(turned) > 0.2
    assert "correlation" not in found["cross-entropy"]
    lines = swrm.table(target)
    assert sum(line.startswith(("| swrm | 2 |", "| cross-entropy | 2 |")) for line in lines) == 2

    capsys.readouterr()
    swrm.main({"demo": DEMO}, {}, target, **options)
    assert capsys.readouterr().err == ""
    found["swrm"]["all"].pop()  # not finished
    document = {"epochs": 1, "rows": {"demo": found}}
    target.write_text(json.dumps(document), encoding="utf-8")
    swrm.main({"demo": DEMO}, {}, target, **options)
    assert capsys.readouterr().err.startswith("demo: swrm")
    assert swrm.table(tmp_path / "absent.json") == []


def test_accuracies_are_those_of_the_command(tmp_path):
    """By `ltkit.evaluate`, of the head that the same settings train."""
    plan, settings = swrm.TrainPlan("ce", {}), swrm.HeadSettings(epochs=1)
    swrm.train_heads(DEMO, plan, settings, tmp_path / "ce.h5", seeds=2)
    heads, _ = classifiers.read(tmp_path / "ce.h5")
    found = swrm.measured(DEMO, ltkit.read(DEMO), plan, 2, 1, None)
    features = ltkit.read(DEMO)
    for seed in range(2):
        frame = ltkit.evaluate(features, heads.only([seed]), replicates=100)
        for group in swrm.GROUPS:
            expected = float(frame["accuracy"][group].iloc[-1])
            assert found[group][seed] == pytest.approx(expected, abs=1e-5)
