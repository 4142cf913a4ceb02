"""The theorems' numbers against other forms of them."""

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from studies.short import theorem_points

import ltkit
from ltkit.studies import theorems


def by_discriminant(p, beta, prior=None, n=200_000):
    """Where scikit-learn's linear discriminant changes its mind, on samples drawn here."""
    rng = np.random.default_rng(1)
    similar = rng.random(n) >= p
    frequent = rng.normal(np.where(similar, 1 - beta, 0.0), theorems.SIGMA)
    rare = rng.normal(1.0, theorems.SIGMA, n)
    x = np.concatenate([frequent, rare])[:, None]
    priors = [0.5, 0.5] if prior is None else [prior, 1 - prior]
    fitted = LinearDiscriminantAnalysis(priors=priors).fit(x, np.repeat([0, 1], n))
    return -fitted.intercept_[0] / fitted.coef_[0, 0]


@pytest.mark.parametrize(("p", "beta"), [(1.0, 0.2), (0.5, 0.2), (0.25, 0.5), (0.0, 0.8)])
def test_the_derived_shift_is_that_of_a_linear_discriminant(p, beta):
    shift = by_discriminant(p, beta) - 0.5
    assert shift == pytest.approx(theorems.derived(p, beta), abs=0.005)
    assert abs(shift - theorems.printed(p, beta)) > 0.09


@pytest.mark.parametrize("prior", [0.5, 0.8, 0.99])
def test_the_boundary_of_a_prior_is_that_of_a_linear_discriminant(prior):
    assert theorems.closed_form(prior) == pytest.approx(by_discriminant(1.0, 0.2, prior), abs=0.01)


def test_by_hand():
    assert theorems.closed_form(0.9) == pytest.approx(0.5 + 0.25 * np.log(9))
    assert theorems.printed(1, 0.2) == pytest.approx(0.4)
    assert theorems.printed(0.5, 0.2) == pytest.approx(0.6)
    assert theorems.derived(0.5, 0.2) == pytest.approx(0.2)
    spread = ((0.25 + 0.16) / 10_000 + 0.25 / 500) / 4
    assert theorems.bound(0.2) == pytest.approx(2 * np.exp(-0.0009 / 2 / spread))


def test_the_bound_holds_for_its_variable():
    """A mixture of two normals around means 0.8 apart, its mean of 200, against the bound."""
    rng = np.random.default_rng(0)
    means = np.where(rng.random((20_000, 200)) < 0.5, 0.0, 0.8)
    drawn = rng.normal(means, 0.5).mean(axis=1) - 0.4
    for distance in (0.05, 0.1, 0.15):
        allowed = 2 * np.exp(-(distance**2) / (2 * (0.25 + 0.16) / 200))
        assert (abs(drawn) >= distance).mean() <= allowed


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        theorem_points(patch)
        patch.setattr(theorems, "DRAWS", {"small": 200, "paper": 200})
        return ltkit.study("theorems", output=tmp_path_factory.mktemp("o") / "o")


def test_the_simulation_holds_the_derived_shift_and_not_the_printed(found):
    rows = {row["p"]: row for row in theorems.wide(found, "1")}
    assert rows[1.0]["simulated"] == pytest.approx(0.003, abs=0.01)
    assert rows[0.5]["simulated"] == pytest.approx(0.204, abs=0.01)
    for row in rows.values():
        assert theorems.agrees(row, "derived")
        assert not theorems.agrees(row, "printed")
        assert row["violations_derived"] <= row["bound"] < row["violations_printed"] == 1
        assert row["rare_error"] == pytest.approx(row["rare_error_derived"], abs=0.01)


def test_the_log_odds_are_0_at_the_boundary(found):
    (row,) = theorems.wide(found, "2")
    assert abs(row["log_odds"]) < 1e-12
    assert row["boundary_by_root"] == pytest.approx(row["boundary"], abs=1e-10)
    assert abs(row["share_at_boundary"] - 0.5) < 4 * row["standard_error"]


def test_it_says_what_holds(found):
    (_, first), (_, second) = found.attrs["document"]["sentences"]
    assert "agrees with the simulated shift at 2 of 2 points; the printed one does at 0" in first
    assert "printed +0.400" in first
    assert "log-odds are 0 at the boundary" in second
