"""A part of AlphaNet's correction on another head, against the formula written out in float64."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from composed import FEW, RUNS, SIZE, features_of, naive_logits, problem
from six_classes import COUNTS, made

from ltkit import alphanet, evaluation
from ltkit.alphanet.composed_scores import right_by_class
from ltkit.errors import InputError
from ltkit.records import NEVER, Base, Classifier, Correction, FeatureSplit, Head
from ltkit.settings import COMPOSED_OFFSETS, COMPOSED_SCALES


def bits(correction):
    return correction.weight.tobytes(), correction.bias.tobytes()


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize(("scale", "offset"), [(1, 1), (0.3, 0), (0.3, -0.5), (0, 1.5), (2.5, 0)])
def test_it_is_the_formula(normalize, other, scale, offset):
    features, fit, onto = problem(normalize)
    head = onto if other else features.classifier()
    found = alphanet.compose(
        fit, features, onto=onto if other else None, scale=scale, prior_offset=offset
    )
    x = features.split("val").features
    for run in range(len(RUNS)):
        ours = features.corrected(found, run).logits(x)
        naive = naive_logits(features, fit, head, run, scale, offset)
        np.testing.assert_allclose(ours, naive, rtol=1e-5, atol=1e-5)
        assert found.runs[run] == fit.runs[run] | {
            "scale": scale, "prior_offset": offset, "onto": "" if other else None,
        }  # fmt: skip
    whole = other or offset != 0
    assert found.class_id.tolist() == (list(range(SIZE)) if whole else FEW.tolist())
    assert found.learned_class.tolist() == FEW.tolist()
    assert found.learned["alpha"] is fit.extra["alpha"]
    assert found.extra["epoch"] is fit.extra["epoch"]
    assert "alpha" not in found.extra
    assert found.method == ("onto+alphanet" if other else "alphanet")


def test_nothing_added_is_the_other_head_bit_for_bit():
    features, fit, onto = problem()
    onto.weight[5, 0], onto.weight[0, 0], onto.bias[6] = -0.0, -0.0, -0.0
    found = alphanet.compose(fit, features, onto=onto, scale=0, prior_offset=0)
    for run in range(len(RUNS)):
        assert found.weight[run].tobytes() == onto.weight.tobytes()
        assert found.bias[run].tobytes() == onto.bias.tobytes()


def test_all_of_it_on_its_own_head_is_the_fit_bit_for_bit():
    features, fit, _ = problem()
    base = features.classifier()
    for onto in (None, Head(base.weight.copy(), base.bias.copy()), Correction.whole("own", base)):
        found = alphanet.compose(fit, features, onto=onto)
        assert bits(found) == bits(fit)
        assert found.runs == fit.runs
        assert found.extra.keys() == fit.extra.keys()


def test_a_fit_asks_for_nothing_else_as_published():
    features, _, onto = problem()
    settings = alphanet.study.AlphaNetSettings(epochs=1, min_epochs=1)
    asked = {"k": 3, "rhos": (0.5, 1.0), "seeds": 2}
    fit = alphanet.fit_features(features, settings, **asked)
    again = alphanet.fit_features(features, settings, **asked, scale=1, prior_offset=0.0)
    assert bits(again) == bits(fit)
    assert not again.composed
    numbers = {"onto": onto, "scale": 0.5, "prior_offset": 1.0}
    together = alphanet.fit_features(features, settings, **asked, **numbers)
    assert bits(together) == bits(alphanet.compose(fit, features, **numbers))


def brute_force(features, fit, head, runs, scale, offset, select):
    """The mean score over runs of predictions from the formula, none of them close."""
    labels, groups, scores = features.split("val").labels, features.groups(), []
    for run in runs:
        logits = naive_logits(features, fit, head, run, scale, offset)
        first, second = np.sort(logits, axis=1)[:, :-3:-1].T
        assert (first - second).min() > 2e-5
        predicted = logits.argmax(axis=1)
        scores.append(evaluation.objective(predicted, labels, SIZE, groups, select))
    return np.mean(scores)


@pytest.mark.parametrize("other", [True, False])
@pytest.mark.parametrize("select", ["balanced", "few"])
def test_auto_is_the_best_of_all_that_could_be_built(select, other):
    features, fit, onto = problem()
    head = onto if other else features.classifier()
    said = []
    found = alphanet.compose(
        fit, features, onto=onto if other else None, scale="auto", prior_offset="auto",
        select=select, chosen=said.append,
    )  # fmt: skip
    assert [choice.settings["rho"] for choice in said] == [0.5, 2.0]
    for choice, runs in zip(said, ([0, 1, 2], [3, 4, 5]), strict=True):
        pairs = list(product(COMPOSED_SCALES, COMPOSED_OFFSETS))
        assert [tuple(tried.values()) for tried in choice.tried] == pairs
        scores = [brute_force(features, fit, head, runs, *pair, select) for pair in pairs]
        np.testing.assert_allclose(choice.scores, scores, atol=1e-9)
        tops = [p for p, s in zip(pairs, scores, strict=True) if s > max(scores) - 1e-9]
        best = min(tops, key=lambda pair: (pair[0], abs(pair[1]), -pair[1]))
        assert pairs[choice.best] == best
        for run in runs:
            assert (found.runs[run]["scale"], found.runs[run]["prior_offset"]) == best
    fixed = [
        alphanet.compose(
            fit, features, onto=head, scale=run["scale"], prior_offset=run["prior_offset"]
        )
        for run in found.runs
    ]
    x = features.split("val").features
    for run, one in enumerate(fixed):
        ours, theirs = (features.corrected(c, run).logits(x) for c in (found, one))
        np.testing.assert_array_equal(ours, theirs)


def test_auto_chooses_one_number_where_the_other_is_given():
    features, fit, onto = problem()
    said = []
    alphanet.compose(fit, features, onto=onto, scale="auto", prior_offset=1, chosen=said.append)
    alphanet.compose(fit, features, onto=onto, prior_offset="auto", chosen=said.append)
    scales, offsets = said[0].tried, said[2].tried
    assert [t["scale"] for t in scales] == list(COMPOSED_SCALES)
    assert [t["prior_offset"] for t in offsets] == list(COMPOSED_OFFSETS)
    assert {*scales[0], *offsets[0]} == {"scale", "prior_offset"}
    assert len(scales[0]) == len(offsets[0]) == 1


class Counted:
    """Rows that count how many are read."""

    def __init__(self, values):
        self.values, self.read = values, 0

    shape = property(lambda self: self.values.shape)
    dtype = property(lambda self: self.values.dtype)

    def __getitem__(self, rows):
        self.read += rows.stop - rows.start
        return self.values[rows]


def test_auto_reads_the_split_once():
    features, fit, onto = problem()
    val = features.split("val")
    rows = Counted(val.features)
    features.splits["val"] = FeatureSplit(rows, val.labels)
    alphanet.compose(fit, features, onto=onto, scale="auto", prior_offset="auto")
    assert rows.read == len(val)


def test_equal_logits_go_to_the_first_class():
    features, fit, _ = problem()
    none = Classifier(np.zeros((SIZE, 12), np.float32), np.zeros(SIZE, np.float32))
    split = FeatureSplit(np.zeros((3, 12), np.float32), np.array([0, 5, 6]))
    still = replace(fit, bias=np.tile(features.classifier().bias[FEW], (len(RUNS), 1)))
    args = (split, features.classifier(), none, still)
    right = right_by_class(*args, [1.0], [0.0], np.zeros(SIZE))
    assert right.sum(axis=(0, 1)).tolist() == [len(RUNS), 0, 0, 0, 0, 0, 0, 0]
    lower = np.where(np.arange(SIZE) < 5, 1.0, 0.0)  # only the corrected classes stay
    right = right_by_class(*args, [1.0], [1.0], lower)
    assert right.sum(axis=(0, 1)).tolist() == [0, 0, 0, 0, 0, len(RUNS), 0, 0]
    huge = replace(none, bias=np.full(SIZE, np.inf, np.float32))
    with pytest.raises(InputError, match="logits: not finite"):
        right_by_class(split, args[1], huge, still, [1.0], [0.0], lower)


def unseen():
    """The problem with a ninth class that has no image: the heads have a row of it."""
    base, _, _ = made()
    _, fit, onto = problem()

    def more(head):
        bias = np.append(head.bias, NEVER).astype(np.float32)
        return Classifier(np.concatenate([head.weight, head.weight[:1]]), bias)

    features = features_of(more(base), [*COUNTS, 0])
    return features, fit, more(onto)


def test_classes_without_images_keep_their_logits():
    features, fit, onto = unseen()
    said = []
    found = alphanet.compose(fit, features, onto=onto, scale=0.5, prior_offset=1, note=said.append)
    assert said == [
        "1 of 9 classes has no training image (8) and is left out: the prior offset leaves their "
        "logits as they are"
    ]
    np.testing.assert_array_equal(found.bias[:, 8], np.float32(NEVER))
    base_classes = np.arange(5)
    np.testing.assert_allclose(
        found.bias[:, base_classes],
        np.tile(onto.bias[:5] - np.log(COUNTS[:5] / COUNTS.sum()), (len(RUNS), 1)), rtol=1e-6,
    )  # fmt: skip
    said.clear()
    alphanet.compose(fit, features, onto=onto, scale="auto", note=said.append)
    assert said == []


def test_counts_that_contradict_the_samples_have_no_log_prior():
    base, _, _ = made()
    _, fit, _ = problem()
    features = features_of(base, [*COUNTS[:-1], 0])
    with pytest.raises(InputError, match="prior_offset: found no training image of class 7"):
        alphanet.compose(fit, features, prior_offset=0.5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scale": -0.1}, "scale: found -0.1, expected auto, or a number from 0 to 10"),
        ({"scale": 10.5}, "scale: found 10.5"),
        ({"scale": float("nan")}, "scale: found nan"),
        ({"scale": "most"}, "scale: found most"),
        ({"prior_offset": -2}, "prior_offset: found -2, expected auto, or a number from -1 to 10"),
        ({"prior_offset": float("inf")}, "prior_offset: found inf"),
        ({"scale": "auto", "select": "few", "bins": (1, 2)}, "select: few: no such class"),
    ],
)
def test_what_is_refused(asked, said):
    features, fit, _ = problem()
    with pytest.raises(InputError, match=said):
        alphanet.compose(fit, features, **asked)


def test_auto_needs_a_validation_split():
    features, fit, _ = problem()
    del features.splits["val"]
    for name in ("scale", "prior_offset"):
        with pytest.raises(InputError, match=f"{name}: auto chooses on a val split"):
            alphanet.compose(fit, features, **{name: "auto"})


def test_heads_that_cannot_be_added_to():
    features, fit, onto = problem()
    normalised = replace(onto, normalize_features=True)
    with pytest.raises(InputError, match="onto: memory: its features are normalised"):
        alphanet.compose(fit, features, onto=normalised)
    halves = features.with_base(Base("b", replace(onto, normalize_features=True, experts=2)))
    with pytest.raises(InputError, match="normalised, those of the base normalised in 2 parts"):
        alphanet.compose(fit, halves, onto=normalised)
    one = Correction.whole("m", onto)
    two = replace(one, weight=np.tile(one.weight, (2, 1, 1)), bias=np.tile(one.bias, (2, 1)),
                  runs=({"seed": 0}, {"seed": 1}))  # fmt: skip
    with pytest.raises(InputError, match="onto: memory: found 2 runs"):
        alphanet.compose(fit, features, onto=two)
    with pytest.raises(InputError, match="onto: memory: has rows of 3 of 8 classes"):
        alphanet.compose(fit, features, onto=fit)
    small = Classifier(onto.weight[:3], onto.bias[:3])
    with pytest.raises(InputError, match=r"found a weight of \(3, 12\)"):
        alphanet.compose(fit, features, onto=small)


def test_what_cannot_be_composed():
    features, fit, onto = problem()
    found = alphanet.compose(fit, features, onto=onto, scale=0.5)
    with pytest.raises(InputError, match=r"onto\+alphanet: is composed already"):
        alphanet.compose(found, features)
    with pytest.raises(InputError, match="m: holds no coefficients"):
        alphanet.compose(Correction.whole("m", onto), features, scale=0.5)
