"""Small pictures of classes, from the images that the features were extracted from."""

import base64
import io
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from ltkit.datasets.images import ImageFiles
from ltkit.errors import InputError
from ltkit.records import FeatureSet, ImageView

EACH = 4
"""Pictures per class."""

SIDE = 64
"""Side length in pixels."""


def thumbnails(features: FeatureSet, folder: Path) -> dict[int, list[str]]:
    """Return each class's pictures as data URLs, of its first readable training images.

    A features file names each image by its path in the dataset's folder; nothing outside of the
    folder is read.

    Args:
        features: with the ids of its images.
        folder: the dataset's.

    Raises:
        InputError: when the features name no images, or none of them can be read.
    """
    split = features.splits.get("train") or next(iter(features.splits.values()))
    if split.ids is None:
        raise InputError(f"--images: {features.source} does not name its images; extract it again")
    if not folder.is_dir():
        raise InputError(f"--images: {folder}: no such folder; name the dataset's")
    found: dict[int, list[str]] = {}
    for class_id in range(len(features.classes)):
        rows = np.flatnonzero(split.labels == class_id)[: 4 * EACH]
        every = (_picture(folder, str(split.ids[row])) for row in rows)
        if pictures := list(islice(filter(None, every), EACH)):
            found[class_id] = pictures
    if not found:
        raise InputError(
            f"--images: {folder}: found none of the images that {features.source} names, as "
            f"{str(split.ids[0])[:80]!r}; name the folder that they are in"
        )
    return found


def _picture(folder: Path, name: str) -> str | None:
    """Return an image as a data URL; None if the folder holds no readable one."""
    try:
        (pixels,) = ImageFiles([folder / name], ImageView(SIDE, SIDE), root=folder)[:1]
    except (OSError, ValueError, InputError):  # a name that is none: NUL, too long; no picture
        return None
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG", quality=75)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"
