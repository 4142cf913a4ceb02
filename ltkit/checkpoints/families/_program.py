"""Files that hold the network as a graph: finding the last layer and cutting the graph there."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ltkit.architectures.heads import LinearHead
from ltkit.architectures.programs import Program, pooled
from ltkit.checkpoints.content import Content, single
from ltkit.checkpoints.numbers import statistics
from ltkit.checkpoints.opening import reason
from ltkit.checkpoints.recognised import IMAGENET, Recognised, Stored, complete
from ltkit.datasets.images import usual_view
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

PLACE = ("program",)
"""Place of such a file's tensors; families of plain weights do not look there."""

SIZES = (224, 32, 64, 299, 384, 256, 96, 28, 8)
"""Side lengths in pixels that are tried on a program that declares none."""

LARGEST = 1 << 24
"""Most pixels, over all images, that a program takes at once."""

Made = tuple[str, Sequence[Any]]
"""How a value is made: ``linear`` or ``columns`` of (input, weight, bias), the weight C x D or
D x C; ``add`` of two; ``pass`` for what changes only the shape or type of the first; ``softmax``;
or another name."""

PASS = {
    "_to_copy", "_unsafe_view", "alias", "clone", "contiguous", "detach", "dropout", "dropout_",
    "flatten", "reshape", "squeeze", "to", "type_as", "view",
}  # fmt: skip
SOFTMAX = {"softmax", "_softmax", "log_softmax", "_log_softmax"}


@dataclass(frozen=True)
class LastLayer:
    """Names of the last layer's output, input, weight and bias in a graph.

    columns: the weight is D x C.
    probabilities: a softmax follows.
    """

    logits: Any
    features: Any
    weight: Any
    bias: Any
    columns: bool
    probabilities: bool


def aten(name: str, inputs: Sequence[Any]) -> Made:
    """Return how a torch operator computes its value.

    Example:
        >>> aten("addmm", ["bias", "features", "weight", 1, 1])
        ('columns', ['features', 'weight', 'bias'])
    """
    if name in ("linear", "conv2d", "convolution", "_convolution"):
        return "linear", list(inputs[:3])
    if name == "addmm":
        return "columns", [inputs[1], inputs[2], inputs[0]]
    if name in ("matmul", "mm"):
        return "columns", list(inputs[:2])
    if name in ("add", "add_"):
        return "add", list(inputs[:2])
    kind = "pass" if name in PASS else "softmax" if name in SOFTMAX else name
    return kind, list(inputs[:1])


def last_layer(content: Content, output: Any, made: Callable[[Any], Made]) -> LastLayer:
    """Follow a graph from its output back to the linear layer that produces it.

    Args:
        content: what the file holds.
        output: the graph's output.
        made: returns how a value is computed.

    Raises:
        InputError: when anything else comes after the last linear layer.

    Example:
        >>> graph = {"y": ("pass", ["z"]), "z": ("add", ["m", "b"]), "m": ("columns", ["f", "w"])}
        >>> last_layer(None, "y", lambda value: graph.get(value, ("", [])))
        LastLayer(logits='z', features='f', weight='w', bias='b', columns=True, probabilities=False)
    """
    logits, probabilities = output, False
    kind, inputs = made(logits)
    while kind in ("pass", "softmax"):
        probabilities |= kind == "softmax"
        logits = inputs[0]
        kind, inputs = made(logits)
    if kind == "add":
        for product, bias in (inputs, inputs[::-1]):
            below = made(product)
            if below[0] in ("linear", "columns") and (*below[1], None)[2] is None:
                kind, inputs = below[0], [*below[1][:2], bias]
                break
    if kind not in ("linear", "columns"):
        raise InputError(
            f"{content.path}: found {kind or 'an input'} at the program's end, expected a linear "
            "layer; extract from a checkpoint of the weights"
        )
    features, weight, bias, *_ = (*inputs, None)
    return LastLayer(logits, features, weight, bias, kind == "columns", probabilities)


def not_loaded(content: Content, error: Exception) -> FormatError:
    """Return what to raise where torch does not load a program."""
    return FormatError(
        f"{content.path}: torch does not load the program ({reason(error)}); fetch it again"
    )


def recognise_program(
    content: Content,
    family: str,
    program: nn.Module,
    layer: LastLayer,
    wanted: LoadSettings,
    *,
    arch: str,
    shape: Sequence[int | None] = (None,) * 4,
) -> Recognised:
    """Run a program once, and read its last layer's values.

    Args:
        content: what the file holds.
        family: the module that recognised it.
        program: maps images to the four values of `layer`.
        layer: where the program was cut.
        wanted: the user's settings.
        arch: what to call the network.
        shape: of the images, (B, channels, H, W); None where the program takes any.

    Raises:
        InputError: when it does not take images, or its last layer is not linear in its input.
    """
    batch, channels, height, width = shape
    channels = channels or len(wanted.mean or IMAGENET[0])
    normalisation = statistics(content.path, *IMAGENET, channels, wanted)
    side, count = height or max(SIZES), batch or 2
    if height != width or min(side, count) < 1 or count * side**2 > LARGEST:
        raise InputError(
            f"{content.path}: takes images of {height} x {width}, {batch or 'any number'} at once; "
            f"expected squares, and {LARGEST} pixels at most; extract from a checkpoint of weights"
        )
    for name, tensor in content.states[PLACE].items():
        if tensor.is_floating_point() and tensor.ndim > 1:  # beside weights small vectors are zeros
            single(tensor, f"{content.path}: {name}")
    size, found = _probe(content, program, (batch or 2, channels), (height,) if height else SIZES)
    features, weight, bias = pooled(found[1]), torch.flatten(found[2], 1).float(), found[3]
    weight = weight.T if layer.columns else weight
    bias = None if bias is None else torch.as_tensor(bias).flatten().float()
    if features.shape[1:] != weight.shape[1:] or (bias is not None and len(bias) != len(weight)):
        raise InputError(
            f"{content.path}: the last layer's input is {tuple(features.shape)}, its weight "
            f"{tuple(weight.shape)}; expected (batch, D) and (C, D); extract from a checkpoint of "
            "the weights"
        )
    head = LinearHead(weight.shape[1], len(weight), bias=bias is not None)
    head.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    stored = _stored(content, weight, bias)
    notes = [
        "the program's softmax is left out: logits are its input" if layer.probabilities else "",
        "" if wanted.mean else "mean and std: ImageNet's; --mean and --std say others",
        "" if batch is None else f"the program takes {batch} images at a time",
    ]
    return complete(
        content,
        family,
        arch,
        Program(program, head, batch=batch, held=len(stored) == len(head.state_dict())),
        [t for t in content.states[PLACE].values() if t.dtype in (torch.float16, torch.bfloat16)],
        normalisation,
        stored=stored,
        image_size=size,
        view=usual_view(size) if height else None,
        view_said=bool(height),
        notes=notes,
    )


def _probe(
    content: Content, program: nn.Module, start: tuple[int, int], sizes: Sequence[int]
) -> tuple[int, Sequence[Any]]:
    """Return the first size that the program accepts, and its output."""
    said = ""
    for size in sizes:
        probe = torch.zeros(*start, size, size)
        try:
            with torch.inference_mode():
                found: Sequence[Any] = program(probe)
        except (AssertionError, RuntimeError, ValueError) as error:
            said = said or (str(error).strip().splitlines() or [""])[-1][:160]
            continue
        if len(found[0]) == len(probe):
            return size, found
    raise InputError(
        f"{content.path}: the program does not take images of {' or '.join(map(str, sizes))} "
        f"pixels ({said}); extract from a checkpoint of the weights"
    )


def _stored(content: Content, weight: Tensor, bias: Tensor | None) -> dict[str, Stored]:
    """Return the file's tensors that hold the head's values; the bias next to the weight."""
    state, stored = content.states[PLACE], dict[str, Stored]()
    for name, tensor in state.items():
        matrix = tensor.float() if tensor.ndim != 4 else torch.flatten(tensor, 1).float()
        for transposed in (False, True):
            if tensor.ndim in (2, 4) and torch.equal(matrix.T if transposed else matrix, weight):
                stored.setdefault("head.weight", Stored(PLACE, name, transposed))
    if bias is None or not stored:
        return stored
    layer = stored["head.weight"].name.rpartition(".")[0]
    fitting = [
        name for name, tensor in state.items()
        if tensor.numel() == len(bias) and torch.equal(tensor.flatten().float(), bias)
    ]  # fmt: skip
    if fitting:
        best = min(fitting, key=lambda name: name.rpartition(".")[0] != layer)
        stored["head.bias"] = Stored(PLACE, best)
    return stored
