"""What a checkpoint turns out to be: a network, its head, how its images are normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ltkit import architectures
from ltkit.architectures.network import CosineHead, Network
from ltkit.errors import FormatError
from ltkit.records import Head

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Recognised:
    """A checkpoint with its network built and its weights loaded.

    family: the module of `ltkit.checkpoints` that knew it.
    mean, std: per channel, of pixel values in 0..1.
    trained_on: the dataset's record where the file has it (spec, index digest).
    head_names: what the file calls the head's weight and bias.
    skipped: objects in the file that were not built.
    """

    path: Path
    digest: str
    family: str
    arch: str
    network: Network
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_on: Mapping[str, object]
    head_names: tuple[str, str] = ("head.weight", "head.bias")
    skipped: tuple[str, ...] = ()

    @property
    def head(self) -> Head:
        """The last layer as a record."""
        layer = self.network.head
        weight = layer.get_parameter("weight").detach().float().cpu().numpy()
        if isinstance(layer, CosineHead):
            bias = torch.zeros(len(weight)).numpy()
            return Head(weight, bias, layer.scale, "cosine")
        return Head(weight, layer.get_parameter("bias").detach().float().cpu().numpy())


def build(
    path: Path,
    arch: str,
    tensors: Mapping[str, Tensor],
    *,
    cosine: bool = False,
    scale: float = 1.0,
) -> Network:
    """Build a network and load its weights, every one of them.

    Args:
        path: the checkpoint, for messages.
        arch: a key of `ltkit.architectures.CATALOGUE`.
        tensors: by our own names, ``backbone.*`` and ``head.*``; half precision becomes float32.
        cosine: whether the head is a cosine head.
        scale: of a cosine head.

    Raises:
        FormatError: when tensors are missing, left over or of another shape; the first are named.
        InputError: when the architecture is not known.
    """
    head = tensors.get("head.weight")
    num_classes = len(head) if head is not None and head.ndim else 1
    network = architectures.build(arch, num_classes, cosine=cosine, scale=scale)
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith(".num_batches_tracked")}
    missing = [name for name in expected if name not in tensors and name not in counters]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise FormatError(
            f"{path}: does not fit {arch}: {len(missing)} tensors missing ({_first(missing)}), "
            f"{len(extra)} unexpected ({_first(extra)}); name the right one with --arch"
        )
    for name, tensor in tensors.items():
        wanted = expected[name]
        if (tensor.shape, tensor.is_floating_point()) != (wanted.shape, wanted.is_floating_point()):
            raise FormatError(
                f"{path}: {name}: found {tensor.dtype} {tuple(tensor.shape)}, expected "
                f"{wanted.dtype} {tuple(wanted.shape)} for {arch}; name the right one with --arch"
            )
    network.load_state_dict(
        {name: expected[name] for name in counters}  # only for training; old files lack them
        | {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    )
    return network.eval()


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) if names else "none"
