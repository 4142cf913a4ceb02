"""State dicts of ltkit's own networks, whoever trained them.

A mapping of the file holds a network's tensors under the names of torchvision (``conv1``,
``layer1.0.bn2``), those of ``nn.Sequential(*resnet.children())`` (``0``, ``4.0.bn2``) or with
``shortcut`` for ``downsample``; what stands before them is found (see `plain`). The architecture is
the one that has these tensors. What is left over must be the head (see `last_layers`): a linear
layer as wide as the features, weight-normed or not, behind batch norm or other layers; a head
without a bias may be a cosine head, whose scale no file of this kind has, so the user is asked.
Where nothing is left over there is no head, and the features are extracted alone. Weights that were
averaged over training (``state_dict_ema``, ``model_ema``) are taken before the raw ones, because
their scripts evaluate with them.
"""

import re
from dataclasses import replace

from ltkit import architectures
from ltkit.checkpoints import plain
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.last_layers import last_layers
from ltkit.checkpoints.plain import LIKE, Names
from ltkit.checkpoints.recognised import IMAGENET, Recognised, Stored, assemble, assumed
from ltkit.settings import LoadSettings

SUMMARY = "state dicts of ResNets with any wrappers: CIFAR ResNets, torchvision's names, CDB"
GENERAL = True

CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""The numbers of a torchvision ResNet's parts among its children."""

SHORTCUT = re.compile(r"(layer\d\.\d+\.)shortcut\.")
"""What networks for CIFAR call the layers that torchvision calls ``downsample``."""

STEMS = ("conv1.weight", "0.weight", "1.weight", "layer1.0.conv1.weight", "block1.conv1.weight")
"""First tensors of our networks; one of them may be missing."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether most of the tensors under some prefix are those of a backbone of ours."""
    if wanted.arch is not None and ":" in wanted.arch:
        return False
    return max(_likeness(content, plain.gather(content).names).values(), default=0) >= LIKE


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that has these tensors.

    Raises:
        FormatError: when tensors do not fit, or the head is no matrix as wide as the features.
        InputError: when there is more than one head or network; they are listed.
    """
    found = plain.gather(content, wanted)
    likeness = _likeness(content, found.names)
    start, others = plain.network_in(content, found.names, likeness, wanted.head)
    inside, outside, beside = plain.below(content, found.names, start, others)
    if wanted.head is not None:
        wanted = replace(wanted, head=wanted.head.removeprefix(start))
    names = renamed(inside) | outside
    arch = wanted.arch or architectures.most_like(plain.shapes(content, names))[0]
    spec = architectures.spec(arch)
    layers = {n.rpartition(".")[0] for n in architectures.backbone_shapes(arch)}
    rest = {n: there for n, there in names.items() if n.rpartition(".")[0] not in layers}
    last = last_layers(content, rest, spec.features, wanted)
    body = {n: there for n, there in names.items() if n not in rest} | last.rest
    stored = {f"backbone.{own}": there for own, there in body.items()} | last.stored
    notes = [found.note, beside]
    if spec.settings.get("small_images"):
        notes.append("3x3 stem: stride 1 and no max-pool taken, as no tensor tells")
    return assemble(
        content, "state-dict", arch, last.head, stored, wanted, normalisation=IMAGENET,
        notes=[*notes, *last.notes, assumed(IMAGENET, wanted)], neck=last.neck,
    )  # fmt: skip


def renamed(names: Names) -> Names:
    """Return a network's tensors with torchvision's names for its layers.

    Example:
        >>> w = Stored((), "any")
        >>> sorted(renamed({"0.weight": w, "4.0.conv1.weight": w, "fc.weight": w}))
        ['conv1.weight', 'fc.weight', 'layer1.0.conv1.weight']
        >>> list(renamed({"layer2.0.shortcut.1.bias": w}))
        ['layer2.0.downsample.1.bias']
    """
    if "0.weight" in names and "4.0.conv1.weight" in names:
        split = ((own.partition("."), there) for own, there in names.items())
        names = {f"{CHILDREN.get(a, a)}{dot}{b}": there for (a, dot, b), there in split}
    return {SHORTCUT.sub(r"\1downsample.", own): there for own, there in names.items()}


def nearest(content: Content) -> tuple[str, float]:
    """Return the network of ours that a file's tensors are most like, and what part is common."""
    names = plain.gather(content).names
    found = _likeness(content, names)
    best = max(found, key=lambda start: found[start], default="")
    inside = plain.below(content, names, best)[0] if found else {}
    return architectures.most_like(plain.shapes(content, renamed(inside)))


def _likeness(content: Content, names: Names) -> dict[str, float]:
    return plain.prefixes(
        content, names, STEMS, lambda shapes: architectures.most_like(_renamed(shapes))[1]
    )


def _renamed(shapes: plain.Shapes) -> dict[str, tuple[int, ...]]:
    there = {own: Stored((), own) for own in shapes}
    return {own: shapes[stored.name] for own, stored in renamed(there).items()}
