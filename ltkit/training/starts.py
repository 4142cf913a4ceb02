"""What a network starts from: a checkpoint's weights, by name; and which of them are trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ltkit import architectures, checkpoints
from ltkit.architectures.network import Network
from ltkit.checkpoints import Recognised
from ltkit.errors import InputError, SettingError
from ltkit.records import Classifier

UNLIKE = 0.03
"""A difference of means or deviations that is told; pixel values are in 0..1."""


class Start(NamedTuple):
    """A checkpoint that networks start from.

    path: the file, for messages; digest: its SHA-256.
    arch: what its network is called.
    backbone: the weights before its head.
    head: in its linear form, where it is kept, too.
    class_names: of the head's classes, where the file says them.
    mean, std: per channel, with which its images were normalised, as far as that is known.
    note: what of it is used, for the user.
    """

    path: Path
    digest: str
    arch: str
    backbone: dict[str, Tensor]
    head: Classifier | None = None
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    note: str = ""

    def record(self) -> dict[str, str | bool]:
        """Return what determines the result."""
        return {"digest": self.digest, "head": self.head is not None}


def start_of(path: Path, *, keep_head: bool = False) -> Start:
    """Read what a network starts from.

    Args:
        path: any checkpoint that `ltkit.checkpoints.load` reads.
        keep_head: whether the head is kept, too; else it starts anew.

    Raises:
        InputError: when the file cannot be read, or has no head to keep.
    """
    found = checkpoints.load(path)
    head = found.head
    if keep_head and head is None:
        raise SettingError("keep_head", f"{path}: found a backbone without a head; leave it out")
    whole = found.network.state_dict()
    counted = [k for k in whole if not k.endswith(architectures.COUNTER)]  # which starts anew
    backbone = {k.removeprefix("backbone."): whole[k] for k in counted if not _of_head(found, k)}
    kept = head.fold() if keep_head and head else None
    rest = "its head is kept" if keep_head else "its head is left out"
    if head is None:
        rest = "it has no head"
    note = f"{path}: starts from {found.arch}, {len(backbone)} tensors; {rest}"
    return Start(
        path, found.digest, found.arch, backbone, kept, found.class_names, found.mean, found.std,
        note,
    )  # fmt: skip


def unlike(start: Start, mean: Sequence[float], std: Sequence[float]) -> str:
    """Return a note where a checkpoint's images were normalised otherwise than these; else ''."""
    pairs = [*zip(start.mean, mean, strict=False), *zip(start.std, std, strict=False)]
    if all(abs(own - other) <= UNLIKE for own, other in pairs):
        return ""
    its, these = (", ".join(f"{x:.3g}" for x in values) for values in (start.mean, mean))
    return f"{start.path}: its images had the mean {its}; these are normalised with {these}"


def _of_head(found: Recognised, name: str) -> bool:
    """Return whether a tensor belongs to the last layer of a checkpoint's network."""
    heads = ["head"]
    if not isinstance(found.network, Network):
        heads = [f"model.{head}" for head in found.network.heads]
    return any(name.startswith(f"{head}.") for head in heads)


def put(start: Start, network: Network, arch: str, names: Sequence[str] | None) -> None:
    """Put the weights of a start into a network.

    Args:
        start: what it starts from.
        network: to be filled.
        arch: what it is called.
        names: of its classes, where they have any.

    Raises:
        InputError: when a weight is missing, left over or of another shape, or the head is of
            other classes, or cannot be held by the network's.
    """
    expected = network.backbone.state_dict()
    given = start.backbone
    needed = [name for name in expected if not name.endswith(architectures.COUNTER)]
    wrong = sorted(given.keys() ^ {*needed}) or [
        name for name in needed if given[name].shape != expected[name].shape
    ]
    if wrong:
        raise SettingError(
            "init",
            f"found {start.arch}, expected the weights of {arch}; {len(wrong)} do not fit, first "
            f"{wrong[0][:60]}; name its network with --arch",
            where=f"{start.path}: ",
        )
    network.backbone.load_state_dict(expected | given)
    if start.head is not None:
        _put_head(start, start.head, network, names)


def _put_head(
    start: Start, head: Classifier, network: Network, names: Sequence[str] | None
) -> None:
    """Put the head of a start into a network."""
    record = network.record()
    count = record.num_classes if record else 0
    if head.num_classes != count:
        raise SettingError(
            "keep_head",
            f"found a head of {head.num_classes} classes, expected {count}; leave it out",
            where=f"{start.path}: ",
        )
    if start.class_names and names and [*start.class_names] != [*names]:
        raise SettingError(
            "keep_head", "found other classes, or another order of them; leave it out",
            where=f"{start.path}: ",
        )  # fmt: skip
    if record is not None and head.normalize_features != (record.normalize != "none"):
        kinds = ("a cosine head", "a linear one; cosine makes it one, of the same scale")
        other = ("a linear head", "a cosine one; leave cosine out")
        found, expected = kinds if head.normalize_features else other
        raise SettingError(
            "keep_head", f"found {found}, expected {expected}", where=f"{start.path}: "
        )
    try:
        held = network.hold(head)
    except InputError as error:
        raise SettingError("keep_head", f"{error}", where=f"{start.path}: ") from error
    values = {name: torch.from_numpy(value.copy()) for name, value in held.items()}
    network.load_state_dict(network.state_dict() | values)


def last_block(backbone: nn.Module, arch: str) -> list[nn.Module]:
    """Return the last residual block, of each expert where there are several, and what follows it.

    Raises:
        SettingError: when the network has no residual blocks.

    Example:
        >>> network = architectures.build("resnet20", 2)
        >>> last_block(network.backbone, "resnet20")[0] is network.backbone.layer3[-1]
        True
    """
    names = [name for name, _ in backbone.named_children()]
    stages = [name for name in names if name.startswith(("layer", "block"))]
    if not stages:
        raise SettingError("train", f"last-block: {arch} has no residual blocks; expected all")
    stage = backbone.get_submodule(stages[-1])
    after = [backbone.get_submodule(name) for name in names[names.index(stages[-1]) + 1 :]]
    if any(isinstance(module, nn.Conv2d) for part in after for module in part.modules()):
        return after  # BBN's two branches are the last blocks
    branches = list(stage.children()) if isinstance(stage, nn.ModuleList) else [stage]
    return [[*branch.children()][-1] for branch in branches] + after


def train_only(backbone: nn.Module, trained: list[nn.Module]) -> None:
    """Hold all but some modules as they are, their batch norm statistics included."""
    backbone.requires_grad_(False)
    backbone.eval()
    for module in trained:
        module.requires_grad_(True)
        module.train()
