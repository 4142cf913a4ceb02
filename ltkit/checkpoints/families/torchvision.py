"""torchvision's classification networks, as state dicts or from its reference script.

A plain state dict, with any prefix that all names share, is recognised by its tensors; those that
are a network of ltkit's own (ResNets) need no torchvision and are read by the family of state
dicts. Of the reference script, ``{model, model_ema, optimizer, lr_scheduler, epoch, args}``,
``args.model`` names the network and ``args`` says how its images are cut; averaged weights are
taken first. Otherwise ``--arch torchvision:NAME`` names it, and images are cut as for its published
weights. Old names of DenseNet's layers are understood. The auxiliary heads of GoogLeNet and
Inception are left out. The logits of SqueezeNet are no linear function of pooled features, so there
is nothing that a correction of its head could be.
"""

import functools
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltkit.checkpoints import plain
from ltkit.checkpoints.containers.inert import arguments_of
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._library import (
    PROBE,
    Preparation,
    classes,
    fitted,
    named,
    needed,
    other_last_layers,
    recognise_model,
)
from ltkit.checkpoints.numbers import whole
from ltkit.checkpoints.plain import DEPTH, Names
from ltkit.checkpoints.recognised import Recognised, fill
from ltkit.datasets.images import interpolation_of
from ltkit.errors import InputError, nearest
from ltkit.records import ImageView
from ltkit.settings import LoadSettings

SUMMARY = (
    "torchvision's networks (pip install 'ltkit[torchvision]'), by their tensors, as its reference "
    "script writes them, or with --arch torchvision:NAME"
)
GENERAL = True
LIKE = 0.5
"""Share of common tensors from which a state dict is taken for that network."""

AUXILIARY = {"googlenet": re.compile(r"aux[12]\."), "inception_v3": re.compile(r"AuxLogits\.")}
BUFFER = re.compile(
    r"\.(running_mean|running_var|num_batches_tracked)$|relative_(position_index|coords_table)$"
)
"""Buffers that torchvision does not count as parameters."""

COUNTER = "num_batches_tracked"
OLD_LAYER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
LAST = {"classifier", "fc", "head", "heads"}
"""What torchvision calls its last layers."""

MOST = 0.8
"""When so many names begin with one word, it may stand before all of the network's."""

CANDIDATES = 3
"""Number of networks, nearest in size, whose tensors are compared."""

HALF = (0.5, 0.5, 0.5)
"""GoogLeNet and Inception were ported from TensorFlow; torchvision turns ImageNet's statistics into
these within the network (`transform_input`), which a state dict does not show."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether torchvision is named, or has a network with most of the tensors."""
    if not content.states or wanted.arch is not None:
        return bool(content.states) and named(wanted, "torchvision") is not None
    try:
        return (
            _said(content) is not None
            or _most_like(content, _renamed(plain.gather(content).names))[1] >= LIKE
        )
    except InputError:  # torchvision is not there to ask
        return False


def has(name: str) -> bool:
    """Say whether torchvision has a network of that name.

    Raises:
        InputError: when it is not installed.
    """
    with needed(Path(name), "torchvision", "torchvision"):
        from torchvision import models
    return name in models.list_models(module=models)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that is named, or that has these tensors.

    Raises:
        FormatError: when tensors do not fit.
        InputError: when torchvision is absent or broken, has no such network, or the network's
            head is not linear.
    """
    models = _models(content)
    found = plain.gather(content, wanted)
    every = _renamed(found.names)
    name = named(wanted, "torchvision") or _said(content) or _most_like(content, every)[0]
    known = models.list_models(module=models)
    if name not in known:
        raise InputError(
            f"{content.path}: torchvision:{name}: unknown network; {nearest(name, known)}"
        )
    if name.startswith("squeezenet"):
        raise InputError(
            f"{content.path}: {name}: its last layer is a convolution whose map is cut at zero and "
            "then averaged, so its logits are linear in no pooled feature; use another network"
        )
    expected = _shapes(name)
    names, notes = fitted(content, every, expected.keys(), wanted.head), [found.note]
    aux = [own for own in names if name in AUXILIARY and AUXILIARY[name].match(own)]
    if aux:
        notes.append(f"left out: {len(aux)} tensors of auxiliary heads")
    names = {own: stored for own, stored in names.items() if own not in aux}
    settings = _settings(name) | _side(content, names, expected)
    heads: tuple[str, ...] = (_head(name),)
    other = other_last_layers(content, _probe(name), heads, names, wanted)
    count = classes(content, names, heads[0], expected[f"{heads[0]}.weight"])
    model = models.get_model(name, weights=None, num_classes=count, **settings)
    if other is not None:
        heads, names, wanted = other.heads, other.names, replace(wanted, head=None)
        other.put(model)
        notes += other.notes
    images, cut = _images(content, models, name, settings)
    fill(content.path, model, {own: plain.value(content, n) for own, n in names.items()}, name)
    return recognise_model(
        content, "torchvision", f"torchvision:{name}", model, heads, names, images, wanted,
        [*notes, *cut],
    )  # fmt: skip


def _models(content: Content) -> Any:
    with needed(content.path, "torchvision", "torchvision"):
        from torchvision import models
    return models


def _said(content: Content) -> str | None:
    """Return the network named by the reference script's arguments."""
    said = arguments_of(content.top.get("args")).get("model")
    return said if isinstance(said, str) and "lr_scheduler" in content.top else None


def _renamed(names: Names) -> Names:
    """Return tensors with the names that DenseNet's layers have today."""
    return {OLD_LAYER.sub(r"\1\2.", own): there for own, there in names.items()}


def _most_like(content: Content, names: Names) -> tuple[str, float]:
    """Return the network that has most of these tensors, and what part of all it has.

    What stands before the names of most tensors is taken off, word by word.
    """
    best, start = ("", 0.0), ""
    while len(
        inside := {n.removeprefix(start): t for n, t in names.items() if n.startswith(start)}
    ):
        found = _nearest(_models(content), plain.shapes(content, inside))
        best = max(best, found, key=lambda one: one[1])
        first, count = Counter(name.partition(".")[0] for name in inside).most_common(1)[0]
        if best[1] >= LIKE or count < MOST * len(inside) or start.count(".") == DEPTH:
            break
        start = f"{start}{first}."
    return best


def _nearest(models: Any, found: plain.Shapes) -> tuple[str, float]:
    """Return the network that has most of these tensors, and what part of all it has.

    Only those are built whose published size, less the head's, is nearest to that of the file, less
    a matrix's, or less the last layers that it has under a name of their own; and those with
    auxiliary heads, which the one or the other may lack.
    """
    size = sum(math.prod(shape) for own, shape in found.items() if not BUFFER.search(own))
    flat = {(shape[0], shape[1]) for shape in found.values() if len(shape) == 2}
    points = {(shape[0], shape[1]) for shape in found.values() if shape[2:] == (1, 1)}
    widths = {shape[0] for shape in found.values() if len(shape) == 1}
    trunk = size - sum(
        math.prod(shape) for own, shape in found.items()
        if own.partition(".")[0] in LAST and not BUFFER.search(own)
    )  # fmt: skip

    def distance(name: str) -> int:
        published = int(models.get_model_weights(name).DEFAULT.meta["num_params"])
        return min(
            (abs(published - size + (rows - 1000) * (width + 1)) for rows, width in flat or points),
            default=published,
        )

    def without_head(name: str) -> int:
        published = int(models.get_model_weights(name).DEFAULT.meta["num_params"])
        return min(
            (
                abs(published - own - 1000 * (width + 1))
                for width in widths
                for own in (size, trunk)
            ),
            default=published,
        )

    known = models.list_models(module=models)
    tried = sorted(known, key=distance)[:CANDIDATES]
    others = sorted(known, key=without_head)[:CANDIDATES]
    nearest_first = [*tried, *(name for name in others if name not in tried)]
    likeness = {}
    for name in [*nearest_first, *AUXILIARY]:
        shapes = _shapes(name)
        body = {(own, shape) for own, shape in shapes.items() if shape[:1] != (PROBE,)}
        rest = {
            (own, shape) for own, shape in found.items()
            if shapes.get(own, ())[:1] != (PROBE,) and not own.endswith(COUNTER)
        }  # fmt: skip
        likeness[name] = len(body & rest) / len(body | rest)
        if likeness[name] == 1:
            break
    best = max(likeness, key=lambda name: likeness[name])
    return best, likeness[best]


@functools.cache
def _probe(name: str) -> nn.Module:
    """Return a network of `PROBE` classes without values."""
    from torchvision import models

    made = {"weights": None, "num_classes": PROBE, **_settings(name)}
    try:
        with torch.device("meta"):
            model: nn.Module = models.get_model(name, **made)
    except NotImplementedError:  # RegNets compute their widths with tensors
        model = models.get_model(name, **made)
    return model


@functools.cache
def _shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a network of `PROBE` classes, less the counters of batch norm."""
    state = _probe(name).state_dict()
    return {own: tuple(t.shape) for own, t in state.items() if not own.endswith(COUNTER)}


def _head(name: str) -> str:
    """Return the name of a network's last layer, which has one row per class."""
    (weight,) = (
        own for own, shape in _shapes(name).items()
        if shape[:1] == (PROBE,) and own.endswith(".weight")
    )  # fmt: skip
    return weight.removesuffix(".weight")


def _settings(name: str) -> dict[str, Any]:
    """Return the arguments to build a network: no auxiliary heads, no slow initialisation."""
    return {"aux_logits": False, "init_weights": False} if name in AUXILIARY else {}


def _side(content: Content, names: Names, shapes: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Return the image size of a ViT, by how many patches have a position; none where all differs.

    Args:
        content: of the file.
        names: the network's names to those in the file.
        shapes: of the network's tensors, as published.
    """
    found = plain.shapes(content, names)
    positions, patch = (found.get(own, ()) for own in ("encoder.pos_embedding", "conv_proj.weight"))
    usual = shapes.get("encoder.pos_embedding", ())
    if not usual or patch != shapes["conv_proj.weight"] or positions[::2] != usual[::2]:
        return {}
    return {"image_size": math.isqrt(max(positions[1] - 1, 0)) * patch[-1]}


def _images(
    content: Content, models: Any, name: str, settings: dict[str, Any]
) -> tuple[Preparation, list[str]]:
    """Return how images are resized and normalised, and notes.

    Raises:
        FormatError: when the script's arguments have invalid sizes.
    """
    said = arguments_of(content.top.get("args"))
    entries = list(models.get_model_weights(name))
    best = models.get_model_weights(name).DEFAULT
    side = settings.get("image_size", best.transforms().crop_size[0])
    fitting = [entry for entry in (best, *entries) if entry.transforms().crop_size[0] == side]
    usual = (fitting or [best])[0].transforms()
    sizes = (usual.resize_size[0], side) if fitting else (side, side)
    resize, crop = (
        whole(content.path, f"args.{key}", said.get(key, default))
        for key, default in zip(("val_resize_size", "val_crop_size"), sizes, strict=True)
    )
    kind = said.get("interpolation", usual.interpolation.value)
    view = ImageView(resize, crop, interpolation_of(kind))
    mean, std = tuple(usual.mean), tuple(usual.std)
    notes = [] if said else [f"images are cut as for torchvision's {(fitting or [best])[0].name}"]
    if name in AUXILIARY and not (said and said.get("weights") is None):
        mean = std = HALF
        notes.append(
            "mean and std 0.5, as the published weights were trained; a network trained from "
            "scratch may want ImageNet's: --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225"
        )
    return Preparation(crop, view, bool(said), mean, std), notes
