"""What `report --figures` writes, where kaleido and a Chromium are at hand."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

import ltkit as package

pytestmark = pytest.mark.extras
BROWSERS = ("chromium", "google-chrome", "chrome")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chromium here")
def test_each_figure_is_a_picture_in_three_forms(tmp_path, monkeypatch, ltkit):
    pytest.importorskip("kaleido")
    monkeypatch.chdir(tmp_path)
    features = Path(package.__file__).parent / "data/demo/feats.h5"
    assert ltkit("posthoc", "logit-adjust", str(features), "--quiet", "-o", "la.h5")[0] == 0
    code, _, err = ltkit(
        "report", str(features), "--classifier", "la.h5", "--replicates", "100", "--quiet",
        "--figures", "figures", "-o", "r.html",
    )  # fmt: skip
    assert code == 0, err
    drawn = {form: sorted(Path("figures").glob(f"*.{form}")) for form in ("svg", "pdf", "png")}
    stems = {form: [path.stem for path in paths] for form, paths in drawn.items()}
    assert stems["svg"] == stems["pdf"] == stems["png"]
    assert {"accuracy", "by-count", "confusion", "flows", "map"} <= set(stems["svg"])
    for path in drawn["svg"]:
        assert path.read_text(encoding="utf-8").startswith("<svg")
    for path in drawn["pdf"]:
        assert path.read_bytes().startswith(b"%PDF-")
    for path in drawn["png"]:
        with Image.open(path) as picture:
            assert picture.width == 900
            assert len(picture.convert("L").getcolors()) > 2  # something is drawn
    assert "few" in Path("figures/accuracy.svg").read_text(encoding="utf-8")
