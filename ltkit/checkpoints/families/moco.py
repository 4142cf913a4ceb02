"""MoCo, TSC and KCL, first stage: an encoder with a projection, but no classifier.

``encoder_q`` is the network; its own last layers (``encoder_q.fc``, on CIFAR ``encoder_q.linear``)
are the projection. They, the momentum copies and the queues are left out, and the features are
extracted without a head. The second stage, a ResNet with a trained ``fc``, is a plain state dict.
"""

import re

from ltkit.checkpoints.content import Content
from ltkit.checkpoints.last_layers import HEADLESS
from ltkit.checkpoints.recognised import Recognised, assemble, backbone_arch, bare, under
from ltkit.settings import LoadSettings

SUMMARY = "MoCo, TSC, KCL, first stage ('encoder_q', no classifier): embeddings without a head"
ENCODER = "encoder_q."
PROJECTION = re.compile(r"^encoder_q\.(fc|linear|head|projection|projector)\.")


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether there is a query encoder, and neither a linear layer nor a classifier."""
    names = {name.removeprefix("module.") for name in content.tensors}
    return "encoder_q.conv1.weight" in names and not {"linear.weight", "classifier.weight"} & names


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the query encoder.

    Raises:
        FormatError: when tensors do not fit.
    """
    names = bare(content.path, content.tensors)
    kept = {
        own.removeprefix(ENCODER): name for own, name in names.items()
        if own.startswith(ENCODER) and not PROJECTION.match(own)
    }  # fmt: skip
    stored = under("backbone.", content.place, kept)
    out = len(names) - len(kept)
    notes = [f"left out: {out} tensors of projection, momentum copy and queues", HEADLESS]
    arch = backbone_arch(content, stored, wanted)
    return assemble(content, "moco", arch, None, stored, wanted, notes=notes)
