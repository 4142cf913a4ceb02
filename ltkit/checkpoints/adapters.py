"""LoRA adapters of a transformers network: merged into its weights, without peft.

A folder with ``adapter_config.json`` and ``adapter_model.safetensors``; the base is a folder of
transformers, named with ``--base-model`` or lying beside the adapter under its own name. A merged
weight is ``W + s B A`` with ``s = alpha / r`` (``alpha / sqrt(r)`` with ``use_rslora``); what the
adapter has whole (``modules_to_save``: the classifier) takes the base's place.

Source:
    Hu et al., ICLR 2022, arXiv:2106.09685, sec. 4.1; Kalajdzievski, arXiv:2312.03732, for the root.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from math import sqrt
from pathlib import Path
from typing import Any

from torch import Tensor

from ltkit.checkpoints.containers import read
from ltkit.checkpoints.content import Content, single
from ltkit.checkpoints.families import hugging_face
from ltkit.checkpoints.numbers import number, shown
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

PREFIX = "base_model.model."
PART = re.compile(r"(?P<layer>.*)\.lora_(?P<part>[AB])(\.default)?\.weight")
UNKNOWN = ("use_dora", "lora_bias", "megatron_config", "layer_replication", "use_qalora")
"""Settings with which the sum above is another."""


def is_adapter(content: Content) -> bool:
    """Say whether a folder is an adapter."""
    return content.container == "folder" and "peft_type" in content.top


def merged(content: Content, base_model: str | None) -> tuple[Content, dict[str, str], str]:
    """Return the base with an adapter merged in, whole tensors' names to the adapter's, the base.

    Args:
        content: of the adapter.
        base_model: the base's folder; None to look beside the adapter.

    Raises:
        InputError: when the adapter is of another kind, or there is no base.
        FormatError: when its tensors do not fit the base.
    """
    path, said = content.path, content.top
    odd = [key for key in UNKNOWN if said.get(key)]
    if said.get("peft_type") != "LORA" or odd:
        found = f"{shown(said.get('peft_type'))}{' with ' + odd[0] if odd else ''}"
        raise InputError(
            f"{path}: adapter_config.json: found {found}, expected plain LORA; merge it with "
            "peft's merge_and_unload and save the model"
        )
    folder = _base(path, said.get("base_model_name_or_path"), base_model)
    base = read(folder)
    tensors, whole = dict(base.tensors), dict[str, str]()
    factors: dict[str, dict[str, Tensor]] = {}
    for name, tensor in content.tensors.items():
        part = PART.fullmatch(name)
        if part:
            factors.setdefault(part["layer"].removeprefix(PREFIX), {})[part["part"]] = tensor
        elif "lora_" in name or not name.startswith(PREFIX):
            raise FormatError(
                f"{path}: {name}: not known in a LoRA adapter; merge it with peft's "
                "merge_and_unload and save the model"
            )
        else:
            own = name.removeprefix(PREFIX).replace(".modules_to_save.default", "")
            tensors[own], whole[own] = tensor, name
    if any(_weight(layer, tensors) is None for layer in factors):
        tensors = _as_built(base) | {own: content.tensors[name] for own, name in whole.items()}
    for layer, pair in factors.items():
        weight = _weight(layer, tensors)
        if weight is None:
            raise FormatError(
                f"{path}: {layer[:100]}: not in the base model; name the one that was adapted with "
                "--base-model DIR"
            )
        change = _change(path, layer, pair, said, tensors[weight])
        tensors[weight] = single(tensors[weight], f"{folder}: {weight}") + change
    digest = hashlib.sha256(f"{content.digest} {base.digest}".encode()).hexdigest()
    top = _with_classes(base.top, tensors, whole)
    if top.get("architectures") != base.top.get("architectures"):  # a classifier has no pooler
        tensors = {name: t for name, t in tensors.items() if not name.startswith("pooler.")}
    together = replace(base, path=path, top=top, states={(): tensors}, digest=digest)
    return together, whole, str(folder)


def _base(path: Path, said: object, given: str | None) -> Path:
    """Return the folder of the base model."""
    if given is not None:
        return Path(given)
    name = Path(said).name if isinstance(said, str) else ""
    for folder in (path.parent, path):
        if name and (folder / name / "config.json").is_file():
            return folder / name
    raise InputError(
        f"{path}: is a LoRA adapter of {shown(said)}, which is not beside it; name the base "
        "model's folder with --base-model DIR"
    )


def _weight(layer: str, tensors: Mapping[str, Tensor]) -> str | None:
    """Return the base's name of a layer's weight; a base without a head lacks the first word."""
    names = (f"{layer}.weight", f"{layer.partition('.')[2]}.weight")
    return next((own for own in names if own in tensors), None)


def _as_built(base: Content) -> dict[str, Tensor]:
    """Return the base's tensors by the names that its network has, other than its files'.

    transformers renames layers as it loads them, and peft names what it finds in the network.
    """
    network = hugging_face.load(base, LoadSettings()).network.get_submodule("model")
    inner = network.model if isinstance(network, hugging_face.Pooled) else network
    return dict(inner.state_dict())


def _change(
    path: Path, layer: str, pair: Mapping[str, Tensor], said: Mapping[str, Any], weight: Tensor
) -> Tensor:
    """Return ``s B A`` in the shape of the base's weight.

    Raises:
        FormatError: when the factors do not fit.
    """
    a, b = pair.get("A"), pair.get("B")
    rank = a.shape[0] if a is not None and a.ndim else 0
    fits = a is not None and b is not None and b.ndim == a.ndim and b.shape[1:2] == a.shape[:1]
    if a is None or b is None or not rank or not fits or b[0, 0].numel() != 1:
        raise FormatError(f"{path}: {layer[:100]}: lora_A and lora_B do not fit; fetch it again")
    alpha = number(path, "lora_alpha", _alpha(path, layer, said), do="fetch it again")
    scale = alpha / (sqrt(rank) if said.get("use_rslora") else rank)
    a, b = (single(factor, f"{path}: {layer[:100]}").flatten(1) for factor in (a, b))
    change = scale * (b @ a)
    if said.get("fan_in_fan_out"):
        change = change.T
    if change.numel() != weight.numel() or len(change) != len(weight):
        raise FormatError(
            f"{path}: {layer[:100]}: found {tuple(change.shape)}, expected {tuple(weight.shape)} "
            "of the base model; name the one that was adapted with --base-model DIR"
        )
    return change.reshape(weight.shape)


def _alpha(path: Path, layer: str, said: Mapping[str, Any]) -> object:
    """Return a layer's alpha, which may be its own."""
    own = said.get("alpha_pattern")
    for key, value in own.items() if isinstance(own, Mapping) else ():
        if not re.fullmatch(r"[\w.]+", key):
            raise InputError(
                f"{path}: alpha_pattern: found {shown(key)}, expected the name of a layer; merge "
                "it with peft's merge_and_unload and save the model"
            )
        if layer == key or layer.endswith(f".{key}"):
            return value
    return said.get("lora_alpha")


def _with_classes(
    top: Mapping[str, Any], tensors: Mapping[str, Tensor], whole: Mapping[str, str]
) -> dict[str, Any]:
    """Return the base's configuration with as many classes as the adapter's own classifier has.

    A base without a head becomes the image classifier of its type.
    """
    rows = {
        len(tensors[own]) for own in whole if own.endswith(".weight") and tensors[own].ndim == 2
    }
    if len(rows) != 1:
        return dict(top)
    (count,) = rows
    said = top.get("id2label")
    found = {**top}
    if not isinstance(said, Mapping) or len(said) != count:
        found["id2label"] = {str(i): f"LABEL_{i}" for i in range(count)}
        found["label2id"] = {f"LABEL_{i}": i for i in range(count)}
    names = top.get("architectures")
    if isinstance(names, list) and names and str(names[0]).endswith("Model"):
        found["architectures"] = [f"{str(names[0]).removesuffix('Model')}ForImageClassification"]
    return found


def of_the_adapter(stored: Mapping[str, Any], whole: Mapping[str, str]) -> dict[str, Any]:
    """Return where the adapter has the head's tensors; those that the base has are left out."""
    return {
        ours: replace(there, name=whole[there.name])
        for ours, there in stored.items()
        if there.name in whole
    }
