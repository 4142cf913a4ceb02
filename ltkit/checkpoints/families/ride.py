"""RIDE and SADE: ``{arch, epoch, state_dict, optimizer, monitor_best, config}``, several experts.

``config`` is an object of the project, which becomes a stand-in and is kept when the file is
written again. The heads are ``[module.]backbone.linears.i``: cosine heads stored D x C, whose
scale, 30, the network applies itself, or linear ones with a bias. The prediction is the mean of the
experts' logits. The routers of RIDE's second stage (``expert_help_pred...``) are left out: all
experts are averaged, as before it; so are layers of SADE's networks that no prediction uses
(``linear_head``, ``linear_few``, ``mlp``).
"""

import re
from dataclasses import replace

from ltkit import architectures
from ltkit.architectures.network import make_head
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.recognised import (
    Recognised,
    Stored,
    assemble,
    backbone_arch,
    head_size,
)
from ltkit.settings import LoadSettings

SUMMARY = "RIDE, SADE ('backbone.linears.i', several experts)"
SCALE = 30.0
PREFIX = re.compile(r"^(module\.)?backbone\.")
HEAD = re.compile(r"^linears?\.((\d+)\.)?(weight|bias)$")
LEFT_OUT = re.compile(r"^(expert_help_pred|linear_head\.|linear_few\.|mlp\.)")


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether the backbone contains ``linears.0`` or ``linear``."""
    names = {name.removeprefix("module.") for name in content.tensors}
    return bool({"backbone.linears.0.weight", "backbone.linear.weight"} & names)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network with its experts.

    Raises:
        FormatError: when tensors do not fit, or a head is not as wide as its expert's features.
    """
    names = {PREFIX.sub("", name): name for name in content.tensors}
    unused = [own for own in names if LEFT_OUT.match(own)]
    several = any(own.startswith("linears.") for own in names)
    stored, heads = {}, {}
    for own, name in names.items():
        found = HEAD.match(own)
        if found:
            expert = f"experts.{found[2]}." if several else ""
            heads[f"head.{expert}{found[3]}"] = Stored(content.place, name)
        elif own not in unused:
            stored[f"backbone.{own}"] = Stored(content.place, name)
    arch = backbone_arch(content, stored, wanted)
    spec = architectures.spec(arch)
    cosine = not any(ours.endswith(".bias") for ours in heads)
    scale = (wanted.scale or SCALE) if cosine else 1.0
    count = 1
    for ours, there in heads.items():
        if ours.endswith(".weight"):
            width = spec.features // spec.experts
            count, transposed = head_size(content, there, width, there.name)
            heads[ours] = replace(there, transposed=transposed)
    notes = [f"cosine heads, scale {scale:g}"] if cosine else []
    notes += [
        f"left out: {len(unused)} tensors of routers and unused layers; all experts are averaged"
    ] * bool(unused)
    head = make_head(spec.features, count, cosine=cosine, scale=scale, experts=spec.experts)
    return assemble(content, "ride", arch, head, stored | heads, wanted, notes=notes)
