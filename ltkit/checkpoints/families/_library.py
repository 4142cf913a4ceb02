"""What the adapters of optional libraries share: imports, and the networks they build."""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from ltkit.architectures.network import Hooked
from ltkit.checkpoints.content import Content, Place
from ltkit.checkpoints.families.state_dict import EMA, RAW
from ltkit.checkpoints.numbers import statistics
from ltkit.checkpoints.opening import reason
from ltkit.checkpoints.recognised import IMAGENET, Recognised, Stored, complete
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings
from ltkit.untrusted.budget import Budget

LIBRARIES = ("open_clip", "timm", "torchvision")
"""Allowed library names before the colon of ``--arch library:name``."""

AVERAGES = "n_averaged"
"""Counters that torch's averaged models keep beside their weights."""

LAYERS, FEW_LAYERS = re.compile("(depth|layer|repeat|num_.*(block|stage))s?$"), 100
"""Configuration entries for numbers of layers; up to this many are always accepted."""

FEW_PARTS, PARTS = 10_000, 20
"""Layers and their parts that any network may have, and how many more per tensor."""

PROBE = 3989
"""Number of classes in a network built to find which tensors depend on it; no layer has this
width."""


@contextmanager
def needed(path: Path, package: str, extra: str) -> Iterator[None]:
    """Import a library, or say how to install it.

    Args:
        path: the checkpoint that needs it.
        package: its name on the package index.
        extra: its name among ltkit's extras.

    Raises:
        InputError: when it is not installed, or was built for another torch.
    """
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        cause = error.__cause__ or error  # transformers calls it absent whatever the cause
        if isinstance(cause, ImportError):
            raise InputError(
                f"{path}: needs {package}, which is not installed ({reason(cause)}); pip install "
                f"'ltkit[{extra}]'"
            ) from error
        raise InputError(  # a torchvision that was built for another torch
            f"{path}: needs {package}, whose import fails ({reason(cause)}); install the "
            f"torchvision that matches torch {torch.__version__}"
        ) from error


def named(wanted: LoadSettings, library: str) -> str | None:
    """Return the network that ``--arch library:name`` names.

    Example:
        >>> named(LoadSettings(arch="timm:resnet18"), "timm")
        'resnet18'
    """
    before, colon, name = (wanted.arch or "").partition(":")
    return name if colon and before == library else None


def places(content: Content) -> dict[str, Place]:
    """Return where a file has state dicts, by kind, in order of preference.

    A folder's and safetensors' tensors lie outermost.
    """
    found = {}
    for kind, known in (("ema", EMA), ("raw", RAW)):
        there = [place for place in known if place in content.states]
        if there:
            found[kind] = there[0]
    return found


def unwrapped(content: Content, place: Place) -> dict[str, str]:
    """Return a state dict's names without their common prefix, each with its name in the file.

    Example:
        >>> state = {"module.conv1.weight": torch.zeros(1), "module.fc.bias": torch.zeros(1)}
        >>> unwrapped(Content(Path("m.pt"), "torch", {}, {(): state}, ""), ())
        {'conv1.weight': 'module.conv1.weight', 'fc.bias': 'module.fc.bias'}
    """
    names = [name for name in content.states[place] if name != AVERAGES]
    words = [name.split(".")[:-1] for name in names]
    alike = [len(set(column)) == 1 for column in zip(*words, strict=False)]
    shared = [*alike, False].index(False)
    return {".".join(name.split(".")[shared:]): name for name in names}


@dataclass(frozen=True)
class Preparation:
    """How a network's images are prepared: size, crop, statistics.

    size: a side length in pixels that the network is known to accept.
    said: whether the file says so; else it is usual for the architecture.
    bgr: channels in the order of blue, green, red.
    """

    size: int
    view: ImageView | None
    said: bool = False
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    bgr: bool = False


def check_depth(content: Content, said: object) -> None:
    """Reject a configuration with more layers than tensors; building it could take hours.

    Args:
        content: what the file holds.
        said: the configuration, nested mappings and lists.

    Raises:
        FormatError: for such a configuration.
    """
    most = max(len(content.tensors), FEW_LAYERS)
    todo = [("", said)]
    while todo:
        name, thing = todo.pop()
        if isinstance(thing, Mapping):
            todo += [(str(key), value) for key, value in thing.items()]
        elif isinstance(thing, list | tuple):
            todo += [(name, item) for item in thing if not isinstance(item, int)]
            todo.append((name, sum(item for item in thing if isinstance(item, int))))
        elif isinstance(thing, int) and thing > most and LAYERS.search(name):
            raise FormatError(
                f"{content.path}: {name}: found {thing}, expected no more than the file has "
                f"tensors, {len(content.tensors)}; fetch the configuration again"
            )


@contextmanager
def bounded(content: Content) -> Iterator[None]:
    """Limit what a library builds to a small multiple of the file's tensors.

    Args:
        content: of the file that says how the network is built.

    Raises:
        FormatError: as soon as there are too many layers, or weights of too many bytes.
    """
    tensors = [tensor for state in content.states.values() for tensor in state.values()]
    budget = Budget(content.path, sum(tensor.nbytes for tensor in tensors))
    most, built = FEW_PARTS + PARTS * len(tensors), itertools.count(1)

    def part(*_: object) -> None:
        if next(built) > most:
            raise FormatError(
                f"{content.path}: describes a network of more than {most} layers, but has "
                f"{len(tensors)} tensors; fetch the configuration again"
            )

    def tensor(_: object, name: str, value: Tensor | None) -> None:
        if value is not None:
            budget.take(value.nbytes, f"its configuration: {name}")

    hooks = [
        module.register_module_module_registration_hook(part),
        module.register_module_parameter_registration_hook(tensor),
        module.register_module_buffer_registration_hook(tensor),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def classes(
    content: Content, place: Place, names: Mapping[str, str], head: str, shape: tuple[int, ...]
) -> int:
    """Return C from a head's stored weight; 1 if there is none, which `fill` then reports.

    Args:
        content: what the file holds.
        place: where the network is in it.
        names: the network's names, with their names in the file.
        head: name of the last layer.
        shape: shape of its weight for any number of classes, C first.

    Raises:
        FormatError: when its feature size differs; a network of so many classes could be any size.
    """
    weight = content.states[place].get(names.get(f"{head}.weight", ""))
    if weight is None:
        return 1
    if not weight.ndim or tuple(weight.shape[1:]) != shape[1:]:
        raise FormatError(
            f"{content.path}: {head}.weight: found {tuple(weight.shape)}, expected "
            f"{('classes', *shape[1:])}; name the right network with --arch".replace("'", "")
        )
    return len(weight)


def squeezed(who: str, size: str, view: ImageView) -> str:
    """Note that a library changes the proportions of images, which ltkit does not."""
    return (
        f"{who} squeezes images to {size}; here the shorter side becomes {view.resize} and the "
        f"centre {view.crop} x {view.crop} is taken, which is the same for square images alone"
    )


def recognise_model(
    content: Content,
    family: str,
    arch: str,
    model: nn.Module,
    heads: tuple[str, ...],
    place: Place,
    names: Mapping[str, str],
    images: Preparation,
    wanted: LoadSettings,
    notes: Iterable[str],
) -> Recognised:
    """Return a library's network, with its head identified.

    Args:
        content: what the file holds.
        family: the module that recognised it.
        arch: the network's name, as ``library:name``.
        model: with its weights loaded.
        heads: its last layers.
        place: where the file has the network.
        names: the network's tensors, by its own names, to those in the file.
        images: how it wants its images.
        wanted: the user's settings.
        notes: notes on what was chosen.

    Raises:
        InputError: when ``--head`` is no layer of it, or ``--mean`` has other channels.
    """
    if wanted.head is not None:
        heads = (wanted.head,)
    absent = [head for head in heads if f"{head}.weight" not in names]
    if absent:
        raise SettingError(f"head {absent[0]}", f"no linear layer of {arch}", f"{content.path}: ")
    normalisation = statistics(content.path, images.mean, images.std, 3, wanted, arch)
    stored = {
        f"model.{own}": Stored(place, names[own])
        for own in (f"{head}.{leaf}" for head in heads for leaf in ("weight", "bias"))
        if own in names
    }
    return complete(
        content, family, arch, Hooked(model, heads, bgr=images.bgr),
        [content.states[place][name] for name in names.values()],
        normalisation, stored=stored, image_size=images.size, view=images.view,
        view_said=images.said, notes=notes,
    )  # fmt: skip
