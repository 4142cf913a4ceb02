"""The page on preprocessing: its commands print what it shows, its words are those of the code."""

from dataclasses import fields
from pathlib import Path
from typing import get_args

import numpy as np
import pages
import pytest
import shells
from PIL import Image

from ltkit.datasets import view
from ltkit.datasets.images import ImageFiles, Transformed
from ltkit.files import features as features_file
from ltkit.records import ImageView
from ltkit.settings import Fit

PAGE = Path(__file__).parents[1] / "docs" / "preprocessing.md"
TEXT = PAGE.read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("one_thread")


def grey(root, counts, kind, pictures):
    """Write grey pictures of two classes, all with the values that `pictures` gives next."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            Image.fromarray(next(pictures)).save(root / name / f"{i:03}.{kind}")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    shells.write(tmp_path / "shells")
    shells.write_resnet("resnet20.pt", tmp_path / "shells")
    rng = np.random.default_rng(0)

    def twelve(height, width):
        while True:
            values = rng.integers(0, 4096, (height, width)).astype(np.uint16)
            values[0, 0] = 4095
            yield values

    grey(tmp_path / "scans" / "train", {"bone": 20, "soft": 10}, "png", twelve(40, 60))
    grey(tmp_path / "scans" / "test", {"bone": 5, "soft": 5}, "png", twelve(40, 60))
    grey(tmp_path / "odd", {"bone": 150, "soft": 50}, "png", twelve(8, 8))
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(tmp_path / "odd/bone/001.png")
    for name in ("bone", "soft"):
        (tmp_path / "fractions" / name).mkdir(parents=True)
        for i in range(2):
            values = rng.random((8, 8)).astype(np.float32)
            Image.fromarray(values).save(tmp_path / "fractions" / name / f"{i}.tif")


@pytest.mark.more
def test_the_page(folder, ltkit):
    pages.run(PAGE, ltkit)
    assert not [*Path().glob("wrong*.pt"), *Path().glob("wrong.h5")]
    cut, again = (features_file.read(Path(name)) for name in ("cut.h5", "python.h5"))
    one, other = (file.split("test").features[:] for file in (cut, again))
    np.testing.assert_array_equal(one, other)
    kept = features_file.read(Path("narrow.h5")).settings["view"]
    assert kept["window"] == [100, 3000]


def test_a_transform_is_given_wide_pictures_as_they_are(tmp_path):
    values = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
    grey(tmp_path, {"wide": 1}, "png", iter([values]))
    grey(tmp_path, {"usual": 1}, "png", iter([(values >> 4).astype(np.uint8)]))
    modes = []

    def function(picture):
        modes.append(picture.mode)
        return np.asarray(picture, dtype=np.float32).reshape(-1, 8, 8)

    for name in ("wide", "usual"):
        files = ImageFiles([tmp_path / name / "000.png"], ImageView(8, 8))
        seen = Transformed(files, function, "function")[0:1][0]
        if name == "wide":
            np.testing.assert_array_equal(seen[0], values)
    assert modes == ["I;16", "RGB"]


def test_the_page_names_everything():
    assert all(f"`{field.name}`" in TEXT for field in fields(ImageView))
    assert all(f"`{kind}`" in TEXT for kind in get_args(Fit))
    for who in (view.SAID, view.FILE, view.USUAL, view.LIBRARY):
        assert f"**{who}**" in TEXT
    assert f"sample of {view.SAMPLE}" in TEXT
    bits = ", ".join(map(str, view.BITS[:-1])) + f" and {view.BITS[-1]}"
    assert bits in TEXT


def test_links():
    pages.check_links(PAGE)
