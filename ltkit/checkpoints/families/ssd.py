"""SSD, self-supervision to distillation: ``{epoch, arch, state_dict, optimizer}``, three stages.

Stage I has ``encoder_q`` and a linear ``classifier``; stage II ``encoder`` and ``classifier.fc``
with learned ``classifier.scales``; stage III ``encoder_q`` with a hard head, ``classifier``, and a
soft one, ``classifier_kd``, which is the one whose accuracy is reported and which is used unless
``--head classifier`` is asked for. Momentum copies, projections, queues and the teacher are left
out.
"""

import re

from torch import nn

from ltkit.architectures.heads import LinearHead, ScaledHead
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import Recognised, Stored, recognise_weights
from ltkit.errors import SettingError
from ltkit.settings import LoadSettings

SUMMARY = "SSD ('encoder_q' or 'encoder', 'classifier', 'classifier_kd')"
ENCODER = re.compile(r"^(encoder_q|encoder)\.")
LEFT_OUT = re.compile(r"^(encoder_k\.|encoder_t\.|classifier_t\.|q_fc\.|k_fc\.|queue|label_queue)")
SCALED = {
    "classifier.fc.weight": "head.linear.weight",
    "classifier.fc.bias": "head.linear.bias",
    "classifier.scales": "head.scales",
}


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether there is an encoder with a classifier beside it, named as in this work."""
    names = {name.removeprefix("module.") for name in content.tensors}
    second = {"encoder.conv1.weight", "classifier.fc.weight", "classifier.scales"} <= names
    return second or {"encoder_q.conv1.weight", "classifier.weight"} <= names


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the encoder with the head of its stage.

    Raises:
        FormatError: when tensors do not fit, or the head is not as wide as the features.
        InputError: for a head that the file does not have.
    """
    names = {name.removeprefix("module."): name for name in content.tensors}
    kept = {own: name for own, name in names.items() if not LEFT_OUT.match(own)}
    notes = [f"left out: {len(names) - len(kept)} tensors of teacher, projections and queues"]
    ours = {own: ENCODER.sub("backbone.", own) for own in kept if ENCODER.match(own)}
    make: type[nn.Module]
    if "classifier.scales" in kept:
        ours, make, weight = ours | SCALED, ScaledHead, "head.linear.weight"
    else:
        make, weight = LinearHead, "head.weight"
        heads = [head for head in ("classifier_kd", "classifier") if f"{head}.weight" in kept]
        taken = wanted.head or heads[0]
        if taken not in heads:
            said = f"not in the file; it has {', '.join(heads)}"
            raise SettingError(f"head {taken}", said, f"{content.path}: ")
        ours |= {f"{taken}.{part}": f"head.{part}" for part in ("weight", "bias")}
        others = [head for head in heads if head != taken]
        if others:
            notes.append(f"head: {taken} taken; --head {others[0]} takes the other")
            kept = {own: name for own, name in kept.items() if own.split(".")[0] not in others}
    stored = {ours.get(own, own): Stored(content.place, name) for own, name in kept.items()}
    return recognise_weights(content, "ssd", stored, make, wanted, weight=weight, notes=notes)
