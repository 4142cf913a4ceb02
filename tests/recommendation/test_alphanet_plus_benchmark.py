"""`benchmarks/alphanet_plus.py`: what it draws and measures, and the page made of it."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from long_tailed import problem, split_of

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import alphanet_plus
import alphanet_plus_page


@pytest.fixture(scope="module")
def features():
    made = problem(splits=("train",))
    rng = np.random.default_rng(3)
    splits = {**made.splits, "val": split_of(np.full(6, 20), rng),
              "test": split_of(np.full(6, 40), rng)}  # fmt: skip
    return replace(made, splits=splits)


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    for name, value in {"SEEDS": 2, "DRAWS": 2, "REPLICATES": 20, "RHOS": (0.5, 1.0)}.items():
        monkeypatch.setattr(alphanet_plus, name, value)


def test_draws_are_20_images_a_class_and_replicates_keep_the_classes(features):
    pool = alphanet_plus.Pool(features)
    labels = pool.every.labels
    for val, weights in zip(pool.vals, pool.weights, strict=True):
        assert np.bincount(labels[val]).tolist() == [20] * 6
        assert not weights[val].any()
        for column in weights.T:
            assert np.bincount(labels, column).tolist() == [40.0] * 6


def test_a_gain_by_hand():
    def curve(overall, few):
        return alphanet_plus.Curve(*(np.tile(values, (2, 3, 1)) for values in (overall, few)))

    own, other = curve([0.44, 0.40], [0.10, 0.30]), curve([0.41], [0.15])
    levels = np.tile([0.40, 0.42], (2, 3, 1))  # two draws, two replicates
    single = alphanet_plus.over(own, [other], levels)
    assert single["gain"] == pytest.approx(0.15)  # 0.30 - 0.15; the other does not reach 0.42
    assert (single["reached"], single["few"]) == (0.5, pytest.approx(0.25))
    both = alphanet_plus.over(own, [other, other], levels)
    assert both["gain"] == pytest.approx((0.15 + 0.20) / 2)  # on the line at 0.42; of 0
    assert both["interval"] == pytest.approx([0.175, 0.175])


def test_the_method_of_the_variants_is_the_method(features):
    pool = alphanet_plus.Pool(features)
    made = alphanet_plus.Problem(pool)
    own = alphanet_plus.variants(made)[alphanet_plus.OWN]()
    (rows,) = own.rows(0)
    head = made.head(rows, 0.75, own)
    fitted = alphanet_plus.alphanet_plus.fit(
        pool.base, made.train, made.counts, made.val(0), tau=0.75
    )
    np.testing.assert_allclose(head.weight, fitted.weight, atol=1e-5)
    np.testing.assert_allclose(head.bias, fitted.bias, atol=1e-5)


@pytest.mark.more
def test_both_ways_and_the_page(features, tmp_path, monkeypatch):
    monkeypatch.setattr(alphanet_plus, "read", lambda word: ("cifar100_lt", features))
    target = tmp_path / "a.json"
    for way in ("parts", "compared"):
        monkeypatch.setattr(sys, "argv", ["x", way, "cifar100_lt=f.h5", "--target", str(target)])
        assert alphanet_plus.main() == 0
    found = json.loads(target.read_text())
    rows = found["parts"]["cifar100_lt"]["rows"]
    assert {"alphanet-plus", "random shares", "1 nearest means"} <= rows.keys()
    over = found["compared"]["cifar100_lt"]["over"]
    assert {*alphanet_plus.RIVALS, "alphanet", "random shares"} <= over.keys()
    page = alphanet_plus_page.document(target)
    assert "| the best of the seven | " in page
    assert "| random shares | " in page
    assert "## Compared" not in alphanet_plus_page.document(tmp_path / "none.json")
