"""PaCo and GPaCo: ``{epoch, arch, state_dict, optimizer}``, a query encoder and ``linear``.

The encoder's own last layers (``encoder_q.fc``, on CIFAR ``encoder_q.linear``) are the contrastive
projection; they, the momentum copies (``encoder_k``, ``linear_k``) and the queues are left out.
"""

import re

from ltkit.architectures.heads import LinearHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, bare, recognise_weights, under
from ltkit.settings import LoadSettings

SUMMARY = "PaCo, GPaCo ('encoder_q', 'linear')"
ENCODER, HEAD = "encoder_q.", "linear."
LEFT_OUT = re.compile(r"^(encoder_k\.|linear_k\.|queue|encoder_q\.(fc|linear)\.)")


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is a query encoder with a linear layer beside it."""
    names = {name.removeprefix("module.") for name in content.tensors}
    return {"encoder_q.conv1.weight", "linear.weight"} <= names


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the query encoder with the linear layer.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
    """
    names = bare(content.path, content.tensors)
    kept = {own: name for own, name in names.items() if not LEFT_OUT.match(own)}
    ours = {
        "head." + own.removeprefix(HEAD)
        if own.startswith(HEAD)
        else "backbone." + own.removeprefix(ENCODER): name
        for own, name in kept.items()
    }
    notes = [f"left out: {len(names) - len(kept)} tensors of the contrastive projection and queues"]
    stored = under("", content.place, ours)
    return recognise_weights(content, "paco", stored, LinearHead, wanted, notes=notes)
