"""What the adapters of optional libraries share: imports, and the networks they build."""

import importlib
import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules import module

from ltkit.architectures import COUNTER
from ltkit.architectures.network import Hooked
from ltkit.checkpoints import plain
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.last_layers import HEADLESS, in_sequence, last_layers
from ltkit.checkpoints.numbers import statistics
from ltkit.checkpoints.opening import reason
from ltkit.checkpoints.plain import DEPTH, Names
from ltkit.checkpoints.recognised import IMAGENET, Recognised, assumed, complete
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings
from ltkit.untrusted.budget import Budget

LIBRARIES = ("open_clip", "timm", "torchvision")
"""Allowed library names before the colon of ``--arch library:name``."""

SEARCHED = ("timm", "torchvision")
"""Where a name without a library is looked for, in this order."""

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


def library_has(library: str, name: str) -> bool:
    """Say whether a library has a network of that name.

    Raises:
        InputError: when it is not installed.
    """
    family = importlib.import_module(f"ltkit.checkpoints.families.{library}")
    return bool(family.has(name))


def named(wanted: LoadSettings, library: str) -> str | None:
    """Return the network that ``--arch library:name`` names.

    Example:
        >>> named(LoadSettings(arch="timm:resnet18"), "timm")
        'resnet18'
    """
    before, colon, name = (wanted.arch or "").partition(":")
    return name if colon and before == library else None


def fitted(
    content: Content, names: Names, expected: Collection[str], head: str | None = None
) -> Names:
    """Return a network's names to those in the file: under the prefix that most names fit.

    Args:
        content: of the file.
        names: its tensors, from `plain.gather`.
        expected: the network's names.
        head: the user's name of the last layer.

    Raises:
        FormatError: when a name is there twice.
        InputError: when there are two such networks.

    Example:
        >>> from ltkit.checkpoints.recognised import Stored
        >>> state = {"a.b.conv1.weight": torch.zeros(1), "a.b.fc.bias": torch.zeros(1)}
        >>> content = Content(Path("m.pt"), "torch", {}, {(): state}, "")
        >>> names = {name: plain.Stored((), name) for name in state}
        >>> list(fitted(content, names, {"conv1.weight", "fc.bias"}))
        ['conv1.weight', 'fc.bias']
    """
    counts = Counter[str]()
    for name in names:
        words = name.split(".", DEPTH)
        for depth in range(len(words)):
            if ".".join(words[depth:]) in expected:
                counts[".".join([*words[:depth], ""]) if depth else ""] += 1
    likeness = {start: count / max(len(expected), 1) for start, count in counts.items()}
    start, others = plain.network_in(content, names, likeness, head)
    inside, outside, _ = plain.below(content, names, start, others)
    return inside | outside


@dataclass(frozen=True)
class Replaced:
    """A library's network whose last layer is another than its library builds.

    targets: the parts that are replaced by it.
    heads: names of the last layers then.
    names: the network's names to those in the file.
    """

    targets: tuple[str, ...]
    module: nn.Module
    heads: tuple[str, ...]
    names: Names
    notes: tuple[str, ...] = ()

    def put(self, model: nn.Module) -> None:
        """Replace the part in a network."""
        for target in self.targets:
            parent, _, leaf = target.rpartition(".")
            setattr(model.get_submodule(parent), leaf, self.module)


def other_last_layers(
    content: Content, probe: nn.Module, heads: tuple[str, ...], names: Names, wanted: LoadSettings
) -> Replaced | None:
    """Return what stands in the place of a network's last layer; None where that is there itself.

    Args:
        content: of the file.
        probe: the network as its library builds it.
        heads: its last layers.
        names: its names to those in the file.
        wanted: what the user says.

    Raises:
        InputError: when what is left over is not one head.
    """
    expected = probe.state_dict()
    missing = [n for n in expected if n not in names and not n.endswith(COUNTER)]
    if any(f"{head}.weight" in names for head in heads) or not missing:
        return None
    if len(heads) > 1:  # all of them are absent
        absent = all(name.startswith(tuple(f"{head}." for head in heads)) for name in missing)
        return Replaced(heads, nn.Identity(), (), names, (HEADLESS,)) if absent else None
    target = heads[0]
    while not all(name.startswith(f"{target}.") for name in missing):
        target = target.rpartition(".")[0]
        if not target:
            return None
    weight = next(w for n, w in expected.items() if n.startswith(f"{target}.") and w.ndim > 1)
    own = {
        n: there for n, there in names.items() if n in expected and not n.startswith(f"{target}.")
    }  # fmt: skip
    rest = {n: there for n, there in names.items() if n not in own}
    last = last_layers(content, rest, weight.shape[1], wanted)
    if last.head is None:
        return Replaced((target,), nn.Identity(), (), own | last.rest, last.notes)
    module, inner = in_sequence(last)
    head = target if last.neck is None else f"{target}.{len(last.neck)}"
    placed = {f"{target}.{name}": there for name, there in inner.items()}
    return Replaced((target,), module, (head,), own | placed | last.rest, last.notes)


@dataclass(frozen=True)
class Preparation:
    """How a network's images are prepared: size, crop, statistics.

    size: a side length in pixels that the network is known to accept.
    said: whether the file says so; else it is usual for the architecture.
    bgr: channels in the order of blue, green, red.
    channels: how many the network takes.
    """

    size: int
    view: ImageView | None
    said: bool = False
    mean: tuple[float, ...] = IMAGENET[0]
    std: tuple[float, ...] = IMAGENET[1]
    bgr: bool = False
    channels: int = 3


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


def classes(content: Content, names: Names, head: str, shape: tuple[int, ...]) -> int:
    """Return C of a head's stored weight; 1 where there is none, which `fill` will miss.

    Args:
        content: of the file.
        names: the network's names to those in the file.
        head: name of the last layer.
        shape: shape of its weight for any number of classes, C first.

    Raises:
        FormatError: when its feature size differs; a network of so many classes could be any size.
    """
    if f"{head}.weight" not in names:
        return 1
    weight = plain.value(content, names[f"{head}.weight"])
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
    names: Names,
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
        heads: its last layers, none for a backbone alone.
        names: the network's tensors, by its own names, to those in the file.
        images: how it wants its images.
        wanted: the user's settings.
        notes: notes on what was chosen.

    Raises:
        InputError: when ``--head`` is no layer of it, or ``--mean`` has other channels.
    """
    if wanted.head is not None:
        heads = (wanted.head,)
    layers = {name.rpartition(".")[0] for name in names}
    absent = [head for head in heads if not any((f"{n}.").startswith(f"{head}.") for n in layers)]
    if absent:
        raise SettingError(f"head {absent[0]}", f"no linear layer of {arch}", f"{content.path}: ")
    usual, notes = (images.mean, images.std), [*notes]
    normalisation = statistics(content.path, *usual, images.channels, wanted, arch)
    if not images.said and not any("--mean" in note for note in notes):
        notes.append(assumed(usual, wanted))
    stored = {
        f"model.{own}": there
        for head in heads
        for own, there in names.items()
        if own.startswith(f"{head}.")
    }
    return complete(
        content, family, arch, Hooked(model, heads, bgr=images.bgr),
        [plain.value(content, there) for there in names.values()],
        normalisation, stored=stored, image_size=images.size,
        view=images.view, view_said=images.said, notes=notes,
    )  # fmt: skip
