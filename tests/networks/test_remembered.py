"""What a page's parts predict is computed once, and is what each of them would compute."""

from dataclasses import replace

import numpy as np
import pytest

from ltkit.evaluation import networks, predict, predict_classes
from ltkit.evaluation.entries import Entry
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Head


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    head = Head(np.float32(rng.normal(size=(5, 3))), np.zeros(5, np.float32))
    split = FeatureSplit(np.float32(rng.normal(size=(40, 3))), np.arange(40) % 5)
    other = FeatureSplit(np.float32(rng.normal(size=(20, 3))), np.arange(20) % 5)
    return FeatureSet({"test": split, "val": other}, ClassTable(np.full(5, 9)), head)


@pytest.fixture
def entries(features):
    base, rng = features.classifier(), np.random.default_rng(1)
    runs = [replace(base, bias=np.float32(rng.normal(size=5))) for _ in range(3)]
    made = [Correction.whole("bias", run, {"n": n}) for n, run in enumerate(runs)]
    one = Correction("two", made[0].class_id, *(
        np.concatenate([getattr(m, name) for m in made[1:]]) for name in ("weight", "bias")
    ), ({"n": 1}, {"n": 2}), base.normalize_features)  # fmt: skip
    return [networks.own_head(features), Entry("bias", None, made[0]), Entry("two", None, one)]


def test_it_is_the_same_as_without(features, entries):
    ways = [(s, how) for s in ("test", "val") for how in (predict_classes, predict)]
    plain = {way: networks.predict_entries(features, way[0], entries, way[1]) for way in ways}
    for order in (ways, ways[::-1]):
        with networks.remembered():
            for way in (*order, *order):
                for ours, theirs in zip(
                    networks.predict_entries(features, way[0], entries, way[1]), plain[way],
                    strict=True,
                ):  # fmt: skip
                    assert type(ours) is type(theirs)
                    if way[1] is predict:
                        for name in ("predicted", "rank", "confidence"):
                            np.testing.assert_array_equal(
                                getattr(ours, name), getattr(theirs, name)
                            )
                    else:
                        assert ours.dtype == theirs.dtype
                        np.testing.assert_array_equal(ours, theirs)


def test_each_is_computed_once_while_it_is_remembered(features, entries, monkeypatch):
    asked = []

    def counted(split, base, corrections):
        asked.append([c.method for c in corrections])
        return predict_classes(split, base, corrections)

    monkeypatch.setattr(networks, "predict_classes", counted)
    for _ in range(2):
        with networks.remembered():
            networks.predict_entries(features, "test", entries[:2], counted)
            again = [entries[0], replace(entries[1], name="again"), entries[2]]
            networks.predict_entries(features, "test", again, counted)
            only = replace(entries[2], correction=entries[2].correction.only([0, 1]))
            networks.predict_entries(features, "test", [networks.own_head(features), only], counted)
            some = replace(entries[2], correction=entries[2].correction.only([1]))
            networks.predict_entries(features, "test", [some], counted)
        assert asked == [["baseline", "bias"], ["two"], ["two"]]
        asked.clear()
    networks.predict_entries(features, "test", entries, counted)
    assert asked == [["baseline", "bias", "two"]]
