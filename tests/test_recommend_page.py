"""The page on what to ship: its commands print what it shows, and its Python runs."""

from pathlib import Path

import pages
import pytest

from ltkit import settings

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recommend.md"

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_page(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats.h5").write_bytes((ROOT / "ltkit/data/demo/feats.h5").read_bytes())
    pages.run(PAGE, ltkit)


def test_its_links_and_names():
    pages.check_links(PAGE)
    text = PAGE.read_text(encoding="utf-8")
    for name in settings.RECOMMENDED:
        assert f"`{name}`" in text, name
    places = [text.index(f"`{name}`", text.index("Simple is")) for name in settings.RECOMMENDED]
    assert places == sorted(places)
