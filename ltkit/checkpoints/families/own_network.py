"""Networks of the user's own: built by the user's code, filled with a checkpoint's weights.

``--model PACKAGE.MODULE:NAME`` names a class, a function or a network; ``--model-arg`` its
arguments. This runs the user's code, which no file can ask for. The weights must fit it exactly,
wherever they lie in the file and whatever stands before their names; what is beside them is left
out and named. The last layer is the one whose output is the network's, unless ``--head`` names it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ltkit import own_code
from ltkit.architectures import COUNTER
from ltkit.checkpoints import plain
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families._library import Preparation, fitted, recognise_model
from ltkit.checkpoints.recognised import IMAGENET, Recognised, fill
from ltkit.datasets.images import usual_view
from ltkit.errors import InputError, SettingError
from ltkit.settings import LoadSettings

SUMMARY = "your own network, built by your code: --model PACKAGE.MODULE:NAME"
FIRST = True

SIZES = (224, 32, 64, 28, 96, 128, 256, 299, 384, 8)
"""Side lengths in pixels that are tried, to see what the network gives."""

CHANNELS = (3, 1)


def matches(content: Content, wanted: LoadSettings) -> bool:
    """Say whether the user names a network."""
    return wanted.model is not None


def load(content: Content, wanted: LoadSettings) -> Recognised:
    """Build the network, fill it, and find its last layer.

    Raises:
        FormatError: when the weights do not fit the network exactly.
        InputError: when the user's code does not give a network, or its last layer is not found.
    """
    name, model = str(wanted.model), _network(wanted)
    expected = model.state_dict()
    fewest = min(plain.FEWEST, max(len(expected), 1))
    gathered = plain.gather(content, wanted, fewest)
    every = fitted(content, gathered.names, {*expected}, wanted.head)
    names = {own: there for own, there in every.items() if own in expected}
    beside = sorted(own for own in every if own not in expected)
    values = {own: plain.value(content, there) for own, there in names.items()}
    if not any(own in names for own in expected if not own.endswith(COUNTER)):
        values |= {own: plain.value(content, every[own]) for own in beside}  # `fill` says how far
    advice = "build the one that was saved; --model-arg NAME=VALUE sets its arguments"
    fill(content.path, model, values, f"{name}, built by your code", advice)
    size, channels, heads = _run(content, model, wanted)
    notes = [f"--model runs your code: {name}", gathered.note]
    if beside:
        notes.append(f"left out, as {name} has no such tensors: {', '.join(beside)[:160]}")
    mean, std = IMAGENET if channels == 3 else ((0.5,), (0.5,))
    images = Preparation(size, usual_view(size), mean=mean, std=std, channels=channels)
    return recognise_model(content, "own-network", name, model, heads, names, images, wanted, notes)


def _network(wanted: LoadSettings) -> nn.Module:
    """Return the network that the user's code gives.

    Raises:
        SettingError: when it gives something else, or fails.
    """
    model = own_code.called(str(wanted.model), wanted.model_args, "model")
    if not isinstance(model, nn.Module):
        said = f"gives {type(model).__name__}, expected a torch.nn.Module"
        raise SettingError(f"model {wanted.model}", said)
    return model


def _run(
    content: Content, model: nn.Module, wanted: LoadSettings
) -> tuple[int, int, tuple[str, ...]]:
    """Return the size and the channels of images that the network takes, and its last layers.

    Raises:
        InputError: when it takes none that are tried, or its last layer is not found.
    """
    said = ""
    for channels in CHANNELS:
        for size in SIZES:
            try:
                caught, logits = outputs_of(model, torch.randn(2, channels, size, size))
            except Exception as error:  # the user's code may raise anything
                said = said or own_code.told(error)
                continue
            if wanted.head is not None:
                return size, channels, (_named(content, model, wanted.head),)
            return size, channels, (last_layer(f"{content.path}: {wanted.model}", caught, logits),)
    raise InputError(
        f"{content.path}: {wanted.model}: does not take images of {SIZES[0]} or {SIZES[1]} pixels "
        f"({said}); in Python, ltkit.extract takes batches of any input"
    )


def _named(content: Content, model: nn.Module, head: str) -> str:
    """Return the name of the layer that the user names.

    Raises:
        SettingError: when it is no linear layer of the network; the last ones are listed.
    """
    layers = [name for name, _ in linear_layers(model)]
    if head not in layers:
        listed = ", ".join(layers[:-6:-1])[:120] or "none"
        said = f"is no linear layer of the network; the last ones are {listed}"
        raise SettingError(f"head {head}", said, f"{content.path}: ")
    return head


def outputs_of(model: nn.Module, inputs: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Return what each linear layer gives for a batch, in the order of the calls, and the logits.

    Args:
        model: a network; it is put in evaluation mode.
        inputs: what it is called with: one tensor, or named ones.
    """
    caught: dict[str, Tensor] = {}

    def keeping(name: str) -> Any:
        def keep(module: nn.Module, given: Any, output: Tensor) -> None:
            caught.pop(name, None)
            caught[name] = output

        return keep

    handles = [layer.register_forward_hook(keeping(name)) for name, layer in linear_layers(model)]
    try:
        with torch.inference_mode():
            found = model.eval()(**inputs) if isinstance(inputs, dict) else model.eval()(inputs)
    finally:
        for handle in handles:
            handle.remove()
    logits = getattr(found, "logits", found)
    return caught, logits[0] if isinstance(logits, tuple | list) else logits


def linear_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Give the layers that may be the last: linear ones, and convolutions with 1x1 kernels."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) or (
            isinstance(layer, nn.Conv2d) and {*layer.kernel_size} == {1}
        ):
            yield name, layer


def last_layer(what: str, caught: dict[str, Tensor], logits: Tensor) -> str:
    """Return the name of the layer whose output is the network's.

    Args:
        what: the network, for messages.
        caught: what each layer gave.
        logits: what the network gave.

    Raises:
        InputError: when none does; the last layers are listed.
    """
    flat = torch.flatten(logits, 1)
    for name, output in reversed(caught.items()):
        same = output.numel() == flat.numel() and len(output) == len(flat)
        if same and torch.allclose(torch.flatten(output, 1), flat, 0, 0, equal_nan=True):
            return name
    listed = ", ".join([*reversed(caught)][:5]) or "none"
    raise SettingError(
        "head",
        f"absent, and no linear layer gives the network's output (the last ones: {listed[:120]}); "
        "name the last layer, or have the network return its logits",
        f"{what}: ",
    )
