"""What a person sees: tables with bars on a terminal, the same figures as in a pipe."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import numpy as np
import pytest
from screens import STYLE, on_terminal, read_all

import ltkit as package
from ltkit.cli import _output, _tables, app
from ltkit.evaluation import knobs, label
from ltkit.neighbors.wordnet import readable_names
from ltkit.records import ClassTable

DEMO = Path(package.__file__).parent / "data" / "demo" / "feats.h5"
BAR = re.compile("(?=[─·]*[█▌▐│┃])[─·█▌▐│┃]{11,}")


@pytest.fixture
def terminal(monkeypatch):
    """Run a command on a terminal: its lines."""

    def run(*words, **more):
        return on_terminal(monkeypatch, words, **more)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    from typer.testing import CliRunner

    folder = tmp_path_factory.mktemp("terminal")
    shutil.copy(DEMO, folder / "feats.h5")
    fit = ("alphanet", "fit", folder / "feats.h5", "--rho", "0.5,1", "--seeds", "2")
    for words in (
        (*fit, "--epochs", "3", "-q"),
        ("posthoc", "logit-adjust", folder / "feats.h5", "-q"),
        ("posthoc", "tau-norm", folder / "feats.h5", "-q"),
    ):
        CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return folder


EVALUATE = ("evaluate", "feats.h5", "-q", "--replicates", 100)


def start_of(lines, name):
    return next(n for n, line in enumerate(lines) if line.startswith(f" {name} "))


def test_evaluate_fits_eighty_columns(here, terminal, ltkit):
    lines = terminal(*EVALUATE)
    assert max(map(len, lines)) <= 80
    _, piped, _ = ltkit(*EVALUATE)
    assert not BAR.search(piped)
    assert "bar 0 to" not in piped
    row = start_of(lines, "logit-adjust")
    numbers = re.findall(r"\d+\.\d", lines[row])[-4:]
    assert re.search(r"^ logit-adjust tau \S+ +" + " +".join(numbers), piped, re.MULTILINE)
    intervals = re.findall(r"([\d.]+)…([\d.]+)", lines[row + 1])
    assert len(intervals) == 4
    for low, high in intervals:
        assert f"{low} to {high}" in piped
    told = re.search(r"top-5 ([\d.]+), ECE ([\d.]+)", lines[row + 1])
    assert re.search(rf"{told[1]} +{told[2]} $", piped, re.MULTILINE)
    bars = BAR.findall(lines[row + 2])
    assert len(bars) == 4
    assert {len(bar) for bar in bars} == {11}
    (top,) = {int(n) for line in lines for n in re.findall(r"bar 0 to (\d+)", line)}
    for bar, (low, high) in zip(bars, intervals, strict=True):
        solid = [n for n, c in enumerate(bar) if c in "█▌▐"]
        assert abs(solid[0] - 11 * float(low) / top) <= 1
        assert abs(solid[-1] - 11 * float(high) / top) <= 1
    assert "over baseline" in lines[row + 3]


def test_a_wide_terminal_has_the_columns_of_a_pipe(here, terminal, ltkit):
    words = (*EVALUATE, "--all")
    lines = terminal(*words, columns=150)
    _, piped, _ = ltkit(*words)
    same = [line.split() for line in lines]
    rows = piped.splitlines()
    assert all(row.split() in same for row in rows[start_of(rows, "baseline") :])
    bars = [BAR.findall(line) for line in lines if BAR.search(line)]
    assert [[len(bar) for bar in row] for row in bars] == [[15] * 4] * 5


def test_a_sweep_is_a_row_with_its_curve(here, tmp_path, terminal, ltkit):
    sweep = tmp_path / "s.h5"
    ltkit("posthoc", "logit-adjust", "feats.h5", "--sweep", "-o", sweep, "-q")
    for words in ("evaluate", "compare"):
        lines = terminal(words, "feats.h5", sweep, "-q", "--replicates", 100)
        first = next(n for n, line in enumerate(lines) if "logit-adjust tau 1.6 *" in line)
        shown = "\n".join(lines[first : first + 5])
        assert "best of 31, tau 0…3" in shown
        curve = re.search("few ([▁▂▃▄▅▆▇█]+) 12…40", shown)[1]
        assert len(curve) == 12
        assert list(curve) == sorted(curve)
        piped = ltkit(words, "feats.h5", sweep, "-q", "--replicates", 100)[1]
        assert "few 12 to 40 %" in piped
        assert not set("▁▂▃▄▅▆▇█") & set(piped)


def test_colour_is_for_those_who_have_not_said_no(here, monkeypatch, terminal):
    assert terminal(*EVALUATE, no_color=False) == terminal(*EVALUATE)


def test_a_real_terminal(here, monkeypatch):
    """A process of its own, on a terminal of 80 columns that only the system knows of."""
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    found = []
    reader = threading.Thread(target=read_all, args=(master, found))
    reader.start()
    words = [sys.executable, "-m", "ltkit", "neighbors", "feats.h5", "-q"]
    done = subprocess.run(
        words, stdin=slave, stdout=slave, env=environment | {"TERM": "xterm"}, check=True
    )
    os.close(slave)
    reader.join()
    os.close(master)
    text = b"".join(found).decode()
    assert done.returncode == 0
    assert "\x1b[36m" in text
    lines = STYLE.sub("", text).splitlines()
    assert 70 < max(map(len, lines)) <= 80
    assert len([line for line in lines if BAR.search(line)]) == 30


def test_compare_fits_eighty_columns(here, terminal, ltkit):
    words = ("compare", "feats.h5", "--against", "baseline", "-q", "--replicates", 100)
    lines = terminal(*words)
    tables = [line for line in lines if not line.startswith(("pairs", "curves", "most"))]
    assert max(len(line) for line in tables if "p of all" not in line) <= 80
    _, piped, _ = ltkit(*words)
    first = next(n for n, line in enumerate(lines) if line.startswith("pairs"))
    place = first + start_of(lines[first:], "logit-adjust")
    bars = BAR.findall(lines[place + 2])
    assert len(bars) == 4
    differences = [float(d) for d in re.findall(r"[+-]\d+\.\d", lines[place])]
    for bar, difference in zip(bars, differences, strict=True):
        assert bar[5] in "│┃"
        left, right = (sum(c in "█▌▐" for c in half) for half in (bar[:5], bar[6:]))
        if abs(difference) > 5:
            assert (left > right) == (difference < 0)
    test = next(line for line in lines if line.startswith("logit-adjust") and "p of all" in line)
    p = re.search(r"p of all (\S+); (\d+ : \d+); classes won, lost, tied (\d+, \d+, \d+)", test)
    assert p[1] in piped
    assert p[2] in piped
    assert p[3] in piped
    intervals = re.findall(r"([+-][\d.]+)…([+-][\d.]+)", "\n".join(lines))
    assert len(intervals) >= 12
    for low, high in intervals:
        assert f"{low} to {high}" in piped
    wide = "\n".join(terminal(*words, columns=170))
    assert "few and all by" in wide
    assert "classes won, lost, tied" in wide


def test_compare_fits_a_screen(here, tmp_path, terminal, ltkit):
    sweep = tmp_path / "s.h5"
    ltkit("posthoc", "logit-adjust", "feats.h5", "--sweep", "-o", sweep, "-q")
    words = ("compare", "feats.h5", "feats.alphanet.h5", sweep, "feats.tau-norm.h5", "-q",
             "--replicates", 100)  # fmt: skip
    lines = terminal(*words, rows=24)
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    piped = ltkit(*words)[1]
    assert " ".join(lines).endswith(piped.splitlines()[-1])
    assert "is ahead of baseline by" in " ".join(lines)
    place = next(n for n, line in enumerate(lines) if line.startswith("logit-adjust tau 1.6 *"))
    first = next(n for n, line in enumerate(piped.splitlines()) if line.startswith(" - baseline"))
    for low, high in re.findall(r"([+-][\d.]+)…([+-][\d.]+)", lines[place + 2]):
        assert f"{low} to {high}" in "\n".join(piped.splitlines()[first:])
    assert len(re.findall(r"[+-][\d.]+…", lines[place + 2])) == 4
    narrow = terminal(*words, rows=24, columns=60)
    assert len(narrow) < 24
    assert max(map(len, narrow)) <= 60 + len(" or --csv; all pairs and curves")
    head = next(line.split() for line in narrow if line.startswith("95 % interval"))
    assert head[3:] == ["few", "all"]
    assert "pairs: 95 %" in "\n".join(terminal(*words, rows=200))
    assert "pairs: 95 %" in piped


def test_neighbors_as_a_table(here, terminal, ltkit):
    lines = terminal("neighbors", "feats.h5", "-q")
    assert max(map(len, lines)) <= 80
    _, piped, _ = ltkit("neighbors", "feats.h5", "-q")
    top = float(re.search(r"bar 0 to ([\d.]+)", "\n".join(lines))[1])
    for line in piped.splitlines()[:5]:
        name, count, near = re.match(r"(\S+) \((\d+)\): (.*)", line).groups()
        shown = lines[start_of(lines, name)].split()
        distance = [float(part.split()[-1]) for part in near.split(", ")]
        assert shown[1] == count
        solid = [n for n, c in enumerate(shown[2]) if c in "█▌▐"]
        assert abs(solid[0] - 11 * distance[0] / top) <= 1
        assert abs(solid[-1] - 11 * distance[-1] / top) <= 1
        assert near.split(", ")[0] in lines[start_of(lines, name)]


def test_a_terminal_without_the_characters_gets_plain_text(here, terminal, ltkit):
    words = ("neighbors", "feats.h5", "-q")
    assert terminal(*words, encoding="latin-1") == ltkit(*words)[1].splitlines()
    words = ("evaluate", "feats.h5", "-q", "--replicates", 100)
    lines = terminal(*words, "--classifier", "feats.tau-norm.h5", encoding="latin-1", columns=120)
    row = next(n for n, line in enumerate(lines) if line.startswith("|tau-norm "))
    assert lines[row + 1].count(" to ") == 4
    assert not BAR.search("\n".join(lines))


def test_a_sweep_shows_what_it_chose_by(here, tmp_path, terminal):
    words = ("alphanet", "sweep", "feats.h5", "--k", 5, "--rho", "0.5,1", "--seeds", 2)
    words += ("--epochs", 2, "-o", tmp_path / "s.h5", "--overwrite", "-q")
    lines = terminal(*words, "--select", "few")
    assert max(map(len, lines)) <= 80
    assert "few ± std" in "\n".join(lines)
    rows = [line for line in lines if "euclidean" in line or "baseline" in line]
    assert len(rows) == 3
    assert [row.endswith("*") for row in rows].count(True) == 1
    assert "±" not in "".join(rows)
    wide = terminal(*words, "--select", "harmonic", columns=120)
    assert "balanced ± std" in "\n".join(wide)
    (top,) = re.findall(r"bar 0 to (\d+)", "\n".join(wide))
    row = next(line for line in wide if "euclidean" in line)
    mean, std = map(float, re.findall(r"([\d.]+) ± ([\d.]+)", row)[3])
    solid = [n for n, c in enumerate(BAR.search(row)[0]) if c in "█▌▐"]
    assert abs(solid[0] - 15 * (mean - std) / int(top)) <= 1
    assert abs(solid[-1] - 15 * (mean + std) / int(top)) <= 1


def test_posthoc_draws_what_it_tried(here, tmp_path, terminal):
    lines = terminal("posthoc", "tau-norm", "feats.h5", "--all", "-o", tmp_path / "t.h5")
    tried = [line for line in lines if line.startswith("tau ")]
    assert len(tried) == 21
    heights = [BAR.search(line)[0].index(next(c for c in BAR.search(line)[0] if c in "▌▐"))
               for line in tried]  # fmt: skip
    values = [float(re.search(r"accuracy ([\d.]+)", line)[1]) for line in tried]
    assert heights[values.index(max(values))] == max(heights)
    assert heights[-1] < max(heights)
    short = terminal("posthoc", "tau-norm", "feats.h5", "--overwrite", "-o", tmp_path / "t.h5")
    (line,) = [line for line in short if "accuracy on val" in line]
    numbers = re.search(
        r": ([\d.]+) at tau 0, ([\d.]+) at (tau .*?) \(best of 21\), ([\d.]+) at", line
    )
    ends = values[0], max(values), values[-1]
    wanted = [f"{100 * value:.1f}" for value in ends]
    assert [numbers[1], numbers[2], numbers[4]] == wanted
    assert f"chosen: {numbers[3]}" in short
    curve = re.search("[▁▂▃▄▅▆▇█]+$", line)[0]
    assert len(curve) == 21
    assert curve[values.index(max(values))] == "█"


def test_other_tables_have_bars_too(here, terminal):
    lines = terminal(*EVALUATE, "--group", "wordnet")
    first = next(n for n, line in enumerate(lines) if line.startswith("grouped by"))
    assert len([line for line in lines[first:] if len(BAR.findall(line)) == 4]) == 4
    assert "grouped accuracy" in lines[first + 2]


@pytest.mark.parametrize(
    ("low", "high", "scale", "width", "wanted"),
    [
        (0.0, 1.0, (0, 1), 4, "████"),
        (1.0, 1.0, (0, 1), 4, "───▐"),
        (0.5, 0.5, (0, 1), 4, "──▌·"),
        (-5.0, 9.0, (0, 1), 4, "████"),  # beyond the scale
        (-1.0, -0.7, (-1, 1), 5, "█·│··"),
        (0.01, 0.02, (-1, 1), 5, "··│··"),
        (-0.01, 0.02, (-1, 1), 5, "··┃··"),
        (0.0, 1.0, (-1, 1), 5, "··┃██"),
    ],
)
def test_bars(low, high, scale, width, wanted):
    assert _output.interval_bar(low, high, scale, width) == wanted


def test_scales_hold_all_ends():
    assert _output.scale_of([None]) == (0, 0.1)
    assert _output.scale_of([[0.2, 0.3]]) == (0, 0.3)
    assert _output.scale_of([[0.2, 0.31], [0.1, 0.2]]) == (0, 0.4)
    assert _output.scale_of([[-0.05, 0.2], [-0.33, 0]], signed=True) == (-0.4, 0.4)


def test_bars_of_accuracies_end_at_a_hundred():
    """The interval of a mean over seeds may end beyond 1."""
    rows = [{"interval": {"few": [0.9, 1.02], "all": None}}]
    assert _tables.scale_of(rows, ("few", "all")) == (0, 1)
    assert _tables.scale_of(rows, iter(["few", "all"]), most=np.inf) == (0, 1.1)
    assert _tables.scale_of([{"interval": {"few": [-0.1, 0.32]}}], ["few"]) == (-0.4, 0.4)


def test_labels_tell_settings_apart():
    every = [{"k": 5, "kind": "a", "rho": 1.0}, {"k": 5, "kind": "b", "rho": 1.0}]
    assert label("m", every[0], every) == "m k 5 kind a rho 1"
    assert label("m", every[0], every[:1]) == "m k 5 rho 1"
    assert knobs(every[1], every) == {"k": "5", "kind": "b", "rho": "1"}
    assert label("m rho 1", every[0], every) == "m rho 1 k 5 kind a"
    assert label("m rho 1.5", every[0], every[:1]) == "m rho 1.5 k 5 rho 1"


def test_names_that_are_wordnet_ids_are_read():
    counts = np.array([3, 2, 1])
    assert readable_names(ClassTable(counts)) == ["0", "1", "2"]
    names = ("n01440764", "n99999999", "<b>")
    assert readable_names(ClassTable(counts, names)) == ["tench (n01440764)", *names[1:]]
    assert readable_names(ClassTable(counts, ("", "a", " "))) == ["(class 0)", "a", "(class 2)"]
