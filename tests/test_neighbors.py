from dataclasses import replace

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ltkit import neighbors
from ltkit.errors import FormatError, InputError
from ltkit.files import neighbors as neighbors_file
from ltkit.neighbors.class_means import class_means
from ltkit.records import FeatureSplit, Neighbors
from ltkit.settings import NeighborSettings


def brute_force(means, of, among, k):
    """The definition, one pair at a time."""
    found = []
    for c in of:
        pairs = sorted((float(np.linalg.norm(means[c] - means[b])), b) for b in among if b != c)
        found.append([b for _, b in pairs[:k]])
    return np.array(found)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_equals_the_definition(metric):
    means = np.random.default_rng(0).normal(size=(40, 7))
    of, among = np.arange(30, 40), np.arange(30)
    found = neighbors.nearest(means, of, among, NeighborSettings(4, metric))
    seen = means / np.linalg.norm(means, axis=1, keepdims=True) if metric == "cosine" else means
    np.testing.assert_array_equal(found.base_class, brute_force(seen, of, among, 4))
    gaps = seen[of][:, None] - seen[found.base_class]
    expected = np.linalg.norm(gaps, axis=2)
    if metric == "cosine":
        expected = 1 - (seen[of][:, None] * seen[found.base_class]).sum(axis=2)
    np.testing.assert_allclose(found.distance, expected, atol=1e-6)


def test_ties_go_to_the_lower_class_id_whatever_the_order_given():
    means = np.array([[0.0], [1.0], [1.0], [-1.0], [1.0]])
    found = neighbors.nearest(means, np.array([0]), np.array([4, 3, 2, 1]), NeighborSettings(3))
    assert found.base_class.tolist() == [[1, 2, 3]]


def test_a_class_is_never_its_own_neighbour():
    means = np.random.default_rng(0).normal(size=(6, 3))
    found = neighbors.nearest(means, np.arange(6), np.arange(6), NeighborSettings(5))
    assert not (found.base_class == found.few_class[:, None]).any()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.sampled_from([2.0**-20, 1.0, 2.0**10]))
def test_the_search_for_large_problems_finds_the_same(monkeypatch_limit, seed, spread):
    rng = np.random.default_rng(seed)
    means = 5.0 + spread * (8 * rng.normal(size=(120, 16))).round() / 8  # many ties, all exact
    of, among = np.arange(100, 120), np.arange(100)
    found = neighbors.nearest(means, of, among, NeighborSettings(5))
    np.testing.assert_array_equal(found.base_class, brute_force(means, of, among, 5))


@pytest.fixture(scope="module")
def monkeypatch_limit():
    patch = pytest.MonkeyPatch()
    patch.setattr("ltkit.neighbors.search.DIRECT_LIMIT", 0)
    yield
    patch.undo()


def test_same_ids_as_faiss_flat():
    means = np.random.default_rng(3).normal(size=(1000, 64))
    of, among = np.arange(900, 1000), np.arange(900)
    found = neighbors.nearest(means, of, among, NeighborSettings(5))
    index = faiss.IndexFlatL2(64)
    index.add(means[among].astype(np.float32))
    _, ids = index.search(means[of].astype(np.float32), 5)
    np.testing.assert_array_equal(found.base_class, ids)


def test_random_neighbours_are_seeded_distinct_and_ordered_by_distance():
    means = np.random.default_rng(0).normal(size=(30, 4))
    of, among = np.arange(20, 30), np.arange(20)

    def drawn(seed):
        return neighbors.nearest(means, of, among, NeighborSettings(5, "random", seed))

    np.testing.assert_array_equal(drawn(1).base_class, drawn(1).base_class)
    assert (drawn(1).base_class != drawn(2).base_class).any()
    assert all(len(set(row)) == 5 for row in drawn(1).base_class.tolist())
    assert (np.diff(drawn(1).distance, axis=1) >= 0).all()
    once = neighbors.nearest(means, of, among, NeighborSettings(5, "random-once", 1))
    assert np.sort(once.base_class).tolist() == np.sort(drawn(1).base_class).tolist()
    assert (np.diff(once.distance, axis=1) < 0).any()  # as they were drawn
    own = np.linalg.norm(means[of][:, None] - means[once.base_class], axis=2)
    np.testing.assert_allclose(once.distance, own, rtol=1e-6)


def test_neighbours_as_drawn_come_back_from_a_file(tmp_path):
    drawn = Neighbors(np.array([3]), np.array([[1, 0]]), np.float32([[2, 1]]), "random-once")
    told = {"settings": {}, "inputs": {}, "command": ""}
    neighbors_file.write(tmp_path / "n.h5", drawn, **told)
    assert neighbors_file.read(tmp_path / "n.h5").base_class.tolist() == [[1, 0]]
    neighbors_file.write(tmp_path / "n.h5", replace(drawn, metric="random"), **told)
    with pytest.raises(FormatError, match="numbers that fall"):
        neighbors_file.read(tmp_path / "n.h5")


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_out_of_range(k):
    with pytest.raises(InputError, match=rf"^k: found {k}, expected 1..3"):
        neighbors.nearest(np.eye(4), np.array([3]), np.array([0, 1, 2]), NeighborSettings(k))


def test_class_without_mean_and_zero_mean_are_named():
    means = np.array([[1.0, 0], [np.nan, np.nan], [0, 0]])
    with pytest.raises(InputError, match="class 1: no training sample"):
        neighbors.nearest(means, np.array([0]), np.array([1, 2]), NeighborSettings(1))
    with pytest.raises(InputError, match="class 2: its mean feature is zero"):
        neighbors.nearest(means, np.array([0]), np.array([2]), NeighborSettings(1, "cosine"))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_class_means_equal_a_loop_over_classes(dtype):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 7, size=5000)
    features = (100 + rng.normal(size=(5000, 80))).astype(dtype)
    means, counts = class_means(FeatureSplit(features, labels), 9)
    for c in range(7):
        rows = features[labels == c].astype(np.float64)
        np.testing.assert_allclose(means[c], rows.mean(axis=0), rtol=1e-12)
        assert counts[c] == len(rows)
    assert np.isnan(means[7:]).all()
    assert counts[7:].tolist() == [0, 0]
