"""From images to features: one forward pass, checked against the model's own logits."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ltkit.architectures.network import Extractable
from ltkit.attributes.maps import PROBED
from ltkit.checkpoints import Recognised
from ltkit.datasets.images import ImageFiles
from ltkit.datasets.view import Known, SeenAs, resolve
from ltkit.errors import InputError, SettingError
from ltkit.files.features_writer import FeaturesWriter, Plan, SplitPlan, check_finished, is_finished
from ltkit.narrowing import narrowed
from ltkit.records import Dataset, Head, Images, ImageSplit, blocks, stored_bins
from ltkit.settings import ExtractSettings, ViewSettings, as_json
from ltkit.sources.local import Local, autocast, described

TOLERANCE = 1e-4
"""Largest difference between features times head and the model's logits, relative to the
largest."""

T = TypeVar("T")


def extract(
    model: Recognised,
    dataset: Dataset,
    splits: Sequence[str],
    output: Path,
    settings: ExtractSettings,
    *,
    device: str = "cpu",
    command: str = "",
    seen: SeenAs | None = None,
    resume: bool = False,
    report: Callable[[str, int, int], None] = lambda split, done, total: None,
    note: Callable[[str], None] = lambda message: None,
) -> str:
    """Write the penultimate features of a dataset's splits and the model's head.

    The features are what goes into the head. Before anything is written, features times head must
    give the model's own logits on the first batch. Finished blocks survive an interruption; see
    `FeaturesWriter`.

    Args:
        model: network, head and normalisation.
        dataset: images and labels.
        splits: which splits to extract.
        output: the features file.
        settings: batch size, stored type, mixed precision, what to do about broken images.
        device: ``cpu`` or ``cuda[:i]``.
        command: recorded in the file.
        seen: how the network sees the pictures; None: as is found out.
        resume: resume an interrupted run with the same inputs; a finished file with these inputs
            is kept.
        report: called with (split, rows done, rows in all).
        note: called with notes for the user.

    Returns:
        The file's digest.

    Raises:
        InputError: when the classes do not match, an image cannot be read, the head does not give
            the model's logits, features are not finite, the disk is full or one image does not fit
            the device's memory.
    """
    head = None if settings.no_head else model.head
    if head is not None and head.num_classes != len(dataset.classes):
        raise InputError(
            f"{model.path}: head: found {head.num_classes} classes, expected "
            f"{len(dataset.classes)} of {dataset.record['spec']}; --no-head takes features alone"
        )
    seen = seen or resolve(dataset, ViewSettings(), Known(model.view, model.view_said, model.arch))
    chosen = {name: _readable(dataset.split(name), settings, seen) for name in splits}
    network = model.network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    view = _Normalise(model.mean, model.std, device)
    first = _first(chosen, dataset)

    width, size = _fitting(
        lambda size: check_head(network, head, view(first.images[:size])), settings.batch_size, note
    )
    train = chosen["train"][0] if "train" in chosen else None
    seen_there = _in_blocks(train, view, settings, size, report)
    local = described(model, lambda: view(first.images[:PROBED]), seen_there, train, settings)
    plan = _plan(model, head, width, dataset, chosen, settings, seen, local)
    if resume and is_finished(output):
        return check_finished(output, plan)

    def outputs_of(images: NDArray[np.uint8], size: int) -> list[NDArray[Any]]:
        with torch.inference_mode(), autocast(device, settings.amp):
            inputs = (view(images[rows]) for rows in blocks(len(images), size))
            each = [local(x) if local else network.features_and_logits(x)[:1] for x in inputs]
        return [np.concatenate([in_numpy(x) for x in part]) for part in zip(*each, strict=True)]

    with FeaturesWriter(output, plan, command=command, resume=resume) as writer:
        for name, (part, _) in chosen.items():
            done = {key: writer.done(key) for key in (name, f"{name}/local")[: 2 if local else 1]}
            start = min(done.values()) // settings.batch_size * settings.batch_size  # as unstopped
            for rows, images in _prefetched(part.images, start, settings.batch_size):
                outputs, size = _fitting(partial(outputs_of, images), size, note)
                for (key, before), values in zip(done.items(), outputs, strict=True):
                    writer.append(key, values[max(0, before - rows.start) :])
                report(name, rows.stop, len(part))
        return writer.finish()


def _in_blocks(
    split: ImageSplit | None,
    view: "_Normalise",
    settings: ExtractSettings,
    size: int,
    report: Callable[[str, int, int], None],
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a split's images as the network takes them, in blocks, with their labels."""
    for rows, images in _prefetched(split.images, 0, settings.batch_size) if split else ():
        for part in blocks(len(images), size):
            labels = torch.from_numpy(split.labels[rows][part])  # type: ignore[union-attr]
            yield view(images[part]), labels
        report("prototypes", rows.stop, len(split or ()))


def _first(chosen: dict[str, tuple[ImageSplit, Any]], dataset: Dataset) -> ImageSplit:
    """Return the first split that has an image.

    Raises:
        InputError: when none has.
    """
    for part, _ in chosen.values():
        if len(part):
            return part
    raise InputError(f"{dataset.record['spec']}: found no image in {', '.join(chosen)}")


def _plan(
    model: Recognised,
    head: Head | None,
    width: int,
    dataset: Dataset,
    chosen: dict[str, tuple[ImageSplit, Any]],
    settings: ExtractSettings,
    seen: SeenAs,
    local: Local | None = None,
) -> Plan:
    """Return everything in the features file except the features.

    Args:
        model: that features are extracted with.
        head: of the model, if it has one.
        width: of the features.
        dataset: whose classes it holds.
        chosen: each split, with the ids of the images that are skipped.
        settings: of the extraction; how many processes decode images is left out.
        seen: how the network sees the pictures.
        local: what describes images by local vectors, if anything does.
    """
    left_out = ("workers", "bins", "local")
    return Plan(
        width,
        settings.dtype,
        {n: SplitPlan(part.labels, part.ids, skipped) for n, (part, skipped) in chosen.items()},
        dataset.classes,
        head,
        settings={k: v for k, v in as_json(settings).items() if k not in left_out}
        | stored_bins(settings.bins, dataset.classes.train_count)
        | {"arch": model.arch, "family": model.family, "dataset": dict(dataset.record)}
        | {"load": model.wanted.kept()}
        | {"view": seen.record()}
        | ({"local": dict(local.record)} if local else {}),
        inputs={"checkpoint": model.digest, "images": _content_key(chosen)},
        prototypes=None if local is None else in_numpy(local.prototypes),
        moving_mean=None
        if head is None or model.moving_mean is None
        else in_numpy(model.moving_mean),
    )


def _fitting(work: Callable[[int], T], size: int, note: Callable[[str], None]) -> tuple[T, int]:
    """Process this many images at a time, or half as many if they do not fit the memory.

    Returns:
        The result, and the number of images that were processed at a time.

    Raises:
        InputError: when one image does not fit the device's memory.
    """
    while True:
        try:
            return work(size), size
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise SettingError(
                    "device",
                    "one image does not fit its memory; use another device, or --amp bf16",
                ) from error
        size = (size + 1) // 2
        torch.cuda.empty_cache()
        note(f"note: the device's memory is full, continuing with {size} images at a time")


def _run(network: Extractable, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features and the logits of a batch.

    Raises:
        InputError: when the network rejects images of that size.
    """
    try:
        with torch.inference_mode():
            return network.features_and_logits(images)
    except torch.OutOfMemoryError:
        raise
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:140] if str(error) else type(error).__name__
        raise InputError(
            f"images: the network does not take a batch of {_shape(images)} ({reason}); give "
            "images of the size and the channels that it was trained on, if need be by a transform"
        ) from error


def _shape(images: Any) -> str:
    """Return the shape of a batch; of a mapping, what it has."""
    return str(tuple(images.shape)) if hasattr(images, "shape") else ", ".join(images)


def check_head(network: Extractable, head: Head | None, images: Tensor) -> int:
    """Refuse a head that does not give the model's logits from its features.

    Args:
        network: of the model.
        head: its linear form; None for a backbone alone, whose features must be one vector each.
        images: normalised.

    Returns:
        How wide the features are.

    Raises:
        InputError: with the difference, relative to the largest logit; or with the network's
            error for images of that size.
    """
    features, logits = _run(network, images)
    if features.ndim != 2:
        found = tuple(features.shape)
        raise SettingError(
            "head", f"found an input of shape {found}, expected (batch, features); name another"
        )
    if head is None:
        return features.shape[1]
    own, folded = in_numpy(logits), head.fold()
    rows = narrowed(in_numpy(features), np.dtype(np.float32), "head: features of row", 0)
    ours = folded.logits(rows)
    if ours.shape != own.shape:
        raise SettingError(
            "head",
            f"features times head are {ours.shape}, the model's logits {own.shape}; name the last "
            "layer",
        )
    ours, own = ours[:, folded.told], own[:, folded.told]
    difference = float(np.abs(ours - own).max() / max(float(np.abs(own).max()), 1e-12))
    if not difference < TOLERANCE:
        raise InputError(
            f"head: features times head differ from the model's logits by {difference:.1e} of the "
            f"largest, expected below {TOLERANCE:g}; the head was not recognised correctly"
        )
    return features.shape[1]


def in_numpy(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; of types that NumPy lacks, or that are narrow, as float32."""
    held = tensor if tensor.dtype == torch.float64 else tensor.float()
    return held.cpu().numpy()


class _Normalise:
    """Maps (B, H, W, channels) uint8 pixels to normalised (B, channels, H, W) on a device."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: str) -> None:
        self.mean = torch.tensor(mean, device=device) * 255
        self.scale = 1 / (torch.tensor(std, device=device) * 255)

    def __call__(self, pixels: NDArray[Any]) -> Tensor:
        if pixels.dtype == np.float32:
            return torch.from_numpy(np.ascontiguousarray(pixels)).to(self.mean.device)
        values = torch.from_numpy(np.ascontiguousarray(pixels)).to(self.mean.device).float()
        return values.sub_(self.mean).mul_(self.scale).permute(0, 3, 1, 2)


def _prefetched(images: Images, start: int, size: int) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
    """Yield (rows, images) from `start` on, reading one batch ahead."""
    batches = [slice(s.start + start, s.stop + start) for s in blocks(len(images) - start, size)]
    if not batches:
        return
    with ThreadPoolExecutor(1) as reader:
        ahead = reader.submit(images.__getitem__, batches[0])
        for rows, following in zip(batches, [*batches[1:], slice(0, 0)], strict=True):
            current = ahead.result()
            ahead = reader.submit(images.__getitem__, following)
            yield rows, current


def _readable(
    split: ImageSplit, settings: ExtractSettings, seen: SeenAs
) -> tuple[ImageSplit, NDArray[np.str_] | None]:
    """Return the split without unreadable images, and their ids.

    Only with ``--on-error skip`` is every image tried beforehand, so that the file's rows are known
    before it is made; otherwise an unreadable image ends the run when it is met.
    """
    as_seen = seen.of(split, settings.workers)
    files = as_seen.images if isinstance(as_seen.images, ImageFiles) else split.images
    if settings.on_error == "fail" or not isinstance(files, ImageFiles):
        return as_seen, None
    with ThreadPoolExecutor(settings.workers) as pool:
        good = np.array(list(pool.map(partial(_decodes, files), range(len(files)))), dtype=bool)
    kept = np.flatnonzero(good)
    images = replace(files, paths=[files.paths[i] for i in kept.tolist()])
    part = ImageSplit(images, split.labels[kept], split.ids[kept])
    return seen.of(part, settings.workers), split.ids[~good]


def _decodes(files: ImageFiles, index: int) -> bool:
    try:
        files.decode(index)
    except InputError:
        return False
    return True


def _content_key(chosen: dict[str, tuple[ImageSplit, Any]]) -> str:
    """Return a digest of the extracted images, their order and their labels."""
    digest = hashlib.sha256()
    for name, (part, _) in chosen.items():
        digest.update(f"{name} {len(part)}".encode())
        digest.update("\0".join(part.ids.tolist()).encode())
        digest.update(part.labels.astype("<i8").tobytes())
    return digest.hexdigest()
