"""Files whose checksums are right and whose values are not."""

import h5py
import made
import numpy as np
import pytest
from written import NEIGHBORS, write_correction, write_neighbors

from ltkit.errors import FormatError
from ltkit.files import classifiers, features, hdf5, neighbors
from ltkit.files.soundness import problems

pytestmark = pytest.mark.usefixtures("small_blocks")

# Files whose checksums are right and whose values are not


def datasets(plan=None):
    plan = plan or made.plan()
    return plan.arrays() | {f"{s}/features": v for s, v in made.features(plan).items()}


def nan(shape):
    values = np.zeros(shape, np.float32)
    values.flat[-1] = np.nan
    return values


FLOATS = np.float32

FEATURES = [
    ("classes/train_count", None, ["absent; found ", "train/labels"]),
    ("classes/train_count", np.array([20, 7, 0, -3, 1]), ["found -3 in row 3", "0 or more"]),
    ("classes/train_count", np.zeros((5, 2), int), ["int64 (5, 2)", "integers (any)"]),
    ("classes/train_count", np.ones(5), ["float64 (5,)", "integers (any)"]),
    ("classes/train_count", np.full(5, 2**63, np.uint64), ["found -"]),
    ("classes/name", np.array([b"a", b"b"]), ["|S1 (2,)", "strings (5)"]),
    ("classes/wnid", np.array([b"a"] * 6), ["strings (5)"]),
    ("classes/coarse", np.zeros(5), ["strings (5)"]),
    ("classes/name", np.array([b"\xff"] * 5), ["other bytes", "UTF-8"]),
    ("train/labels", None, ["absent"]),
    ("train/labels", np.zeros((100, 1), int), ["int64 (100, 1)", "integers (100)"]),
    ("train/labels", np.zeros(99, int), ["int64 (99,)", "integers (100)"]),
    ("train/labels", np.zeros(100), ["float64 (100,)"]),
    ("train/labels", np.full(100, -100), ["found -100 in row 0", "0..4"]),
    ("test/labels", np.arange(37) % 6, ["found 5 in row 5", "0..4"]),
    ("train/ids", np.array([b"a"] * 99), ["strings (100)"]),
    ("train/ids", np.zeros(100, int), ["strings (100)"]),
    ("test/features", np.zeros((37, 9), FLOATS), ["float32 (37, 9)", "floats (any, 8)"]),
    ("test/features", np.zeros(37, FLOATS), ["float32 (37,)", "floats (any, 8)"]),
    ("test/features", np.zeros((37, 8), int), ["int64 (37, 8)"]),
    ("head/weight", nan((5, 8)), ["NaN or infinity", "finite"]),
    ("head/weight", np.full((5, 8), 1e300), ["NaN or infinity"]),
    ("head/weight", np.zeros((4, 8), FLOATS), ["found (4, 8), expected (5, 8)"]),
    ("head/weight", np.zeros((5, 9), FLOATS), ["found (5, 9), expected (5, 8)"]),
    ("head/weight", np.zeros(8, FLOATS), ["expected (5, 8)"]),
    ("head/weight", np.zeros((1, 1, 5, 8), FLOATS), ["expected (5, 8)"]),
    ("head/weight", np.zeros((3, 5, 2), FLOATS), ["found (3, 5, 2), expected (5, 8)"]),
    ("head/weight", np.zeros((5, 8), int), ["int64 (5, 8)", "floats (5, 8)"]),
    ("head/bias", None, ["head/bias: absent"]),
    ("head/bias", np.zeros(4, FLOATS), ["floats (5)"]),
    ("head/bias", nan(5), ["NaN or infinity"]),
]


@pytest.mark.parametrize(("name", "values", "words"), FEATURES)
def test_features_files_with_wrong_values(tmp_path, name, values, words):
    path, plan = tmp_path / "f.h5", made.plan()
    made.crafted(path, hdf5.FEATURES, datasets(), plan.attributes(), **{name: values})
    made.refused(lambda: features.read(path), f"f.h5: {name}", *words, error=FormatError)


def shares(**changed):
    """Shares of the test split in three prototypes, the last row another."""
    values = np.full((37, 3), 1 / 3, FLOATS)
    for column, value in changed.items():
        values[-1, int(column[1:])] = value
    return values


LOCAL = [
    ("test/local", None, ["test/local: absent"]),
    ("test/local", np.zeros((37, 4), FLOATS), ["float32 (37, 4)", "floats (37, 3)"]),
    ("test/local", np.zeros((36, 3), FLOATS), ["float32 (36, 3)"]),
    ("test/local", np.zeros((37, 3), int), ["int64 (37, 3)"]),
    ("local/prototypes", np.zeros((3, 9), FLOATS), ["found float32 ", "expected floats (any, 9)"]),
    ("local/prototypes", nan((3, 8)), ["local/prototypes: found NaN or infinity"]),
    ("local/prototypes", np.zeros(8, FLOATS), ["floats (any, any)"]),
    ("local/prototypes", np.zeros((0, 8), FLOATS), ["(0, 8)", "at least one"]),
]


@pytest.mark.parametrize(("name", "values", "words"), LOCAL)
def test_features_files_with_wrong_prototypes(tmp_path, name, values, words):
    plan, streams = made.with_shares(made.plan())
    every = plan.arrays() | {each.dataset: streams[k] for k, each in plan.streams().items()}
    path = tmp_path / "f.h5"
    made.crafted(path, hdf5.FEATURES, every, plan.attributes(), **{name: values})
    made.refused(lambda: features.read(path), "f.h5: ", *words, error=FormatError)


@pytest.mark.parametrize(
    "values",
    [shares(_0=0.5), shares(_0=-0.1, _1=0.8), shares(_0=np.nan), shares(_0=np.inf)],
    ids=["sum", "negative", "NaN", "infinity"],
)
def test_rows_that_are_no_shares(tmp_path, values):
    """They are found where they are read, and by ``validate``."""
    plan, streams = made.with_shares(made.plan())
    every = plan.arrays() | {each.dataset: streams[k] for k, each in plan.streams().items()}
    path = tmp_path / "f.h5"
    made.crafted(path, hdf5.FEATURES, every, plan.attributes(), **{"test/local": values})
    found = features.read(path).split("test").local
    assert len(found[:30]) == 30
    message = "test/local: row 36: found other values, expected shares"
    made.refused(lambda: found[:], message, error=FormatError)
    assert any(message in line for line in problems(path))


@pytest.mark.parametrize(
    ("name", "value"),
    [("scale", np.nan), ("scale", np.inf), ("scale", "x"), ("normalize", "l1"), ("normalize", 1),
     ("aggregate", "sum")],
)  # fmt: skip
def test_heads_with_wrong_attributes(tmp_path, name, value):
    attributes = {"head": made.plan().attributes()["head"] | {name: value}}
    made.crafted(tmp_path / "f.h5", hdf5.FEATURES, datasets(), attributes)
    words = (f"head: {name}: found {value}, expected ", "make the file again")
    made.refused(lambda: features.read(tmp_path / "f.h5"), *words, error=FormatError)


@pytest.mark.parametrize(
    "changes",
    [
        {"train/features": None, "val/features": None, "test/features": None},
        {f"{s}/features": np.zeros((n, 0), FLOATS) for s, n in made.ROWS.items()},
    ],
)
def test_a_file_without_features(tmp_path, changes):
    made.crafted(
        tmp_path / "f.h5", hdf5.FEATURES, datasets(made.plan(head=None)), {}, **changes
    )  # fmt: skip
    made.refused(
        lambda: features.read(tmp_path / "f.h5"), "found no features, expected train, val or test"
    )


CLASSIFIER = {
    "class_id": np.array([1, 3]),
    "weight": np.zeros((2, 2, 8), FLOATS),
    "bias": np.zeros((2, 2), FLOATS),
    "runs": np.array([b"{}", b"{}"]),
}


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("class_id", None, ["absent; found bias, runs, weight"]),
        ("class_id", np.array([3, 1]), ["another order", "ascending"]),
        ("class_id", np.array([3, 3]), ["ascending"]),
        ("class_id", np.array([-1, 3]), ["found -1 in row 0"]),
        ("class_id", np.array([[1, 3]]), ["integers (any)"]),
        ("class_id", np.array([1, 2, 3]), []),
        ("weight", nan((2, 2, 8)), ["NaN"]),
        ("weight", np.zeros((3, 2, 8), FLOATS), ["float32 (3, 2, 8)", "floats (2, 2, any)"]),
        ("weight", None, ["absent"]),
        ("bias", np.zeros((2, 3), FLOATS), ["floats (2, 2)"]),
        ("bias", nan((2, 2)), ["NaN"]),
        ("runs", None, ["absent"]),
        ("runs", np.array([b"{}", b"{"]), ["found '{' in row 1", "JSON objects"]),
        ("runs", np.array([b"[]", b"{}"]), ["found '[]' in row 0", "JSON objects"]),
        ("runs", np.array([b"{}", b"\xff"]), ["UTF-8"]),
        ("runs", np.array([b"{}"]), []),
        ("runs", np.zeros(2), ["strings (any)"]),
        ("extra/alpha", np.zeros((3, 2)), ["float64 (3, 2)", "numbers (2, 2)"]),
    ],
)
def test_classifier_files_with_wrong_values(tmp_path, name, values, words):
    root = {"/": {"method": "m", "normalize_features": 0}}
    made.crafted(tmp_path / "c.h5", hdf5.CLASSIFIER, CLASSIFIER, root, **{name: values})
    named = [f"c.h5: {name}"] if words else ["c.h5: weight"]
    made.refused(lambda: classifiers.read(tmp_path / "c.h5"), *named, *words, error=FormatError)


@pytest.mark.parametrize("value", [2, "yes"])
def test_a_classifier_file_that_normalizes_by_halves(tmp_path, value):
    root = {"/": {"method": "m", "normalize_features": value}}
    made.crafted(tmp_path / "c.h5", hdf5.CLASSIFIER, CLASSIFIER, root)
    made.refused(
        lambda: classifiers.read(tmp_path / "c.h5"),
        f"normalize_features: found {value}, expected 0 or 1", error=FormatError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("few_class", np.array([4, 1]), ["ascending"]),
        ("few_class", None, ["absent"]),
        ("few_class", np.array([1]), []),
        ("base_class", np.array([[0, -2], [3, 0]]), ["found -2 in row 0"]),
        ("base_class", np.array([0, 2]), ["integers (2, any)"]),
        ("distance", np.zeros((2, 3), FLOATS), ["floats (2, 2)"]),
        ("distance", nan((2, 2)), ["NaN"]),
        ("base_class", np.array([[0, 2], [3, 3]]), ["a class twice in a row"]),
        ("distance", np.array([[0.5, 1], [2, 1]], FLOATS), ["the nearest first"]),
        ("distance", np.array([[-0.5, 1], [2, 2]], FLOATS), ["below 0", "the nearest first"]),
    ],
)
def test_neighbours_files_with_wrong_values(tmp_path, name, values, words):
    given = {n: getattr(NEIGHBORS, n) for n in ("few_class", "base_class", "distance")}
    path = tmp_path / "n.h5"
    made.crafted(path, hdf5.NEIGHBORS, given, {"/": {"metric": "m"}}, **{name: values})
    named = f"n.h5: {name if words else 'base_class'}"
    made.refused(lambda: neighbors.read(path), named, *words, error=FormatError)


def test_a_metric_is_text(tmp_path):
    given = {n: getattr(NEIGHBORS, n) for n in ("few_class", "base_class", "distance")}
    made.crafted(tmp_path / "n.h5", hdf5.NEIGHBORS, given, {"/": {"metric": 7}})
    made.refused(
        lambda: neighbors.read(tmp_path / "n.h5"), "metric: found 7, expected text",
        error=FormatError,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [(write_correction, classifiers.read, "method"), (write_neighbors, neighbors.read, "metric")],
)
def test_root_attributes_of_a_kind_are_required(tmp_path, write, read, name):
    write(tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        del file.attrs[name]
    made.refused(lambda: read(tmp_path / "x.h5"), f"{name}: attribute absent", error=FormatError)
