"""Image classifiers of Hugging Face's transformers, stored as folders.

``config.json`` with ``model_type``, beside the weights, names the class of the network and its C
classes (``id2label``); ``preprocessor_config.json`` says how images are prepared. Only classes that
transformers has itself are built; code in the folder or on the hub is never run, and nothing is
fetched. The last layer is ``classifier``, its last part, or ``fc``; of networks with a second one
for a teacher (DeiT, LeViT, SwiftFormer) both, whose logits are averaged; what goes into it are the
features (DINOv2: the class token and the patches' mean). Folders with timm's networks need timm as
well. The corrected checkpoint is a folder again.
"""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ltkit.checkpoints.containers.folder import beside, json_of
from ltkit.checkpoints.containers.inert import plain_values
from ltkit.checkpoints.content import Content, single
from ltkit.checkpoints.families import timm as timm_family
from ltkit.checkpoints.families._library import (
    Preparation,
    bounded,
    check_depth,
    needed,
    recognise_model,
)
from ltkit.checkpoints.last_layers import HEADLESS
from ltkit.checkpoints.numbers import number, numbers, shown, whole
from ltkit.checkpoints.recognised import Recognised, Stored, choose
from ltkit.datasets.images import interpolation_of
from ltkit.errors import FormatError, InputError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings

SUMMARY = (
    "folders of Hugging Face's transformers (pip install 'ltkit[transformers]'), 'config.json' "
    "with 'model_type'"
)
NO_IMAGES = {"siglip2": "patches", "imagegpt": "palette numbers"}
"""Types whose networks take other input than images, made by their processors."""

HEADS = (
    ("cls_classifier", "distillation_classifier"),
    ("classifier.linear", "classifier_distill.linear"),
    ("head", "dist_head"),
    ("classifier.linear",),
    ("classifier.1",),
    ("classifier",),
    ("fc",),
)
"""Names of last layers in transformers; the first that a network has is used."""

FEW, SEVERAL = 1 << 18, 4
"""Sizes up to the first are always accepted, others up to a multiple of the tensors' size."""

FREE = ("_id", "_ids", "_index", "_idx", "theta")
"""Endings of entries that are not sizes."""

UNSAID = ("auto_map", "quantization_config", "attn_implementation", "_attn_implementation", "dtype",
          "torch_dtype", "_name_or_path")  # fmt: skip
"""Configuration entries that could fetch or run code, or name other weights."""

RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
"""Pillow's numbers, by which processors say how a picture is scaled."""

USUAL = 224
"""Side length in pixels if none is given."""

SQUASHED = 384
"""ConvNeXt's processor cuts smaller images out of larger ones, and squeezes from this size on."""


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Return whether it is a folder whose configuration names a type of network."""
    named = isinstance(content.top.get("model_type"), str) and wanted.arch is None
    return content.container == "folder" and named


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network that the configuration describes.

    Raises:
        FormatError: when the configuration is invalid, or tensors do not fit.
        InputError: when transformers is absent, or it has no image classifier of that kind.
    """
    with needed(content.path, "transformers", "transformers"):
        import transformers
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES as KNOWN,
        )
        from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as BASES
        from transformers.utils import logging
    kind = content.top["model_type"]
    known = KNOWN.get(kind, ())
    known = (known,) if isinstance(known, str) else known
    said = content.top.get("architectures")
    base = _takes_images(transformers, BASES.get(kind), said)
    named = next((str(n) for n in said if n in known), None) if isinstance(said, list) else None
    named = named or base
    if named is None:
        raise InputError(
            f"{content.path}: config.json: found {kind}, {said}, expected an image classifier that "
            f"transformers has{': ' if known else ''}{' or '.join(known)}"
        )
    if kind in NO_IMAGES:
        raise InputError(
            f"{content.path}: {named}: takes {NO_IMAGES[kind]} instead of images; use another one"
        )
    with needed(content.path, "transformers", "transformers"):
        network = getattr(transformers, named)  # imported only now
    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = _built(content, network)
    finally:
        logging.set_verbosity(verbosity)
        (logging.enable_progress_bar if bar else logging.disable_progress_bar)()
    missing, extra = (sorted(info[f"{of}_keys"]) for of in ("missing", "unexpected"))
    pooler = not any(name.startswith("pooler.") for name in missing)
    if named == base:
        missing = [name for name in missing if not name.startswith("pooler.")]
    if missing or extra:
        raise FormatError(
            f"{content.path}: does not fit {named}: tensors missing: {len(missing)} "
            f"({', '.join(missing[:5])[:80] or 'none'}), unexpected: {len(extra)} "
            f"({', '.join(extra[:5])[:80] or 'none'}); fetch config.json and the weights again"
        )
    choose(content, wanted, {"raw": ()})
    names = {name: Stored((), name) for name in content.tensors}
    if kind == "timm_wrapper":
        inner = model.get_submodule("timm_model")
        heads = tuple(f"timm_model.{n}" for n in timm_family.last_layers(content, inner))
        said_of_images = plain_values(content.top.get("pretrained_cfg"))
        images, notes = timm_family.images_of(content, inner, said_of_images)
    else:
        images, notes = _images(content, wanted)
        if named == base:
            model, heads = Pooled(model, pooler), ()
            notes = [*notes, f"{HEADLESS}: {'its pooled output' if pooler else 'its first token'}"]
        else:
            heads = (wanted.head,) if wanted.head else _last_layers(content, named, names)
    return recognise_model(
        content, "hugging-face", named, model, heads, names, images, wanted, notes
    )


def _takes_images(transformers: Any, base: Any, said: Any) -> str | None:
    """Return the name of a network without a head where the folder is one, and it takes images."""
    if not isinstance(base, str) or not isinstance(said, list) or base not in said:
        return None
    network = getattr(transformers, base, None)
    return base if getattr(network, "main_input_name", None) == "pixel_values" else None


class Pooled(nn.Module):
    """A network without a head: its pooled output, or its first token where it has no pooler."""

    def __init__(self, model: nn.Module, pooler: bool) -> None:
        """Take the network, and whether its pooler has values."""
        super().__init__()
        self.model, self.pooler = model, pooler

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (B, D) features."""
        found = self.model(images)
        pooled = getattr(found, "pooler_output", None) if self.pooler else None
        if pooled is not None:
            return torch.flatten(pooled, 1)
        last: torch.Tensor = found.last_hidden_state
        return last[:, 0] if last.ndim == 3 else last.mean(dim=(2, 3))


def _built(content: Content, kind: Any) -> tuple[nn.Module, Mapping[str, Any]]:
    """Return the network with its weights, and the missing and unexpected tensors.

    Raises:
        FormatError: when the configuration is invalid.
        InputError: when the network needs another package.
    """
    said = {key: value for key, value in content.top.items() if key not in UNSAID}
    check_depth(content, said)
    tensors = {
        name: single(tensor, f"{content.path}: {name}") if tensor.dtype == torch.float64 else tensor
        for name, tensor in content.tensors.items()
    }
    try:
        known = {*kind.config_class().to_dict(), "num_labels", "num_classes"}
        _check_sizes(content, said, known)
        config = kind.config_class.from_dict(said)
        with warnings.catch_warnings(action="ignore"), bounded(content):
            model, info = kind.from_pretrained(
                None, config=config, state_dict=tensors, output_loading_info=True,
                attn_implementation="eager", dtype=torch.float32, local_files_only=True,
                trust_remote_code=False,
            )  # fmt: skip
    except ImportError as error:
        raise InputError(
            f"{content.path}: {kind.__name__} needs another package ({_said(error)})"
        ) from error
    except FormatError:
        raise
    except Exception as error:  # each class checks its configuration in its own way
        reason = _said(error)
        raise FormatError(
            f"{content.path}: {kind.__name__} cannot be built from config.json and the weights "
            f"({reason}); fetch the folder again"
        ) from error
    return model.eval(), info


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _last_layers(content: Content, kind: str, names: Mapping[str, Stored]) -> tuple[str, ...]:
    for heads in HEADS:
        if all(f"{head}.weight" in names for head in heads):
            return heads
    raise InputError(
        f"{content.path}: {kind}: found no last layer of a known name; name it with --head"
    )


def _check_sizes(content: Content, said: Mapping[str, Any], known: Collection[str]) -> None:
    """Reject sizes far from those of the tensors; lists of such lengths would be allocated.

    Args:
        content: what the folder holds.
        said: the configuration.
        known: entries of the network's configurations; others have no effect.

    Raises:
        FormatError: when there is one.
    """
    largest = max((side for t in content.tensors.values() for side in t.shape), default=0)
    most = max(FEW, SEVERAL * largest)
    todo: list[tuple[str, Any]] = [(key, value) for key, value in said.items() if key in known]
    while todo:
        name, thing = todo.pop()
        size: float = 0
        if isinstance(thing, Mapping | list):
            size = len(thing)
            inner = thing.items() if isinstance(thing, Mapping) else ((name, i) for i in thing)
            todo += [(str(key), value) for key, value in inner]
        elif isinstance(thing, int | float) and not name.endswith(FREE):
            size = thing
        if not -most <= size <= most:
            raise FormatError(
                f"{content.path}: config.json: {name[:40]}: found {shown(size)}, expected at most "
                f"{most} for the tensors there; fetch it again"
            )


def _images(content: Content, wanted: LoadSettings) -> tuple[Preparation, list[str]]:
    """Return how ``preprocessor_config.json`` prepares images, and notes.

    Raises:
        InputError: when it is no file of the folder.
        FormatError: when its values are invalid.
    """
    folder = content.path if content.path.is_dir() else content.path.parent
    path, size = beside(folder, "preprocessor_config.json"), _image_size(content)
    if path is None:
        note = "no preprocessor_config.json: mean and std are ImageNet's; --mean and --std"
        side = size or USUAL
        return Preparation(side, ImageView(side, side)), [note]
    return _prepared(path, json_of(path), size, wanted), []


def _prepared(
    path: Path, said: Mapping[str, Any], size: int | None, wanted: LoadSettings
) -> Preparation:
    """Return how a processor's settings prepare images.

    The values that it gives the network are ``(value * factor - mean) / std``; ours are in 0..1.

    Raises:
        FormatError: when they cannot be.

    Example:
        >>> said = {"do_rescale": False, "image_mean": [51.0] * 3, "image_std": [255.0] * 3}
        >>> _prepared(Path("p.json"), said, 8, LoadSettings())
        Preparation(size=8, view=ImageView(resize=8, crop=8, interpolation='bilinear',
                fit='squeeze', window=None), said=True, mean=(0.2, 0.2, 0.2), std=(1.0, 1.0, 1.0),
                bgr=False, channels=3)
    """
    unit = 255.0
    if said.get("do_rescale", True):
        factor = said.get("rescale_factor", 1 / 255)
        unit *= number(path, "rescale_factor", factor, positive=True)
    mean, std = [0.0] * 3, [1.0] * 3
    bgr = bool(said.get("do_flip_channel_order"))  # MobileViT, which has no use for its mean
    if said.get("do_normalize", "image_mean" in said and not bgr):
        mean = [] if wanted.mean else numbers(path, "image_mean", said.get("image_mean"), "--mean")
        std = [] if wanted.std else numbers(path, "image_std", said.get("image_std"), "--std")
    if said.get("rescale_offset"):  # EfficientNet's values may lie in -1..1
        mean = [m + 1 for m in mean]
    if said.get("include_top"):  # and are divided twice
        std = [s * s for s in std]
    view = _view(path, said, size)
    statistics = tuple(m / unit for m in mean), tuple(s / unit for s in std)
    return Preparation(size or view.crop, view, True, *statistics, bgr)


def _view(path: Path, said: Mapping[str, Any], size: int | None) -> ImageView:
    """Return what of an image a processor takes.

    Raises:
        FormatError: when its sizes are invalid.

    Example:
        >>> path = Path("preprocessor_config.json")
        >>> _view(path, {"size": {"shortest_edge": 256}, "crop_size": 224, "resample": 3}, None)
        ImageView(resize=256, crop=224, interpolation='bicubic', fit='crop', window=None)
        >>> _view(path, {"size": {"height": 224, "width": 224}}, None).fit
        'squeeze'
    """
    cut = said.get("crop_size") if said.get("do_center_crop", "crop_size" in said) else None
    crop = None
    if cut is not None:
        height = cut.get("height") if isinstance(cut, Mapping) else cut
        crop = whole(path, "crop_size", height)
    sides = said.get("size", crop or size or USUAL)
    number_ = said.get("resample")
    kind = interpolation_of(RESAMPLE.get(number_) if isinstance(number_, int) else number_)
    if not isinstance(sides, Mapping):
        sides = {"shortest_edge": sides} if crop else {"height": sides}
    if "shortest_edge" not in sides:
        resize = whole(path, "size", sides.get("height"))
        return ImageView(resize, crop or resize, kind, "squeeze")
    resize = whole(path, "size", sides["shortest_edge"])
    if "crop_pct" not in said:
        return ImageView(resize, crop or resize, kind)
    part = number(path, "crop_pct", said["crop_pct"], positive=True)
    if resize >= SQUASHED:
        return ImageView(resize, resize, kind, "squeeze")
    return ImageView(whole(path, "crop_pct", int(resize / part)), resize, kind)


def _image_size(content: Content) -> int | None:
    """Return the configured side length in pixels, if any.

    Raises:
        FormatError: when they cannot be.
    """
    top = content.top
    for config in (top, top.get("vision_config")):
        said = config.get("image_size") if isinstance(config, dict) else None
        side = said[0] if isinstance(said, list) and said else said
        if side is not None:
            return whole(content.path, "config.json: image_size", side)
    return None
