"""Small pictures of classes, from the images that the features were extracted from."""

import base64
import io
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ltkit import datasets
from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError, LtkitError
from ltkit.records import FeatureSet, ImageView

EACH = 4
"""Pictures per class."""

SIDE = 64
"""Side length in pixels."""

ARCHIVES = ("cifar10_lt", "cifar100_lt", "digits_lt")
"""Datasets whose images are no files: they are read whole, and found by their ids."""


class Pictures:
    """The images that a features file names, as data URLs."""

    def __init__(self, features: FeatureSet, folder: Path) -> None:
        """Look into a dataset's folder.

        A features file names each image by its path in the folder; nothing outside of it is read.
        The archives of CIFAR are read whole.

        Args:
            features: with the ids of its images.
            folder: the dataset's.

        Raises:
            InputError: when there is no such folder.
        """
        if not folder.is_dir():
            raise InputError(f"--images: {folder}: no such folder; name the dataset's")
        self.folder = folder
        self.held = _held(features, folder)

    def __call__(self, name: str) -> str | None:
        """Return an image; None if it cannot be found, or read."""
        pixels = self.held.get(name)
        if pixels is None:
            try:
                path = self.folder / name
                (pixels,) = ImageFiles([path], ImageView(SIDE, SIDE), root=self.folder)[:1]
            except (OSError, ValueError, InputError):  # a name that is none; no picture
                return None
        image = Image.fromarray(pixels)
        if min(image.size) < SIDE:
            image = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        content = io.BytesIO()
        image.save(content, "JPEG", quality=75)
        return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _held(features: FeatureSet, folder: Path) -> dict[str, NDArray[np.uint8]]:
    """Return the pixels of an archive's images by id; none of another dataset."""
    record = features.settings.get("dataset")
    spec = record.get("spec") if isinstance(record, dict) else None
    if not isinstance(spec, str) or spec.partition(":")[0] not in ARCHIVES:
        return {}
    try:
        splits = datasets.load(spec, folder).splits.values()
    except LtkitError:  # not there: the pictures are not shown, and the page says so
        return {}
    return {
        str(name): np.squeeze(pixels, axis=2) if pixels.shape[2] == 1 else pixels
        for split in splits
        for name, pixels in zip(split.ids, split.images[:], strict=True)
    }


def thumbnails(features: FeatureSet, pictures: Pictures) -> dict[int, list[str]]:
    """Return each class's pictures as data URLs, of its first readable training images.

    Args:
        features: with the ids of its images.
        pictures: of them.

    Raises:
        InputError: when the features name no images, or none of them can be read.
    """
    split = features.splits.get("train") or next(iter(features.splits.values()))
    if split.ids is None:
        raise InputError(f"--images: {features.source} does not name its images; extract it again")
    found: dict[int, list[str]] = {}
    for class_id in range(len(features.classes)):
        rows = np.flatnonzero(split.labels == class_id)[: 4 * EACH]
        every = (pictures(str(split.ids[row])) for row in rows)
        if urls := list(islice(filter(None, every), EACH)):
            found[class_id] = urls
    if not found:
        raise InputError(
            f"--images: {pictures.folder}: found none of the images that {features.source} names, "
            f"as {str(split.ids[0])[:80]!r}; name the folder that they are in"
        )
    return found
