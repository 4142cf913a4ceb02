"""CLIP models of open_clip as zero-shot classifiers; ``--arch open_clip:NAME`` names the network.

A state dict, or open_clip's training script's ``{epoch, name, state_dict, optimizer}``, which does
not name the network. The head is a cosine head whose rows are the embeddings of
``a photo of a CLASS.`` for the names of the dataset's classes, its scale the exponential of
``logit_scale``; SigLIP adds the same ``logit_bias`` to all. The features are the embeddings of the
images. There is no last layer in the file that a corrected head could go into: export it alone,
with ``--to npz``.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ltkit.architectures.heads import CosineHead
from ltkit.architectures.network import Network
from ltkit.checkpoints import plain
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._library import fitted, named, needed, squeezed
from ltkit.checkpoints.numbers import number, statistics
from ltkit.checkpoints.recognised import Recognised, complete, fill
from ltkit.datasets.images import interpolation_of
from ltkit.errors import InputError, SettingError, nearest
from ltkit.records import Classifier, Head, ImageView
from ltkit.settings import Fit, LoadSettings

SUMMARY = "CLIP models (pip install 'ltkit[open-clip]'), zero-shot, with --arch open_clip:NAME"
FITS: Mapping[str, Fit] = {"shortest": "crop", "squash": "squeeze", "longest": "pad"}
"""Our names of how it brings images to a square."""

BY_NAMES = True
"""The names of the dataset's classes make the head."""

PROMPT = "a photo of a {}."
TEXTS = 256
"""Number of texts embedded at a time."""


class TextHead(CosineHead):
    """Scaled cosines with text embeddings, and one bias for all classes.

    weight: (C, D), one embedding per row.
    """

    def __init__(self, rows: Tensor, scale: float, bias: float) -> None:
        """Store the embeddings."""
        super().__init__(rows.shape[1], len(rows), scale)
        self.weight = nn.Parameter(rows)
        self.bias = bias

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) embeddings of images."""
        return super().forward(features) + self.bias

    def record(self) -> Head:
        """Return the rows unchanged, with the scale and the bias."""
        head = super().record()
        return replace(head, bias=np.full(head.num_classes, self.bias, np.float32))

    def hold(self, classifier: Classifier) -> dict[str, NDArray[Any]]:
        """Refuse: the rows are outputs of the text tower.

        Raises:
            InputError: always.
        """
        raise InputError(
            "head: a zero-shot head is made by the text tower, which cannot hold a correction; use "
            "--to npz"
        )


class ImageTower(nn.Module):
    """The image embedding of a CLIP model."""

    def __init__(self, model: nn.Module) -> None:
        """Store the whole model."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, D) embeddings, not normalised."""
        embeddings: Tensor = self.model.encode_image(images, normalize=False)  # type: ignore[operator]
        return embeddings


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether open_clip is named, or the tensors are those of a CLIP model of its form."""
    names = plain.gather(content).names
    if not names or wanted.arch is not None:
        return bool(names) and named(wanted, "open_clip") is not None
    starts = [n.removesuffix("logit_scale") for n in names if n.endswith("logit_scale")]
    return any(name.startswith(f"{start}visual.") for start in starts[:9] for name in names)


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the model, and the head from the class names.

    Without names (`inspect`), the head has no classes.

    Raises:
        FormatError: when tensors do not fit.
        InputError: when open_clip is absent, has no such network or lacks its tokenizer; or the
            dataset's classes have no names.
    """
    with needed(content.path, "open_clip_torch", "open-clip"):
        import open_clip
    gathered = plain.gather(content, wanted)
    name, known = named(wanted, "open_clip") or "", open_clip.list_models()
    if name not in known:
        found = f"unknown network; {nearest(name, known)}" if name else "name it, as ViT-B-32"
        raise SettingError(f"arch open_clip:{name}", found, f"{content.path}: is a CLIP model; ")
    if wanted.class_names == ():
        raise InputError(
            f"{content.path}: a zero-shot head is made of the classes' names, and the dataset has "
            "none; give a dataset with names, as a folder for each class"
        )
    model, tokenizer = _built(content, name)
    names = fitted(content, gathered.names, model.state_dict().keys())
    fill(content.path, model, {own: plain.value(content, n) for own, n in names.items()}, name)
    rows = _embedded(model, tokenizer, wanted.class_names or ())
    bias = getattr(model, "logit_bias", None)
    scale = number(
        content.path, "exp(logit_scale)", model.logit_scale.exp().item(), positive=True,
        do="fetch it again",
    )  # fmt: skip
    shift = 0.0 if bias is None else number(content.path, "logit_bias", bias.item())
    head = TextHead(rows, scale, shift)
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"]
    side = int(size if isinstance(size, int) else size[0])
    kind = interpolation_of(config["interpolation"])
    mode = config.get("resize_mode", "shortest")
    view = ImageView(side, side, kind, FITS.get(mode, "crop"))
    notes = [gathered.note, "zero-shot: rows are the embeddings of " + repr(PROMPT.format("CLASS"))]
    if wanted.class_names is None:
        notes.append("no classes yet: the dataset's names make them in extract")
    if mode not in FITS:
        notes.append(squeezed("open_clip", f"{side} x {side}", view))
    if f"{name}-quickgelu" in known:
        notes.append(f"OpenAI's weights and others trained with QuickGELU need {name}-quickgelu")
    return complete(
        content, "open-clip", f"open_clip:{name}", Network(ImageTower(model), head).eval(), (),
        statistics(content.path, config["mean"], config["std"], 3, wanted, name),
        image_size=side, view=view, notes=notes,
    )  # fmt: skip


def _built(content: Content, name: str) -> tuple[Any, Any]:
    """Return a model and its tokenizer.

    Raises:
        InputError: when a part of it is not available locally.
    """
    import open_clip

    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it warns that there are no weights yet
    try:
        model = open_clip.create_model(name, pretrained=None, pretrained_text=False)
        return model.eval(), open_clip.get_tokenizer(name)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"{content.path}: open_clip:{name}: open_clip does not build it ({reason[:120]}); some "
            "networks need a text tower or a tokenizer of Hugging Face's hub: fetch it first"
        ) from error
    finally:
        logging.root.setLevel(level)


@torch.no_grad()
def _embedded(model: Any, tokenizer: Any, names: tuple[str, ...]) -> Tensor:
    """Return the (C, D) embeddings of the class names' prompts; underscores become spaces."""
    texts = [PROMPT.format(name.replace("_", " ")) for name in names]
    size = model.encode_text(tokenizer([PROMPT])).shape[1]
    parts = [
        model.encode_text(tokenizer(texts[start : start + TEXTS]), normalize=True)
        for start in range(0, len(texts), TEXTS)
    ]
    return torch.cat([torch.empty(0, size), *parts])
