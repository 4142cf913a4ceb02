"""Every CSV is safe in a spreadsheet, headings included, and its numbers are numbers."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from bad_inputs import makers

from ltkit.files import classifiers, features
from ltkit.files.tables import as_csv, text_cell
from ltkit.posthoc import ncm
from ltkit.records import Correction, joined

FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "a;=1", "a; -1", "＝1", "\n@a")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_starts_a_formula(text):
    cell = text_cell(text)
    assert "\n" not in cell
    for part in cell.split(";"):
        assert part.strip()[:1] not in tuple("=+-@＝＋－＠")


def test_text_that_is_harmless_is_as_it_was():
    for text in ("cat", "a-b", "größe 猫", 'a "b", c', "a;b", "x = y"):
        assert text_cell(text) == text


def test_numbers_are_numbers_and_rows_are_lines():
    row = ["a\nb", -1, np.int64(-2), -0.5, np.float32(0.25), float("nan"), None, True]
    text = as_csv(["=x", "b"], [row])
    assert text == "'=x,b\na\\nb,-1,-2,-0.500000,0.250000,,,1\n"
    assert as_csv(["a"], [[1e-9]], digits=None) == "a\n1e-09\n"
    read = list(csv.reader(io.StringIO(as_csv(["a", "b"], [['q"', "x,y"]]))))
    assert read == [["a", "b"], ['q"', "x,y"]]


def test_a_method_called_as_a_formula_is_text_in_every_table(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    names = np.array(["=1+1", "+2", "@a", "-x", "a;=b", "plain"])
    makers.put("feats.h5", class_names=names)()
    found = features.read(Path("feats.h5"))
    method = '=HYPERLINK("http://x","a")'
    fitted = ncm.fit(found.classifier(), found.split("train"), found.classes.train_count)
    runs = [{"rho": rho, "k": 2, "metric": "cosine", "seed": 0} for rho in (0.5, 1.0)]
    correction = joined([Correction.whole(method, fitted, run) for run in runs])
    classifiers.write(
        tmp_path / "c.h5", correction, settings={}, inputs={"features": found.digest}, command="x"
    )
    for words in (
        "evaluate --per-class o.csv", "compare --csv o.csv", "analyze distance --k 2 --csv o.csv",
        "analyze flows --k 2 --csv o.csv", "analyze deltas --csv o.csv",
    ):  # fmt: skip
        code, _, err = ltkit(*words.split(), "--overwrite", "-q")
        assert code == 0, err
        rows = list(csv.reader(io.StringIO((tmp_path / "o.csv").read_text())))
        cells = [cell for row in rows for cell in row]
        assert any("HYPERLINK" in cell for cell in cells) or "deltas" in words  # named by its k
        for cell in cells:
            if cell[:1] in tuple("=+-@"):
                float(cell)  # raises for text
