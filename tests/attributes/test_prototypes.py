"""Prototypes of local vectors: the draw, the k-means, and the shares, against other forms."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from made import refused
from sklearn.cluster import KMeans

from ltkit.attributes import prototypes
from ltkit.neighbors.clusters import k_means

pytestmark = pytest.mark.usefixtures("one_thread")


def blobs(seed=0, k=4, each=40, width=6):
    """Rows around K far centres."""
    rng = np.random.default_rng(seed)
    centres = 20 * rng.normal(size=(k, width))
    rows = np.repeat(centres, each, axis=0) + rng.normal(size=(k * each, width))
    return rng.permutation(rows).astype(np.float32)


def maps_of(seed, counts, width=5, side=3):
    """Maps of images in a random order, with labels."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    maps = rng.normal(size=(len(labels), width, side, side)).astype(np.float32)
    return torch.from_numpy(maps), torch.from_numpy(labels)


def cut(maps, labels, size):
    return [(maps[i : i + size], labels[i : i + size]) for i in range(0, len(labels), size)]


@pytest.mark.parametrize("seed", range(3))
def test_scikit_learn_would_not_move_the_centres(seed):
    """They are the means of the rows that are nearest to them."""
    rows = blobs(seed)
    found = k_means(rows, 4, seed=0)
    again = KMeans(4, init=found, n_init=1).fit(rows)
    np.testing.assert_allclose(again.cluster_centers_, found, rtol=1e-4, atol=1e-4)
    assert len({*again.labels_.tolist()}) == 4


def test_as_many_clusters_as_rows_are_the_rows():
    rows = blobs(k=2, each=3)
    assert sorted(k_means(rows, 6, seed=1).tolist()) == sorted(rows.tolist())


def test_more_clusters_than_rows():
    rows = blobs(k=2, each=3)
    for k in (0, 7):
        refused(lambda k=k: k_means(rows, k, 0), f"prototypes: found {k}, expected from 1 to 6")


@pytest.mark.more
def test_clusters_are_the_same_with_any_number_of_threads():
    code = (
        "import hashlib, numpy; from ltkit.neighbors.clusters import k_means; "
        "rows = numpy.random.default_rng(0).normal(size=(4000, 32)).astype('f4'); "
        "print(hashlib.sha256(k_means(rows, 64, 0).tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"OMP_NUM_THREADS": threads},
            capture_output=True, text=True, check=True,
        ).stdout
        for threads in ("1", "2", "4")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize("size", [1, 4, 100])
def test_blocks_of_any_size_give_the_same_prototypes(size):
    counts = np.array([20, 7, 1])
    maps, labels = maps_of(0, counts)
    whole = prototypes.fit(cut(maps, labels, 1000), counts, 6, sample=50)
    torch.testing.assert_close(
        prototypes.fit(cut(maps, labels, size), counts, 6, sample=50), whole, rtol=0, atol=0
    )
    other = prototypes.fit(cut(maps, labels, size), counts, 6, sample=50, seed=1)
    assert not torch.equal(other, whole)


def test_no_class_gives_more_than_its_sample(monkeypatch):
    """A class with fewer gives all of them, each once; the vectors have length 1."""
    given = []
    monkeypatch.setattr(prototypes, "k_means", lambda rows, k, seed: given.append(rows) or rows[:k])
    counts = np.array([20, 7, 1, 0])
    maps, labels = maps_of(1, counts)
    prototypes.fit(cut(maps, labels, 4), counts, 2, sample=70)
    assert len(given[0]) == prototypes.available(counts, 9, 70) == 70 + 63 + 9
    np.testing.assert_allclose(np.linalg.norm(given[0], axis=1), 1, rtol=1e-5)
    every = prototypes.local_vectors(maps).numpy()
    own = [np.concatenate(every[labels.numpy() == c]) for c in range(3)]
    rows = {row.tobytes() for row in given[0]}
    assert len(rows) == len(given[0])
    assert [sum(row.tobytes() in rows for row in part) for part in own] == [70, 63, 9]


@pytest.mark.parametrize("seed", range(3))
def test_shares_and_profiles_are_those_of_loops(seed):
    maps, labels = maps_of(seed, [4, 2, 1, 0])
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(7, 5))
    found = prototypes.shares(maps, torch.from_numpy(centres).float())
    expected = np.zeros((7, 7))
    for image, values in enumerate(maps.double().numpy()):
        for row in range(3):
            for column in range(3):
                vector = values[:, row, column] / np.linalg.norm(values[:, row, column])
                near = min(range(7), key=lambda k: np.sum((vector - centres[k]) ** 2))
                expected[image, near] += 1 / 9
    np.testing.assert_allclose(found, expected, atol=1e-6)
    profiles = prototypes.profiles(cut(maps, labels, 3), torch.from_numpy(centres).float(), 4)
    for c in range(3):
        mean = expected[labels.numpy() == c].mean(axis=0)
        np.testing.assert_allclose(profiles[c], mean, atol=1e-6)
    assert not profiles[3].any()
