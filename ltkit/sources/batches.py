"""Features of a model in memory, from batches of anything: images, tokens, tables."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltkit.architectures.network import Hooked
from ltkit.checkpoints.families.own_network import last_layer, outputs_of
from ltkit.errors import InputError, SettingError
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.narrowing import narrowed
from ltkit.records import SPLITS, ClassTable, Head, Ints, blocks
from ltkit.sources.extraction import check_head, in_numpy

LABELS = ("labels", "label", "targets", "target", "y")
"""What labels are called in a batch that is a mapping."""

AT_ONCE = 4096
"""Rows that are written together."""


@dataclass(frozen=True, eq=False)
class Spooled:
    """The features of a split, kept in a temporary file while they are made."""

    file: IO[bytes]
    labels: Ints
    width: int

    def rows(self) -> Iterator[NDArray[np.float32]]:
        """Give the rows, block by block."""
        self.file.seek(0)
        for part in blocks(len(self.labels), AT_ONCE):
            size = len(range(*part.indices(len(self.labels)))) * self.width
            yield np.fromfile(self.file, np.float32, size).reshape(-1, self.width)


def extract_batches(
    model: nn.Module,
    batches: Mapping[str, Iterable[Any]],
    output: Path,
    *,
    head: str | None = None,
    class_names: tuple[str, ...] | None = None,
    train_counts: Ints | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    command: str = "",
) -> str:
    """Write what goes into a model's last layer, and that layer, as ``ltkit extract`` does.

    Each batch is read once. Features times head must give the model's own output on the first one.

    Args:
        model: a classifier whose last layer is linear; its weights stay as they are.
        batches: split to its batches: (inputs, labels) pairs, or mappings with ``labels``, whose
            other entries the model is called with.
        output: the features file.
        head: the last layer's name; None: the one whose output is the model's.
        class_names: of the C classes.
        train_counts: (C,) training images per class; None: those of the train split.
        device: ``cpu`` or ``cuda[:i]``.
        dtype: ``float32`` or ``float16``.
        command: recorded in the file.

    Returns:
        The file's digest.

    Raises:
        InputError: for an unknown split, a batch that is neither form, labels that are none, a
            model whose last layer is not found, features that are not finite.
    """
    unknown = [name for name in batches if name not in SPLITS]
    if unknown or not batches:
        found = unknown[0] if unknown else "none"
        raise SettingError("batches", f"found {found}, expected some of {', '.join(SPLITS)}")
    source = _Source(model.to(device).eval(), head, device, np.dtype(dtype))
    with ExitStack() as stack:
        spooled = {
            name: source.spool(name, given, stack.enter_context(TemporaryFile(dir=output.parent)))
            for name, given in batches.items()
        }
        record = source.network.record()
        plan = _plan(spooled, record, class_names, train_counts, dtype)
        with FeaturesWriter(output, plan, command=command, resume=False) as writer:
            for name, split in spooled.items():
                for rows in split.rows():
                    writer.append(name, rows)
            return writer.finish()


class _Source:
    """A model whose features are caught; its last layer is looked for in the first batch."""

    def __init__(
        self, model: nn.Module, head: str | None, device: str, dtype: np.dtype[Any]
    ) -> None:
        self.model, self.head, self.device, self.dtype = model, head, device, dtype
        self.network = Hooked(model, ())

    def spool(self, name: str, batches: Iterable[Any], file: IO[bytes]) -> Spooled:
        """Keep the features of a split in a file.

        Raises:
            InputError: as `extract_batches`.
        """
        labels, width = [], 0
        for number, batch in enumerate(batches):
            where = f"{name}: batch {number}"
            inputs, own = _parts(batch, where)
            moved = _on(inputs, self.device)
            if not self.network.heads:
                self.network = _hooked(self.model, moved, self.head)
            with torch.inference_mode():
                rows = in_numpy(self.network.features_and_logits(moved)[0])
            if len(rows) != len(own):
                raise InputError(
                    f"{where}: found {len(rows)} rows of features and {len(own)} labels, expected "
                    "as many of both"
                )
            narrowed(rows, self.dtype, f"{where}: row", 0)
            rows.astype(np.float32).tofile(file)
            labels.append(own)
            width = rows.shape[1]
        if not labels:
            raise InputError(f"{name}: found no batch, expected one or more")
        return Spooled(file, np.concatenate(labels), width)


def _plan(
    spooled: Mapping[str, Spooled],
    head: Head | None,
    class_names: tuple[str, ...] | None,
    train_counts: Ints | None,
    dtype: str,
) -> Plan:
    """Return everything of the features file but the features.

    Raises:
        InputError: when classes, counts, names and the head do not go together.
    """
    most = 1 + max(int(split.labels.max()) for split in spooled.values())
    if train_counts is None:
        if "train" not in spooled:
            raise SettingError("train_counts", "absent; without train they must be given")
        size = most if head is None else max(most, head.num_classes)
        train_counts = np.bincount(spooled["train"].labels, minlength=size)
    count = len(train_counts)
    if head is not None and head.num_classes != count:
        raise InputError(f"head: found {head.num_classes} classes, expected {count} of the labels")
    if most > count:
        raise SettingError("train_counts", f"found {count}, expected {most}, one per class")
    if class_names is not None and len(class_names) != count:
        raise SettingError("class_names", f"found {len(class_names)}, expected {count}")
    splits = {name: SplitPlan(split.labels, None) for name, split in spooled.items()}
    width = next(iter(spooled.values())).width
    classes = ClassTable(train_counts, class_names)
    return Plan(width, dtype, splits, classes, head, settings={"family": "in-memory"}, inputs={})


def _hooked(model: nn.Module, inputs: Any, head: str | None) -> Hooked:
    """Return the model with its features caught; features times head must be its output.

    Raises:
        InputError: when the last layer is not found, or is not linear in the features.
    """
    if head is None:
        head = last_layer(type(model).__name__, *outputs_of(model, inputs))
    elif not isinstance(dict(model.named_modules()).get(head), nn.Linear | nn.Conv2d):
        raise SettingError(f"head {head}", "is no linear layer of the model")
    network = Hooked(model, (head,))
    check_head(network, network.record(), inputs)
    return network


def _parts(batch: Any, what: str) -> tuple[Any, Ints]:
    """Return what the model is called with, and the (B,) labels.

    Raises:
        InputError: when the batch has another form, or labels that are no class ids.
    """
    labels: Any = None
    if isinstance(batch, Mapping):
        key = next((key for key in LABELS if key in batch), None)
        inputs: Any = {name: value for name, value in batch.items() if name != key}
        labels = None if key is None else batch[key]
    elif isinstance(batch, list | tuple) and len(batch) >= 2:
        inputs, labels = batch[0], batch[1]
    if labels is None:
        raise InputError(
            f"{what}: found {type(batch).__name__}, expected (inputs, labels), or a mapping with "
            "'labels'"
        )
    ids = np.asarray(labels.cpu() if isinstance(labels, Tensor) else labels)
    if ids.ndim != 1 or ids.dtype.kind not in "iu" or (len(ids) and ids.min() < 0):
        raise InputError(
            f"{what}: labels: found {ids.dtype} {ids.shape}, expected (B,) class ids from 0"
        )
    return inputs, ids.astype(np.int64)


def _on(inputs: Any, device: str) -> Any:
    """Return a batch's inputs on a device."""
    if isinstance(inputs, Mapping):
        return {name: _on(value, device) for name, value in inputs.items()}
    return torch.as_tensor(inputs).to(device)
