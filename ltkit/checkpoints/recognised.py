"""A recognised checkpoint: its network, its head, and the normalisation of its images."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ltkit import architectures
from ltkit.architectures.network import Hooked, Network
from ltkit.checkpoints import numbers
from ltkit.checkpoints.content import Content, Place, State, single
from ltkit.datasets.images import usual_view
from ltkit.errors import FormatError, SettingError
from ltkit.records import Head, ImageView
from ltkit.settings import LoadSettings

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
INATURALIST = ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192))
"""Mean and deviation of pixel values in 0..1, per channel, as the field's scripts have them."""

WRAPPERS = re.compile(r"^((module|_orig_mod|model|backbone|encoder|network|net)\.)+")
"""Prefixes that training scripts and wrappers add to a network's own names."""

ANOTHER_ARCH = "name the right one with --arch"


@dataclass(frozen=True)
class Stored:
    """Location of a network's parameter in the file.

    transposed: a (C, D) weight is stored as D x C.
    row: a (C,) vector is stored as 1 x C.
    """

    place: Place
    name: str
    transposed: bool = False
    row: bool = False


@dataclass(frozen=True, eq=False)
class Recognised:
    """A checkpoint with its network built and its weights loaded.

    family: the module of `ltkit.checkpoints` that knew it.
    mean, std: per channel, of pixel values in 0..1.
    trained_on: the dataset's record where the file has it (spec, index digest).
    stored: the head's parameters, by the network's names, to where the file has them.
    image_size: pixels of a side that the network surely takes.
    view: how the model wants its images brought to size, where that is known.
    view_said: whether the file says so; else it is usual for the architecture.
    notes: what was chosen, for the user.
    wanted: what the user said; the same is needed to write the head back.
    skipped: objects in the file that were not built.
    class_names: of the classes in the head's order, where the file says them; see `class_names`.
    prototypes: of local vectors, where the file has them.
    moving_mean: (D,) of the training features, where the file has it and the head leaves it alone.
    """

    path: Path
    digest: str
    family: str
    arch: str
    network: Network | Hooked
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_on: Mapping[str, object] = field(default_factory=dict)
    stored: Mapping[str, Stored] = field(default_factory=dict)
    image_size: int = 32
    view: ImageView | None = None
    view_said: bool = False
    notes: tuple[str, ...] = ()
    wanted: LoadSettings = field(default_factory=LoadSettings)
    skipped: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None
    prototypes: Tensor | None = None
    moving_mean: Tensor | None = None

    @property
    def head(self) -> Head | None:
        """The linear form of the last layer; None for a backbone alone."""
        return self.network.record()


def bare(path: Path, names: Iterable[str]) -> dict[str, str]:
    """Return names without wrappers' prefixes, each with its name in the file.

    Raises:
        FormatError: when two names coincide without their prefixes.

    Example:
        >>> bare(Path("m.pt"), ["module.conv1.weight", "module.fc.bias"])
        {'conv1.weight': 'module.conv1.weight', 'fc.bias': 'module.fc.bias'}
    """
    found: dict[str, str] = {}
    for name in names:
        own = WRAPPERS.sub("", name)
        if own in found:
            raise FormatError(
                f"{path}: {found[own]}, {name}: differ only in their prefix; save one network's "
                "state_dict"
            )
        found[own] = name
    return found


def under(prefix: str, place: Place, names: Mapping[str, str]) -> dict[str, Stored]:
    """Return bare names under one of ltkit's prefixes, with their places in the file.

    Example:
        >>> found = under("backbone.", ("net",), {"conv1.weight": "module.conv1.weight"})
        >>> found["backbone.conv1.weight"].name
        'module.conv1.weight'
    """
    return {f"{prefix}{own}": Stored(place, name) for own, name in names.items()}


def choose(content: Content, wanted: LoadSettings, known: Mapping[str, Place]) -> tuple[Place, str]:
    """Return the state dict to use, and a note if there was a choice.

    Args:
        content: what the file holds.
        wanted: ``weights`` decides.
        known: places by their ``--weights`` name, in order of preference; the file has at
            least one of them.

    Raises:
        InputError: when the file has none of that kind.
    """
    there = {kind: place for kind, place in known.items() if place in content.states}
    kind = str(wanted.weights) if wanted.weights else next(iter(there))
    if kind not in there:
        said = f"not in the file; it has {', '.join(there)}"
        raise SettingError(f"weights {kind}", said, f"{content.path}: ")
    others = [other for other in there if other != kind]
    note = f"weights: {kind} taken; --weights {' or '.join(others)} takes others" if others else ""
    return there[kind], note


def usual_statistics(arch: str, num_classes: int) -> numbers.Statistics:
    """Return the mean and deviation that the field's scripts use for such a network.

    Those of iNaturalist 2018, told by its 8142 classes, are its own.
    """
    if architectures.spec(arch).image_size == 32:
        return CIFAR
    return INATURALIST if num_classes == 8142 else IMAGENET


def assumed(usual: numbers.Statistics, wanted: LoadSettings) -> str:
    """Return a note on the mean and deviation where neither the file nor the user says them.

    Args:
        usual: what is taken.
        wanted: the user's settings.

    Example:
        >>> assumed(IMAGENET, LoadSettings())
        "mean and std: ImageNet's; --mean and --std say others"
        >>> assumed(((0.5,), (0.25,)), LoadSettings())
        'mean and std: 0.5 / 0.25; --mean and --std say others'
        >>> assumed(IMAGENET, LoadSettings(mean=(0.5,), std=(0.5,)))
        ''
    """
    if wanted.mean and wanted.std:
        return ""
    values = " / ".join(",".join(f"{value:.3g}" for value in part) for part in usual)
    name = "ImageNet's" if usual == IMAGENET else values
    return f"mean and std: {name}; --mean and --std say others"


def backbone_arch(content: Content, stored: Mapping[str, Stored], wanted: LoadSettings) -> str:
    """Return the requested architecture, or the one that has these tensors."""
    if wanted.arch is not None:
        return wanted.arch
    prefix = "backbone."
    shapes = {
        ours.removeprefix(prefix): tuple(content.states[there.place][there.name].shape)
        for ours, there in stored.items()
        if ours.startswith(prefix)
    }
    return architectures.most_like(shapes)[0]


def head_size(content: Content, weight: Stored, width: int, name: str = "head") -> tuple[int, bool]:
    """Return C of a stored weight, and whether it is D x C, given the feature size.

    Raises:
        FormatError: when it is not a matrix with one side of that size.
    """
    shape = tuple(content.states[weight.place][weight.name].shape)
    if len(shape) != 2 or width not in shape:
        raise FormatError(
            f"{content.path}: {name}: found {shape}, expected {width} x classes; name the right "
            "layer with --head"
        )
    by_rows = shape[1] == width
    return (shape[0], False) if by_rows else (shape[1], True)


def recognise_weights(
    content: Content,
    family: str,
    stored: Mapping[str, Stored],
    make: Callable[[int, int], nn.Module],
    wanted: LoadSettings,
    *,
    weight: str = "head.weight",
    normalisation: numbers.Statistics | None = None,
    notes: Iterable[str] = (),
) -> Recognised:
    """Identify the architecture and the head's orientation, and build the network.

    Args:
        content: what the file holds.
        family: the module that recognised it.
        stored: all tensors of the network by our own names, ``backbone.*`` and ``head.*``.
        make: gives the head's module for (D, C).
        wanted: the user's settings.
        weight: our name of the head's weight, which the file may have as D x C.
        normalisation: mean and deviation, where they are known; else the usual ones.
        notes: notes on what was chosen.

    Raises:
        FormatError: when tensors do not fit the network, or the head the features.
        InputError: when the architecture is not known.
    """
    arch = backbone_arch(content, stored, wanted)
    width = architectures.spec(arch).features
    count, transposed = head_size(content, stored[weight], width)
    placed = {**stored, weight: replace(stored[weight], transposed=transposed)}
    return assemble(
        content, family, arch, make(width, count), placed, wanted,
        normalisation=normalisation, notes=notes,
    )  # fmt: skip


def assemble(
    content: Content,
    family: str,
    arch: str,
    head: nn.Module | None,
    stored: Mapping[str, Stored],
    wanted: LoadSettings,
    *,
    neck: nn.Module | None = None,
    normalisation: numbers.Statistics | None = None,
    trained_on: Mapping[str, object] | None = None,
    view: ImageView | None = None,
    notes: Iterable[str] = (),
) -> Recognised:
    """Build one of ltkit's networks and load all of its weights.

    Args:
        content: what the file holds.
        family: the module that recognised it.
        arch: a key of `ltkit.architectures.CATALOGUE`.
        head: the module for the last layer; its values are overwritten. None for a backbone alone.
        stored: all tensors of the network by our own names, ``backbone.*``, ``neck.*``, ``head.*``.
        wanted: what the user says.
        neck: layers between the two; their values are overwritten.
        normalisation: mean and deviation, where they are known; else the usual ones.
        trained_on: the dataset's record.
        view: of its pictures, where the file says so; else the architecture's usual one.
        notes: what was chosen.

    Raises:
        FormatError: when tensors are missing, left over or of another shape; the first are named.
        InputError: when the architecture is not known, the normalisation has other channels, or
            the wanted head is another than this family's.
    """
    own = stored["head.weight"].name if "head.weight" in stored else ""
    if wanted.head is not None and own and wanted.head not in own:
        said = f"found {own}, the head of {family} checkpoints; leave --head out"
        raise SettingError(f"head {wanted.head}", said, f"{content.path}: ")
    tensors = {ours: _value(content.states[s.place], s) for ours, s in stored.items()}
    channels = architectures.channels_of({n: tuple(t.shape) for n, t in tensors.items()}, arch)
    network = Network(architectures.build(arch, 1, channels=channels).backbone, head, neck)
    fill(content.path, network, tensors, arch)
    record = network.record()
    usual = normalisation or usual_statistics(arch, record.num_classes if record else 0)
    return complete(
        content, family, arch, network, tensors.values(),
        numbers.statistics(content.path, *usual, channels, wanted, arch),
        trained_on=trained_on or {},
        stored={ours: there for ours, there in stored.items() if ours.startswith("head.")},
        image_size=architectures.CATALOGUE[arch].image_size,
        view=view or usual_view(architectures.CATALOGUE[arch].image_size),
        view_said=view is not None, notes=notes,
    )  # fmt: skip


def complete(
    content: Content,
    family: str,
    arch: str,
    network: Network | Hooked,
    tensors: Iterable[Tensor],
    normalisation: numbers.Statistics,
    *,
    image_size: int,
    view: ImageView | None = None,
    view_said: bool = False,
    stored: Mapping[str, Stored] | None = None,
    trained_on: Mapping[str, object] | None = None,
    notes: Iterable[str] = (),
) -> Recognised:
    """Return a checkpoint with its network built, and a note on weights of another precision.

    Args:
        content: what the file holds.
        family: the module that recognised it.
        arch: what the network is called.
        network: with its weights loaded.
        tensors: those that it computes with in float32, as the file has them.
        normalisation: mean and deviation, from `numbers.statistics`.
        image_size: pixels of a side that the network surely takes.
        view: how it wants its images brought to size, where that is known.
        view_said: whether the file says so.
        stored: the head's parameters, by the network's names, to where the file has them.
        trained_on: the dataset's record.
        notes: notes on what was chosen; empty ones are left out.
    """
    others = sorted({str(t.dtype).removeprefix("torch.") for t in tensors
                     if t.is_floating_point() and t.dtype != torch.float32})  # fmt: skip
    note = f"{', '.join(others)} weights are computed with in float32" if others else ""
    return Recognised(
        content.path, content.digest, family, arch, network, *normalisation,
        trained_on=trained_on or {}, stored=stored or {}, image_size=image_size, view=view,
        view_said=view_said,
        notes=tuple(said for said in (*notes, note) if said),
    )  # fmt: skip


def fill(
    path: Path, network: nn.Module, tensors: State, arch: str, advice: str = ANOTHER_ARCH
) -> None:
    """Load tensors into a network, half precision as float32, and switch to evaluation mode.

    Args:
        path: of the file, for messages.
        network: to be filled.
        tensors: by the network's names.
        arch: what the network is called.
        advice: what to do where they do not fit.

    Raises:
        FormatError: when tensors are missing, left over or of another shape; the first are named.
        InputError: when float32 loses one.
    """
    expected = network.state_dict()
    counters = {name for name in expected if name.endswith(architectures.COUNTER)}
    missing = [name for name in expected if name not in tensors and name not in counters]
    extra = [name for name in tensors if name not in expected]
    if missing or extra:
        raise FormatError(
            f"{path}: does not fit {arch}: tensors missing: {len(missing)} ({_first(missing)}), "
            f"unexpected: {len(extra)} ({_first(extra)}); {advice}"
        )
    for name, tensor in tensors.items():
        needed = expected[name]
        same_kind = tensor.is_floating_point() == needed.is_floating_point()
        if tensor.shape != needed.shape or not same_kind or tensor.is_complex():
            raise FormatError(
                f"{path}: {name}: found {tensor.dtype} {tuple(tensor.shape)}, expected "
                f"{needed.dtype} {tuple(needed.shape)} for {arch}; {advice}"
            )
    for name, tensor in tensors.items():
        floating = tensor.is_floating_point()
        expected[name] = single(tensor, f"{path}: {name}") if floating else tensor
    network.load_state_dict(expected)  # with its layers' versions, which some look at
    network.eval()


def _value(state: State, stored: Stored) -> Tensor:
    """Return a stored tensor in ltkit's orientation; a single row becomes a vector."""
    tensor = state[stored.name]
    if stored.transposed:
        return tensor.T
    return torch.flatten(tensor) if stored.row else tensor


def _first(names: list[str]) -> str:
    return ", ".join(names[:5])[:160] or "none"
