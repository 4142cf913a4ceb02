"""The page on calibration and priors: its commands print what it shows, its tables name all."""

from pathlib import Path

import pages
import pytest

from ltkit.evaluation import priors
from ltkit.records.priors import TAILS, WORDS
from ltkit.settings import METRICS

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "calibration-and-priors.md"
TEXT = PAGE.read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.more
def test_the_page(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "feats.h5").write_bytes((ROOT / "ltkit/data/demo/feats.h5").read_bytes())
    pages.run(PAGE, ltkit)


def test_what_the_page_says_of_the_demo():
    """The mean confidence, the estimate of the prior, and where the baseline wins."""
    import numpy as np

    from ltkit import evaluation
    from ltkit.files import features as features_file

    file = features_file.read(ROOT / "ltkit/data/demo/feats.h5")
    base, test = file.classifier(), file.split("test")
    p = evaluation.probabilities.softmax(base.logits(test.features[:]).astype(np.float64))
    assert round(100 * p.max(axis=1).mean()) == 76
    assert round(100 * (p.argmax(axis=1) == test.labels).mean()) == 40
    counts = file.classes.train_count
    estimate = evaluation.mean_softmax(file.split("train"), base)
    assert np.abs(estimate - counts / counts.sum()).sum() == pytest.approx(0.014, abs=0.001)


def test_the_page_names_everything():
    for name in (*METRICS, *WORDS, *(f"{tail}:R" for tail in TAILS)):
        assert f"`{name}`" in TEXT
    assert len(priors.SHIFTS) == 11


def test_links():
    pages.check_links(PAGE)
