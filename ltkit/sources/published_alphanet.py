"""Writing the published AlphaNet code's feature files into a features file, without images.

Its data are pickles named ``train*.pkl``, ``val*.pkl`` and ``test*.pkl``, each ``{feats, labels,
idxs}`` with (N, D) values, and a classifier that ``torch.save`` wrote: ``{weight, bias}``, or a
list of ``{classifier_loader, classifier_file}``, one an expert, whose features stand one after
another. Pickles are read by the unpickler of checkpoints, which builds nothing but plain data.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.checkpoints import read_object, values_of
from ltkit.errors import FormatError, InputError
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan
from ltkit.narrowing import as_float32
from ltkit.records import SPLITS, ClassTable, Head, Ints


def import_alphanet(
    classifier: Path, folder: Path, output: Path, *, dtype: str = "float32", command: str = ""
) -> str:
    """Write the published code's features and classifier into a features file.

    Args:
        classifier: ``{weight (C, D), bias (C,) or None}``, or the list of experts' files, which lie
            beside it or below.
        folder: where ``train*.pkl``, ``val*.pkl`` and ``test*.pkl`` are; a split may be in parts,
            which are joined in the order of their names.
        output: the features file.
        dtype: ``float32`` or ``float16``, how features are stored.
        command: recorded in the file.

    Returns:
        The file's digest.

    Raises:
        InputError: when a file is missing, or arrays do not fit each other.
        FormatError: when a file holds something else.
    """
    parts = {split: sorted(folder.glob(f"{split}*.pkl")) for split in SPLITS}
    parts = {split: paths for split, paths in parts.items() if paths}
    if "train" not in parts:
        raise InputError(
            f"{folder}: found no train*.pkl, expected the features of the training set"
        )
    head = _head(classifier)
    splits = {split: [_part(path, head) for path in paths] for split, paths in parts.items()}
    labels = {split: np.concatenate([y for _, y in found]) for split, found in splits.items()}
    digest = hashlib.sha256()
    for path in [classifier, *(path for paths in parts.values() for path in paths)]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    plan = Plan(
        head.feature_size,
        dtype,
        {split: SplitPlan(y, None) for split, y in labels.items()},
        ClassTable(np.bincount(labels["train"], minlength=head.num_classes)),
        head,
        settings={"dtype": dtype},
        inputs={"alphanet": digest.hexdigest()},
    )
    with FeaturesWriter(output, plan, command=command, resume=False) as writer:
        for split, found in splits.items():
            for features, _ in found:
                writer.append(split, features)
        return writer.finish()


def _head(path: Path, *, expert: bool = False) -> Head:
    """Return the linear head, or the experts' heads."""
    found, _ = read_object(path)
    if isinstance(found, list) and found and not expert:
        heads = [_head(_beside(path, entry), expert=True) for entry in found]
        shapes = {head.weight.shape for head in heads}
        if len(shapes) > 1:
            raise InputError(
                f"{path}: experts: found weights of {sorted(shapes)}, expected one shape"
            )
        return Head(np.stack([h.weight for h in heads]), np.stack([h.bias for h in heads]))
    weight = values_of(found.get("weight")) if isinstance(found, Mapping) else None
    if weight is None or weight.ndim != 2:
        raise FormatError(f"{path}: weight: absent, expected (classes, features); save it again")
    bias = values_of(found["bias"]) if found.get("bias") is not None else np.zeros(len(weight))
    if bias is None or bias.shape != weight.shape[:1]:
        raise FormatError(f"{path}: bias: does not fit weight {weight.shape}; save it again")
    if weight.dtype.kind != "f" or bias.dtype.kind != "f":
        raise FormatError(
            f"{path}: weight, bias: found {weight.dtype} and {bias.dtype}, expected floating-point "
            "numbers; save the weights as they are trained"
        )
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise FormatError(f"{path}: weight, bias: hold NaN or infinity; the model is damaged")
    return Head(as_float32(weight, f"{path}: weight"), as_float32(bias, f"{path}: bias"))


def _beside(path: Path, entry: Any) -> Path:
    """Return an expert's file, which must be in the list's folder or below."""
    name = entry.get("classifier_file") if isinstance(entry, Mapping) else None
    if not isinstance(name, str):
        raise FormatError(f"{path}: classifier_file: absent in an entry of the list of experts")
    file = path.parent / name
    if "\0" in name or not Path(os.path.realpath(file)).is_relative_to(path.parent.resolve()):
        raise InputError(f"{path}: {name}: lies outside of {path.parent}; put it beside the list")
    if not file.is_file() or file == path:
        raise InputError(f"{path}: {name}: not found; put it beside the list")
    return file


def _part(path: Path, head: Head) -> tuple[NDArray[Any], Ints]:
    """Return the (N, D) features and (N,) labels of one pickle."""
    found, _ = read_object(path, bare=True)
    if not isinstance(found, Mapping):
        raise FormatError(f"{path}: found a {type(found).__name__}, expected feats and labels")
    features, labels = (values_of(found.get(key)) for key in ("feats", "labels"))
    if features is None or labels is None:
        raise FormatError(f"{path}: feats, labels: expected two arrays of numbers; save them again")
    if features.ndim != 2 or features.shape[1] != head.feature_size:
        raise InputError(
            f"{path}: feats: found {features.shape}, expected (N, {head.feature_size}) for the "
            "classifier"
        )
    if labels.shape != features.shape[:1]:
        raise InputError(f"{path}: labels: found {labels.shape}, expected ({len(features)},)")
    numbers = labels.astype(np.int64)
    wrong = np.flatnonzero((numbers != labels) | (numbers < 0) | (numbers >= head.num_classes))
    if len(wrong):
        raise InputError(
            f"{path}: labels: row {wrong[0]}: found {labels[wrong[0]]}, expected a whole number "
            f"from 0 to {head.num_classes - 1}"
        )
    return features, numbers
