"""docs/studies/: a page for each study, with the tables of its run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import networks_page
import pandas as pd
from networks_page import markdown as _markdown
from networks_page import read as _read

from ltkit.reporting.numbers import percent
from ltkit.studies import alphanet_appendix, theorems

THEOREMS = """\
# The theorems

{head}
A paper that looks at imbalance and at similarity between classes in one frame proves what a
frequent class does to the boundary with a rare one. We checked its statements by derivation and by
simulation. One is printed with a wrong formula. `ltkit study theorems` repeats everything here in
seconds, and draws the figures.

## The setting

One number x is measured of each sample. In the frequent class x is normal around μ1, in the rare
class around μ2, with the same deviation σ. To separate them, take the means of the two training
sets and put the boundary in the middle. If the samples are what they should be, it lies at
(μ1 + μ2) / 2, which is the best place.

Now some samples of the frequent class look like the rare class: a truck that might be a car. A
share 1 - p of the frequent class is such. A similar sample is normal around β μ1 + (1 - β) μ2: at β
= 1 it is as all others, at β = 0 it looks just like the rare class. p is the share of samples that
are *not* similar.

Here μ1 = 0, μ2 = 1, σ = 0.5, with 10,000 frequent and 500 rare samples.

## Theorem 1: how far the boundary moves

**Printed**: by Δ = (1 - β)(1 - p/2)(μ2 - μ1).

**What the setting gives**: Δ = ½(1 - p)(1 - β)(μ2 - μ1), in three lines:

1. The mean of the frequent class is p μ1 + (1 - p)(β μ1 + (1 - β) μ2), which is
   μ1 + (1 - p)(1 - β)(μ2 - μ1).
2. The middle between it and μ2 is (μ1 + μ2) / 2 + ½(1 - p)(1 - β)(μ2 - μ1).
3. So the second part is the shift.

No algebra is needed to see that the printed form cannot be right. With p = 1 there are no similar
samples, and nothing can move; it still says (1 - β)(μ2 - μ1) / 2. Everywhere it is too large by the
same ½(1 - β)(μ2 - μ1). The *direction* of the theorem holds: more similar samples, or more similar
ones, push the boundary into the rare class, and its error grows.

{shifts}

Simulated is the mean of {draws} draws, with its standard error. The last column is the share of the
rare class that lies beyond the boundary; without a shift it is 15.9 %.

## The bound

A shift of a mean is worth little if single draws scatter around it. A sample of a mixture of two
normals is sub-Gaussian with the variance σ² + ((1 - β)(μ2 - μ1))² / 4, so that by Hoeffding's
lemma the boundary of n1 frequent and n2 rare samples is d or more away from where it belongs with a
chance of at most

    2 exp(-d² / 2V),  V = ¼ ((σ² + (1 - β)²(μ2 - μ1)² / 4) / n1 + σ² / n2)

This form is ours. It counts draws that are {distance} or more away from the place that a formula
claims. Around the derived place there must be no more than the bound allows; around the printed
one, all of them are.

{violations}

Far from derived: more than the bound at {broken} of {points} points. Far from printed: more than
the bound at {broken_printed} of {points}.

## Theorem 2: at the boundary the log-odds are 0

With a prior π of the frequent class, the log-odds of a point are

    log π / (1 - π)  +  log N(x; μ1, σ) / N(x; μ2, σ)

The first part is the prior and the same everywhere, the second is what x says. They cancel at x =
(μ1 + μ2) / 2 + σ² log(π / (1 - π)) / (μ2 - μ1). **This holds exactly.** A root sought on the
densities is at the same place to 1e-12, and of samples drawn near it half are of either class.

{odds}

It is why subtracting the log of the prior from the logits (`ltkit posthoc logit-adjust`) can undo
all that a prior does, and nothing of what similar samples do: those change the second part.

## What was not checked

Theorem 3 and Propositions 1 to 3 of the paper are not in the study.

## Verdict

| statement | printed | here |
|---|---|---|
| Theorem 1, the shift | (1 - β)(1 - p/2)(μ2 - μ1) | **differs**: ½(1 - p)(1 - β)(μ2 - μ1) |
| Theorem 1, its direction | towards the rare class | agrees |
| Theorem 2 | log-odds 0 at the boundary | agrees, exactly |
"""

APPENDIX = """\
# AlphaNet's appendix on one features file

{head}
The appendix of the AlphaNet paper varies k, the number of neighbours, ρ, how many samples of
frequent classes a fit hears for each rare one, and the distance by which neighbours are near. The
study fits all of it on any features file: k 1 to 10, ρ 0.25, 0.5, 1 and 2, Euclidean and cosine
distance, top-1 and top-5. Below, the features file of `ltkit demo`: a ResNet-32 trained with
cross-entropy on CIFAR-100-LT at imbalance 100, its test split.

{sentences}

## Points gained, k 5, Euclidean distance

{rho}

95 % intervals over images and seeds, from {replicates} bootstrap replicates.

## Few-shot points gained by k, top-1

{k}

## Against the paper

The paper's figures show curves of other networks. Of CIFAR-100-LT it prints one setting, ρ 0.5 on
a weight-balanced network:

| | few | medium | many | all |
|---|---:|---:|---:|---:|
| published accuracy | 36.2 | 39.5 | 63.4 | 46.9 |
| points gained here | {few} | {medium} | {many} | {all} |

Whether single values agree **cannot be told**, since the network is another, of which the features
are not public. That a smaller ρ gives the rare classes more and the others less **agrees**.
"""


def documents(results: Path) -> dict[str, str]:
    """Return the pages by their names."""
    return {
        "theorems.md": _theorems(results / "study_theorems.json"),
        "alphanet-appendix.md": _appendix(results / "study_alphanet_appendix.json"),
    } | networks_page.documents(results)


def _theorems(path: Path) -> str:
    document, table, head = _read(path, "ltkit study theorems --paper")
    first, second = (theorems.wide(table, name) for name in ("1", "2"))
    broken = {
        of: sum(row[f"violations_{of}"] > row["bound"] for row in first)
        for of in ("derived", "printed")
    }
    return THEOREMS.format(
        head=head, draws=document["points"][0]["draws"], distance=theorems.DISTANCE,
        shifts=_table(first, SHIFTS), violations=_table(first, VIOLATIONS),
        odds=_table(second, theorems.SECOND), points=len(first),
        broken=broken["derived"], broken_printed=broken["printed"],
    )  # fmt: skip


SHIFTS = {
    name: theorems.FIRST[name]
    for name in ("p", "beta", "simulated", "standard_error", "derived", "printed", "rare_error")
}
VIOLATIONS = {
    name: theorems.FIRST[name]
    for name in ("p", "beta", "violations_derived", "violations_printed", "bound")
}


def _table(rows: Sequence[dict[str, Any]], names: dict[str, str]) -> str:
    """Return rows as Markdown."""
    cells = ([theorems.cell(row[name], name) for name in names] for row in rows)
    return _markdown(list(names.values()), cells)


def _appendix(path: Path) -> str:
    document, table, head = _read(path, "ltkit study alphanet-appendix feats.h5")
    grouped = table[~table["of"].str.startswith("class ")]
    return APPENDIX.format(
        head=head, sentences="\n".join(f"- {said}" for _, said in document["sentences"]),
        rho=_over_rho(grouped), k=_over_k(grouped),
        replicates=f"{document['points'][0]['replicates']:,}", **_at_half(grouped),
    )  # fmt: skip


def _over_rho(table: pd.DataFrame) -> str:
    """Return a line for each rho and group, with top-1 and top-5."""
    own = table[(table["metric"] == alphanet_appendix.METRIC) & (table["k"] == alphanet_appendix.K)]
    pairs = own.groupby(["rho", "of"], sort=False)
    rows = (
        [f"{rho:g}", group, *(_interval(row) for row in pair.itertuples())]
        for (rho, group), pair in pairs
    )
    return _markdown(["ρ", "of", "top-1", "top-5"], rows)


def _at_half(table: pd.DataFrame) -> dict[str, str]:
    """Return the points gained in top-1 accuracy at the one setting that the paper prints."""
    own = table[(table["metric"] == alphanet_appendix.METRIC) & (table["k"] == alphanet_appendix.K)]
    own = own[(own["rho"] == alphanet_appendix.RHO) & (own["top"] == 1)]
    return {row.of: percent(row.change, "+") for row in own.itertuples()}


def _interval(row: Any) -> str:
    return f"{percent(row.change, '+')} [{percent(row.low, '+')}, {percent(row.high, '+')}]"


def _over_k(table: pd.DataFrame) -> str:
    """Return a line for each k, with a column for each distance and rho."""
    few = table[(table["of"] == "few") & (table["top"] == 1)]
    wide = few.pivot(index="k", columns=["metric", "rho"], values="change")
    heads = ["k", *(f"{metric}, ρ {rho:g}" for metric, rho in wide.columns)]
    rows = ([str(k), *(percent(value, "+") for value in line)] for k, line in wide.iterrows())
    return _markdown(heads, rows)
