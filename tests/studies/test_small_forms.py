"""Every study in its small form, on what is bundled: the demo's features, digits."""

from importlib import resources

import pytest

import ltkit
from ltkit import datasets
from ltkit.studies import listing

IMAGES = {"mixup-similarity": "digits_lt:ir=20,val=none"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "needs"), [(name, needs) for name, _, needs in listing()])
def test_the_small_form(name, needs, tmp_path):
    given = {}
    if needs == "features":
        bundled = resources.files("ltkit") / "data" / "demo" / "feats.h5"
        (tmp_path / "feats.h5").write_bytes(bundled.read_bytes())
        given["features"] = ltkit.read(tmp_path / "feats.h5")
    if needs == "images":
        given["images"] = datasets.load(IMAGES.get(name, "digits_lt:ir=1,val=none"))
    frame = ltkit.study(name, **given, output=tmp_path / "o")
    document = frame.attrs["document"]
    assert len(frame) >= len(document["points"])
    assert all(sentence.strip() for _, sentence in document["sentences"])
    for file in ("table.csv", "study.json", "study.html"):
        assert (tmp_path / "o" / file).stat().st_size
