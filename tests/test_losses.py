"""The questions that every loss is asked: a new file in ltkit/losses is tested at once.

A module may say ``NEUTRAL``: the parameters with which, at equal class counts, it is cross-entropy.
A stateful loss is asked late in a run, as it is when it is new. What it knows of the
run then follows from the class counts, so that it is renamed and reordered with them.
"""

import inspect
import math
import re
from copy import deepcopy
from functools import cache, partial
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from ltkit import losses, registry
from ltkit.errors import InputError

CLASSES, BATCH = 5, 12

SMALL = {"swrm": {"window": 3}, "dyswrm": {"window": 3}}
"""Parameters without which a loss does not work on so few classes."""

VARIANTS = {
    "cdb": [{"rule": rule} for rule in ("code", "fixed")],
    "class-balanced": [{"form": form} for form in ("sigmoid", "focal", "binary")],
    "dyswrm": [{"sign": -1}, {"borders": "shift"}],
    "ib": [{"factor": "detached"}, {"gamma": 1.0}],
    "label-aware-smoothing": [{"shape": shape} for shape in ("linear", "convex")],
    "lade": [{"variant": "paper"}],
    "ldam": [{"beta": 0.999}],
    "seesaw": [{"counts": "dataset"}],
    "swrm": [
        {"sign": -1}, {"borders": "shift"}, {"index": "label"}, {"own": "out"}, {"unit": "raw"},
        {"similarity": "inverse"}, {"similarity": "exponential"}, {"weights": "sum"},
        {"reduction": "weights"},
    ],
    "weighted": [
        {"scheme": "square-root"}, {"scheme": "logarithm"}, {"scheme": "effective-number"},
        {"reduction": "batch"},
    ],
}  # fmt: skip
"""Parameters other than the defaults with which a loss is asked the same questions again."""

BESIDE = "a class is weighed against its window, which may hold still rarer ones"
BY_POSITION = "draws belong to a row and a column, so they stay when rows and columns move"
EXCEPTIONS = {
    ("test_neutral_parameters_and_equal_counts_give_cross_entropy", "class-balanced"): (
        {"form": "softmax"},
        "the other forms are no cross-entropy of a softmax",
    ),
    ("test_renaming_the_classes_changes_nothing", "gcl"): ({"kappa": 0.0}, BY_POSITION),
    ("test_renaming_the_classes_changes_nothing", "seql"): ({"gamma": 1.0}, BY_POSITION),
    ("test_the_order_of_the_batch_changes_nothing", "gcl"): ({"kappa": 0.0}, BY_POSITION),
    ("test_the_order_of_the_batch_changes_nothing", "seql"): ({"gamma": 1.0}, BY_POSITION),
    ("test_a_batch_twice_costs_the_same", "gcl"): ({"kappa": 0.0}, BY_POSITION),
    ("test_a_batch_twice_costs_the_same", "seql"): ({"gamma": 1.0}, BY_POSITION),
    ("test_a_batch_twice_costs_the_same", "elm"): (
        {"weight": 0.0},
        "a sample's copy is a partner that is as near as can be",
    ),
    ("test_a_rare_class_never_costs_less_at_equal_logits", "dyswrm"): (
        {"window": 1, "beta": 0.0},
        BESIDE,
    ),
    ("test_a_rare_class_never_costs_less_at_equal_logits", "swrm"): (
        {"window": 1, "beta": 0.0, "own": "in"},
        BESIDE,
    ),
    ("test_a_rare_class_never_costs_less_at_equal_logits", "seql"): (
        {"gamma": 1.0},
        "two rare classes cost the same but for their draws",
    ),
    ("test_the_gradient_is_that_of_the_value", "ib"): (
        {"factor": "attached"},
        "a detached factor is kept out of the gradient",
    ),
    ("test_the_gradient_is_that_of_the_value", "seesaw"): (
        {"q": 0.0},
        "the probabilities in its factors are kept out of the gradient",
    ),
    ("test_renaming_the_classes_changes_nothing", "dyswrm"): (
        {"beta": 0.0, "window": 1},
        "its first positions are drawn for class ids",
    ),
    ("test_renaming_the_classes_changes_nothing", "swrm"): (
        {"index": "rank"},
        "windows of class ids move with the names, which is what index=label is for",
    ),
    ("test_a_step_downhill_raises_the_true_logit", "cfl"): (
        {"smoothing": 0.0},
        "a probability above 1 - eps + eps / C is lowered, which is what smoothing is for",
    ),
    ("test_a_step_downhill_raises_the_true_logit", "label-aware-smoothing"): (
        {"eps_head": 0.1},
        "a probability above 1 - eps + eps / C is lowered, which is what it is for",
    ),
    ("test_a_step_downhill_raises_the_true_logit", "lade"): (
        {"remine_lambda": 0.0},
        "the squared term pulls the logits of a batch towards a fixed level",
    ),
    ("test_a_step_downhill_raises_the_true_logit", "seql"): (
        {"threshold": 5e-5},
        "a frequent class whose rivals are all dropped has no gradient",
    ),
}
"""Question and loss that do not go together: the parameters it is asked with instead, and why."""


@pytest.fixture(params=registry.names(losses))
def module(request):
    return registry.load(losses, request.param)


CASES = [(name, v) for name in registry.names(losses) for v in [{}, *VARIANTS.get(name, [])]]


def called(case):
    name, parameters = case
    return "-".join([name, *map(str, parameters.values())])


def stateful(name):
    return isinstance(registry.load(losses, name).loss, type)


def ready(name, **parameters):
    """A loss as a function of a batch; a stateful one has its first state at each call."""
    loss = registry.load(losses, name).loss
    parameters = SMALL.get(name, {}) | parameters
    if not stateful(name):
        return partial(loss, **parameters)

    @cache
    def built(class_counts):
        n = torch.tensor(class_counts)
        made, accuracy = loss(n, **parameters), 0.9 * (n / n.max()) ** 0.1
        made.before_epoch(losses.Moment(9, 11, lambda: accuracy, lambda: features_of(n)))
        return made, deepcopy(made.state_dict())

    def call(logits, labels, class_counts):
        made, state = built(tuple(class_counts.tolist()))
        made.load_state_dict(state)
        return made(logits, labels, features_of(class_counts)[labels].to(logits.dtype))

    return call


def features_of(class_counts):
    """(C, 2) features that follow from the counts."""
    n = class_counts.double()
    return torch.stack([n.log(), torch.ones_like(n)], dim=1)


@pytest.fixture(params=CASES, ids=called)
def case(request):
    """A loss's name and its parameters, those of its exception included."""
    name, parameters = request.param
    instead, _ = EXCEPTIONS.get((request.function.__name__, name), ({}, ""))
    return name, parameters | instead


@pytest.fixture
def loss(case):
    name, parameters = case
    return ready(name, **parameters)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(BATCH, CLASSES, generator=generator, requires_grad=True)


labels = torch.arange(BATCH) % CLASSES
counts = torch.tensor([1_000_000, 500, 100, 20, 1])


def test_it_is_a_finite_scalar_with_a_finite_gradient(loss, logits):
    value = loss(logits, labels, counts)
    assert value.shape == ()
    assert torch.isfinite(value)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_the_gradient_is_that_of_the_value(loss, logits):
    assert torch.autograd.gradcheck(
        lambda z: loss(z, labels, counts), logits.detach().double().requires_grad_()
    )


def test_neutral_parameters_and_equal_counts_give_cross_entropy(case, logits):
    name, parameters = case
    equal = torch.full((CLASSES,), 70)
    parameters = parameters | getattr(registry.load(losses, name), "NEUTRAL", {})
    value = ready(name, **parameters)(logits, labels, equal)
    torch.testing.assert_close(value, functional.cross_entropy(logits, labels))


def test_renaming_the_classes_changes_nothing(loss, logits):
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.argsort(order)[labels]
    value = loss(logits[:, order], renamed, counts[order])
    torch.testing.assert_close(value, loss(logits, labels, counts))


def test_the_order_of_the_batch_changes_nothing(loss, logits):
    order = torch.randperm(BATCH, generator=torch.Generator().manual_seed(1))
    value = loss(logits[order], labels[order], counts)
    torch.testing.assert_close(value, loss(logits, labels, counts))


def test_a_batch_twice_costs_the_same(loss, logits):
    twice = loss(logits.repeat(2, 1), labels.repeat(2), counts)
    torch.testing.assert_close(twice, loss(logits, labels, counts))


def test_a_rare_class_never_costs_less_at_equal_logits(loss):
    zeros = torch.zeros(1000, CLASSES)  # copies, so that draws come to their mean
    costs = [loss(zeros, torch.full((1000,), c), counts).item() for c in range(CLASSES)]
    assert all(rarer >= commoner - 1e-5 for commoner, rarer in pairwise(costs))


def test_a_step_downhill_raises_the_true_logit(loss, logits):
    for sample in range(BATCH):
        one = logits[sample : sample + 1].detach().requires_grad_()
        label = labels[sample : sample + 1]
        (gradient,) = torch.autograd.grad(loss(one, label, counts), one)
        assert gradient[0, label] < 0


@pytest.mark.parametrize("shift", [0, 1], ids=["right", "wrong"])
@pytest.mark.parametrize("size", [1e4, -1e4])
def test_large_logits_and_unequal_counts_stay_finite(loss, size, shift):
    logits = (size * torch.eye(CLASSES)[(labels + shift) % CLASSES]).requires_grad_()
    value = loss(logits, labels, counts)
    (gradient,) = torch.autograd.grad(value, logits)
    assert torch.isfinite(value)
    assert torch.isfinite(gradient).all()


def test_it_leaves_its_inputs_and_the_global_generator_alone(loss, logits):
    state = torch.get_rng_state()
    inputs = (logits.detach(), labels, counts)
    before = [x.clone() for x in inputs]
    values = [loss(*inputs) for _ in range(2)]
    assert values[0] == values[1]
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_signature_is_like_the_others(module):
    found = list(inspect.signature(module.loss).parameters.values())
    inputs = ["logits", "labels", "class_counts"]
    if isinstance(module.loss, type):
        inputs = ["class_counts"]
        assert issubclass(module.loss, (losses.Stateful, torch.nn.Module))
        called = inspect.signature(module.loss.forward).parameters
        assert list(called) == ["self", "logits", "labels", "features"]
    assert [p.name for p in found[: len(inputs)]] == inputs
    for parameter in found[len(inputs) :]:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        assert type(parameter.default) in (str, float, int)  # what --set can read


def test_the_docstring_has_an_example_and_a_source(module):
    doc = inspect.getdoc(module.loss)
    assert re.search(r">>> .*\bloss\(", doc)
    for section in ("Args:", "Example:", "Source:"):
        assert section in doc
    for name in inspect.signature(module.loss).parameters:
        assert f"{name}:" in doc


def test_the_exceptions_are_of_losses_and_questions_there_are():
    for question, name in EXCEPTIONS:
        assert question in globals()
        assert name in registry.names(losses)


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


def value(name, logits, **parameters):
    return ready(name, **parameters)(logits, labels, counts)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("logit-adjusted", {"tau": 1.0}), ("balanced-softmax", {})),
        (("logit-adjusted", {"tau": 0.0}), ("ce", {})),
        (("weighted", {"scheme": "square-root", "gamma": 0.0}), ("ce", {})),
        (("weighted", {"scheme": "square-root", "gamma": 1.0}), ("weighted", {})),
        (("weighted", {"scheme": "effective-number", "beta": 0.0}), ("ce", {})),
        (("weighted", {"scheme": "effective-number", "beta": 1.0}), ("weighted", {})),
        (("focal", {"gamma": 0.0}), ("ce", {})),
        (("class-balanced", {"beta": 0.0}), ("ce", {})),
        (("class-balanced", {"beta": 1e-12}), ("ce", {})),
        (
            ("class-balanced", {"form": "focal", "gamma": 0.0}),
            ("class-balanced", {"form": "sigmoid"}),
        ),
        (("ldam", {"max_margin": 0.0}), ("ce", {})),
        (("ldam", {"scale": 0.0}), ("ce", {})),
        (("cdt", {"gamma": 0.0}), ("ce", {})),
        (("vs", {"gamma": 0.0, "tau": 0.7}), ("logit-adjusted", {"tau": 0.7})),
        (("vs", {"gamma": 0.2, "tau": 0.0}), ("cdt", {"gamma": 0.2})),
        (("lade", {"alpha": 0.0}), ("balanced-softmax", {})),
        (("lade", {"alpha": 0.0, "variant": "paper"}), ("balanced-softmax", {})),
        (("seql", {"gamma": 0.0}), ("ce", {})),
        (("seql", {"threshold": 0.0}), ("ce", {})),
        (("gcl", {"kappa": 0.0}), ("ce", {})),
        (("label-aware-smoothing", {"eps_head": 0.0, "eps_tail": 0.0}), ("ce", {})),
        (("weighted", {"reduction": "batch", "scheme": "square-root", "gamma": 0.0}), ("ce", {})),
        (
            ("weighted", {"reduction": "batch", "scheme": "effective-number"}),
            ("class-balanced", {}),
        ),
        (("ldam", {"max_margin": 0.0, "beta": 0.9}), (
            "weighted", {"scheme": "effective-number", "beta": 0.9}
        )),
        (("seesaw", {"p": 0.0, "q": 0.0}), ("ce", {})),
        (("elm", {"weight": 0.0, "tau": 0.7}), ("logit-adjusted", {"tau": 0.7})),
        (("ib", {"start": 1.0}), ("ce", {})),
        (("ib", {"alpha": 1e9, "eps": 1e9, "beta": 0.0}), ("ce", {})),
        (("ib", {"alpha": 1e9, "eps": 1e9, "beta": 0.9999}), ("class-balanced", {})),
        (("ib", {"alpha": 1e9, "eps": 1e9, "beta": 0.0, "gamma": 2.0}), ("focal", {"gamma": 2.0})),
        (("ghm-cwap", {"start": 1.0}), ("ce", {})),
        (("ghm-cwap", {"max_bins": 1}), ("class-balanced", {})),
        (("ghm-cwap", {"kappa": 0.0, "beta": 0.0}), ("ce", {})),
        (("cfl", {"gamma_hc": 0, "gamma_pos": 0, "gamma_neg": 0, "smoothing": 0}), ("ce", {})),
        (("cdb", {"rule": "fixed", "tau": 0.0}), ("ce", {})),
        (("swrm", {"start": 1.0}), ("ce", {})),
        (("dyswrm", {"start": 1.0}), ("ce", {})),
    ],
)  # fmt: skip
def test_one_loss_is_another_at_a_limit(one, other, logits):
    torch.testing.assert_close(value(one[0], logits, **one[1]), value(other[0], logits, **other[1]))


@pytest.mark.parametrize("beta", [1 - 1e-9, 1.0])
def test_effective_number_weights_tend_to_the_inverse_counts(beta):
    weights = losses.effective_number_weights(counts.float(), beta)
    torch.testing.assert_close(weights * counts, weights[-1].expand(5), rtol=1e-3, atol=0)
    assert weights.sum() == pytest.approx(CLASSES)


def test_weights_are_relative_to_those_of_the_batch(logits):
    """A sample of the rarest class is all but alone in the mean."""
    alone = functional.cross_entropy(logits[labels == 4], labels[labels == 4])
    torch.testing.assert_close(value("weighted", logits), alone, rtol=0.1, atol=0)


def test_label_smoothing_of_one_amount_is_that_of_torch(logits):
    found = value("label-aware-smoothing", logits, eps_head=0.2, eps_tail=0.2)
    torch.testing.assert_close(found, functional.cross_entropy(logits, labels, label_smoothing=0.2))


def test_seql_drops_rare_rivals_alone_and_at_its_rate():
    y = torch.arange(4000) % CLASSES
    z = torch.zeros(4000, CLASSES, requires_grad=True)
    module = registry.load(losses, "seql")
    (gradient,) = torch.autograd.grad(module.loss(z, y, counts, gamma=0.7, threshold=1e-4), z)
    dropped, rival = gradient == 0, y[:, None] != torch.arange(CLASSES)
    # priors 1, 5e-4, 1e-4, 2e-5, 1e-6; the third is 0.99938e-4, below the threshold
    assert not dropped[:, :2].any()
    assert not dropped[~rival].any()
    for c in (2, 3, 4):
        assert dropped[rival[:, c], c].double().mean() == pytest.approx(0.7, abs=0.03)


def test_gcl_takes_clamped_noise_of_the_stated_size_off_rare_logits():
    y = torch.zeros(20_000, dtype=torch.int64)
    z = torch.zeros(20_000, CLASSES, dtype=torch.float64, requires_grad=True)
    module = registry.load(losses, "gcl")
    (gradient,) = torch.autograd.grad(module.loss(z, y, counts, kappa=0.5, scale=4.0), z)
    probability = gradient * len(y) + torch.eye(CLASSES, dtype=torch.float64)[y]
    taken = (probability[:, :1] / probability).log()  # the most frequent class has none
    rarity = torch.tensor([0.0, 0.5502, 0.6667, 0.7832, 1.0])
    assert (taken > -1e-9).all()
    # E|e| of a normal of standard deviation 1/3 is sqrt(2 / pi) / 3 = 0.266; at most 1
    torch.testing.assert_close(taken.mean(dim=0).float(), 2 * 0.266 * rarity, rtol=0.02, atol=1e-6)
    torch.testing.assert_close(taken.amax(dim=0).float(), 2 * rarity, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["seql", "gcl"])
def test_draws_differ_by_seed_and_by_batch_and_are_the_same_again(name, logits):
    first = value(name, logits)
    assert value(name, logits) == first
    assert value(name, logits, seed=1) != first
    loss = registry.load(losses, name).loss
    zeros, swapped = torch.zeros(BATCH, CLASSES), labels.flip(0)
    assert loss(zeros, swapped, counts) != loss(zeros, labels, counts)


@pytest.mark.parametrize(
    ("name", "parameter", "bad", "message"),
    [
        ("logit-adjusted", "tau", -0.1, "tau: found -0.1, expected a finite number at least 0"),
        ("logit-adjusted", "tau", math.inf, "tau: found inf"),
        ("logit-adjusted", "tau", math.nan, "tau: found nan"),
        ("weighted", "scheme", "invers", "scheme: found 'invers', unknown; did you mean inverse"),
        ("weighted", "gamma", -1.0, "gamma: found -1.0"),
        ("focal", "gamma", -1.0, "gamma: found -1.0"),
        ("class-balanced", "form", "hinge", "form: found 'hinge', unknown; there are: binary, "),
        ("class-balanced", "beta", 1.1, "beta: found 1.1, expected a finite number from 0 to 1"),
        ("class-balanced", "gamma", -1.0, "gamma: found -1.0"),
        ("ldam", "max_margin", -0.5, "max_margin: found -0.5"),
        ("ldam", "scale", -30.0, "scale: found -30.0"),
        ("cdt", "gamma", -0.1, "gamma: found -0.1"),
        ("vs", "gamma", -0.1, "gamma: found -0.1"),
        ("vs", "tau", -0.1, "tau: found -0.1"),
        ("lade", "alpha", -0.1, "alpha: found -0.1"),
        ("lade", "remine_lambda", -0.1, "remine_lambda: found -0.1"),
        ("lade", "variant", "codes", "variant: found 'codes', unknown; did you mean code"),
        ("seql", "gamma", 1.5, "gamma: found 1.5, expected a finite number from 0 to 1"),
        ("seql", "threshold", -0.1, "threshold: found -0.1"),
        ("seql", "seed", -1, "seed: found -1"),
        ("gcl", "kappa", -0.1, "kappa: found -0.1"),
        ("gcl", "margin", -0.1, "margin: found -0.1"),
        ("gcl", "scale", -0.1, "scale: found -0.1"),
        ("gcl", "seed", 2**31, "seed: found 2147483648"),
        ("label-aware-smoothing", "eps_head", 1.1, "eps_head: found 1.1"),
        ("label-aware-smoothing", "eps_tail", -0.1, "eps_tail: found -0.1"),
        ("label-aware-smoothing", "shape", "line", "shape: found 'line', unknown; did you mean li"),
        ("weighted", "reduction", "mean", "reduction: found 'mean', unknown; there are: batch, w"),
        ("ldam", "beta", 1.1, "beta: found 1.1, expected a finite number from 0 to 1"),
        ("seesaw", "p", -0.1, "p: found -0.1"),
        ("seesaw", "q", math.nan, "q: found nan"),
        ("seesaw", "eps", 0.0, "eps: found 0.0"),
        ("seesaw", "counts", "onlin", "counts: found 'onlin', unknown; did you mean online"),
        ("elm", "tau", math.nan, "tau: found nan, expected a finite number at least 0"),
        ("elm", "weight", -0.1, "weight: found -0.1"),
        ("elm", "temperature", 0.0, "temperature: found 0.0"),
        ("elm", "kappa", -0.1, "kappa: found -0.1"),
        ("ib", "alpha", 0.0, "alpha: found 0.0"),
        ("ib", "eps", 0.0, "eps: found 0.0"),
        ("ib", "gamma", -1.0, "gamma: found -1.0"),
        ("ib", "beta", 1.1, "beta: found 1.1, expected a finite number from 0 to 1"),
        ("ib", "start", 1.5, "start: found 1.5, expected a finite number from 0 to 1"),
        ("ib", "factor", "attach", "factor: found 'attach', unknown; did you mean attached"),
        ("ghm-cwap", "max_bins", 0, "max_bins: found 0"),
        ("ghm-cwap", "kappa", -1.0, "kappa: found -1.0"),
        ("ghm-cwap", "momentum", -0.1, "momentum: found -0.1"),
        ("ghm-cwap", "momentum", 1.0, "momentum: found 1, expected below 1"),
        ("ghm-cwap", "beta", -0.1, "beta: found -0.1"),
        ("ghm-cwap", "start", -0.1, "start: found -0.1"),
        ("cfl", "gamma_hc", -1.0, "gamma_hc: found -1.0"),
        ("cfl", "gamma_pos", -1.0, "gamma_pos: found -1.0"),
        ("cfl", "gamma_neg", -1.0, "gamma_neg: found -1.0"),
        ("cfl", "factor", 0.9, "factor: found 0.9, expected a finite number at least 1"),
        ("cfl", "smoothing", 1.1, "smoothing: found 1.1"),
        ("cdb", "rule", "papr", "rule: found 'papr', unknown; did you mean paper"),
        ("cdb", "tau", math.nan, "tau: found nan, expected a finite number at least 0"),
        ("swrm", "window", 6, "window: found 6, expected from 1 to the number of classes, 5"),
        ("swrm", "window", 0, "window: found 0, expected from 1"),
        ("swrm", "beta", -1.0, "beta: found -1.0"),
        ("swrm", "start", 1.5, "start: found 1.5"),
        ("swrm", "similarity", "inverted", "similarity: found 'inverted', unknown; did you mean i"),
        ("swrm", "index", "ranks", "index: found 'ranks', unknown; did you mean rank"),
        ("swrm", "borders", "wrap", "borders: found 'wrap', unknown; there are: clip, shift"),
        ("swrm", "own", "no", "own: found 'no', unknown"),
        ("swrm", "unit", "gaps", "unit: found 'gaps', unknown; did you mean gap"),
        ("swrm", "sign", 2, "sign: found 2, expected 1 or -1"),
        ("swrm", "weights", "sums", "weights: found 'sums', unknown; did you mean sum"),
        ("swrm", "reduction", "sum", "reduction: found 'sum', unknown"),
        ("swrm", "seed", -1, "seed: found -1"),
        ("dyswrm", "window", 6, "window: found 6, expected from 1 to the number of classes, 5"),
        ("dyswrm", "beta", math.inf, "beta: found inf"),
        ("dyswrm", "start", -0.1, "start: found -0.1"),
        ("dyswrm", "borders", "wrap", "borders: found 'wrap', unknown; there are: clip, shift"),
        ("dyswrm", "sign", 0, "sign: found 0, expected 1 or -1"),
        ("dyswrm", "seed", 2**32, "seed: found 4294967296"),
    ],
)  # fmt: skip
def test_a_parameter_out_of_range_is_refused(name, parameter, bad, message, logits):
    with pytest.raises(InputError, match=re.escape(message)):
        value(name, logits, **{parameter: bad})


def test_the_beta_of_a_weighted_scheme_is_checked(logits):
    with pytest.raises(InputError, match=re.escape("beta: found -0.1")):
        value("weighted", logits, scheme="effective-number", beta=-0.1)


NEED_NO_COUNTS = {"cdb", "ce", "cfl", "focal", "label-aware-smoothing", "seesaw", "seql"}
"""No logarithm, power or inverse of a count: a class without images is as good as any."""


def test_a_class_without_images_is_refused_or_harmless(module, logits):
    empty = torch.tensor([100, 0, 7, 0, 1])
    name = module.__name__.rpartition(".")[2].replace("_", "-")
    if name in NEED_NO_COUNTS:
        assert torch.isfinite(ready(name)(logits, labels, empty))
    else:
        with pytest.raises(InputError, match=r"class 1: found no training image.*; 2 such"):
            ready(name)(logits, labels, empty)


def test_a_window_without_the_class_itself_holds_another(logits):
    with pytest.raises(InputError, match="window: found 1, expected 2 or more without"):
        value("swrm", logits, own="out", window=1)


def test_one_class_has_no_window():
    with pytest.raises(InputError, match=r"number of classes, 1, of which there have to be two"):
        registry.load(losses, "swrm").loss(torch.tensor([5]), window=1)


def test_seesaw_with_the_counts_of_the_dataset_needs_images_of_every_class():
    with pytest.raises(InputError, match="class 1: found no training image"):
        registry.load(losses, "seesaw").loss(torch.tensor([3, 0]), counts="dataset")
