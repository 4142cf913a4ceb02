"""theorems: what the shift of a boundary by similar samples is, and what a paper printed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logit
from scipy.stats import norm

from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.look import SERIES, axis
from ltkit.studies import Given, Point, Row, Told

TITLE = "Theorems on the boundary between a frequent class and a rare one"
NEEDS = ""
COLUMNS = ("theorem", "p", "beta", "quantity", "value")

MEANS, SIGMA = (0.0, 1.0), 0.5
"""Of the frequent class and of the rare one, and the deviation of both."""

COUNTS = (10_000, 500)
"""Training samples of the frequent class and of the rare one."""

DISTANCE = 0.03
"""From a claimed boundary to an estimated one, beyond which a draw is a violation."""

DRAWS = {"small": 200, "paper": 2_000}
P, BETA = (0.0, 0.25, 0.5, 0.75, 1.0), (0.2, 0.5, 0.8)
PRIORS = (0.5, 0.8, 0.95, 0.99)
SAMPLES = 100_000
"""Of the two classes together, for each draw of a form: so many lie near a boundary."""
CLASSES = f"Two normal classes, means {MEANS[1] - MEANS[0]:g} apart, deviation {SIGMA:g}"
WINDOW = 0.02
"""Half the width of the strip at a boundary whose samples are counted."""

Floats = NDArray[np.float64]


def derived(p: float, beta: float) -> float:
    """Return the shift of the boundary that the setting of Theorem 1 gives.

    Example:
        >>> derived(1, 0.2), round(derived(0.5, 0.2), 12)
        (0.0, 0.2)
    """
    return 0.5 * (1 - p) * (1 - beta) * (MEANS[1] - MEANS[0])


def printed(p: float, beta: float) -> float:
    """Return the shift of the boundary that Theorem 1 prints.

    Example:
        >>> round(printed(1, 0.2), 12), round(printed(0.5, 0.2), 12)
        (0.4, 0.6)
    """
    return (1 - beta) * (1 - p / 2) * (MEANS[1] - MEANS[0])


def bound(beta: float) -> float:
    """Return the largest share of draws that may lie `DISTANCE` or more from the true boundary.

    A normal sample around one of two means is sub-Gaussian with the variance of the normal plus a
    quarter of the squared gap of the means (Hoeffding's lemma), and the boundary is half the sum
    of two means of samples.
    """
    gap = (1 - beta) * (MEANS[1] - MEANS[0])
    spread = 0.25 * ((SIGMA**2 + gap**2 / 4) / COUNTS[0] + SIGMA**2 / COUNTS[1])
    return float(min(1.0, 2 * np.exp(-(DISTANCE**2) / (2 * spread))))


def log_odds(x: float, prior: float) -> float:
    """Return the log-odds of the frequent class at a point, from prior and densities.

    Example:
        >>> abs(log_odds(0.5, 0.5)) < 1e-12
        True
    """
    densities = [norm.logpdf(x, mean, SIGMA) for mean in MEANS]
    return float(logit(prior) + densities[0] - densities[1])


def closed_form(prior: float) -> float:
    """Return where Theorem 2 puts the boundary: the middle, moved by the prior's log-odds."""
    middle, gap = sum(MEANS) / 2, MEANS[1] - MEANS[0]
    return float(middle + SIGMA**2 * logit(prior) / gap)


def points(given: Given) -> list[Point]:
    """Return the shares and places of similar samples, then the priors."""
    draws = DRAWS[given.form]
    first = [
        {"theorem": "1", "p": p, "beta": beta, "draws": draws, "seed": given.seed}
        for beta in BETA
        for p in P
    ]
    second = [
        {"theorem": "2", "prior": prior, "samples": SAMPLES * draws, "seed": given.seed}
        for prior in PRIORS
    ]
    return first + second


def measure(point: Point, given: Given) -> list[Row]:
    """Return the rows of one point: of simulated boundaries, or of log-odds at a boundary."""
    if point["theorem"] == "1":
        p, beta, found = point["p"], point["beta"], _of_shift(point)
    else:
        p, beta, found = point["prior"], None, _of_log_odds(point)
    return [[point["theorem"], p, beta, name, value] for name, value in found.items()]


def _of_shift(point: Point) -> dict[str, float]:
    """Return the simulated shift of the boundary beside both formulas, and their violations."""
    p, beta = point["p"], point["beta"]
    rng = np.random.default_rng([point["seed"], round(100 * p), round(100 * beta)])
    shifts = np.array([boundary(p, beta, rng) for _ in range(point["draws"])])
    shifts -= sum(MEANS) / 2
    true, claimed = derived(p, beta), printed(p, beta)
    return {
        "simulated": float(shifts.mean()),
        "standard_error": float(shifts.std(ddof=1) / np.sqrt(len(shifts))),
        "derived": true,
        "printed": claimed,
        "bound": bound(beta),
        "violations_derived": float((abs(shifts - true) >= DISTANCE).mean()),
        "violations_printed": float((abs(shifts - claimed) >= DISTANCE).mean()),
        "rare_error": float(norm.cdf((sum(MEANS) / 2 + shifts - MEANS[1]) / SIGMA).mean()),
        "rare_error_derived": float(norm.cdf((sum(MEANS) / 2 + true - MEANS[1]) / SIGMA)),
    }


def boundary(p: float, beta: float, rng: np.random.Generator) -> float:
    """Return the middle of two sample means, of which the frequent class has similar samples."""
    similar = rng.random(COUNTS[0]) >= p
    means = np.where(similar, beta * MEANS[0] + (1 - beta) * MEANS[1], MEANS[0])
    frequent = rng.normal(means, SIGMA)
    rare = rng.normal(MEANS[1], SIGMA, COUNTS[1])
    return float(frequent.mean() + rare.mean()) / 2


def _of_log_odds(point: Point) -> dict[str, float]:
    """Return the boundary found three ways, and the log-odds there.

    The root is sought on the densities, and the share of the frequent class is counted in a strip
    around the boundary of drawn samples, beside the share that the closed form has there.
    """
    prior = point["prior"]
    place = closed_form(prior)
    rng = np.random.default_rng([point["seed"], round(1000 * prior)])
    counts = [0, 0]
    for size in _sizes(point["samples"]):
        frequent = rng.random(size) < prior
        x = rng.normal(np.where(frequent, *MEANS), SIGMA)
        near = abs(x - place) < WINDOW
        counts[0] += int((near & frequent).sum())
        counts[1] += int(near.sum())
    share = counts[0] / counts[1]
    return {
        "boundary": place,
        "boundary_by_root": float(brentq(log_odds, -20, 20, args=(prior,), xtol=1e-13)),
        "log_odds": log_odds(place, prior),
        "share_at_boundary": share,
        "standard_error": float(np.sqrt(share * (1 - share) / counts[1])),
        "rare_error": float(norm.cdf((place - MEANS[1]) / SIGMA)),
    }


def _sizes(total: int, block: int = 1_000_000) -> list[int]:
    """Return the sizes of blocks that come to a total."""
    return [block] * (total // block) + [total % block] * (total % block > 0)


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say which form of Theorem 1 holds, and whether Theorem 2 does."""
    first, second = (wide(table, theorem) for theorem in ("1", "2"))
    return Told(
        [("Theorem 1", _first_said(first)), ("Theorem 2", _second_said(second))],
        [_shifts_drawn(first), _violations_drawn(first), *_tabled(first, second)],
    )


def wide(table: pd.DataFrame, theorem: str) -> list[dict[str, Any]]:
    """Return the points of one theorem, with their values by name."""
    own = table[table["theorem"] == theorem]
    found: dict[tuple[float, float], dict[str, Any]] = {}
    for p, beta, name, value in own[["p", "beta", "quantity", "value"]].itertuples(index=False):
        key = (p, -1.0 if pd.isna(beta) else beta)
        found.setdefault(key, {"p": p, "beta": beta})[name] = value
    return list(found.values())


def agrees(row: Mapping[str, Any], name: str) -> bool:
    """Return whether a simulated shift is within four standard errors of a formula's."""
    return bool(abs(row["simulated"] - row[name]) <= 4 * row["standard_error"])


def _first_said(rows: list[dict[str, Any]]) -> str:
    hold = {n: sum(agrees(row, n) for row in rows) for n in ("derived", "printed")}
    end = next(row for row in rows if row["p"] == 1)
    most = max(row["violations_derived"] for row in rows)
    return (
        f"Printed: Δ = (1 − β)(1 − p/2)(μ2 − μ1). The setting gives ½(1 − p)(1 − β)(μ2 − μ1), "
        f"which agrees with the simulated shift at {hold['derived']} of {len(rows)} points; the "
        f"printed one does at {hold['printed']}. Without similar samples (p = 1, β = "
        f"{end['beta']:g}) nothing moves the boundary: simulated "
        f"{cell(end['simulated'], 'simulated')}, printed {end['printed']:+.3f}. Around "
        f"the derived shift at most {100 * most:.1f} % of draws are {DISTANCE:g} or more away."
    )


def _second_said(rows: list[dict[str, Any]]) -> str:
    largest = max(abs(row["log_odds"]) for row in rows)
    apart = max(abs(row["boundary"] - row["boundary_by_root"]) for row in rows)
    return (
        f"The log-odds are 0 at the boundary: at most {largest:.0e} at {len(rows)} priors, where "
        f"the closed form and a root of the densities differ by at most {apart:.0e}. A prior "
        "moves the boundary and nothing else: taking its logarithm off the logits moves it back."
    )


def _shifts_drawn(rows: list[dict[str, Any]]) -> Exhibit:
    """Draw the simulated shift against p, with both formulas."""
    traces = []
    for place, beta in enumerate(BETA):
        own = [row for row in rows if row["beta"] == beta]
        for name, style in STYLES.items():
            traces.append(
                {
                    "type": "scatter", "name": f"{name}, β {beta:g}", **style,
                    "x": [row["p"] for row in own], "y": [row[name] for row in own],
                    "marker": {"color": SERIES[place], "size": 9}, "line": _line(place, name),
                }
            )  # fmt: skip
    layout = {"xaxis": axis("p, share of samples that are not similar"),
              "yaxis": axis("shift of the boundary")}  # fmt: skip
    return Exhibit(
        "shift", "Shift of the boundary towards the rare class",
        "Points are simulated, full lines derived, dotted lines printed. The means are 1 apart. "
        "The printed shift is too large by ½(1 − β) everywhere.",
        ("p", "beta", *STYLES), [[row[n] for n in ("p", "beta", *STYLES)] for row in rows],
        [View("", traces, layout)],
    )  # fmt: skip


STYLES: dict[str, dict[str, Any]] = {
    "simulated": {"mode": "markers"}, "derived": {"mode": "lines"}, "printed": {"mode": "lines"},
}  # fmt: skip


def _line(place: int, name: str) -> dict[str, Any]:
    return {"color": SERIES[place], "dash": "dot" if name == "printed" else "solid"}


def _violations_drawn(rows: list[dict[str, Any]]) -> Exhibit:
    """Draw the share of draws that are far from each formula's boundary, with the bound."""
    names = {"violations_derived": "derived", "violations_printed": "printed", "bound": "bound"}
    traces = [
        {"type": "bar", "name": said, "marker": {"color": SERIES[place]},
         "x": [f"p {row['p']:g}, β {row['beta']:g}" for row in rows],
         "y": [100 * row[name] for row in rows]}
        for place, (name, said) in enumerate(names.items())
    ]  # fmt: skip
    return Exhibit(
        "violations", "Draws far from the boundary that a formula claims",
        f"Share of draws whose boundary is {DISTANCE:g} or more from the claimed one. A theorem "
        "with the bound shown allows no more than that share.",
        ("p", "beta", *names), [[row[n] for n in ("p", "beta", *names)] for row in rows],
        [View("", traces, {"xaxis": axis(""), "yaxis": axis("% of draws")})],
    )  # fmt: skip


def _tabled(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> list[Exhibit]:
    return [
        _table(
            "theorem-1",
            "Theorem 1 in numbers",
            FIRST,
            first,
            f"{COUNTS[0]:,} and {COUNTS[1]} samples a draw",
        ),
        _table(
            "theorem-2",
            "Theorem 2 in numbers",
            SECOND,
            second,
            f"samples there are at most {WINDOW:g} away",
        ),
    ]


FIRST = {
    "p": "p", "beta": "β", "simulated": "simulated", "standard_error": "standard error",
    "derived": "derived", "printed": "printed", "violations_derived": "far from derived",
    "violations_printed": "far from printed", "bound": "bound", "rare_error": "error of rare",
    "rare_error_derived": "error, derived",
}  # fmt: skip
SECOND = {
    "p": "prior of frequent", "boundary": "boundary", "boundary_by_root": "by root",
    "log_odds": "log-odds there", "share_at_boundary": "frequent among samples there",
    "standard_error": "standard error", "rare_error": "error of rare",
}  # fmt: skip


def _table(
    key: str, title: str, names: Mapping[str, str], rows: list[dict[str, Any]], drawn: str
) -> Exhibit:
    """Return a table of points, with the columns that have these names.

    Args:
        key: of the exhibit.
        title: its heading.
        names: of columns, by key.
        rows: the points.
        drawn: what was drawn of the two classes.
    """
    cells = [[cell(row[name], name) for name in names] for row in rows]
    return Exhibit(
        key, title, f"{CLASSES}; {drawn}.",
        list(names), [[row[name] for name in names] for row in rows],
        cells=[list(names.values()), *cells],
    )  # fmt: skip


def cell(value: float, name: str) -> str:
    """Return a value for a table.

    Example:
        >>> cell(0.2, "derived"), cell(0.9, "p"), cell(-1e-15, "log_odds")
        ('+0.200', '0.9', '0')
    """
    if name in ("p", "beta"):
        return f"{value:g}"
    if name == "log_odds":
        return "0" if abs(value) < 1e-9 else f"{value:.1e}"
    digits = 4 if name == "standard_error" else 3
    sign = "+" if name in ("simulated", "derived", "printed") else ""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"
