"""A batch, and each loss as it is asked: with what it needs on so few classes."""

from copy import deepcopy
from functools import cache, partial

import torch

from ltkit import losses, registry

CLASSES, BATCH = 5, 12

SMALL = {"swrm": {"window": 3}, "dyswrm": {"window": 3}}
"""Parameters without which a loss does not work on so few classes."""

VARIANTS = {
    "cdb": [{"rule": rule} for rule in ("code", "fixed")],
    "class-balanced": [{"form": form} for form in ("sigmoid", "focal", "binary")],
    "dyswrm": [{"sign": 1}, {"borders": "shift"}],
    "ib": [{"factor": "detached"}, {"gamma": 1.0}, {"gamma": 1.0, "focal": "plain"}],
    "label-aware-smoothing": [{"shape": shape} for shape in ("linear", "convex")],
    "lade": [{"variant": "paper"}],
    "ldam": [{"beta": 0.999}],
    "seesaw": [{"counts": "dataset"}],
    "swrm": [
        {"sign": 1}, {"borders": "shift"}, {"form": "swr"}, {"form": "swm"},
        {"init": "pca"}, {"index": "label"}, {"own": "out"}, {"unit": "raw"},
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


labels = torch.arange(BATCH) % CLASSES

counts = torch.tensor([1_000_000, 500, 100, 20, 1])
