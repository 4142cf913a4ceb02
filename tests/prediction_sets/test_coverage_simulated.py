"""Whether sets keep what they promise: coverage over draws from a population that is known."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import conformal


def check(rows):
    for row in rows:
        least = 0.8 if row["threshold"] == "interpolated" else conformal.COVERAGE
        assert row["coverage"] > least - 4 * row["error"], row
        most = {"marginal": 0.9 + 1 / 501, "fuzzy": 0.9 + 1 / 251}.get(row["threshold"], 0.93)
        assert row["coverage"] < most + 4 * row["error"], row
        if row["threshold"] == "class-wise":
            assert row["lowest_class"] > 0.9 - 4 * row["lowest_class_error"], row
        if (row["score"], row["threshold"]) == ("softmax", "marginal"):
            assert row["lowest_class"] < 0.5, row  # what a mean over all images hides


def test_in_forty_draws():
    check(conformal.kept(conformal.made(images=20_000), 40))


@pytest.mark.more
def test_in_a_thousand_draws():
    check(conformal.kept(conformal.made(), 1000))
