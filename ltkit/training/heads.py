"""A head trained on cached features, by the loop that trains networks from images."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ltkit.architectures.network import Network, make_head
from ltkit.losses import Stateful
from ltkit.neighbors.class_means import class_means as means_of
from ltkit.records import Classifier, FeatureSet, FeatureSplit, Rows
from ltkit.settings import TrainSettings, as_json
from ltkit.training import run
from ltkit.training.schedules import Sampler, Stage

BUDGET = 2 << 30
"""Bytes of features that may be held. Of a larger split, what the next steps need is read again."""


class FeatureStore:
    """Cached features, held on the device where they fit the budget; else read as they are needed.

    split: (N, D) features and their labels.
    """

    unit = "samples"

    def __init__(self, split: FeatureSplit, device: str) -> None:
        """Read the split if it fits."""
        self.device = torch.device(device)
        self._split, self._order = split, torch.arange(0)
        row_bytes = split.features.shape[1] * split.features.dtype.itemsize
        self._room = max(1, BUDGET // row_bytes)
        self._held: Tensor | None = None
        if len(split) <= self._room:
            self._held = self._read(np.arange(len(split)))
        self._used, self._values = np.arange(0), torch.zeros(0)
        self._next = self._ready = 0

    def __len__(self) -> int:
        """N."""
        return len(self._split)

    def slices(self) -> Iterator[slice]:
        """Cut the samples into blocks of the file."""
        return self._split.slices()

    def block(self, rows: slice) -> Tensor:
        """Return consecutive (B, D) features in float32."""
        if self._held is not None:
            return self._held[rows].float()
        return torch.from_numpy(self._split.features[rows]).to(self.device).float()

    def drawn(self, order: Tensor) -> None:
        """Take note of the epoch's draws, so that those of many steps are read in one pass."""
        self._order, self._next, self._ready = order, 0, 0

    def augmented(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Return the (B, D) features of the next draws, as they are."""
        if self._held is not None:
            return self._held[index].float()
        rows = index.cpu().numpy()
        if self._next + len(rows) > self._ready:
            self._values = torch.zeros(0)  # let go before the next are read
            self._ready = self._next + max(self._room, len(rows))
            self._used = np.unique(self._order[self._next : self._ready].numpy())
            self._values = self._read(self._used)
        self._next += len(rows)
        place = torch.from_numpy(np.searchsorted(self._used, rows))
        return self._values[place.to(self.device)].float()

    def _read(self, used: np.ndarray[Any, Any]) -> Tensor:
        """Read some rows, ascending, in one pass over the split, as they are stored."""
        features: Rows = self._split.features
        values = np.empty((len(used), features.shape[1]), features.dtype)
        for rows in self._split.slices():
            first, last = np.searchsorted(used, (rows.start, rows.stop))
            if first < last:
                values[first:last] = features[rows][used[first:last] - rows.start]
        return torch.from_numpy(values).to(self.device)


class Stores(NamedTuple):
    """The splits of a features file on a device, for one run or several."""

    train: FeatureStore
    val: FeatureStore | None


def stores(features: FeatureSet, device: str) -> Stores:
    """Bring the splits that training needs to a device, as far as they fit."""
    val = features.splits.get("val")
    return Stores(
        FeatureStore(features.split("train"), device),
        FeatureStore(val, device) if val is not None and len(val) else None,
    )


def train(
    features: FeatureSet,
    loss: run.OfBatch | Stateful,
    settings: TrainSettings,
    output: Path,
    *,
    method: str,
    parameters: Mapping[str, Any] | None = None,
    sampler: Sampler = "instance",
    then: Stage | None = None,
    class_means: tuple[str, Tensor] | None = None,
    cosine: bool = False,
    scale: float = 1.0,
    device: str = "cpu",
    held: Callable[[], Stores] | None = None,
    resume: bool = False,
    overwrite: bool = True,
    report: Callable[[run.Progress], None] = lambda progress: None,
) -> Classifier:
    """Train a head on the train split; where there is a val split, it is watched.

    The head starts anew, from the seed. Memory does not grow with N beyond `BUDGET` bytes of
    features, and the budget does not change the result. ``OUTPUT.partial`` and ``OUTPUT.jsonl`` are
    those of `run.train`; the first stays until `run.forget`, so that runs which are finished are
    not trained again when a later one of the same file is resumed.

    Args:
        features: the contents of a features file.
        loss: as for `run.train`.
        settings: the schedule; nothing is augmented.
        output: the classifier file that the caller will write.
        method: the loss's name.
        parameters: the loss's.
        sampler: as for `run.train`.
        then: as for `run.train`; there is no backbone that it could freeze.
        class_means: as for `run.train`; None: those of the features.
        cosine: whether the head is a cosine head, of features with experts one for each.
        scale: of a cosine head.
        device: ``cpu`` or ``cuda[:i]``.
        held: gives what `stores` gave, so that several runs share it.
        resume: go on from ``OUTPUT.partial``.
        overwrite: whether the log of another run may be replaced.
        report: called after each epoch.

    Returns:
        The head in its linear form.

    Raises:
        InputError: when the settings are out of range, there is no train split, the loss is no
            longer finite, or there is nothing to resume.
    """
    run.check(settings)
    run.check_stages(loss, settings, then)
    split = features.split("train")
    recipe = {
        **as_json(settings), "method": method, "parameters": dict(parameters or {}),
        "cosine": cosine, "scale": scale, "features": features.digest, "sampler": sampler,
        "class_means": class_means[0] if class_means else None,
        "then": asdict(then) if then else None,
    }  # fmt: skip
    counts = torch.from_numpy(features.classes.train_count).to(device)
    classes, size = len(counts), features.feature_size
    if not isinstance(loss, Stateful):
        loss = run.Deferred(counts, loss, loss, 0)
    experts = features.head.experts if features.head and cosine else 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        head = make_head(size, classes, cosine=cosine, scale=scale, experts=experts)
    network = Network(nn.Identity(), head).to(device)
    store, val = held() if held else stores(features, device)
    labels = torch.from_numpy(split.labels).to(device)

    def means() -> Tensor:
        if class_means is not None:
            return class_means[1]
        return torch.from_numpy(means_of(split, classes)[0]).to(device)

    accuracy = None
    if val is not None:
        accuracy = run.accuracy_of(network, val, features.split("val").labels, classes, settings)
    job = run.Job(
        network, loss.to(device), store, labels, counts, settings, sampler, then, means, accuracy
    )
    with run.locked_output(output):
        run.fit(job, recipe, output, resume=resume, overwrite=overwrite, report=report)
    return network.record().fold()
