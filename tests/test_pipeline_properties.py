"""Random small pipelines through files: what must not matter does not.

Features are small whole numbers and weights are eighths, so that sums are exact in float32 and
results can be compared bit for bit, whatever the order of the sums.
"""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltkit import evaluation, records, registry
from ltkit import posthoc as methods
from ltkit.files import classifiers, features, hdf5, soundness
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.records import ClassTable, FeatureSplit, Head
from ltkit.settings import NeighborSettings

METHODS = {
    "tau-norm": {"tau": 0.5}, "logit-adjust": {"tau": 1.0}, "ncm": {}, "pc-softmax": {},
    "ridge": {},
}  # fmt: skip
"""Methods in closed form."""

SPOILT = ("train/features", "test/features", "train/labels", "test/ids")

FEW = settings(max_examples=12, deadline=None)


@dataclass(frozen=True)
class Problem:
    """Features, labels and ids of the splits train and test, and a head."""

    rows: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    ids: dict[str, np.ndarray]
    weight: np.ndarray
    bias: np.ndarray

    @property
    def classes(self):
        return len(self.bias)

    def plan(self):
        counts = np.bincount(self.labels["train"], minlength=self.classes)
        splits = {s: SplitPlan(self.labels[s], self.ids[s]) for s in self.rows}
        names = tuple(f"class {i}" for i in range(self.classes))
        head = Head(self.weight, self.bias)
        size = self.weight.shape[1]
        return Plan(size, "float32", splits, ClassTable(counts, names), head, settings={"a": 1})

    def write(self, path, cuts=(), block=1 << 20):
        """Write the features file, appending pieces that end at the cuts."""
        with (
            mock.patch.object(records.arrays, "BLOCK_BYTES", block),
            FeaturesWriter(path, self.plan(), command="x", resume=False) as writer,
        ):
            for split, rows in self.rows.items():
                for piece in np.split(rows, sorted(c for c in cuts if c < len(rows))):
                    writer.append(split, piece)
            writer.finish()


@st.composite
def problems(draw):
    """A long-tailed problem: every class has a training row."""
    classes, size = draw(st.integers(3, 7)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = {"train": rng.integers(1, 12, classes), "test": rng.integers(0, 6, classes)}
    counts["test"][0] += 1
    centres = rng.integers(-4, 5, (classes, size))
    rows, labels, ids = {}, {}, {}
    for split, of in counts.items():
        labels[split] = rng.permutation(np.repeat(np.arange(classes), of))
        noise = rng.integers(-2, 3, (of.sum(), size))
        rows[split] = (centres[labels[split]] + noise).astype(np.float32)
        ids[split] = np.array([f"{split}/{i}" for i in range(of.sum())])
    weight, bias = rng.integers(-16, 17, (classes, size)) / 8, rng.integers(-16, 17, classes) / 8
    return Problem(rows, labels, ids, weight.astype(np.float32), bias.astype(np.float32))


def run(problem, method, *, cuts=(), block=1 << 20, stream=8):
    """Through the files: the corrected classifier, what it predicts, the means and neighbours."""
    with tempfile.TemporaryDirectory() as folder:
        path, fitted = Path(folder) / "f.h5", Path(folder) / "c.h5"
        problem.write(path, cuts, block)
        assert soundness.problems(path) == []
        with mock.patch.object(records, "STREAM_BLOCKS", stream), small(block):
            found = features.read(path)
            base, counts, train = (
                found.classifier(),
                found.classes.train_count,
                found.split("train"),
            )
            module = registry.load(methods, method)
            classifier = module.fit(base, train, counts, **METHODS[method])
            correction = records.Correction.whole(method, classifier, METHODS[method])
            classifiers.write(fitted, correction, settings={}, inputs={}, command="x")
            correction, _ = classifiers.read(fitted)
            means, _ = class_means(train, len(counts))
            every = np.arange(len(counts))
            near = nearest(means, every[:2], every[2:], NeighborSettings(1))
            every = [records.Correction.baseline(base), correction]
            own, predictions = evaluation.predict(found.split("test"), base, every)
        return {
            "weight": correction.weight[0], "bias": correction.bias[0], "means": means,
            "distance": near.distance, "near": near.base_class,
            "baseline": own.predicted[0], "predicted": predictions.predicted[0],
            "rank": predictions.rank[0],
            "logits": correction.classifier(base, 0).logits(found.split("test").features[:]),
        }  # fmt: skip


def small(block):
    return mock.patch.object(records.arrays, "BLOCK_BYTES", block)


def same(found, expected, *names, close=()):
    for name in names:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    for name in close:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-4, err_msg=name)


def untied(logits):
    """Rows whose best class is best by more than rounding."""
    two = np.sort(logits, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0] > 1e-3


EVERY = ("weight", "bias", "means", "distance", "near", "baseline", "predicted", "rank")


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@FEW
def test_the_order_of_classes_does_not_matter(method, data):
    problem = data.draw(problems())
    order = np.array(data.draw(st.permutations(range(problem.classes))))  # new to old
    place = np.argsort(order)  # old to new
    other = replace(
        problem, weight=problem.weight[order], bias=problem.bias[order],
        labels={split: place[labels] for split, labels in problem.labels.items()},
    )  # fmt: skip
    expected, found = run(problem, method), run(other, method)
    for name in ("weight", "bias", "means"):
        np.testing.assert_allclose(
            found[name], expected[name][order], rtol=1e-4, atol=1e-4, err_msg=name
        )
    clear = untied(expected["logits"])
    np.testing.assert_array_equal(found["predicted"][clear], place[expected["predicted"]][clear])
    np.testing.assert_allclose(found["logits"], expected["logits"][:, order], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@FEW
def test_the_order_of_rows_does_not_matter(method, data):
    problem = data.draw(problems())
    order = {
        split: np.array(data.draw(st.permutations(range(len(rows)))))
        for split, rows in problem.rows.items()
    }
    other = replace(problem, **{
        field: {split: values[order[split]] for split, values in getattr(problem, field).items()}
        for field in ("rows", "labels", "ids")
    })  # fmt: skip
    expected, found = run(problem, method), run(other, method)
    exact = () if method == "ridge" else ("weight", "bias")  # ridge solves for them
    same(found, expected, "means", "distance", "near", *exact, close=("weight", "bias"))
    np.testing.assert_array_equal(found["baseline"], expected["baseline"][order["test"]])
    clear = untied(expected["logits"])[order["test"]]
    for name in ("predicted", "rank"):
        np.testing.assert_array_equal(
            found[name][clear], expected[name][order["test"]][clear], err_msg=name
        )


@pytest.mark.parametrize("method", METHODS)
@given(problems(), st.integers(1, 200), st.integers(1, 4), st.sets(st.integers(0, 60), max_size=9))
@FEW
def test_neither_blocks_nor_pieces_matter(method, problem, block, stream, cuts):
    expected = run(problem, method)
    found = run(problem, method, cuts=cuts, block=block, stream=stream)
    if method in ("tau-norm", "ridge"):  # their weights are no eighths: logits round
        same(found, expected, "means", "distance", "near", "baseline", close=("weight", "bias"))
    else:
        same(found, expected, "weight", "bias", "means", "distance", "near", "baseline")
    clear = untied(expected["logits"])
    for name in ("predicted", "rank"):
        np.testing.assert_array_equal(found[name][clear], expected[name][clear], err_msg=name)


@given(problems(), st.integers(0, 60), st.integers(0, 60))
@FEW
def test_parts_of_a_split_give_what_the_whole_gives(problem, first, second):
    rows, labels = problem.rows["train"], problem.labels["train"]
    cuts = sorted({min(first, len(rows)), min(second, len(rows))})
    sums, counts = np.zeros((problem.classes, rows.shape[1])), np.zeros(problem.classes, int)
    for x, y in zip(np.split(rows, cuts), np.split(labels, cuts), strict=True):
        means, of = class_means(FeatureSplit(x, y), problem.classes)
        sums += np.where(of[:, None] > 0, means, 0) * of[:, None]
        counts += of
    means, of = class_means(FeatureSplit(rows, labels), problem.classes)
    np.testing.assert_array_equal(counts, of)
    np.testing.assert_allclose(sums / counts[:, None], means, rtol=1e-12)
    base = Head(problem.weight, problem.bias).fold()
    own = [records.Correction.baseline(base)]
    (whole,) = evaluation.predict(FeatureSplit(rows, labels), base, own)
    parts = [
        evaluation.predict(FeatureSplit(x, y), base, own)[0].predicted[0]
        for x, y in zip(np.split(rows, cuts), np.split(labels, cuts), strict=True) if len(x)
    ]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(parts), whole.predicted[0])


@given(
    problems(), st.integers(1, 100), st.lists(st.integers(0, 40), min_size=1, max_size=4),
    st.integers(1, 7), st.binary(min_size=1), st.sampled_from(SPOILT),
)  # fmt: skip
@FEW
def test_where_a_run_is_interrupted_does_not_matter(problem, block, stops, piece, rubbish, name):
    """Nor does what a crash of the machine has left of what was written."""
    with tempfile.TemporaryDirectory() as folder:
        whole, path = Path(folder) / "whole.h5", Path(folder) / "f.h5"
        problem.write(whole, block=block)
        with small(block):
            for stop in stops:
                write_on(path, problem, piece, stop)
                spoil(path, name, rubbish)
            write_on(path, problem, piece, None)
        assert path.read_bytes() == whole.read_bytes()
        assert sorted(p.name for p in Path(folder).iterdir()) == ["f.h5", "whole.h5"]


def write_on(path, problem, piece, stop):
    """Go on for some rows, or to the end."""
    with FeaturesWriter(path, problem.plan(), command="x", resume=True) as writer:
        written = 0
        for split, rows in problem.rows.items():
            for start in range(writer.done(split), len(rows), piece):
                if stop is not None and written >= stop:
                    return
                writer.append(split, rows[start : start + piece])
                written += piece
        if stop is None:
            writer.finish()


def spoil(path, name, rubbish):
    """Write over the beginning of a dataset."""
    partial = path.with_name("f.h5.partial")
    offset = hdf5.offsets(partial)[name]
    with partial.open("r+b") as file:
        file.seek(offset)
        file.write(rubbish[:4])
