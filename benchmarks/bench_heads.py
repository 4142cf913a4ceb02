"""Trained heads against scikit-learn and SciPy: the objective reached, and the time it takes.

Made features, 50 000 x 512 float32 of 100 classes whose counts fall from 2 346 to 22, not negative
and with a spectrum that decays, as a network's are. Three convex problems; both sides get the same
arrays and one thread, time is that of the processor (the machine is shared), and every objective is
computed in float64 afterwards:

- logistic: class-balanced cross-entropy, squared weights. LogisticRegression with
  ``class_weight="balanced"`` and C = 1. At its default tolerance, 1e-4, it stops 3.5 % above the
  optimum, after a third of the time; here it has 5e-6.
- crt: class-balanced cross-entropy, squared weights and biases times 5e-4. LogisticRegression with
  sample weights and a column of ones.
- lws: class-balanced cross-entropy of a head's scaled logits, squared scales times 5e-4. SciPy's
  L-BFGS on the cached logits, with the gradient written out; scikit-learn has nothing like it.

    OMP_NUM_THREADS=1 python benchmarks/bench_heads.py [--small]
"""

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from machine import machine, spread
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from ltkit.posthoc import crt, logistic, lws
from ltkit.records import Classifier, FeatureSplit

TARGET = Path(__file__).parent / "results" / "bench_heads.json"
DECAY = 5e-4
ROUNDS = 3
ITERATIONS = 1000
"""At most, of scikit-learn, whose default of 100 ends before its tolerance."""


def made(samples: int, size: int, classes: int) -> FeatureSplit:
    """Make features in random order."""
    rng = np.random.default_rng(0)
    counts = 0.01 ** (np.arange(classes) / (classes - 1))
    counts = np.maximum(counts * samples / counts.sum(), 1).astype(int)
    counts[0] += samples - counts.sum()
    labels = rng.permutation(np.repeat(np.arange(classes), counts))
    centres = rng.standard_normal((classes, size)) / 4
    x = (centres[labels] + rng.standard_normal((samples, size))) / np.sqrt(1 + np.arange(size))
    mixing = np.linalg.qr(rng.standard_normal((size, size)))[0]
    return FeatureSplit(np.maximum(3 * x @ mixing + 0.3, 0).astype(np.float32), labels)


class Problem:
    """The samples, and the class-balanced cross-entropy of their logits."""

    def __init__(self, train: FeatureSplit, classes: int) -> None:
        """Weigh the samples."""
        self.train, self.labels = train, train.labels
        self.counts = np.bincount(train.labels, minlength=classes)
        self.share = (len(train) / (classes * self.counts))[train.labels]
        self.x = train.features[:]
        self.with_one = np.hstack([self.x, np.ones((len(train), 1), np.float32)])

    def cost(self, logits: np.ndarray) -> float:
        """Return the mean, every class with the same weight."""
        logits = logits - logits.max(axis=1, keepdims=True)
        own = logits[np.arange(len(logits)), self.labels]
        return float((self.share * (np.log(np.exp(logits).sum(axis=1)) - own)).mean())

    def rows_cost(self, weight: np.ndarray, bias: np.ndarray, decay: float, on_bias: bool) -> float:
        """Return the objective of a head."""
        weight, bias = weight.astype(np.float64), bias.astype(np.float64)
        squares = (weight**2).sum() + (bias**2).sum() * on_bias
        return self.cost(self.x.astype(np.float64) @ weight.T + bias) + decay / 2 * squares


def timed(function: Callable[[], object], rounds: int = 1) -> tuple[object, list[float]]:
    """Return a function's last result, and the processor's seconds of each call."""
    times = []
    for _ in range(rounds):
        start = time.process_time()
        result = function()
        times.append(time.process_time() - start)
    return result, times


def claim(
    name: str, problem: str, ours: list[float], reached: float, theirs: list[float], best: float,
    note: str,
) -> dict[str, str]:  # fmt: skip
    """Return a row of docs/performance.md."""
    ratio, gap = sorted(theirs)[len(theirs) // 2] / sorted(ours)[len(ours) // 2], reached / best - 1
    return {
        "claim": f"{name}, {problem}",
        "measured": f"{spread(ours)} of processor time; {note}, {spread(theirs)}: {ratio:.1f} "
        f"times; objective {reached:.6g} against {best:.6g}, {gap:+.1e} of it; "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}",
        "contract": f"objective within 1e-3 ({'met' if gap <= 1e-3 else 'not met'}), ≥ 5x "
        f"({'met' if ratio >= 5 else 'not met'})",
        "machine": machine(),
    }


def bench_logistic(p: Problem, base: Classifier, size: str) -> dict[str, str]:
    """Compare with LogisticRegression."""
    decay = 1 / len(p.x)
    found, ours = timed(lambda: logistic.fit(base, p.train, p.counts), ROUNDS)
    model, theirs = timed(
        lambda: LogisticRegression(class_weight="balanced", tol=5e-6, max_iter=ITERATIONS).fit(
            p.x, p.labels
        )
    )
    return claim(
        "posthoc logistic", f"{size}, C = 1",
        ours, p.rows_cost(found.weight, found.bias, decay, False),
        theirs, p.rows_cost(model.coef_, model.intercept_, decay, False),
        f"scikit-learn's LogisticRegression, {model.n_iter_[0]} iterations",
    )  # fmt: skip


def bench_crt(p: Problem, base: Classifier, size: str) -> list[dict[str, str]]:
    """Compare with LogisticRegression with sample weights, by default and with more steps."""
    model, theirs = timed(
        lambda: LogisticRegression(
            C=1 / (DECAY * len(p.x)), fit_intercept=False, max_iter=ITERATIONS
        ).fit(p.with_one, p.labels, p.share)
    )
    best = p.rows_cost(model.coef_[:, :-1], model.coef_[:, -1], DECAY, True)
    claims = []
    for epochs, batch, rate in ((10, 512, 0.6), (16, 512, 0.5)):
        parameters = {"epochs": epochs, "batch_size": batch, "learning_rate": rate}
        found, ours = timed(partial(crt.fit, base, p.train, p.counts, **parameters), ROUNDS)
        claims.append(claim(
            "posthoc crt", f"{size}, {epochs} epochs of batches of {batch}, learning rate {rate}",
            ours, p.rows_cost(found.weight, found.bias, DECAY, True), theirs, best,
            f"scikit-learn's LogisticRegression, {model.n_iter_[0]} iterations",
        ))  # fmt: skip
    return claims


def bench_lws(p: Problem, size: str) -> dict[str, str]:
    """Compare with SciPy's L-BFGS on the cached logits, of a head trained a little."""
    blank = Classifier(np.zeros((len(p.counts), p.x.shape[1]), np.float32),
                       np.zeros(len(p.counts), np.float32))  # fmt: skip
    base = crt.fit(blank, p.train, p.counts, epochs=1, learning_rate=0.06)
    parameters = {"learning_rate": 4.0, "epochs": 1, "batch_size": 384, "weight_decay": DECAY}
    cached = base.logits(p.x).astype(np.float64)

    def scales(c: Classifier) -> np.ndarray:
        return np.einsum("cd,cd->c", c.weight, base.weight) / (base.weight**2).sum(axis=1)

    def objective(s: np.ndarray) -> float:
        return p.cost(s * cached) + DECAY / 2 * float((s**2).sum())

    found, ours = timed(lambda: lws.fit(base, p.train, p.counts, **parameters), ROUNDS)
    share, samples = (p.share / len(p.x)).astype(np.float32), np.arange(len(p.x))

    def reference() -> np.ndarray:
        logits = base.logits(p.x)

        def cost(s: np.ndarray) -> tuple[float, np.ndarray]:
            z = logits * s.astype(np.float32)
            z -= z.max(axis=1, keepdims=True)
            own = z[samples, p.labels]
            np.exp(z, out=z)
            total = z.sum(axis=1)
            value = float((share * (np.log(total) - own)).sum(dtype=np.float64))
            z *= (share / total)[:, None]
            z[samples, p.labels] -= share
            gradient = np.einsum("bc,bc->c", z, logits).astype(np.float64)
            return value + DECAY / 2 * float((s**2).sum()), gradient + DECAY * s

        return minimize(cost, np.ones(len(p.counts)), jac=True, method="L-BFGS-B").x

    solved, theirs = timed(reference, ROUNDS)
    return claim(
        "posthoc lws", f"{size}, 1 epoch of batches of 384, learning rate 4",
        ours, objective(scales(found)), theirs, objective(solved),
        "SciPy's L-BFGS on the cached logits",
    )  # fmt: skip


if __name__ == "__main__":
    shape = (10_000, 128, 20) if "--small" in sys.argv else (50_000, 512, 100)
    problem = Problem(made(*shape), shape[2])
    head = Classifier(np.zeros((shape[2], shape[1]), np.float32), np.zeros(shape[2], np.float32))
    words = "{} x {}, {} classes".format(*shape)
    claims = [bench_lws(problem, words), *bench_crt(problem, head, words)]
    claims.append(bench_logistic(problem, head, words))
    text = json.dumps({"claims": claims}, indent=1, ensure_ascii=False)
    if "--small" not in sys.argv:
        TARGET.write_text(text + "\n", encoding="utf-8")
    print(text)
