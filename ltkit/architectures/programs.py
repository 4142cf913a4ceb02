"""Networks stored as programs: TorchScript, torch.export and ONNX files."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltkit.architectures.heads import LinearHead
from ltkit.architectures.network import Network
from ltkit.errors import InputError
from ltkit.records import Classifier


class Program(Network):
    """A network whose program returns the features along with its logits.

    backbone: (B, channels, H, W) images to (B, C) logits and what goes into the last layer, and
        possibly more.
    head: the last layer's values.
    batch: how many images the program takes at a time, where it takes no other number.
    held: whether the file has the head's tensors; a program may have made them.
    """

    def __init__(
        self, program: nn.Module, head: LinearHead, *, batch: int | None = None, held: bool = True
    ) -> None:
        """Join the program and its last layer."""
        super().__init__(program, head)
        self.batch, self.held = batch, held
        self.training = False

    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, D) features and the program's own (B, C) logits.

        A last batch that is too small is padded with its last image.
        """
        size = self.batch or len(images)
        features, logits = [], []
        for part in images.split(size):
            missing = size - len(part)
            whole = torch.cat([part, part[-1:].expand(missing, *part.shape[1:])])
            found = self.backbone(whole.contiguous())  # programs know one layout of memory
            logits.append(torch.flatten(found[0], 1)[: len(part)])
            features.append(pooled(found[1])[: len(part)])
        return torch.cat(features), torch.cat(logits)

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Return the head's parameters for a linear classifier.

        Raises:
            InputError: when the file has no such tensors, or their form cannot hold it.
        """
        if not self.held:
            raise InputError(
                "head: the program makes its weights itself, no tensor of the file holds them; "
                "use --to npz"
            )
        return super().hold(classifier)

    def train(self, mode: bool = True) -> "Program":
        """Do nothing: a program runs as it was made."""
        return self

    def to(self, *arguments: Any, **named: Any) -> "Program":
        """Move to a device; the memory layout stays as the program expects it."""
        named.pop("memory_format", None)
        return super().to(*arguments, **named)


def pooled(features: Tensor) -> Tensor:
    """Reshape (B, D, 1, 1) to (B, D); return anything else unchanged."""
    return torch.flatten(features, 1) if features.shape[2:] == (1, 1) else features
