"""A network in evaluation mode: predictions, accuracies, mean features."""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.architectures.network import Network
from ltkit.settings import TrainSettings
from ltkit.training import distributed
from ltkit.training.stores import Store

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: str, amp: str) -> torch.autocast:
    """Return the mixed-precision context for an ``amp`` setting."""
    return torch.autocast(device, AMP_DTYPES.get(amp, torch.bfloat16), enabled=amp != "off")


@torch.inference_mode()
def predict(network: nn.Module, store: Store, settings: TrainSettings) -> np.ndarray[Any, Any]:
    """Return the (N,) predicted classes of a store's samples, in evaluation mode."""
    network.eval()
    predicted = torch.zeros(len(store), dtype=torch.int64, device=store.device)
    for rows in _own_slices(store):
        with autocast(store.device.type, settings.amp):
            predicted[rows] = network(store.block(rows)).argmax(dim=1)
    classes: np.ndarray[Any, Any] = distributed.summed(predicted).cpu().numpy()
    return classes


def _own_slices(store: Store) -> Iterator[slice]:
    """Yield this process's part of the slices."""
    return itertools.islice(store.slices(), distributed.rank(), None, distributed.processes())


def accuracy_of(
    model: Callable[[], nn.Module],
    store: Store,
    labels: np.ndarray[Any, Any],
    num_classes: int,
    settings: TrainSettings,
) -> Callable[[int], Tensor]:
    """Return a function for the (C,) accuracy on a split after an epoch, computed once for it.

    Args:
        model: gives what is evaluated.
        store: the split's samples.
        labels: (N,) int64, theirs.
        num_classes: C.
        settings: of the run.
    """

    @functools.lru_cache(maxsize=1)
    def accuracy(epoch: int) -> Tensor:
        right = predict(model(), store, settings) == labels
        return torch.from_numpy(_class_means(right, labels, num_classes))

    return accuracy


@torch.inference_mode()
def mean_features(
    network: Network, store: Store, labels: Tensor, num_classes: int, settings: TrainSettings
) -> Tensor:
    """Return the (C, D) mean features of a store's samples, in evaluation mode; sums in float64."""
    network.eval()
    device = store.device
    sums = torch.zeros(0, device=device, dtype=torch.float64)
    for rows in store.slices():
        with autocast(device.type, settings.amp):
            features, _ = network.features_and_logits(store.block(rows))
        if not len(sums):
            sums = sums.new_zeros(num_classes, features.shape[1])
        sums.index_add_(0, labels[rows], features.double())
    return sums / labels.bincount(minlength=num_classes)[:, None]


def _class_means(
    values: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], num_classes: int
) -> np.ndarray[Any, Any]:
    """Return the (C,) mean of values by class; NaN where a class has none."""
    counts = np.bincount(labels, minlength=num_classes).astype(float)
    counts[counts == 0] = np.nan
    means: np.ndarray[Any, Any] = np.bincount(labels, values, num_classes) / counts
    return means
