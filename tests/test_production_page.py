"""The page on production: its commands print what it shows, and its Python runs."""

from pathlib import Path

import numpy as np
import pages
import pytest

from ltkit.face import read
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "production.md"

pytestmark = pytest.mark.usefixtures("one_thread")


def reversed_tail(path, features, samples=1000, seed=0):
    """Write test images of the features, drawn with the tail reversed, as a file of its own."""
    rng = np.random.default_rng(seed)
    test, count = features.split("test"), features.classes.train_count
    shares = (1 / count)[test.labels]
    rows = np.sort(rng.choice(len(test), samples, replace=False, p=shares / shares.sum()))
    drawn = test.at(rows)
    plan = Plan(
        features.feature_size, "float16", {"test": SplitPlan(drawn.labels, None)},
        features.classes, features.head, dict(features.settings), {},
    )  # fmt: skip
    with FeaturesWriter(path, plan, command="field", resume=False) as writer:
        writer.append("test", np.asarray(drawn.features[:], np.float32))
        writer.finish()


@pytest.mark.more
def test_the_page(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats.h5").write_bytes((ROOT / "ltkit/data/demo/feats.h5").read_bytes())
    reversed_tail(tmp_path / "field.h5", read("feats.h5"))
    pages.run(PAGE, ltkit)
    assert (tmp_path / "shipped" / "card.md").is_file()


def test_its_links():
    pages.check_links(PAGE)
