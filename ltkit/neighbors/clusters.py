"""Clusters of vectors: k-means by FAISS, the same whatever the threads."""

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError

ITERATIONS = 25


def check_clusters(k: int, count: int) -> None:
    """Reject more clusters than there are vectors.

    Raises:
        InputError: naming both.
    """
    if not 1 <= k <= count:
        raise InputError(
            f"prototypes: found {k}, expected from 1 to {count}, the vectors that they are fitted "
            "to; set fewer"
        )


def k_means(rows: NDArray[np.float32], k: int, seed: int) -> NDArray[np.float32]:
    """Return the centres of K clusters.

    One thread computes them: products in several could differ in their last digits, after which
    clusters would.

    Args:
        rows: (N, D).
        k: K, from 1 to N.
        seed: of the first centres.

    Returns:
        (K, D).

    Raises:
        InputError: for more clusters than rows.

    Example:
        >>> rows = np.float32([[0, 0], [0, 1], [8, 8], [8, 9]])
        >>> sorted(k_means(rows, 2, seed=0).tolist())
        [[0.0, 0.5], [8.0, 8.5]]
    """
    import faiss

    check_clusters(k, len(rows))
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        made = faiss.Kmeans(
            rows.shape[1], k, niter=ITERATIONS, seed=seed,
            min_points_per_centroid=1, max_points_per_centroid=len(rows),
        )  # fmt: skip
        made.train(np.ascontiguousarray(rows, dtype=np.float32))
    finally:
        faiss.omp_set_num_threads(threads)
    return np.array(made.centroids, np.float32)
