"""What a network is taught by: a checkpoint's network, held as it is."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ltkit import checkpoints
from ltkit.checkpoints import Recognised
from ltkit.errors import SettingError
from ltkit.records import Dataset
from ltkit.settings import Amp
from ltkit.training import distributed
from ltkit.training.validation import autocast


class Teacher:
    """A checkpoint's network, which gives the logits of images.

    It is in evaluation: its batch norm has the statistics of the checkpoint, not of the batch.

    path: the file, for messages; digest: its SHA-256.
    note: what it is, for the user.
    """

    def __init__(self, found: Recognised, mean: Sequence[float], std: Sequence[float]) -> None:
        """Hold the network.

        Args:
            found: the checkpoint.
            mean: per channel, with which the images are normalised; the network gets them as it was
                trained on them.
            std: deviation, as well.
        """
        self.path, self.digest = found.path, found.digest
        self.network = found.network.requires_grad_(False).eval()
        own = [torch.tensor(values)[:, None, None] for values in (found.mean, found.std)]
        these = [torch.tensor(values)[:, None, None] for values in (mean, std)]
        self.factor, self.shift = these[1] / own[1], (these[0] - own[0]) / own[1]
        self.note = f"{found.path}: teaches, {found.arch}; it sees the same views of the images"

    def to(self, device: torch.device) -> "Teacher":
        """Move it to a device; return it."""
        self.network.to(device)
        self.factor, self.shift = self.factor.to(device), self.shift.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor, amp: Amp = "off") -> Tensor:
        """Return (B, C) logits of (B, channels, H, W) images, the same in all processes."""
        own = images[distributed.part(len(images))]
        return distributed.whole(self.logits(own, amp), len(images))

    @torch.no_grad()
    def logits(self, images: Tensor, amp: Amp = "off") -> Tensor:
        """Return the (B, C) logits of this process's images."""
        with autocast(images.device.type, amp):
            logits: Tensor = self.network(images * self.factor + self.shift)
        return logits.float()


def teacher_of(path: Path, dataset: Dataset) -> Teacher:
    """Read a teacher of a dataset's classes.

    Args:
        path: any checkpoint that `ltkit.checkpoints.load` reads.
        dataset: as the network sees it.

    Raises:
        InputError: when the file cannot be read, has no head, or one of other classes, or its
            network cannot take these images.
    """
    found, names = checkpoints.load(path), dataset.classes.names
    head = found.head
    if head is None:
        raise _refused(path, "found a backbone without a head, expected a classifier")
    if head.num_classes != len(dataset.classes):
        said = f"found a head of {head.num_classes} classes, expected {len(dataset.classes)}"
        raise _refused(path, f"{said}; name a checkpoint of this dataset")
    if found.class_names and names and [*found.class_names] != [*names]:
        raise _refused(path, "found other classes, or another order of them")
    height, width, channels = dataset.split("train").images[:1].shape[1:]
    if len(found.mean) != channels:
        said = f"found a network of {len(found.mean)} channels, the images have {channels}"
        raise _refused(path, said)
    teacher = Teacher(found, dataset.mean, dataset.std)
    try:
        teacher.network(torch.zeros(1, channels, height, width))
    except (AssertionError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:100]
        said = f"{found.arch} cannot take images of {height} x {width} pixels ({reason})"
        raise _refused(path, said) from error
    return teacher


def _refused(path: Path, said: str) -> SettingError:
    """Return the error of a checkpoint that cannot teach."""
    return SettingError("teacher", said, where=f"{path}: ")
