"""Predictions in parts that stay in a cache, against all logits at once."""

import numpy as np
import pytest

from ltkit import evaluation, posthoc
from ltkit.evaluation import prediction
from ltkit.posthoc import fit_features, plan, tau_norm
from ltkit.records import Classifier, ClassTable, Correction, FeatureSet, FeatureSplit, Head
from ltkit.records import features as features_module


def made(count=7, size=5, samples=200, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, count, samples)
    centres = rng.normal(size=(count, size))
    x = np.float32(centres[labels] + rng.normal(size=(samples, size)))
    base = Classifier(np.float32(centres), np.float32(rng.normal(size=count)))
    return base, FeatureSplit(x, labels)


def corrections(base):
    """One of some rows in two runs, one of all with other biases, one of other rows."""
    rng = np.random.default_rng(1)
    some = np.array([1, 4])
    rows = rng.normal(size=(2, 2, base.feature_size)).astype(np.float32)
    return [
        Correction.baseline(base),
        Correction("some", some, rows, np.zeros((2, 2), np.float32), ({"seed": 0}, {"seed": 1})),
        Correction.whole("bias", Classifier(base.weight, base.bias + 1)),
        Correction.whole("rows", Classifier(2 * base.weight, base.bias, True)),
    ]


def by_hand(base, split, correction, run):
    x = split.features.astype(np.float64)
    classifier = correction.classifier(base, run)
    if classifier.normalize_features:
        x = x / np.linalg.norm(x, axis=1, keepdims=True)
    logits = x @ classifier.weight.T.astype(np.float64) + classifier.bias
    own = logits[np.arange(len(x)), split.labels]
    share = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits.argmax(axis=1), (logits > own[:, None]).sum(axis=1), 1 / share.sum(axis=1)


@pytest.mark.parametrize(("wide", "cached"), [(1, 1), (3000, 90), (1 << 26, 1 << 19)])
def test_parts_give_what_all_logits_give(monkeypatch, wide, cached):
    monkeypatch.setattr(features_module, "WIDE_BYTES", wide)
    monkeypatch.setattr(prediction, "CACHED_BYTES", cached)
    base, split = made()
    every = corrections(base)
    whole, alone = (
        how(split, base, every) for how in (evaluation.predict, evaluation.predict_classes)
    )
    for correction, found, classes in zip(every, whole, alone, strict=True):
        for run in range(len(correction.runs)):
            predicted, rank, confidence = by_hand(base, split, correction, run)
            assert found.predicted[run].tolist() == predicted.tolist() == classes[run].tolist()
            assert found.rank[run].tolist() == rank.tolist()
            assert found.confidence[run] == pytest.approx(confidence, rel=1e-5)
    scales = np.abs(np.random.default_rng(2).normal(size=(3, 7)))
    biases = np.stack([base.bias] * 3)
    scaled = evaluation.predict_scaled(split, base, scales, biases)
    for run in range(3):
        rows = Classifier(np.float32(scales[run][:, None] * base.weight), base.bias)
        expected = by_hand(base, split, Correction.whole("s", rows), 0)[0]
        assert scaled[run].tolist() == expected.tolist()


def test_a_block_has_no_more_logits_than_fit():
    _, split = made()
    sizes = [len(labels) for _, _, labels in split.blocks(features_module.WIDE_BYTES // (4 * 3))]
    assert sizes == [3] * 66 + [2]
    rows = [(part.start, part.stop) for part, _, _ in split.blocks(features_module.WIDE_BYTES)]
    assert rows == [(n, n + 1) for n in range(200)]


def test_tau_is_chosen_as_by_fitting_every_one():
    base, split = made(samples=400)
    head = Head(base.weight, base.bias)
    features = FeatureSet(
        {"train": split, "val": split}, ClassTable(np.bincount(split.labels)), head
    )
    found = fit_features(features, plan("tau-norm"))
    groups = features.groups()
    scores = []
    for tau in tau_norm.GRID["tau"]:
        rows = tau_norm.fit(base, None, None, tau=tau)
        (predicted,) = evaluation.predict_classes(split, base, [Correction.whole("t", rows)])
        scores.append(evaluation.objective(predicted[0], split.labels, 7, groups, "balanced"))
    assert found.scores == pytest.approx(scores)
    best = tau_norm.fit(base, None, None, tau=tau_norm.GRID["tau"][int(np.argmax(scores))])
    np.testing.assert_array_equal(found.correction.weight[0], best.weight)
    assert posthoc.plan("tau-norm").chooses
