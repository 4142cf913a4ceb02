"""The page on why rare classes fail: its commands print what it shows, and its Python runs."""

from pathlib import Path

import pages
import pytest

from ltkit.diagnosis.causes import CAUSES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "diagnose.md"


@pytest.mark.usefixtures("one_thread")
def test_the_page(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats.h5").write_bytes((ROOT / "ltkit/data/demo/feats.h5").read_bytes())
    space = pages.run(PAGE, ltkit)
    assert space["worst"]["error"] == 1


def test_its_links_and_parts():
    pages.check_links(PAGE)
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{cause}` |" in text for cause in CAUSES)
