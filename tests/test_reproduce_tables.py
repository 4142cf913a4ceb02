"""`benchmarks/reproduce.py`: its lines, the tables made of them, its words."""

import subprocess
import sys
from pathlib import Path

import pytest

from ltkit.errors import FormatError

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import reproduce
from reproduce import METHODS, Job, append_line, read_lines, table

CE = Job("ce", "digits_lt", 20, 0, 2)


# The lines


@pytest.mark.parametrize("rest", [b'{"train": "b", "last', b"{", b'{"train": "b"}', b"\xff\x00"])
def test_a_last_line_without_its_end_is_dropped_and_written_over(tmp_path, rest):
    path = tmp_path / "lines.jsonl"
    append_line(path, {"train": "a"})
    with path.open("ab") as file:
        file.write(rest)
    assert read_lines(path) == [{"train": "a"}]
    append_line(path, {"train": "b", "name": "é"})
    assert read_lines(path) == [{"train": "a"}, {"train": "b", "name": "é"}]
    assert path.read_bytes().count(b"\n") == 2


def test_a_file_that_is_nothing_but_half_a_line(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b'{"train"')
    assert read_lines(path) == []
    append_line(path, {"train": "a"})
    assert path.read_text() == '{"train": "a"}\n'


def test_no_file_is_no_line(tmp_path):
    assert read_lines(tmp_path / "none.jsonl") == []
    append_line(tmp_path / "new" / "lines.jsonl", {"train": "a"})
    assert read_lines(tmp_path / "new" / "lines.jsonl") == [{"train": "a"}]


def test_a_damaged_line_in_between_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    path.write_text('{"train": "a"}\n{"tra\n{"train": "c"}\n')
    with pytest.raises(FormatError, match=r"lines.jsonl: line 2: found no JSON"):
        read_lines(path)


# The tables


def made_line(job, accuracy, best=None, **changes):
    """A line as `measure` gives it: accuracies few, medium, many, all."""
    names = ("few", "medium", "many", "all")
    test = {"accuracy": dict(zip(names, accuracy, strict=True))}
    chosen = {"accuracy": {"all": best}} if best is not None else None
    return {
        "train": job.train,
        **{name: getattr(job, name) for name in Job.__dataclass_fields__},
        "last": {"epoch": job.epochs, "test": test},
        "best": {"epoch": 1, "test": chosen},
        "versions": {"ltkit": "1", "torch": "2"},
        "machine": "Some CPU, 2 cores, load 0.1",
        "device": "cpu",
    } | changes


def rows_of(path, title):
    """The rows of a table, by their first cell."""
    lines = table(path)
    first = lines.index(f"### {title}") + 4
    last = lines.index("", first)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first:last]]
    return {row[0]: row[1:] for row in cells}


def test_without_lines_nothing_is_measured(tmp_path):
    lines = table(tmp_path / "none.jsonl")
    for imbalance, published in ((100, "38.32"), (50, "43.85"), (10, "55.71")):
        rows = rows_of(tmp_path / "none.jsonl", f"CIFAR-100-LT, imbalance {imbalance}")
        assert rows.keys() == METHODS.keys()
        assert {row[0] for row in rows.values()} == {"not measured"}
        assert rows["ce"][-1] == published
    assert rows["weighted"][-1] == "–"
    assert not any(line.startswith("Measured on") for line in lines)
    assert any("`ldam --drw 160`" in line for line in lines)


def test_mean_and_deviation_over_seeds(tmp_path):
    path = tmp_path / "lines.jsonl"
    jobs = [Job("ce", "cifar100_lt", 100, seed, 200) for seed in range(3)]
    for job, shift in zip(jobs, (0.0, 0.01, 0.05), strict=True):
        accuracy = (0.1 + shift, 0.3, 0.6, 0.37 + shift)
        append_line(path, made_line(job, accuracy, best=0.4 - shift))
    append_line(path, made_line(Job("ce", "cifar100_lt", 100, 0, 30), (0.1, 0.2, 0.3, 0.25)))
    append_line(path, made_line(Job("focal", "cifar100_lt", 10, 0, 200), (None, 0.2, 0.3, 0.25)))
    for seed, best in ((0, 0.5), (1, None)):  # unknown of one: no mean of the other alone
        job = Job("vs", "cifar100_lt", 100, seed, 200)
        append_line(path, made_line(job, (0.1, 0.2, 0.3, 0.2), best))
    assert rows_of(path, "CIFAR-100-LT, imbalance 100")["vs"][5:7] == ["20.0 ± 0.0", "–"]
    lines = [line for line in table(path) if line.startswith("| ce ")]
    # 10, 11, 15: mean 12, deviation sqrt((4 + 1 + 9) / 2) = 2.6; 40, 39, 35 likewise 38
    assert lines[:2] == [
        "| ce | 3 | 200 | 12.0 ± 2.6 | 30.0 ± 0.0 | 60.0 ± 0.0 | 39.0 ± 2.6 | 38.0 ± 2.6 | 38.32 |",
        "| ce | 1 | 30 | 10.0 | 20.0 | 30.0 | 25.0 | – | 38.32 |",
    ]
    rows = rows_of(path, "CIFAR-100-LT, imbalance 10")
    assert rows["focal"] == ["1", "200", "–", "20.0", "30.0", "25.0", "–", "55.78"]
    assert rows["ce"][0] == "not measured"
    assert "Measured on: Some CPU, 2 cores, torch 2, ltkit 1." in table(path)


def test_other_flags_are_other_rows_and_changed_ones_are_left_out(tmp_path):
    path = tmp_path / "lines.jsonl"
    plain = Job("ce", "cifar100_lt", 100, 0, 200)
    flagged = Job("ce", "cifar100_lt", 100, 0, 200, "--amp bf16")
    append_line(path, made_line(plain, (0.1, 0.2, 0.3, 0.2)))
    append_line(path, made_line(flagged, (0.2, 0.3, 0.4, 0.3), device="NVIDIA X"))
    append_line(path, made_line(plain, (0.9, 0.9, 0.9, 0.9), train="train ce --lr 9"))
    append_line(path, made_line(plain, (0.9, 0.9, 0.9, 0.9), method="forgotten"))
    rows = rows_of(path, "CIFAR-100-LT, imbalance 100")
    assert rows["ce"][:6] == ["1", "200", "10.0", "20.0", "30.0", "20.0"]
    assert rows["ce (`--amp bf16`)"][5] == "30.0"
    assert "90.0" not in "\n".join(table(path))
    assert any("NVIDIA X, torch 2, ltkit 1; Some CPU" in line for line in table(path))


def test_a_run_that_was_measured_twice_counts_once(tmp_path):
    path = tmp_path / "lines.jsonl"
    job = Job("ce", "cifar100_lt", 100, 0, 200)
    for value in (0.2, 0.3):
        append_line(path, made_line(job, (value,) * 4))
    assert rows_of(path, "CIFAR-100-LT, imbalance 100")["ce"][:3] == ["1", "200", "30.0"]


def test_other_datasets_follow(tmp_path):
    path = tmp_path / "lines.jsonl"
    append_line(path, made_line(CE, (0.1, 0.2, 0.3, 0.2)))
    append_line(path, made_line(Job("ldam", "cifar10_lt", 10, 0, 9), (None, 0.2, 0.3, 0.2)))
    titles = [line for line in table(path) if line.startswith("### ")]
    assert titles[3:] == ["### CIFAR-10-LT, imbalance 10", "### digits, imbalance 20"]
    assert rows_of(path, titles[3][4:])["ldam"][-1] == "86.96"


# The command


def test_the_plan_prints_what_would_be_run(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("LTKIT_DATA", raising=False)
    words = ["--methods", "ce,ldam-drw", "--datasets", "digits_lt", "--imbalance", "20,10"]
    words += ["--seeds", "0,1", "--epochs", "2", "--device", "cpu", "--plan"]
    words += ["--output", str(tmp_path / "lines.jsonl"), "--work", str(tmp_path / "a b")]
    append_line(tmp_path / "lines.jsonl", made_line(CE, (0.1,) * 4))
    assert reproduce.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * 7  # eight runs but one
    assert lines[0].startswith("ltkit train ldam --drw 1 --data digits_lt:ir=20,val=balanced")
    assert "'" in lines[0]  # the folder has a blank
    assert lines[2].startswith("ltkit evaluate")
    assert sum("--seed 1" in line for line in lines) == 4
    assert sum("ir=10" in line for line in lines) == 8
    assert not (tmp_path / "a b").exists()


@pytest.mark.parametrize(
    "words", [["--methods", "cee"], ["--datasets", "cifar"], ["--seeds", "x"], ["--epochs", "one"]]
)
def test_words_that_are_wrong(words, capsys):
    with pytest.raises(SystemExit) as caught:
        reproduce.main(words)
    assert caught.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_ltkit_runs_in_a_process_of_its_own(capfd):
    assert "train" in reproduce.ltkit(["--help"])
    with pytest.raises(subprocess.CalledProcessError) as caught:
        reproduce.ltkit(["train"])
    assert caught.value.returncode == 2
    assert caught.value.cmd == ["train"]
    assert "METHOD: absent" in capfd.readouterr().err
