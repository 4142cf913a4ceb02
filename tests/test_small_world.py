"""`benchmarks/small_world.py`: its pictures, its commands, and what it says of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shared_data import cifar100_root

from ltkit import losses, registry
from ltkit.training import methods, recipes

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import small_world
from small_world import METHODS, Run


def line(name, seed, accuracy):
    groups = {"few": 0.1, "medium": 0.2, "many": None, "all": accuracy}
    test = {"n": 2500, "accuracy": groups}
    norms = {"few": 1.0, "medium": 2.0, "many": 3.0, "deviation": small_world.NORMED.get(name)}
    made = {"train": Run(name, seed).train, "name": name, "seed": seed, "test": test}
    return made | ({"norms": norms} if name in small_world.NORMED else {})


def test_every_method_is_known():
    known = {name for package in (losses, methods, recipes) for name in registry.names(package)}
    for flags in METHODS.values():
        training, _, correction = flags.partition(" > ")
        for part in training.split(" | "):
            assert part.split()[0] in known
        assert correction.split()[:2] in ([], ["posthoc", "tde"], ["alphanet", "fit"])


def test_squares_of_four_become_their_mean():
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[0, 0], pixels[1, 1] = 3, 7
    assert small_world.halved(pixels)[0, 0].tolist() == [3, 3, 3]  # 10 / 4, rounded up
    assert small_world.halved(pixels).sum() == 9


def test_the_pictures_are_a_long_tail(tmp_path, monkeypatch):
    monkeypatch.setenv("LTKIT_DATA", str(cifar100_root()))
    small_world.make_pictures(tmp_path / "data")
    sizes = {
        split: sorted(
            len(list(folder.iterdir())) for folder in (tmp_path / "data" / split).glob("*")
        )
        for split in ("train", "val", "test")
    }
    assert sizes["train"][0] == 5
    assert sizes["train"][-1] == 480
    assert sizes["val"] == [20] * 25
    assert sizes["test"] == [100] * 25
    with Image.open(next((tmp_path / "data").glob("train/fox/*"))) as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")
    train = {path.read_bytes() for path in (tmp_path / "data").glob("train/*/*")}
    assert not train & {path.read_bytes() for path in (tmp_path / "data").glob("val/*/*")}


def test_the_commands_go_on_where_a_run_stopped(tmp_path):
    run = Run("SSP, then CE", 1)
    first, second, extract, evaluate = run.commands(tmp_path)
    assert (first[1], second[1], extract[0], evaluate[0]) == ("ssp", "ce", "extract", "evaluate")
    assert second[second.index("--init") + 1] == first[first.index("-o") + 1]
    run.folder(tmp_path).mkdir()
    (run.folder(tmp_path) / "part1.pt").touch()
    (run.folder(tmp_path) / "model.pt.partial").touch()
    (second, *_) = run.commands(tmp_path)
    assert second[1] == "ce"
    assert second[-1] == "--resume"
    assert "meta" in Run("OLTR, whole model", 0).commands(tmp_path)[1]


def test_rows_of_a_network_share_its_training(tmp_path):
    """And a corrected one is evaluated with its correction; a recipe's stages are gone on from."""
    runs = [Run(name, 2) for name in ("RIDE, 3 experts", "RIDE, AlphaNet, random, rho 1")]
    plain, corrected = (run.commands(tmp_path) for run in runs)
    assert plain[0] == corrected[0]
    assert len({run.train for run in runs}) == 2
    assert corrected[2][:2] == ["alphanet", "fit"]
    assert corrected[3][1:3] == [corrected[1][corrected[1].index("-o") + 1], corrected[2][-3]]
    run = Run("MiSLAS", 0)
    run.folder(tmp_path).mkdir()
    (run.folder(tmp_path) / "model.stage1.pt").touch()
    assert run.commands(tmp_path)[0][-1] == "--resume"


def test_runs_that_are_there_are_skipped_and_failed_ones_named(tmp_path, monkeypatch, capsys):
    def ltkit(words):
        if words[1] == "paco":
            raise subprocess.CalledProcessError(2, words)
        called.append(words[0])
        if words[0] == "analyze":
            return '{"rows": [{"mean": {"few": 1}, "deviation": {"all": 2}}]}'
        return '{"n": 2500, "rows": [{"accuracy": {"all": 0.3}, "interval": {}}]}'

    called = []
    monkeypatch.setattr(small_world, "ltkit", ltkit)
    monkeypatch.setattr(small_world, "make_pictures", lambda target: None)
    asked = ["--methods", "CE;PaCo", "--seeds", "0", "--output", str(tmp_path / "lines"),
             "--work", str(tmp_path / "work")]  # fmt: skip
    assert small_world.main(asked) == 1
    assert "failed: PaCo: exit code 2" in capsys.readouterr().err
    assert called == ["train", "extract", "analyze", "evaluate"]
    assert small_world.main(asked) == 1
    assert called == ["train", "extract", "analyze", "evaluate"]
    assert not [*(tmp_path / "work").glob("ce*")]
    assert small_world.main([*asked, "--plan"]) == 0
    assert "ltkit train paco --arch resnet8" in capsys.readouterr().out


def test_the_table_tells_what_was_measured(tmp_path):
    lines = tmp_path / "lines"
    assert small_world.table(lines) == []
    for name, seed, accuracy in (("PaCo", 0, 0.3), ("PaCo", 1, 0.34), ("LPA", 0, 0.3),
                                 ("LPA", 1, 0.36)):  # fmt: skip
        small_world.append_line(lines, line(name, seed, accuracy))
    text = "\n".join(small_world.table(lines))
    assert "| PaCo | 2 | 10.0 ± 0.0 | 20.0 ± 0.0 | – | 32.0 ± 2.8 | `paco` |" in text
    assert "| TSC | not measured |" in text
    assert "LPA over PaCo: +1.0 ± 3.6." in text  # sqrt(8/2 + 18/2)
    small_world.append_line(lines, line("TSC", 0, 0.3) | {"train": "train tsc of another time"})
    for name in ("CE", "SSP, then CE"):
        small_world.append_line(lines, line(name, 0, 0.3))
    text = "\n".join(small_world.table(lines))
    assert "| TSC | not measured |" in text
    assert "SSP, then CE over CE: +0.0 (one seed)." in text
    assert "AlphaNet on RIDE" not in text
    for name, accuracy in (("RIDE, 3 experts", 0.4), ("RIDE, AlphaNet, nearest, rho 0.5", 0.38)):
        small_world.append_line(lines, line(name, 0, accuracy))
    text = "\n".join(small_world.table(lines))
    assert "AlphaNet on RIDE with rho 0.5: few +0.0, all -2.0." in text


def test_norms_stand_beside_the_published_order(tmp_path, capsys):
    lines = tmp_path / "lines"
    small_world.append_line(lines, {k: v for k, v in line("CE", 0, 0.3).items() if k != "norms"})
    assert "100 x deviation" not in "\n".join(small_world.table(lines))
    asked = ["--methods", "CE", "--seeds", "0", "--plan", "--output", str(lines)]
    assert small_world.main(asked) == 0
    assert "ltkit analyze norms" in capsys.readouterr().out  # it is made again
    for name in small_world.NORMED:
        small_world.append_line(lines, line(name, 0, 0.3))
    text = "\n".join(small_world.table(lines))
    assert "| CE | 1 | 1.00 | 2.00 | 3.00 | 4770.00 | 47.7 |" in text
    assert "From the largest deviation: re-weighting, CE, no SSP, DRW, re-sampling; as pub" in text
    small_world.append_line(
        lines, line("CE", 0, 0.3) | {"norms": line("CE", 0, 0)["norms"] | {"deviation": 99}}
    )
    assert "deviation: CE, re-weighting" in "\n".join(small_world.table(lines))


def test_an_unknown_row_is_named(capsys):
    with pytest.raises(SystemExit):
        small_world.main(["--methods", "CE;Paco"])
    assert "found Paco" in capsys.readouterr().err
