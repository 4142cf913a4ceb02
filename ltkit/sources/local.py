"""Shares of images in prototypes of local vectors, extracted beside the features."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltkit.attributes import prototypes
from ltkit.attributes.maps import FeatureMaps
from ltkit.checkpoints import Recognised
from ltkit.checkpoints.content import single
from ltkit.errors import FormatError, SettingError
from ltkit.records import ImageSplit
from ltkit.settings import PROTOTYPES, RANGES, ExtractSettings

AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: str, amp: str) -> torch.autocast:
    """Return the mixed-precision context for an ``amp`` setting."""
    kind = torch.device(device).type
    return torch.autocast(kind, AMP_DTYPES.get(amp, torch.bfloat16), enabled=amp != "off")


@dataclass(frozen=True, eq=False)
class Local:
    """What describes images by local vectors.

    maps: of the network. prototypes: (K, D). record: where they are from, for the file.
    """

    maps: FeatureMaps
    prototypes: Tensor
    record: Mapping[str, Any]

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, D) features and the (B, K) shares of images."""
        features, found = self.maps(images)
        return features, prototypes.shares(found, self.prototypes)


def described(
    model: Recognised,
    first: Callable[[], Tensor],
    blocks: Iterable[tuple[Tensor, Tensor]],
    train: ImageSplit | None,
    settings: ExtractSettings,
) -> Local | None:
    """Return what describes a model's images, where that is wanted; fit prototypes if need be.

    Args:
        model: whose network is where its images are.
        first: gives some of them, with which the feature map is found.
        blocks: those of the train split, with their labels.
        train: the split; None where it is not among those that are extracted.
        settings: ``local`` is ``auto``, how many are fitted, or None.

    Raises:
        SettingError: for a number out of range, or where nothing is there to fit them to.
        InputError: when there is no feature map whose mean is the features, or there are fewer
            local vectors than prototypes.
        FormatError: when the checkpoint's own are of other features.
    """
    if settings.local is None:
        return None
    if settings.local != "auto" and settings.local not in RANGES["local"]:
        raise SettingError("local", f"found {settings.local}, expected {RANGES['local']}")
    network = model.network
    maps = FeatureMaps(network, lambda given: network.features_and_logits(given)[0])
    with torch.inference_mode():
        features, _ = maps(first())
    if settings.local == "auto" and model.prototypes is not None:
        own = _own(model.path, model.prototypes, features.shape[1]).to(features.device)
        return Local(maps, own, {"prototypes": len(own), "of": "checkpoint"})
    if train is None or not len(train):
        raise SettingError("local", "found no images of train, to which prototypes are fitted")
    k = PROTOTYPES if settings.local == "auto" else settings.local
    counts = np.bincount(train.labels)
    with torch.inference_mode(), autocast(features.device.type, settings.amp):
        found = ((maps(images)[1], labels) for images, labels in blocks)
        made = prototypes.fit(found, counts, k, sample=prototypes.SAMPLE).to(features.device)
    record = {"prototypes": k, "of": "train", "sample": prototypes.SAMPLE, "seed": 0}
    return Local(maps, made, record)


def _own(path: Path, found: Tensor, width: int) -> Tensor:
    """Return a checkpoint's prototypes, if they are of its features."""
    if found.ndim != 2 or found.shape[1] != width or not len(found):
        raise FormatError(
            f"{path}: attributes: prototypes: found {tuple(found.shape)}, expected (K, {width}); "
            "train it again, or fit others with --local K"
        )
    return single(found, f"{path}: attributes: prototypes")
