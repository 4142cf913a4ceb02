"""timm's networks, from its training script, from its hub, or by name.

timm's script writes ``{epoch, arch, state_dict, state_dict_ema, optimizer, version, args, ...}``;
scripts after DeiT's ``{model, model_ema, optimizer, epoch, args}`` with ``args.model`` and
``args.nb_classes``; a folder as on the hub has ``config.json`` with ``architecture``. Any state
dict is read with ``--arch timm:NAME``. Averaged weights are taken first. The network's own
configuration names its last layer, or several whose logits are averaged; what goes into them are
the features, as wide as the layer is. It gives the images' size and statistics, too, where the
script's arguments or the folder do not. VOLO's logits, which take a maximum over patches, are no
linear function of any features.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltkit.checkpoints import plain
from ltkit.checkpoints.containers.inert import arguments_of, plain_values
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._library import (
    PROBE,
    Preparation,
    bounded,
    check_depth,
    classes,
    fitted,
    named,
    needed,
    other_last_layers,
    recognise_model,
    squeezed,
)
from ltkit.checkpoints.numbers import number, whole
from ltkit.checkpoints.opening import reason
from ltkit.checkpoints.recognised import Recognised, fill
from ltkit.datasets.images import interpolation_of
from ltkit.errors import FormatError, InputError, nearest
from ltkit.records import ImageView
from ltkit.settings import Fit, LoadSettings

SUMMARY = (
    "timm's networks (pip install 'ltkit[timm]'), as its script, scripts after DeiT's and its hub "
    "write them, or with --arch timm:NAME"
)
SCRIPT_VERSION = 2
"""What timm's script writes under ``version``."""

SHAPE = (
    "class_token", "depth", "dynamic_img_size", "embed_dim", "fc_norm", "global_pool", "img_size",
    "init_values", "num_heads", "patch_size", "reg_tokens", "window_size",
)  # fmt: skip
"""Arguments of its networks that a file may set; others could name files to be read."""

DATA = ("input_size", "img_size", "interpolation", "mean", "std", "crop_pct", "crop_mode")
"""Arguments of its script that define how images are prepared."""


FITS: Mapping[str, Fit] = {"center": "crop", "squash": "squeeze"}
"""Our names of how it brings images to a square."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether timm is named, by the user or by the file."""
    if wanted.arch is not None:
        return named(wanted, "timm") is not None and bool(content.states)
    return _said(content) is not None and bool(content.states)


def has(name: str) -> bool:
    """Say whether timm has a network of that name.

    Raises:
        InputError: when it is not installed.
    """
    with needed(Path(name), "timm", "timm"):
        import timm
    return bool(timm.is_model(name))


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the named network.

    Raises:
        FormatError: when tensors, or what the file says of its images, do not fit.
        InputError: when timm is absent, has no such network, or the network's head is not linear.
    """
    with needed(content.path, "timm", "timm"):
        import timm
    found = plain.gather(content, wanted)
    name = named(wanted, "timm") or str(_said(content))
    if not timm.is_model(name):
        raise InputError(
            f"{content.path}: timm:{name}: unknown network; {nearest(name, timm.list_models())}; "
            "name it with --arch timm:NAME"
        )
    settings = _settings(content)

    def make(count: int) -> nn.Module:
        try:
            with bounded(content):
                model: nn.Module = timm.create_model(
                    name, pretrained=False, num_classes=count, **settings
                )
        except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(
                f"{content.path}: timm:{name}: timm does not build it ({reason[:120]}); name the "
                "right one with --arch timm:NAME"
            ) from error
        return model

    with torch.device("meta"):
        probe = make(PROBE)
    heads = last_layers(content, probe)
    names = fitted(content, found.names, probe.state_dict().keys(), wanted.head)
    other = other_last_layers(content, probe, heads, names, wanted)
    if other is None:
        shape = probe.get_parameter(f"{heads[0]}.weight").shape
        model = make(classes(content, names, heads[0], tuple(shape)))
    else:
        model, heads, names = make(1), other.heads, other.names
        other.put(model)
        wanted = replace(wanted, head=None)
    images, notes = images_of(content, model, _said_of_images(content))
    fill(content.path, model, {own: plain.value(content, n) for own, n in names.items()}, name)
    notes = [found.note, *notes, *(other.notes if other else ())]
    return recognise_model(
        content, "timm", f"timm:{name}", model, heads, names, images, wanted, notes
    )


def last_layers(content: Content, model: nn.Module) -> tuple[str, ...]:
    """Return the names of a timm network's last layers, whose logits are averaged.

    Raises:
        InputError: when it has none, or its logits are no linear function of what goes into them.
    """
    config: Mapping[str, Any] = model.default_cfg  # type: ignore[assignment]
    said = config.get("classifier") or ()
    names = (said,) if isinstance(said, str) else tuple(said)
    state, arch = model.state_dict(), config.get("architecture", "network")
    others = [name.replace("head", "head_dist", 1) for name in names]  # LeViT names one of two
    names = tuple(dict.fromkeys((*names, *(o for o in others if f"{o}.weight" in state))))
    if not names or any(f"{name}.weight" not in state for name in names):
        raise InputError(f"{content.path}: timm:{arch}: has no linear last layer; use another one")
    if "aux_head" in names:
        raise InputError(
            f"{content.path}: timm:{arch}: its logits take a maximum over patches, so they are "
            "linear in no features; use another network"
        )
    return names


def images_of(
    content: Content, model: nn.Module, said: Mapping[str, Any]
) -> tuple[Preparation, list[str]]:
    """Return how a timm network's images are prepared, and notes.

    Args:
        content: what the file holds.
        model: the network, with its usual configuration.
        said: the file's own values, by timm's names.

    Raises:
        FormatError: when the file's values are invalid.
    """
    from timm.data import resolve_data_config

    try:
        sides = said.get("input_size", (1, 1, 1))
        for side in sides:  # the first of them makes lists of this length
            whole(content.path, "input_size", side)
        found = resolve_data_config(dict(said), model=model)
    except (ArithmeticError, AssertionError, TypeError, ValueError) as error:
        raise FormatError(
            f"{content.path}: timm does not know its image settings ({reason(error)}); "
            "save the weights alone"
        ) from error
    _, height, width = (whole(content.path, "input_size", side) for side in found["input_size"])
    part = number(content.path, "crop_pct", found["crop_pct"], positive=True)
    resize = whole(content.path, "crop_pct", math.floor(min(height, width) / part))
    mean, std = found["mean"], found["std"]
    kind = interpolation_of(found["interpolation"])
    view = ImageView(resize, min(height, width), kind, FITS.get(found["crop_mode"], "crop"))
    plain = found["crop_mode"] in FITS and height == width
    notes = [] if plain else [squeezed("timm", f"{width} x {height}", view)]
    return Preparation(view.crop, view, bool(said), mean, std), notes


def _said(content: Content) -> str | None:
    """Return the network that the file names, if it is of a kind that timm names."""
    top, said = content.top, arguments_of(content.top.get("args"))
    name: Any = None
    if content.container == "folder" and "model_type" not in top:
        name = top.get("architecture")
    elif top.get("version") == SCRIPT_VERSION and "optimizer" in top:
        name = top.get("arch")
    elif "nb_classes" in said:
        name = said.get("model")
    return name if isinstance(name, str) else None


def _settings(content: Content) -> dict[str, Any]:
    """Return the arguments, besides its name, that determine the network's shape."""
    said = arguments_of(content.top.get("args"))
    made = plain_values(content.top.get("model_args")) | plain_values(said.get("model_kwargs"))
    pool = content.top.get("global_pool") or said.get("gp")
    if isinstance(pool, str):
        made.setdefault("global_pool", pool)
    shape = {key: made[key] for key in SHAPE if key in made}
    check_depth(content, shape)
    return shape


def _said_of_images(content: Content) -> dict[str, Any]:
    said = arguments_of(content.top.get("args")) | plain_values(content.top.get("pretrained_cfg"))
    found = {key: said[key] for key in DATA if said.get(key)}
    if isinstance(found.get("input_size"), int):  # as scripts after DeiT's say it
        found["img_size"] = found.pop("input_size")
    return found
