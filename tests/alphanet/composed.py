"""A small problem with a fit that is made up, so that no test depends on how training rounds."""

import numpy as np
from six_classes import BINS, COUNTS, made

from ltkit.records import Classifier, ClassTable, Correction, FeatureSet, Head

FEW, NEAR, RUNS = np.array([5, 6, 7]), 3, [(rho, seed) for rho in (0.5, 2.0) for seed in (0, 1, 2)]
SIZE = len(COUNTS)


def features_of(base, counts=COUNTS, splits=("train", "val"), **settings):
    _, train, val = made()
    every = {"train": train, "val": val}
    normalize = "features" if base.normalize_features else "none"
    return FeatureSet(
        {name: every[name] for name in splits}, ClassTable(np.array(counts)),
        Head(base.weight, base.bias, normalize=normalize), {"bins": list(BINS)} | settings,
    )  # fmt: skip


def problem(normalize=False, seed=4):
    """Features with a head, a fit of it in six runs, and another head."""
    base, _, _ = made(normalize=normalize)
    rng = np.random.default_rng(seed)
    alpha = rng.normal(size=(len(RUNS), len(FEW), NEAR)).astype(np.float32)
    alpha /= np.abs(alpha).sum(axis=2, keepdims=True)
    near = np.stack([[rng.permutation(5)[:NEAR] for _ in FEW] for _ in RUNS])
    change = rng.normal(size=(len(RUNS), len(FEW), 1))
    rows = base.weight[FEW] + np.einsum("sfk,sfkd->sfd", alpha, base.weight[near])
    correction = Correction(
        "alphanet", FEW, rows.astype(np.float32),
        (base.bias[FEW] + change[:, :, 0]).astype(np.float32),
        tuple({"rho": rho, "seed": s, "k": NEAR, "metric": "random"} for rho, s in RUNS),
        base.normalize_features, {"alpha": alpha, "neighbor": near, "epoch": np.arange(len(RUNS))},
    )  # fmt: skip
    weight = base.weight + 0.3 * rng.normal(size=base.weight.shape)
    bias = base.bias + 0.3 * rng.normal(size=SIZE)
    onto = Classifier(weight.astype(np.float32), bias.astype(np.float32), normalize)
    return features_of(base), correction, onto


def naive_logits(features, correction, onto, run, scale, offset, split="val"):
    """(N, C) logits in float64, class by class, as the formula is written."""
    base, data = features.classifier(), features.split(split)
    x = base.prepare(data.features).astype(np.float64)
    share = features.classes.train_count / features.classes.train_count.sum()
    found = np.empty((len(x), SIZE))
    for c in range(SIZE):
        w, b = onto.weight[c].astype(np.float64), float(onto.bias[c])
        if c in correction.class_id:
            (row,) = np.flatnonzero(correction.class_id == c)
            for alpha, v in zip(*(correction.extra[n][run, row] for n in ("alpha", "neighbor")),
                                strict=True):  # fmt: skip
                w = w + scale * float(alpha) * base.weight[v].astype(np.float64)
            b += scale * (float(correction.bias[run, row]) - float(base.bias[c]))
        found[:, c] = x @ w + b - offset * np.log(share[c])
    return found
