"""Which network fits a dataset's pictures, and how a network sees them."""

from dataclasses import replace

import numpy as np

from ltkit import architectures
from ltkit.datasets.images import SMALL, ImageFiles, usual_view
from ltkit.datasets.view import SAMPLE, Known, resolve
from ltkit.records import Dataset, ImageView
from ltkit.settings import ViewSettings, as_json

GREY, TINY, LARGE = "digits_net", "resnet32", "resnet18"
"""Networks for one channel, for pictures up to `SMALL` pixels, and for larger ones."""


def network_for(dataset: Dataset, experts: int = 1) -> str:
    """Return the architecture that fits the training pictures.

    Of files, the median of the shorter sides of a sample decides.

    Args:
        dataset: the pictures.
        experts: of the network.

    Raises:
        InputError: for a picture of the sample that cannot be read, or when the network that fits
            has no form with so many experts.
    """
    return architectures.with_experts(_single_for(dataset), experts)


def _single_for(dataset: Dataset) -> str:
    """Return the architecture of one expert."""
    images = dataset.split("train").images
    if isinstance(images, ImageFiles):
        sides = []
        for index in np.unique(np.linspace(0, len(images) - 1, SAMPLE).astype(int)).tolist():
            with images.opened(index) as image:
                sides.append(min(image.size))
        side, channels = float(np.median(sides)), 3
    else:
        side, channels = images[0:1].shape[1], images[0:1].shape[-1]
    if channels == 1:
        return GREY
    return TINY if side <= SMALL else LARGE


def as_seen(dataset: Dataset, arch: str, view: ViewSettings) -> tuple[Dataset, list[str]]:
    """Return a dataset as a network sees it, and what to tell the user.

    Args:
        dataset: whose files are brought to the network's size.
        arch: a key of `ltkit.architectures.CATALOGUE`.
        view: what is said of the size.

    Raises:
        InputError: for an unknown architecture, or as `ltkit.datasets.view.resolve`.
    """
    usual = usual_view(architectures.spec(arch).image_size)
    seen = resolve(dataset, view, Known(usual, name=arch))
    lines = [seen.line(), *seen.notes]
    if seen.view is None:  # what a folder of pictures has to be brought to, later
        side = next(s.images[0:1].shape[1] for s in dataset.splits.values() if len(s))
        record = {**dataset.record, "view": as_json(ImageView(side, side))}
        return replace(dataset, record=record), lines
    splits = {name: seen.of(split) for name, split in dataset.splits.items()}
    record = {**dataset.record, "view": seen.record()}
    padding = seen.view.crop // 8
    return replace(dataset, splits=splits, record=record, crop_padding=padding), lines
