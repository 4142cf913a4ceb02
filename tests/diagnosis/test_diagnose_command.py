"""``ltkit diagnose`` as it is typed, and its section of the page."""

import json
from dataclasses import replace

import numpy as np
import pytest
from known_causes import problem

import ltkit as library
from ltkit.errors import InputError
from ltkit.files import features as features_file
from ltkit.reporting import source
from ltkit.reporting.sections import causes
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with feats.h5 of a problem."""
    made = problem("overlap under a prior")
    arrays = {"weight": made.head.weight, "bias": made.head.bias}
    for split in ("train", "val"):
        arrays[f"{split}_features"] = made.split(split).features
        arrays[f"{split}_labels"] = made.split(split).labels
    np.savez(tmp_path / "a.npz", **arrays)
    settings = ImportSettings(weight_rows="classes", bins=(20, 100))
    import_arrays(tmp_path / "a.npz", tmp_path / "feats.h5", settings=settings)
    (tmp_path / "a.npz").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_answer(ltkit, folder):
    code, out, said = ltkit("diagnose", "--count", "2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].startswith("error of 5 rare classes: ")
    assert [line.split()[0] for line in lines[1:5]] == [
        "prior", "rows", "confusion", "separation"
    ]  # fmt: skip
    assert lines[5].startswith("offsets give these classes ")
    assert lines[6].startswith("mostly confusion (the largest in 100 % of resamples): ")
    told = [line for line in said.splitlines() if not line.startswith("heads ")]  # when it is slow
    assert told == ["using feats.h5", "note: 3 more classes: --count or --json"]


def test_json_is_what_the_call_gives(ltkit, folder):
    code, out, said = ltkit("diagnose", "feats.h5", "--json", "--replicates", "200", "-q")
    assert (code, said) == (0, "")
    found = library.diagnose(features_file.read(folder / "feats.h5"), replicates=200)
    assert json.loads(out) == {**found.document, "features": "feats.h5"}
    assert json.loads(out)["schema"] == "ltkit.diagnose/1"


def section(features):
    return source.collect(features, "val", (), replicates=100)


def test_the_section_shows_the_document():
    features = problem("separation")
    found = causes.gather(section(features))
    document = library.diagnose(features, replicates=100).document
    assert found["parts"] == document["parts"]
    table, stacks = causes.draw(found, section(features))
    assert "mostly separation" in table.caption.lower()
    (view,) = stacks.views
    heights = np.sum([trace["y"] for trace in view.traces], axis=0)
    assert np.allclose(heights, [100 * row["error"] for row in document["classes"]])
    assert len(stacks.rows) == 5 * 4


def test_a_page_does_not_wait_for_minutes(monkeypatch):
    monkeypatch.setattr(causes, "MOST", 100)
    with pytest.raises(InputError, match="too many images for a page"):
        causes.gather(section(problem("prior")))


def test_a_page_without_val_says_so():
    features = problem("prior")
    of_test = replace(features, splits={"train": features.split("train"),
                                        "test": features.split("val")})  # fmt: skip
    with pytest.raises(InputError, match="val: absent or empty"):
        causes.gather(source.collect(of_test, "test", (), replicates=100))
