"""Prototypes of local vectors, and the shares that images have in them."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ltkit.neighbors.clusters import k_means
from ltkit.records import Ints

SAMPLE = 256
"""Local vectors a class that prototypes are fitted to, so that common classes do not dominate."""

Maps = Iterable[tuple[Tensor, Tensor]]
"""(B, D, H, W) maps and their (B,) labels, block by block."""


def local_vectors(maps: Tensor) -> Tensor:
    """Return the (B, P, D) vectors of length 1 of maps' P positions; zeros stay.

    Example:
        >>> local_vectors(torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1))
        tensor([[[0.6000, 0.8000]]])
    """
    return functional.normalize(maps.float().flatten(2).transpose(1, 2), dim=2)


def available(counts: Ints, positions: int, sample: int = SAMPLE) -> int:
    """Return how many local vectors prototypes are fitted to.

    Args:
        counts: (C,) images of the classes.
        positions: of a map.
        sample: most vectors of a class.
    """
    return int(np.minimum(counts * positions, sample).sum())


def fit(maps: Maps, counts: Ints, k: int, *, sample: int = SAMPLE, seed: int = 0) -> Tensor:
    """Fit K prototypes to local vectors of the training images; memory does not grow with N.

    Which of a class's vectors are taken follows from the seed and the order of the images alone.

    Args:
        maps: of the training images, in blocks.
        counts: (C,) images of the classes.
        k: K, at most as many as there are vectors.
        sample: most vectors of a class.
        seed: of the draws and of the k-means.

    Returns:
        (K, D) float32 on the CPU.

    Raises:
        InputError: for more prototypes than vectors.
    """
    drawn: list[Ints] = []
    taken: list[Tensor] = []
    seen = np.zeros(len(counts), np.int64)  # images of each class until now
    for found, labels in maps:
        vectors = local_vectors(found)
        positions = vectors.shape[1]
        drawn = drawn or _drawn(counts * positions, sample, seed)
        image, place = _of_block(labels.cpu().numpy(), positions, drawn, seen)
        taken.append(vectors[torch.from_numpy(image), torch.from_numpy(place)].cpu())
    rows = torch.cat(taken).numpy() if taken else np.zeros((0, 1), np.float32)
    return torch.from_numpy(k_means(rows, k, seed))


def _drawn(vectors: Ints, sample: int, seed: int) -> list[Ints]:
    """Return which of each class's vectors are taken, ascending."""
    rng = np.random.default_rng(seed)
    return [np.sort(rng.choice(n, min(int(n), sample), replace=False)) for n in vectors.tolist()]


def _of_block(
    labels: NDArray[np.int64], positions: int, drawn: list[Ints], seen: Ints
) -> tuple[Ints, Ints]:
    """Return images and positions of a block's drawn vectors; count its images as seen."""
    images, places = [], []
    for image, label in enumerate(labels.tolist()):
        start = int(seen[label]) * positions
        first, last = np.searchsorted(drawn[label], (start, start + positions))
        places.append(drawn[label][first:last] - start)
        images.append(np.full(last - first, image))
        seen[label] += 1
    return np.concatenate(images), np.concatenate(places)


def shares(maps: Tensor, prototypes: Tensor) -> Tensor:
    """Return the (B, K) shares of each image's positions by their nearest prototype.

    Args:
        maps: (B, D, H, W).
        prototypes: (K, D).

    Example:
        >>> maps = torch.tensor([[[[1.0, 1.0, 0.0]], [[0.0, 0.2, 1.0]]]])  # three positions
        >>> shares(maps, torch.eye(2))
        tensor([[0.6667, 0.3333]])
    """
    vectors = local_vectors(maps)
    nearest = (prototypes.square().sum(dim=1) - 2 * vectors @ prototypes.T).argmin(dim=2)  # (B, P)
    counts = vectors.new_zeros(len(maps), len(prototypes))
    return (
        counts.scatter_add_(1, nearest, torch.ones_like(nearest, dtype=counts.dtype))
        / (nearest.shape[1])
    )


def profiles(maps: Maps, prototypes: Tensor, num_classes: int) -> Tensor:
    """Return a(y), the (C, K) mean shares of the classes' images; zeros where there are none.

    Args:
        maps: of the images, in blocks.
        prototypes: (K, D).
        num_classes: C.
    """
    sums = torch.zeros(num_classes, len(prototypes), dtype=torch.float64, device=prototypes.device)
    counts = sums.new_zeros(num_classes)
    for found, labels in maps:
        sums.index_add_(0, labels, shares(found, prototypes).double())
        counts += labels.bincount(minlength=num_classes)
    return sums / counts.clamp(min=1)[:, None]
