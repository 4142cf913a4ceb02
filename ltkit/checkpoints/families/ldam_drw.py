"""LDAM-DRW and its descendants: IB, CMO, SSP, GCL.

``{epoch, arch, state_dict, best_acc1, optimizer}``; the head is ``[module.]linear``. A linear head
has a bias. A cosine head has none, is stored D x C (a few descendants store C x D), and its factor,
30, is in the loss: the network's own outputs are cosines.
"""

from functools import partial

from ltkit.architectures.heads import CosineHead, LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, Stored, bare, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "LDAM-DRW, IB, CMO, SSP, GCL ('epoch', 'arch', 'state_dict', head 'linear')"
SCALE = 30.0
BODY = {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"}
HEAD = {"linear.weight": "head.weight", "linear.bias": "head.bias"}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the entries are those of the family's script, and the head is ``linear``."""
    names = {name.removeprefix("module.") for name in content.tensors}
    return (
        {"epoch", "arch", "state_dict"} <= content.top.keys()
        and {"linear.weight", "conv1.weight"} <= names
        and {name.split(".")[0] for name in names} <= BODY | {"linear"}
    )


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network; the head's orientation follows from the width of the features.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    place, names = content.place, bare(content.path, content.tensors)
    body = {own: name for own, name in names.items() if own not in HEAD}
    head = {HEAD[own]: Stored(place, name) for own, name in names.items() if own in HEAD}
    stored = under("backbone.", place, body) | head
    if "head.bias" in head:
        return recognise_weights(content, "ldam-drw", stored, LinearHead, wanted)
    scale = wanted.scale or SCALE
    make = partial(CosineHead, scale=scale)
    notes = [f"cosine head, scale {scale:g}"]
    return recognise_weights(content, "ldam-drw", stored, make, wanted, notes=notes)
