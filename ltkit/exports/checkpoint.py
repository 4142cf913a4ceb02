"""Writing a corrected head back into its checkpoint, or into a file of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ltkit import checkpoints
from ltkit.errors import InputError
from ltkit.evaluation import objective, predict_classes
from ltkit.files.atomic import replacing
from ltkit.files.tables import as_csv
from ltkit.records import Classifier, Correction, FeatureSet
from ltkit.settings import LoadSettings
from ltkit.sources.extraction import TOLERANCE

FORMS = ("npz", "safetensors", "csv", "onnx")

PROBES = 8
"""Number of random images on which the exported network must agree with the correction."""


def export_into(
    checkpoint: Path,
    correction: Correction,
    run: int,
    output: Path,
    *,
    made_from: str,
    wanted: LoadSettings | None = None,
    directions: bool = False,
) -> Classifier:
    """Write a checkpoint with the corrected head; nothing else in it changes.

    Before the file gets its name it is loaded again: every tensor but the head's must be equal, and
    its logits on random images must be those of the correction.

    Args:
        checkpoint: the file that the features were extracted with.
        correction: the corrected rows.
        run: its run to export.
        output: the new checkpoint, in the same container and layout.
        made_from: digest of the checkpoint that the features were extracted from.
        wanted: as for `checkpoints.load`, the same as in extraction.
        directions: of a cosine head, write where the rows point, without their lengths and biases.

    Returns:
        The classifier that the checkpoint has now.

    Raises:
        InputError: when the features came from another checkpoint, the head's form cannot hold the
            correction, or the exported network does not reproduce it.
    """
    model = checkpoints.load(checkpoint, wanted)
    if model.digest != made_from:
        raise InputError(
            f"{checkpoint}: digest {model.digest[:12]}, but the features were extracted from "
            f"{made_from[:12]}; name the checkpoint that they came from"
        )
    if model.head is None:
        raise InputError(
            f"{checkpoint}: is a backbone without a head, so none can be corrected in it; use "
            "--to npz"
        )
    corrected, content = correction.classifier(model.head.fold(), run), checkpoints.read(checkpoint)
    if directions:
        corrected = model.head.directions(corrected)
    changes = {}
    for name, values in model.network.hold(corrected).items():
        if name not in model.stored:
            raise InputError(
                f"{checkpoint}: {name}: lies in the base model and not in the adapter; use --to npz"
            )
        there = model.stored[name]
        old = content.states[there.place][there.name]
        new = changes[there.place, there.name] = _stored_as(old, values, there.transposed)
        if not torch.isfinite(new).all():
            raise InputError(
                f"{checkpoint}: {name}: found {np.abs(values).max():.2g} in the correction, which "
                f"{str(old.dtype).removeprefix('torch.')} does not hold; use --to npz"
            )
    with replacing(output) as temporary:
        checkpoints.rewrite(content, temporary, changes)
        _check(content, temporary, changes, corrected, model.wanted)
    return corrected


def loss_of_lengths(
    features: FeatureSet, name: str, corrected: Classifier, written: Classifier
) -> str:
    """Return a note on what the directions of rows alone change.

    Args:
        features: what the correction was made for.
        name: of a split.
        corrected: what was to be written.
        written: its directions.
    """
    before, after = (
        np.linalg.norm(c.weight.reshape(c.num_classes, c.experts, -1), axis=2)
        for c in (corrected, written)
    )
    parts = before / np.where(after > 0, after, 1)
    split, base = features.split(name), features.classifier()
    made = [Correction.whole("", c) for c in (corrected, written)]
    wanted, found = (p[0] for p in predict_classes(split, base, made))
    groups = features.groups()
    scores = [
        100 * objective(p, split.labels, base.num_classes, groups, "balanced")
        for p in (wanted, found)
    ]
    return (
        f"rows had {parts.min():.3g} to {parts.max():.3g} times the head's length, which is lost: "
        f"{100 * np.mean(wanted != found):.2f} % of the predictions on {name} change, balanced "
        f"accuracy from {scores[0]:.2f} to {scores[1]:.2f} %"
    )


def _stored_as(old: torch.Tensor, values: NDArray[Any], transposed: bool) -> torch.Tensor:
    """Return new values with the type, orientation and shape of the old ones."""
    new = torch.from_numpy(np.array(values)).to(old.dtype)
    return (new.T if transposed else new).reshape(old.shape).contiguous()


def _check(
    content: checkpoints.Content,
    after: Path,
    changes: checkpoints.Changes,
    corrected: Classifier,
    wanted: LoadSettings,
) -> None:
    before, new = content.path, checkpoints.read(after).states
    same = all(
        torch.equal(tensor, new.get(place, {}).get(name, torch.empty(0)))
        for place, state in content.states.items()
        for name, tensor in state.items()
        if (place, name) not in changes
    )
    if content.states.keys() != new.keys() or not same:
        raise InputError(f"{before}: cannot be written again tensor by tensor; use --to npz")
    model = checkpoints.load(after, wanted)
    size, channels = model.image_size, len(model.mean)
    half = any(tensor.dtype != torch.float32 for tensor in changes.values())
    probes = torch.randn(PROBES, channels, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features, logits = model.network.features_and_logits(probes)
    told = corrected.told
    expected, found = corrected.logits(features.numpy())[:, told], logits.numpy()[:, told]
    difference = float(np.abs(expected - found).max() / np.abs(expected).max())
    if not difference < (limit := 1e-2 if half else TOLERANCE):
        raise InputError(
            f"{before}: the exported network's logits are off by {difference:.1e} of the largest, "
            f"expected below {limit:g}; nothing was written"
        )


def export_head(classifier: Classifier, form: str, output: Path) -> None:
    """Write a linear classifier to a file: ``weight`` (C, D) and ``bias`` (C,) float32.

    Args:
        classifier: in its linear form; ``normalize_features`` is kept beside it.
        form: ``npz``, ``safetensors``, ``csv`` (one row per class: bias, then weights) or ``onnx``
            (a model from features to logits).
        output: the new file.

    Raises:
        InputError: when onnx is wanted and not installed.
    """
    weight, bias = classifier.weight.astype(np.float32), classifier.bias.astype(np.float32)
    normalized = int(classifier.normalize_features)
    with replacing(output) as temporary:
        if form == "npz":
            with temporary.open("wb") as file:
                np.savez(file, weight=weight, bias=bias, normalize_features=np.array(normalized))
        elif form == "safetensors":
            from safetensors.numpy import save  # its own writer has no OSError

            metadata = {"normalize_features": str(normalized)}
            temporary.write_bytes(save({"weight": weight, "bias": bias}, metadata))
        elif form == "onnx":
            temporary.write_bytes(checkpoints.head_model(classifier, output))
        else:
            heading = ["class", "bias", *(f"w{i}" for i in range(weight.shape[1]))]
            rows = ([c, bias[c], *row.tolist()] for c, row in enumerate(weight))
            temporary.write_text(as_csv(heading, rows, digits=None), encoding="utf-8")
