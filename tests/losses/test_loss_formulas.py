"""Each loss again, sample by sample, in plain Python: z logits, y labels, n counts."""

import math

import pytest
import torch
from asked import stateful

from ltkit import losses, registry

# Each loss again, sample by sample, in plain Python: z logits, y labels, n counts.


def p(z, shift=None):
    """Softmax of one sample."""
    e = [math.exp(v + (shift[k] if shift else 0.0)) for k, v in enumerate(z)]
    return [v / sum(e) for v in e]


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def naive_ce(z, y, n):
    return mean(-math.log(p(zi)[yi]) for zi, yi in zip(z, y, strict=True))


def naive_balanced_softmax(z, y, n):
    return mean(
        math.log(sum(nk * math.exp(vk) for nk, vk in zip(n, zi, strict=True)))
        - math.log(n[yi]) - zi[yi]
        for zi, yi in zip(z, y, strict=True)
    )  # fmt: skip


def naive_logit_adjusted(z, y, n, tau=1.0):
    """The pairwise form: log(1 + sum over the others of exp(gap in prior + gap in logit))."""
    return mean(
        math.log(1 + sum(
            (n[k] / n[yi]) ** tau * math.exp(zi[k] - zi[yi]) for k in range(len(n)) if k != yi
        ))
        for zi, yi in zip(z, y, strict=True)
    )  # fmt: skip


def naive_weighted(z, y, n, scheme="inverse", gamma=0.5, beta=0.9999, reduction="weights"):
    weight = {
        "inverse": lambda c: 1 / n[c],
        "square-root": lambda c: n[c] ** -gamma,
        "logarithm": lambda c: 1 + math.log(max(n) / n[c]),
        "effective-number": lambda c: 1 / sum(beta**i for i in range(n[c])),
    }[scheme]
    costs = [weight(yi) * -math.log(p(zi)[yi]) for zi, yi in zip(z, y, strict=True)]
    if reduction == "batch":
        return mean(costs) / mean(map(weight, range(len(n))))
    return sum(costs) / sum(weight(yi) for yi in y)


def naive_focal(z, y, n, gamma=1.0):
    probabilities = [p(zi)[yi] for zi, yi in zip(z, y, strict=True)]
    return mean(-((1 - q) ** gamma) * math.log(q) for q in probabilities)


def naive_class_balanced(z, y, n, form="softmax", beta=0.9999, gamma=0.5):
    inverse = [1 / sum(beta**i for i in range(c)) for c in n]  # a geometric sum is E
    power = gamma if form == "focal" else 0.0
    total = 0.0
    for zi, yi in zip(z, y, strict=True):
        q = p(zi) if form in ("softmax", "binary") else [1 / (1 + math.exp(-v)) for v in zi]
        right = [v if k == yi else 1 - v for k, v in enumerate(q)]
        cost = {
            "softmax": -math.log(q[yi]),
            "binary": -mean(map(math.log, right)),
        }.get(form, -sum((1 - r) ** power * math.log(r) for r in right))
        total += inverse[yi] / mean(inverse) * cost
    return total / len(y)


def naive_ldam(z, y, n, max_margin=0.5, scale=30.0, beta=0.0):
    weights = [1 / sum(beta**i for i in range(n[yi])) for yi in y]
    margins = [1 / math.sqrt(math.sqrt(c)) for c in n]
    margins = [m * max_margin / max(margins) for m in margins]
    costs = []
    for zi, yi in zip(z, y, strict=True):
        cosines = [v / scale for v in zi]
        cosines[yi] -= margins[yi]
        costs.append(-math.log(p([scale * v for v in cosines])[yi]))
    return sum(w * c for w, c in zip(weights, costs, strict=True)) / sum(weights)


def naive_vs(z, y, n, gamma=0.3, tau=1.0):
    temperature = [(max(n) / c) ** gamma for c in n]
    shift = [tau * math.log(c / sum(n)) for c in n]
    return mean(
        -math.log(p([v / t for v, t in zip(zi, temperature, strict=True)], shift)[yi])
        for zi, yi in zip(z, y, strict=True)
    )


def naive_cdt(z, y, n, gamma=0.1):
    return naive_vs(z, y, n, gamma, 0.0)


def naive_lade(z, y, n, alpha=0.1, remine_lambda=0.01, variant="code"):
    prior, size = [c / sum(n) for c in n], len(n)
    regulariser = 0.0
    for c in range(size):
        own = [zi[c] for zi, yi in zip(z, y, strict=True) if yi == c]
        if variant == "paper":
            inside = mean(math.exp(zi[c]) / size / prior[yi] for zi, yi in zip(z, y, strict=True))
        else:
            inside = mean(math.exp(zi[c]) for zi in z) / size / prior[c]
        s = math.log(inside)
        regulariser += prior[c] * (s + remine_lambda * s * s - (mean(own) if own else 0.0))
    return naive_balanced_softmax(z, y, n) + alpha * regulariser


def draws(y, size, seed, kind):
    seed += sum((len(y) - i) * yi for i, yi in enumerate(y))
    return kind((len(y), size), generator=torch.Generator().manual_seed(seed)).tolist()


def naive_seql(z, y, n, gamma=0.9, threshold=0.005, seed=0):
    uniform = draws(y, len(n), seed, torch.rand)
    costs = []
    for i, (zi, yi) in enumerate(zip(z, y, strict=True)):
        total = 0.0
        for k, v in enumerate(zi):
            beta = uniform[i][k] < gamma
            total += (1 - beta * (n[k] / sum(n) < threshold) * (k != yi)) * math.exp(v)
        costs.append(-math.log(math.exp(zi[yi]) / total))
    return mean(costs)


def naive_gcl(z, y, n, kappa=0.5, margin=0.0, scale=30.0, seed=0):
    normal = draws(y, len(n), seed, torch.randn)
    cloud = [math.log(max(n) / c) / math.log(max(n) / min(n)) for c in n]
    costs = []
    for i, (zi, yi) in enumerate(zip(z, y, strict=True)):
        noise = [min(1.0, abs(e) / 3) for e in normal[i]]
        cosines = [
            v / scale - kappa * noise[k] * cloud[k] - margin * (k == yi) for k, v in enumerate(zi)
        ]
        costs.append(-math.log(p([scale * v for v in cosines])[yi]))
    return mean(costs)


def naive_label_aware_smoothing(z, y, n, eps_head=0.4, eps_tail=0.1, shape="concave"):
    costs = []
    for zi, yi in zip(z, y, strict=True):
        rank = (n[yi] - min(n)) / (max(n) - min(n))
        eps = {
            "concave": eps_tail + (eps_head - eps_tail) * math.sin(math.pi / 2 * rank),
            "linear": (1 - rank) * eps_tail + rank * eps_head,
            "convex": eps_head + (eps_head - eps_tail) * math.sin(math.pi / 2 * (3 + rank)),
        }[shape]
        target = [eps / len(n)] * len(n)
        target[yi] += 1 - eps
        costs.append(-sum(t * math.log(q) for t, q in zip(target, p(zi), strict=True)))
    return mean(costs)


SETTINGS = {
    "ce": [],
    "balanced-softmax": [],
    "logit-adjusted": [{"tau": 0.5}, {"tau": 2.0}],
    "weighted": [
        {"scheme": "inverse"},
        {"scheme": "square-root"},
        {"scheme": "square-root", "gamma": 0.3},
        {"scheme": "effective-number"},
        {"scheme": "effective-number", "beta": 0.9},
        {"scheme": "effective-number", "beta": 1.0},
        {"scheme": "logarithm"},
        {"scheme": "square-root", "gamma": 1.2, "reduction": "batch"},
    ],
    "focal": [{"gamma": 0.5}, {"gamma": 2.0}],
    "class-balanced": [
        {"form": form, "beta": beta, "gamma": gamma}
        for form in ("softmax", "sigmoid", "focal", "binary")
        for beta, gamma in [(0.9, 2.0), (1.0, 0.5), (0.0, 0.5)]
    ],
    "ldam": [{"max_margin": 0.3, "scale": 10.0}, {"beta": 0.99}],
    "cdt": [{"gamma": 0.4}],
    "vs": [{"gamma": 0.15, "tau": 1.25}],
    "lade": [
        {"variant": variant, "alpha": 0.5, "remine_lambda": 0.2} for variant in ("code", "paper")
    ],
    "seql": [{"threshold": 0.07}, {"threshold": 0.2, "gamma": 0.5, "seed": 3}],
    "gcl": [{"kappa": 0.3, "margin": 0.1, "scale": 20.0, "seed": 3}],
    "label-aware-smoothing": [
        {"shape": shape, "eps_head": 0.3, "eps_tail": 0.05}
        for shape in ("concave", "linear", "convex")
    ],
}
"""Beside the defaults, what each loss is compared with its loop at."""


def test_every_loss_has_a_second_derivation():
    assert sorted(SETTINGS) == [name for name in registry.names(losses) if not stateful(name)]


@pytest.mark.parametrize(
    ("name", "parameters"), [(k, s) for k, v in SETTINGS.items() for s in [{}, *v]]
)
def test_it_equals_the_loop_over_samples(name, parameters):
    n = [50, 3, 400, 1, 20]
    y = [2, 0, 2, 4, 1, 2, 3, 2, 0, 2]
    z = torch.randn(len(y), len(n), dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    found = registry.load(losses, name).loss(z, torch.tensor(y), torch.tensor(n), **parameters)
    expected = globals()[f"naive_{name.replace('-', '_')}"](z.tolist(), y, n, **parameters)
    assert found.item() == pytest.approx(expected, rel=1e-9)
