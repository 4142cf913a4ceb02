"""Studies as runs: what is written, resumed, refused."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from made import refused
from reporting import browsing
from studies.short import theorem_points
from typer.testing import CliRunner

import ltkit
from ltkit.cli import app
from ltkit.studies import listing, theorems

FILES = ["points.json", "study.html", "study.json", "table.csv"]


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    theorem_points(monkeypatch)
    monkeypatch.chdir(tmp_path)


def ran(*words):
    return CliRunner().invoke(app, ["study", *words])


def test_the_command_and_the_call_write_the_same(tmp_path):
    done = ran("theorems", "-o", "a")
    assert done.exit_code == 0, done.stderr
    assert "Theorem 1: Printed" in done.stdout
    frame = ltkit.study("theorems", output="b")
    assert set(FILES) <= {path.name for path in (tmp_path / "a").iterdir()}
    for name in ("points.json", "study.json", "table.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    document = json.loads((tmp_path / "a" / "study.json").read_text(encoding="utf-8"))
    assert frame.attrs["document"]["rows"] == document["rows"]
    assert frame["value"].tolist() == [row[-1] for row in document["rows"]]


def test_the_table_has_the_documents_rows(tmp_path):
    done = ran("theorems", "--json")
    document = json.loads(done.stdout)
    assert document["schema"] == "ltkit.study/1"
    with (tmp_path / "study-theorems" / "table.csv").open(encoding="utf-8", newline="") as file:
        heading, *rows = csv.reader(file)
    assert heading == document["columns"]
    assert len(rows) == len(document["rows"])
    assert [float(row[-1]) for row in rows] == [row[-1] for row in document["rows"]]


def test_the_paper_form_has_more_draws():
    assert "draws 30," in ran("theorems", "--paper", "-o", "p").stderr
    assert "draws 20," in ran("theorems", "--small", "-o", "s").stderr


def test_the_list_has_every_study():
    lines = ran("--list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [name for name, _, _ in listing()]


def test_an_interrupted_study_goes_on_where_it_was(monkeypatch, tmp_path):
    whole = ltkit.study("theorems", output="whole")
    measured, measure = [], theorems.measure

    def stopped(point, given):
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(point)
        return measure(point, given)

    monkeypatch.setattr(theorems, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        ltkit.study("theorems", output="cut")
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["points.json"]
    refused(lambda: ltkit.study("theorems", output="cut"), "cut: exists", "--resume")
    monkeypatch.setattr(theorems, "measure", measure)
    done = ran("theorems", "-o", "cut", "--resume")
    assert done.stderr.count("taken from an earlier run") == 2
    assert done.stderr.count(": measured") == 1
    for name in ("study.json", "table.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert len(whole) == 3 * 9 - 3  # nine figures a point of the first theorem, six of the second


def test_a_killed_study_goes_on(tmp_path):
    """In a process of its own, with all its points, killed once some are there."""
    code = "import ltkit; ltkit.study('theorems', output='k')"
    begun = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    points = tmp_path / "k" / "points.json"
    while begun.poll() is None:
        if points.is_file() and len(json.loads(points.read_text())["points"]) >= 3:
            os.kill(begun.pid, signal.SIGKILL)
            break
        time.sleep(0.01)
    assert begun.wait() == -signal.SIGKILL
    assert not (tmp_path / "k" / "study.json").exists()
    again = [sys.executable, "-m", "ltkit", "study", "theorems", "-o", "k", "--resume"]
    done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr.count("taken from an earlier run") >= 3
    rows = json.loads((tmp_path / "k" / "study.json").read_text())["rows"]
    assert len(rows) == 15 * 9 + 4 * 6


def test_another_run_is_replaced_only_where_it_is_said():
    ltkit.study("theorems", output="o")
    words = ("o: belongs to a study with other settings", "--overwrite")
    refused(lambda: ltkit.study("theorems", output="o", seed=1, resume=True), *words)
    frame = ltkit.study("theorems", output="o", seed=1, overwrite=True)
    assert frame.attrs["document"]["seed"] == 1


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"schema": "ltkit.study-points/1", "points": {"a": [1]}, "run": {}}',
     '{"schema": "ltkit.study-points/1", "points": [], "run": {}}', '{"schema": "x"}'],
)  # fmt: skip
def test_points_that_are_none_are_left_alone(tmp_path, content):
    (tmp_path / "o").mkdir()
    file = tmp_path / "o" / "points.json"
    file.write_text(content)
    for how in ({"resume": True}, {"overwrite": True}, {}):
        refused(lambda how=how: ltkit.study("theorems", output="o", **how), "not known to be")
    assert file.read_text() == content


def test_folders_that_are_no_studys(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    refused(lambda: ltkit.study("theorems", output="file", overwrite=True), "is not a folder")
    refused(lambda: ltkit.study("theorems", output="full", overwrite=True), "no points.json")
    refused(lambda: ltkit.study("theorems", output="no/such"), "no: no such folder")
    assert len(ltkit.study("theorems", output="empty"))


def test_studies_get_what_they_need(tmp_path):
    refused(lambda: ltkit.study("alphanet-appendix"), "needs features, found none", "name a")
    refused(lambda: ltkit.study("theorem"), "unknown name in studies", "theorems")
    refused(lambda: ltkit.study("theorems", form="big"), "form: found 'big'", "small, paper")
    refused(lambda: ltkit.study("theorems", seed=-1), "seed: found -1")
    assert list(tmp_path.iterdir()) == []


def test_without_a_program_that_draws_files_a_note_says_so(monkeypatch):
    monkeypatch.setattr("ltkit.studies._running.find_spec", lambda name: None)
    assert "note: the page has the figures" in ran("theorems").stderr


def test_a_failing_drawing_costs_no_point(monkeypatch, tmp_path):
    from ltkit.errors import InputError
    from ltkit.reporting import drawing

    def fails(*_):
        raise InputError("--figures: cannot draw (no browser)")

    monkeypatch.setattr("ltkit.studies._running.find_spec", lambda name: name)
    monkeypatch.setattr(drawing, "write_figures", fails)
    done = ran("theorems")
    assert done.exit_code == 0
    assert "note: no SVG and PNG files of the figures: cannot draw (no browser)" in done.stderr
    assert (tmp_path / "study-theorems" / "study.html").is_file()


def test_the_page_in_a_browser(tmp_path):
    ltkit.study("theorems", output="o")
    with (
        browsing.launched() as browser,
        browsing.opened(browser, tmp_path / "o" / "study.html") as page,
    ):
        browsing.draw_all(page)
        assert page.locator(".plot[data-drawn]").count() == 2
        assert "agrees with the simulated shift" in page.locator("dl.answer").inner_text()
