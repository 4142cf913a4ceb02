"""Bag of tricks and BBN: ``{state_dict, epoch, best_result, ...}``, ``backbone.*``, ``classifier``.

A linear classifier has a bias unless it was configured without; one without is the normalised
head, stored C x D here, and its scale, 30, is in the loss. Learned scales (LWS) are
``classifier.fc`` and ``classifier.scales``, retrained classifiers (cRT) ``classifier.fc`` alone.
BBN's network has two last blocks whose features are joined, C x 128.
"""

from torch import nn

from ltkit.architectures.heads import CosineHead, LinearHead, ScaledHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, Stored, recognise_weights
from ltkit.settings import LoadSettings

SUMMARY = "bag of tricks, BBN ('backbone.*', 'classifier')"
SCALE = 30.0
NAMES = {
    "classifier.weight": "head.weight",
    "classifier.bias": "head.bias",
    "classifier.fc.weight": "head.weight",
    "classifier.fc.bias": "head.bias",
}
SCALED = {
    "classifier.fc.weight": "head.linear.weight",
    "classifier.fc.bias": "head.linear.bias",
    "classifier.scales": "head.scales",
}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a backbone with a classifier beside it, named as in these works."""
    names = {name.removeprefix("module.") for name in content.tensors}
    head = {"classifier.weight", "classifier.fc.weight"} & names
    other = "pytorch-lightning_version" in content.top
    alone = {name.split(".")[0] for name in names} == {"backbone", "classifier"}
    return bool(head) and "backbone.conv1.weight" in names and alone and not other


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network; the classifier's tensors determine its kind.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    names = {name.removeprefix("module."): name for name in content.tensors}
    scaled = "classifier.scales" in names
    ours = SCALED if scaled else NAMES
    stored = {ours.get(own, own): Stored(content.place, name) for own, name in names.items()}
    cosine = not scaled and "head.bias" not in stored and not wanted.linear
    scale = wanted.scale or SCALE

    def make(width: int, count: int) -> nn.Module:
        if cosine:
            return CosineHead(width, count, scale)
        if scaled:
            return ScaledHead(width, count)
        return LinearHead(width, count, bias="head.bias" in stored)

    notes = [f"cosine head, scale {scale:g}; --linear if it is none"] if cosine else []
    weight = "head.linear.weight" if scaled else "head.weight"
    return recognise_weights(
        content, "bag-of-tricks", stored, make, wanted, weight=weight, notes=notes
    )
