"""Losses at the limits of their parameters, and beyond them."""

import math
import re

import pytest
import torch
from asked import BATCH, CLASSES, counts, labels, ready
from torch.nn import functional

from ltkit import losses, registry
from ltkit.errors import InputError


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
        (("ib", {"gamma": 2.0, "beta": 0.0}), (
            "ib", {"gamma": 2.0, "beta": 0.0, "focal": "plain"}
        )),
        (("ghm-cwap", {"start": 1.0}), ("ce", {})),
        (("ghm-cwap", {"max_bins": 1}), ("class-balanced", {})),
        (("ghm-cwap", {"kappa": 0.0, "beta": 0.0}), ("ce", {})),
        (("cfl", {"gamma_hc": 0, "gamma_pos": 0, "gamma_neg": 0, "smoothing": 0}), ("ce", {})),
        (("cdb", {"rule": "fixed", "tau": 0.0}), ("ce", {})),
        (("swrm", {"start": 1.0}), ("ce", {})),
        (("dyswrm", {"start": 1.0}), ("ce", {})),
        (("swrm", {"form": "swm", "beta": 0.0}), ("ce", {})),
        (("swrm", {"form": "swr"}), ("swrm", {"beta": 0.0})),
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
        ("ib", "focal", "weightd", "focal: found 'weightd', unknown; did you mean weighted"),
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
        ("swrm", "form", "swx", "form: found 'swx', unknown; did you mean swr"),
        ("swrm", "init", "pcs", "init: found 'pcs', unknown; did you mean pca"),
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
